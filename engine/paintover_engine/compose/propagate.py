"""Propagation of an edit over a shot, away from its keyframe, across frames that do not show its scene.

A chain leads from anchor to anchor only: every `STRIDE`th frame, by motion that was chained over the frames between and
by long hops, all of it of the plate alone. The frames between two anchors depend on these two, so that those of
different intervals are independent of one another. So it is where more than motion happens in an interval (a flash, a
black frame, a picture that stands still), if both its ends show the scene; else, and where the artist corrects, it is
followed frame by frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame, Display
from paintover_engine.compose.correcting import DrawnMatte
from paintover_engine.compose.dragging import DragPoints
from paintover_engine.compose.exposure import NO_CHANGE, Exposure
from paintover_engine.compose.flow import pack, unpack
from paintover_engine.compose.long_range import Evidence, Hop, LongRangeMotion, motion_error
from paintover_engine.compose.motion import STRIDE, Motion, Span
from paintover_engine.compose.overexposed import RestoredFrames
from paintover_engine.compose.prefetch import prefetched
from paintover_engine.compose.reason import Reason
from paintover_engine.compose.register import Registration
from paintover_engine.compose.scene import FrameEvent, SceneCursor, Step, as_keyframe, joined
from paintover_engine.compose.tracker import (
    PackedStates,
    Propagated,
    State,
    TrackedEdit,
    Tracker,
    from_bytes,
    propagated,
    to_bytes,
)

FrameAt = Callable[[int], AnalysisFrame]
Corrections = Mapping[int, DrawnMatte | DragPoints]
"""By frame."""
Packed = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None]
"""`Evidence`, as it is stored."""


@dataclass(frozen=True)
class Anchors:
    """An edit in n anchors, outward from its keyframe.

    frames: (n,) int64, their numbers. plain: (n,) uint8, 1 where nothing but motion happens between the anchor before
    and this. seen: (n,) int64, the last frame up to each from which motion goes on, itself where it shows the scene;
    exposure: (n, 2, 3) float32, `Exposure.packed`, and states: of that frame; None of a grade. offset:
    (frames, h, w, 2) int16, packed, and offset_confidence: (frames, h, w) uint8: of a mapped edit the `Registration` of
    every frame behind the anchors before, outward: a surface is followed frame by frame. corrected: the outermost frame
    up to the last anchor that the artist corrected: nothing nearer to the keyframe is evidence beyond it. restored: of
    the frames `seen`, those in which clipped samples were restored."""

    frames: NDArray[np.int64]
    plain: NDArray[np.uint8]
    seen: NDArray[np.int64]
    exposure: NDArray[np.float32]
    states: PackedStates | None = None
    offset: NDArray[np.int16] | None = None
    offset_confidence: NDArray[np.uint8] | None = None
    corrected: int | None = None
    restored: RestoredFrames | None = None

    def picture(self, index: int) -> Display | None:
        """`Step.restored` of the frame that an anchor's motion goes on from."""
        return None if self.restored is None else self.restored.at(int(self.seen[index]))

    def registration(self, number: int) -> Registration | None:
        """That of a frame behind the anchor before them, up to the last."""
        if self.offset is None or self.offset_confidence is None:
            return None
        index = len(self.offset) - 1 - abs(number - int(self.frames[-1]))
        return Registration(unpack(self.offset[index]), from_bytes(self.offset_confidence[index]))


def anchors_among(numbers: Sequence[int]) -> list[int]:
    """The anchors among frames that lead away from the keyframe one by one: every `STRIDE`th of the shot, and the
    last."""
    return [number for number in numbers if number % STRIDE == 0 or number == numbers[-1]]


# The chain.


