"""Propagation of an edit over a span of frames, away from its keyframe, across frames that do not show its scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.long_range import LongRangeMotion
from paintover_engine.compose.motion import Motion, PairMotion, Span, bridged
from paintover_engine.compose.prefetch import prefetched
from paintover_engine.compose.reason import Reason
from paintover_engine.compose.register import Registration
from paintover_engine.compose.tracker import LastSeen, Propagated, Step, TrackedEdit, Tracker, from_bytes, to_bytes

LONGEST_GAP = 12
"""Frames after which a scene that was interrupted is not expected back: the interruption was a cut."""


class SceneCursor:
    """Follows one scene outward from its keyframe. A frame that is cut off from the one before it ends the scene if the
    scene does not come back within `LONGEST_GAP` frames; else it was a disturbance: a flash, a black frame.

    last_seen: the frame before the first one that is asked for, or the last before that which showed the scene."""

    def __init__(self, last_seen: int, motion: Motion, frame_at: Callable[[int], AnalysisFrame]) -> None:
        self.last_seen = last_seen
        self._motion = motion
        self._frame_at = frame_at

    def advance(self, number: int) -> PairMotion | None:
        """The motion between the next frame and the last one that showed the scene; None where it does not show it."""
        distance = abs(number - self.last_seen)
        if distance == 1:
            motion = self._motion.to_keyframe_side(number)
        elif distance <= LONGEST_GAP + 1:
            motion = bridged(self._frame_at(self.last_seen), self._frame_at(number))
        else:
            return None
        if motion.cut:
            return None
        self.last_seen = number
        return motion


def propagate(
    edit: TrackedEdit,
    keyframe: int,
    before: Sequence[tuple[Span, Propagated]],
    numbers: Sequence[int],
    motion: Motion,
    long_range: LongRangeMotion,
    frame_at: Callable[[int], AnalysisFrame],
    check: Callable[[], None],
) -> Propagated:
    """A local edit in the frames `numbers`, which lead away from the frame `keyframe` one by one.

    before: the spans before, the nearest first, as far as hops reach; none next to the keyframe. In frames that do not
    show the keyframe's scene, confidence and matte are 0. check: called once a frame; raises to cancel."""
    step = 1 if numbers[0] > keyframe else -1
    tracker = Tracker(frame_at(keyframe), edit)
    nearest = before[0][1] if before else None
    state = tracker.start() if nearest is None else tracker.resume(nearest, outermost(step))
    scene = SceneCursor(_last_seen(nearest, numbers[0] - step), motion, frame_at)
    mattes = {keyframe: edit.region, **_mattes(before)}
    seen, registration = frame_at(scene.last_seen), state.registration

    def registered(number: int) -> tuple[Step | None, Registration | None]:
        """The step to a frame, None where it does not show the scene; and its registration."""
        nonlocal seen, registration
        moved = scene.advance(number)
        if moved is None:
            return None, registration
        previous, seen = seen, frame_at(number).prepared()
        taken = Step(number, seen, previous, moved.backward, moved.forward, moved.repeated)
        registration = tracker.register(registration, taken)
        return taken, registration

    states = []
    for taken, found in prefetched(registered, numbers):
        check()
        if taken is None:
            states.append(tracker.unseen(state))
        else:
            hops = [(hop, from_bytes(mattes[to])) for to, hop in long_range.hops(taken.number) if to in mattes]
            state = tracker.advance(state, found, taken, hops)
            states.append(state)
            mattes[taken.number] = to_bytes(state.matte)
    lost = scene.last_seen != numbers[-1]
    return tracker.propagated(states[::step], state, scene.last_seen if lost else None)


def _mattes(spans: Sequence[tuple[Span, Propagated]]) -> dict[int, NDArray[np.uint8]]:
    """The mattes (h, w) of the frames that show the scene, by number."""
    return {
        first + index: matte
        for (first, _), found in spans
        if found.matte is not None
        for index, matte in enumerate(found.matte)
        if found.confidence[index] > 0
    }


def propagate_grade(
    before: Propagated | None,
    numbers: Sequence[int],
    motion: Motion,
    step: int,
    frame_at: Callable[[int], AnalysisFrame],
) -> Propagated:
    """A grade of the whole frame holds in every frame that shows its keyframe's scene."""
    scene = SceneCursor(_last_seen(before, numbers[0] - step), motion, frame_at)
    shown = np.array([scene.advance(number) is not None for number in numbers][::step])
    last_seen = LastSeen(scene.last_seen) if scene.last_seen != numbers[-1] else None
    reason = np.where(shown, Reason.NONE, Reason.NOT_SHOWN).astype(np.uint8)
    return Propagated(shown.astype(np.float32), reason, last_seen=last_seen)


def _last_seen(before: Propagated | None, neighbour: int) -> int:
    """The last frame up to `neighbour`, the outermost one of the span before, that shows the scene."""
    return before.last_seen.number if before and before.last_seen else neighbour


def outermost(step: int) -> int:
    """The index, in a span of ascending frames, of the one farthest from the keyframe."""
    return -1 if step > 0 else 0
