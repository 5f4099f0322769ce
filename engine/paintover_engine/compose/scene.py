"""One scene of a shot, followed outward from its keyframe across frames that do not show it, or not in its light."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.exposure import NO_CHANGE, PLAIN, Display, Exposure
from paintover_engine.compose.flow import Field
from paintover_engine.compose.long_range import Hop, motion_error
from paintover_engine.compose.motion import Guess, Motion, PairEstimator, PairMotion, Span, chained
from paintover_engine.compose.overexposed import CLIPPED, blown_out, brightens, motion_through, restored

LONGEST_GAP = 12
"""Frames after which a scene that was interrupted is not expected back: the interruption was a cut."""

_MOMENT = 6  # frames within which a light that changed comes back
_BACK = 0.15  # share of its change within which it is the same again
_LONGEST_FLASH = 3  # frames; a light that stays on for longer is the scene's new light
_STEADY = 3  # frames over which a velocity may stay
_CLIPPED = 0.1  # more of the frame clipped than in the frame before: too little is left to go on from
_DIMMEST = 0.2  # likewise, of its gain


class FrameEvent(enum.IntFlag):
    """What happens to a frame of the plate, on the way from the keyframe.

    REPEATED: it is the picture of the frame before it. LIGHT: it is plainly brighter or darker than that. JUMP: the
    whole picture moves too far for flow alone. HIDDEN: it does not show the keyframe's scene (a cut, a black frame).
    PASSED: it shows so little of it, in a flash or a dark moment, that the next one's motion is not from it. ACROSS:
    its own motion is from the last frame before such."""

    REPEATED = 1
    LIGHT = 2
    JUMP = 4
    HIDDEN = 8
    PASSED = 16
    ACROSS = 32


@dataclass(frozen=True)
class Step:
    """A frame that shows the scene and the last one before it that does, nearer to the keyframe; both at the keyframe's
    exposure.

    before: that one's number. backward: flow from this frame to that; forward: from that one to this. exposure: from
    the keyframe to this frame. events: what happens to it. restored: (2h, 2w, 3), the picture of `frame` where clipped
    samples of it were restored from the one before. blown: (h, w), where most of a restored pixel's channels were
    clipped."""

    number: int
    before: int
    frame: AnalysisFrame
    previous: AnalysisFrame
    backward: Field
    forward: Field
    exposure: Exposure = NO_CHANGE
    events: FrameEvent = FrameEvent(0)
    restored: Display | None = None
    blown: NDArray[np.bool_] | None = None

    @property
    def distance(self) -> int:
        """How many frames lie between the two, and one."""
        return abs(self.number - self.before)

    def hop(self) -> Hop:
        """The motion to the frame before, with its error."""
        error = motion_error(self.backward, self.forward, self.frame.smooth_lab, self.previous.smooth_lab)
        return Hop(self.backward, error)


class SceneCursor:
    """Follows one scene outward from its keyframe. A frame that is cut off from the one before it ends the scene if the
    scene does not come back within `LONGEST_GAP` frames; else it was a disturbance: a flash, a black frame.

    last_seen: the frame before the first one that is asked for, or the last before that from which motion goes on.
    exposure: from the keyframe to that frame. shot: its first and last frame. picture: `Step.restored` of the last seen
    frame."""

    def __init__(
        self,
        last_seen: int,
        exposure: Exposure,
        motion: Motion,
        frame_at: Callable[[int], AnalysisFrame],
        shot: Span,
        picture: Display | None = None,
    ) -> None:
        self.last_seen = last_seen
        self.exposure = exposure
        self._motion = motion
        self._frame_at = frame_at
        self._shot = shot
        self.picture = picture
        self._seen = as_keyframe(frame_at(last_seen), exposure, picture)
        self._gap: tuple[int, int, PairMotion] | None = None
        self._recent = deque([exposure], maxlen=_MOMENT)

    def advance(self, number: int) -> Step | None:
        """The step to the next frame; None where it does not show the scene."""
        distance = abs(number - self.last_seen)
        if distance > LONGEST_GAP + 1:
            return None
        moved = self._motion_to(number)
        if moved.cut:
            return None
        exposure = self._exposure_after(moved.exposure)
        passed = distance <= _LONGEST_FLASH and self._shows_little(number, moved.exposure)
        picture, blown = None, None
        if brightens(exposure):
            moved = self._through(number, moved, exposure) if passed else moved
            picture = restored(self._frame_at(number).sharp, exposure, self._seen.sharp, moved.backward)
            blown = blown_out(self._frame_at(number).display)
        frame = as_keyframe(self._frame_at(number), exposure, picture)
        events = (
            FrameEvent.REPEATED * moved.repeated
            | FrameEvent.LIGHT * (moved.exposure.strength > PLAIN)
            | FrameEvent.JUMP * moved.jump
            | FrameEvent.ACROSS * (distance > 1)
            | FrameEvent.PASSED * passed
        )
        step = Step(
            number, self.last_seen, frame, self._seen, moved.backward, moved.forward, exposure, FrameEvent(events),
            picture, blown,
        )  # fmt: skip
        if not events & FrameEvent.PASSED:
            self.last_seen, self.exposure, self.picture, self._seen = number, exposure, picture, frame
            self._recent.append(exposure)
        return step

    def leap(self, number: int) -> Step | None:
        """The step over several frames to one beyond them, where nothing but motion happens on the way; else None, and
        nothing is done."""
        start = self.last_seen
        if self.exposure is not NO_CHANGE or not self._motion.is_plain(start, number):
            return None
        backward, forward = self._motion.over(start, number)
        step = Step(number, start, self._frame_at(number), self._seen, backward, forward)
        self.last_seen, self.picture, self._seen = number, None, step.frame
        self._recent.extend([NO_CHANGE] * step.distance)
        return step

    def _exposure_after(self, change: Exposure) -> Exposure:
        """From the keyframe to a frame whose exposure differs by `change` from the last one's: one that was there a
        moment ago where it is nearly that, as after a flash, so that no error stays."""
        if change is NO_CHANGE:
            return self.exposure
        exposure = self.exposure.then(change)
        nearest = min((NO_CHANGE, *self._recent), key=exposure.distance)
        plain = change.strength > PLAIN
        return nearest if plain and exposure.distance(nearest) < _BACK * change.strength else exposure

    def _motion_to(self, number: int) -> PairMotion:
        """The motion between a frame and the last one from which it goes on."""
        if abs(number - self.last_seen) == 1:
            return self._motion.to_keyframe_side(number)
        if self._gap is None or self._gap[:2] != (self.last_seen, number):
            with PairEstimator() as estimator:
                here, there = self._frame_at(self.last_seen), self._frame_at(number)
                found = estimator.between(here, there, self._steady(abs(number - self.last_seen)))
            self._gap = self.last_seen, number, found
        return self._gap[2]

    def _steady(self, frames: int) -> Guess | None:
        """The motion from the last frame to one so many frames on, if the velocity stays; None where it is not known,
        or too far."""
        if frames > _STEADY or not self._motion.covers(self.last_seen):
            return None
        moved = self._motion.to_keyframe_side(self.last_seen)
        return None if moved.repeated else moved.continued(frames)

    def _through(self, number: int, moved: PairMotion, exposure: Exposure) -> PairMotion:
        """The motion to an overexposed frame, by that from the last one to the next that is not."""
        step = 1 if number > self.last_seen else -1
        for beyond in range(number + step, self.last_seen + step * (_LONGEST_FLASH + 2), step):
            if not self._shot[0] <= beyond <= self._shot[1]:
                break
            if not self._clips(beyond):
                whole = self._motion_to(beyond)
                if whole.cut:
                    break
                share = abs(number - self.last_seen) / abs(beyond - self.last_seen)
                previous = exposure.of_display(self._seen.display)
                return motion_through(moved, self._frame_at(number).display, previous, whole, share)
        return moved

    def _shows_little(self, number: int, change: Exposure) -> bool:
        """Whether the light leaves so little of a frame that the next one's motion is better found from before it.
        change: from the last frame to this."""
        if change.strength <= PLAIN:
            return False
        return float(change.gain.mean()) < _DIMMEST or self._clips(number)

    def _clips(self, number: int) -> bool:
        """Whether much of a frame is clipped that is not in the last one."""
        return _clipped(self._frame_at(number)) - _clipped(self._frame_at(self.last_seen)) > _CLIPPED


def joined(steps: Sequence[Step | None], motion: tuple[Field, Field] | None = None) -> Step | None:
    """One step over several in a row: what happens to the frames between does not touch the last one. None where motion
    does not go on from that. motion: backward and forward over all of them, where it is known."""
    seen = [step for step in steps if step is not None and not step.events & FrameEvent.PASSED]
    if not seen or seen[-1] is not steps[-1]:
        return None
    backward, forward = motion or (
        chained([step.backward for step in reversed(seen)]),
        chained([step.forward for step in seen]),
    )
    across = FrameEvent.ACROSS if any(step.events & FrameEvent.ACROSS for step in seen) else FrameEvent(0)
    still = all(step.events & FrameEvent.REPEATED for step in seen)
    first, events = seen[0], FrameEvent.REPEATED if still else across
    return replace(
        seen[-1], before=first.before, previous=first.previous, backward=backward, forward=forward, events=events
    )


def as_keyframe(frame: AnalysisFrame, exposure: Exposure, picture: Display | None) -> AnalysisFrame:
    """A frame at the keyframe's exposure. exposure: from the keyframe to it. picture: `Step.restored` of it."""
    return frame.exposed(exposure.significant().inverse()) if picture is None else AnalysisFrame(picture)


def _clipped(frame: AnalysisFrame) -> float:
    """The share of a frame's samples that are as bright as can be."""
    return float((frame.display >= CLIPPED).mean(dtype=np.float64))