def track(
    edit: TrackedEdit,
    keyframe: int,
    before: Sequence[Anchors],
    numbers: Sequence[int],
    motion: Motion,
    long_range: LongRangeMotion,
    frame_at: FrameAt,
    shot: Span,
    check: Callable[[], None],
    corrections: Corrections,
) -> Anchors:
    """A local edit in the anchors among the frames `numbers`, which lead away from the frame `keyframe` one by one.

    before: the anchors before, the nearest first, as far as hops reach; none next to the keyframe. check: called once a
    frame; raises to cancel. corrections: by frame. What was found nearer to the keyframe than one is no evidence beyond
    it."""
    step = 1 if numbers[0] > keyframe else -1
    tracker = Tracker(frame_at(keyframe), edit)
    start, seen, state = _outermost(tracker, keyframe, before)
    known = _known(before)
    if all(found.corrected is None for found in before):
        known[keyframe] = _packed(tracker.shown())
    scene = SceneCursor(seen, state.exposure, motion, frame_at, shot, state.restored)
    follower = _Follower(tracker, scene, motion, state, corrections)
    ends = anchors_among(numbers)
    starts = dict(zip(ends, [start, *ends], strict=False))
    plain, states, last_seen, corrected = [], [], [], None
    registrations: list[Registration] = []
    for interval in prefetched(lambda end: follower.across(starts[end], end, step), ends):
        registrations += interval.registrations
        for placed in interval.frames:
            check()
            if placed.step is None:
                continue
            number = placed.step.number
            hops = [(hop, _evidence(*known[to])) for to, hop in long_range.hops(number) if to in known]
            found = tracker.advance(state, placed.registration, placed.step, hops)
            if drawn := corrections.get(number):
                found, corrected = tracker.corrected(found, drawn, placed.step), number
                known.clear()
            if not placed.step.events & FrameEvent.PASSED:
                state, seen = found, number
                known[number] = _packed(state.evidence)
        plain.append(interval.plain)
        states.append(state)
        last_seen.append(seen)
    return Anchors(
        np.array(ends, np.int64),
        np.array(plain, np.uint8),
        np.array(last_seen, np.int64),
        np.stack([each.exposure.packed() for each in states]),
        tracker.packed(states),
        np.stack([pack(each.offset) for each in registrations]) if registrations else None,
        np.stack([to_bytes(each.confidence) for each in registrations]) if registrations else None,
        corrected,
        RestoredFrames.of([(number, each.restored) for number, each in zip(last_seen, states, strict=True)]),
    )


def _outermost(tracker: Tracker, keyframe: int, before: Sequence[Anchors]) -> tuple[int, int, State]:
    """The outermost anchor so far: its number, the frame from which motion goes on, and the state of that."""
    if not before:
        return keyframe, keyframe, tracker.start()
    nearest = before[0]
    assert nearest.states is not None
    state = tracker.resume(nearest.states, -1, Exposure.unpacked(nearest.exposure[-1]), nearest.picture(-1))
    return int(nearest.frames[-1]), int(nearest.seen[-1]), state


def _known(before: Sequence[Anchors]) -> dict[int, Packed]:
    """The mattes (h, w) of the anchors that show the scene, and how certain they are, by number; none from before a
    correction. before: the nearest first."""
    known: dict[int, Packed] = {}
    for anchors in before:
        assert anchors.states is not None
        for index, (number, seen) in enumerate(zip(anchors.frames.tolist(), anchors.seen.tolist(), strict=True)):
            outward = abs(number - anchors.frames[-1])
            outdated = anchors.corrected is not None and outward > abs(anchors.corrected - anchors.frames[-1])
            if number == seen and not outdated:
                states = anchors.states
                unpainted = None if states.unpainted is None else states.unpainted[index]
                known[number] = (states.matte[index], states.matte_confidence[index], unpainted)
        if anchors.corrected is not None:
            break
    return known


def _packed(found: Evidence) -> Packed:
    unpainted = None if found.unpainted is None else to_bytes(found.unpainted)
    return to_bytes(found.matte), to_bytes(found.confidence), unpainted


def _evidence(matte: NDArray[np.uint8], confidence: NDArray[np.uint8], unpainted: NDArray[np.uint8] | None) -> Evidence:
    return Evidence(from_bytes(matte), from_bytes(confidence), None if unpainted is None else from_bytes(unpainted))


# What both the chain and the frames between its anchors need.


@dataclass(frozen=True)
class _Placed:
    """The step to a frame, None where it does not show the scene; and its registration."""

    step: Step | None
    registration: Registration | None


@dataclass(frozen=True)
class _Interval:
    """The frames from one anchor to the next; or that one alone, by its motion over all of them, where both show the
    scene and the artist corrects none. plain: nothing happens on the way but motion. registrations: of all of them, of
    a mapped edit."""

    plain: bool
    frames: Sequence[_Placed]
    registrations: Sequence[Registration]


def _behind(start: int, end: int, step: int) -> range:
    """The frames behind one up to another."""
    return range(start + step, end + step, step)


