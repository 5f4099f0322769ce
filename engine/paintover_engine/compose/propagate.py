"""Propagation of an edit over a span of frames, away from its keyframe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.motion import Motion
from paintover_engine.compose.prefetch import prefetched
from paintover_engine.compose.register import Registration
from paintover_engine.compose.tracker import Propagated, State, Step, TrackedEdit, Tracker


def propagate(
    edit: TrackedEdit,
    keyframe: int,
    before: Propagated | None,
    numbers: Sequence[int],
    motion: Motion,
    frame_at: Callable[[int], AnalysisFrame],
    check: Callable[[], None],
) -> Propagated:
    """A local edit in the frames `numbers`, which lead away from the frame `keyframe` one by one.

    before: the span before, nearer to the keyframe; None next to it. From a cut on, confidence and matte are 0.
    check: called once a frame; raises to cancel."""
    step = 1 if numbers[0] > keyframe else -1
    tracker = Tracker(frame_at(keyframe), edit)
    state = tracker.start() if before is None else tracker.resume(before, outermost(step))
    current, registration, lost = frame_at(numbers[0] - step), state.registration, state.confidence == 0

    def registered(number: int) -> tuple[Step, Registration | None]:
        """The step to a frame, and its registration from that of the frame before it."""
        nonlocal current, registration, lost
        previous, current = current, frame_at(number).prepared()
        taken = Step(number, current, previous, *motion.to_keyframe_side(number))
        lost |= taken.cut
        registration = registration if lost else tracker.register(registration, taken)
        return taken, registration

    states = []
    for taken, found in prefetched(registered, numbers):
        check()
        if taken.cut:
            state = State(np.zeros_like(state.matte), 0.0, found)
        elif state.confidence > 0:
            state = tracker.advance(state, found, taken)
        states.append(state)
    return tracker.propagated(states[::step])


def propagate_grade(before: Propagated | None, numbers: Sequence[int], motion: Motion, step: int) -> Propagated:
    """A grade of the whole frame holds in every frame up to a cut."""
    confidence = 1.0 if before is None else float(before.confidence[outermost(step)])
    found = []
    for number in numbers:
        confidence *= not motion.to_keyframe_side(number)[2]
        found.append(confidence)
    return Propagated(np.array(found[::step], np.float32))


def outermost(step: int) -> int:
    """The index, in a span of ascending frames, of the one farthest from the keyframe."""
    return -1 if step > 0 else 0
