"""Propagation of an edit over a span of frames, away from its keyframe, across frames that do not show its scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.exposure import NO_CHANGE, Exposure
from paintover_engine.compose.long_range import Evidence, LongRangeMotion
from paintover_engine.compose.motion import Motion, Span
from paintover_engine.compose.prefetch import prefetched
from paintover_engine.compose.reason import Reason
from paintover_engine.compose.register import Registration
from paintover_engine.compose.scene import FrameEvent, SceneCursor, Step
from paintover_engine.compose.tracker import LastSeen, Propagated, TrackedEdit, Tracker, from_bytes, to_bytes


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
    scene = SceneCursor(_last_seen(nearest, numbers[0] - step), state.exposure, motion, frame_at)
    known = {keyframe: (edit.region, np.full_like(edit.region, 255)), **_known(before)}
    registration = state.registration

    def registered(number: int) -> tuple[Step | None, Registration | None]:
        """The step to a frame, None where it does not show the scene; and its registration."""
        nonlocal registration
        taken = scene.advance(number)
        if taken is None:
            return None, registration
        taken.frame.prepared()
        found = tracker.register(registration, taken)
        if not taken.events & FrameEvent.PASSED:
            registration = found
        return taken, found

    states = []
    for taken, found in prefetched(registered, numbers):
        check()
        if taken is None:
            states.append(tracker.unseen(state))
            continue
        hops = [(hop, _evidence(*known[to])) for to, hop in long_range.hops(taken.number) if to in known]
        states.append(tracker.advance(state, found, taken, hops))
        if not taken.events & FrameEvent.PASSED:
            state = states[-1]
            known[taken.number] = (to_bytes(state.matte), to_bytes(state.evidence.confidence))
    lost = scene.last_seen != numbers[-1]
    return tracker.propagated(states[::step], state, scene.last_seen if lost else None)


Packed = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""`Evidence`, as it is stored."""


def _known(spans: Sequence[tuple[Span, Propagated]]) -> dict[int, Packed]:
    """The mattes (h, w) of the frames that show the scene, and how certain they are, by number."""
    return {
        first + index: (found.matte[index], found.matte_confidence[index])
        for (first, _), found in spans
        if found.matte is not None and found.matte_confidence is not None
        for index in range(len(found.matte))
        if found.confidence[index] > 0 and not found.events[index] & FrameEvent.PASSED
    }


def _evidence(matte: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> Evidence:
    return Evidence(from_bytes(matte), from_bytes(confidence))


def propagate_grade(
    before: Propagated | None,
    numbers: Sequence[int],
    motion: Motion,
    step: int,
    frame_at: Callable[[int], AnalysisFrame],
) -> Propagated:
    """A grade of the whole frame holds in every frame that shows its keyframe's scene."""
    exposure = NO_CHANGE
    if before is not None:
        packed = before.last_seen.exposure if before.last_seen else before.exposure[outermost(step)]
        exposure = Exposure.unpacked(packed)
    scene = SceneCursor(_last_seen(before, numbers[0] - step), exposure, motion, frame_at)
    steps = [scene.advance(number) for number in numbers][::step]
    shown = np.array([taken is not None for taken in steps])
    lost = scene.last_seen != numbers[-1]
    return Propagated(
        shown.astype(np.float32),
        np.where(shown, Reason.NONE, Reason.NOT_SHOWN).astype(np.uint8),
        np.stack([(NO_CHANGE if taken is None else taken.exposure).packed() for taken in steps]),
        np.array([FrameEvent.HIDDEN if taken is None else taken.events for taken in steps], np.uint8),
        last_seen=LastSeen(scene.last_seen, scene.exposure.packed()) if lost else None,
    )


def _last_seen(before: Propagated | None, neighbour: int) -> int:
    """The last frame up to `neighbour`, the outermost one of the span before, that shows the scene."""
    return before.last_seen.number if before and before.last_seen else neighbour


def outermost(step: int) -> int:
    """The index, in a span of ascending frames, of the one farthest from the keyframe."""
    return -1 if step > 0 else 0