class _Follower:
    """Follows the scene and the registration of an edit outward: what needs no matte, and may be ahead of it in another
    thread. It starts at a state's frame."""

    def __init__(
        self,
        tracker: Tracker,
        scene: SceneCursor,
        motion: Motion,
        state: State,
        corrections: Corrections,
    ) -> None:
        self._tracker = tracker
        self._scene = scene
        self._motion = motion
        self._registration = state.registration
        self._corrections = corrections

    def steps(self, start: int, end: int, step: int) -> tuple[bool, list[Step | None]]:
        """The steps on the way from one frame to another, and whether the scene is seen at the first of them and the
        artist corrects none behind it."""
        untouched = self._untouched(start, end, step)
        return untouched, [self._scene.advance(number) for number in _behind(start, end, step)]

    def _untouched(self, start: int, end: int, step: int) -> bool:
        return self._scene.last_seen == start and self._corrections.keys().isdisjoint(_behind(start, end, step))

    def across(self, start: int, end: int, step: int) -> _Interval:
        """From one anchor to the next."""
        if self._registration is None and self._untouched(start, end, step) and (leapt := self._scene.leap(end)):
            return _Interval(True, [self.placed(leapt)], [])
        untouched, steps = self.steps(start, end, step)
        plain = untouched and all(taken is not None and not taken.events for taken in steps)
        whole = joined(steps, self._motion.over(start, end) if plain else None) if untouched else None
        frames, registrations = [], []
        for taken in steps:
            if self._registration or taken is steps[-1] or not whole:
                frames.append(self.placed(taken))
            if self._registration:
                registrations.append(frames[-1].registration or self._registration)
        if whole:
            frames = [_Placed(whole, frames[-1].registration)]
        return _Interval(plain, frames, registrations)

    def placed(self, taken: Step | None, known: Registration | None = None) -> _Placed:
        """A step's frame, with its registration from that of the frame before it, where it is not known."""
        if taken is None:
            return _Placed(None, None)
        _ = taken.frame.lab  # its pictures are computed here, ahead of the matte
        found = known or self._tracker.register(self._registration, taken)
        if not taken.events & FrameEvent.PASSED:
            drag = self._corrections.get(taken.number)
            self._registration = self._tracker.dragged(found, drag, taken) if isinstance(drag, DragPoints) else found
        return _Placed(taken, found)


def _back(step: Step) -> Hop:
    """The motion from the frame before a step to the step's."""
    here, there = step.previous.smooth_lab, step.frame.smooth_lab
    return Hop(step.forward, motion_error(step.forward, step.backward, here, there))


# The frames between anchors.


def propagate(
    edit: TrackedEdit,
    keyframe: int,
    anchors: Sequence[Anchors],
    numbers: Sequence[int],
    motion: Motion,
    frame_at: FrameAt,
    shot: Span,
    check: Callable[[], None],
    corrections: Corrections,
) -> Propagated:
    """A local edit in the frames `numbers`, ascending, all on one side of the frame `keyframe`.

    anchors: those around the frames, and the one before those. In frames that do not show the keyframe's scene,
    confidence and matte are 0."""
    step = 1 if numbers[0] > keyframe else -1
    tracker = Tracker(frame_at(keyframe), edit, chain=False)
    states: dict[int, State] = {}
    reached: tuple[_Anchor, State] | None = None
    for near, far in _intervals(keyframe, anchors, step):
        wanted = [number for number in numbers if step * near.frame < step * number <= step * far.frame]
        if wanted:
            known = reached[1] if reached and reached[0] is near else None
            state = known or near.state_of(tracker, frame_at, measured=not far.plain)
            at_far = far.state_of(tracker, frame_at, measured=not far.plain or far.frame in wanted)  # with its net
            reached = far, at_far
            if far.plain and wanted == [far.frame]:
                states[far.frame] = at_far
                continue
            state = replace(state, rigidity=at_far.rigidity)
            scene = SceneCursor(near.seen, state.exposure, motion, frame_at, shot, state.restored)
            follower = _Follower(tracker, scene, motion, state, corrections)
            between = _between(tracker, follower, state, near, far, at_far, check, corrections)
            states |= {number: found for number, found in between if number in wanted}
    return propagated(numbers, [states[number] for number in numbers])


@dataclass(frozen=True)
class _Anchor:
    """One of `Anchors`, or the keyframe, which has none."""

    frame: int
    anchors: Anchors | None = None
    index: int = 0

    @property
    def plain(self) -> bool:
        return self.anchors is not None and bool(self.anchors.plain[self.index])

    @property
    def seen(self) -> int:
        return self.frame if self.anchors is None else int(self.anchors.seen[self.index])

    @property
    def exposure(self) -> Exposure:
        return NO_CHANGE if self.anchors is None else Exposure.unpacked(self.anchors.exposure[self.index])

    @property
    def picture(self) -> Display | None:
        return None if self.anchors is None else self.anchors.picture(self.index)

    def registration(self, number: int) -> Registration | None:
        return None if self.anchors is None else self.anchors.registration(number)

    def state(self, tracker: Tracker) -> State:
        if self.anchors is None or self.anchors.states is None:
            return tracker.start()
        return tracker.resume(self.anchors.states, self.index, self.exposure, self.picture)

    def state_of(self, tracker: Tracker, frame_at: FrameAt, measured: bool) -> State:
        """The state, measured: with its confidence, which no frame between two anchors has from them."""
        state = self.state(tracker)
        if self.anchors is None or not measured:
            return state
        return tracker.measured(state, as_keyframe(frame_at(self.seen), self.exposure, self.picture))


def _intervals(keyframe: int, anchors: Sequence[Anchors], step: int) -> Iterator[tuple[_Anchor, _Anchor]]:
    """Neighbouring anchors, the nearer one to the keyframe first, outward."""
    found = [_Anchor(int(number), each, index) for each in anchors for index, number in enumerate(each.frames)]
    ordered = sorted([_Anchor(keyframe), *found], key=lambda anchor: step * anchor.frame)
    yield from itertools.pairwise(ordered)


def _between(
    tracker: Tracker,
    follower: _Follower,
    state: State,
    near: _Anchor,
    far: _Anchor,
    at_far: State,
    check: Callable[[], None],
    corrections: Corrections,
) -> Iterator[tuple[int, State]]:
    """The states of the frames behind one anchor up to the next, by number. state, at_far: of the two."""
    step = 1 if far.frame > near.frame else -1
    numbers = _behind(near.frame, far.frame, step)
    whole, steps = follower.steps(near.frame, far.frame, step)
    taken = dict(zip(numbers, steps, strict=True))
    beyond = {number: steps[index:] for index, number in enumerate(numbers, start=1)} if whole else {}
    if whole and (last := steps[-1]) and not last.events & FrameEvent.PASSED:
        numbers = numbers[:-1]
        yield far.frame, replace(at_far, events=last.events)

    def placed_at(number: int) -> _Placed:
        return follower.placed(taken[number], far.registration(number))

    for number, placed in zip(numbers, prefetched(placed_at, numbers), strict=True):
        check()
        if placed.step is None:
            yield number, tracker.unseen(state)
            continue
        back = joined(beyond.get(number, ()))
        if back and back.events & FrameEvent.REPEATED:
            state = replace(at_far, events=placed.step.events)
            yield number, state
            continue
        hops = [(_back(back), at_far.evidence)] if back and back.before == number else []
        found = tracker.advance(state, placed.registration, placed.step, hops)
        if drawn := corrections.get(number):
            found = tracker.corrected(found, drawn, placed.step)
        if not placed.step.events & FrameEvent.PASSED:
            state = found
        yield number, replace(at_far, events=found.events) if number == far.seen == far.frame else found


# A grade of the whole frame holds in every frame that shows its keyframe's scene.


def track_grade(
    keyframe: int, before: Anchors | None, numbers: Sequence[int], motion: Motion, frame_at: FrameAt, shot: Span
) -> Anchors:
    """A grade in the anchors among frames, as in `track`."""
    start = _Anchor(keyframe) if before is None else _Anchor(int(before.frames[-1]), before, -1)
    scene = SceneCursor(start.seen, start.exposure, motion, frame_at, shot, start.picture)
    ends, seen, exposures, pictures = anchors_among(numbers), [], [], []
    for number in numbers:
        scene.advance(number)
        if number in ends:
            seen.append(scene.last_seen)
            exposures.append(scene.exposure.packed())
            pictures.append((scene.last_seen, scene.picture))
    return Anchors(
        np.array(ends, np.int64),
        np.zeros(len(ends), np.uint8),
        np.array(seen, np.int64),
        np.stack(exposures),
        restored=RestoredFrames.of(pictures),
    )


def propagate_grade(
    keyframe: int, anchors: Sequence[Anchors], numbers: Sequence[int], motion: Motion, frame_at: FrameAt, shot: Span
) -> Propagated:
    """A grade in the frames `numbers`, as in `propagate`."""
    step = 1 if numbers[0] > keyframe else -1
    taken: dict[int, Step | None] = {}
    for near, far in _intervals(keyframe, anchors, step):
        between = _behind(near.frame, far.frame, step)
        if not set(between).isdisjoint(numbers):
            scene = SceneCursor(near.seen, near.exposure, motion, frame_at, shot, near.picture)
            taken |= {number: scene.advance(number) for number in between}
    steps = [taken[number] for number in numbers]
    shown = np.array([each is not None for each in steps])
    return Propagated(
        shown.astype(np.float32),
        np.where(shown, Reason.NONE, Reason.NOT_SHOWN).astype(np.uint8),
        np.stack([(NO_CHANGE if each is None else each.exposure).packed() for each in steps]),
        np.array([FrameEvent.HIDDEN if each is None else each.events for each in steps], np.uint8),
        restored=RestoredFrames.of([(each.number, each.restored) for each in steps if each is not None]),
    )
