"""Paint that ends within an object: what moves with it and is not painted on the keyframe stays unpainted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from paintover_engine.compose import unpainted
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.flow import Field
from paintover_engine.compose.measured_net import MeasuredNet
from paintover_engine.compose.register import Registration
from paintover_engine.compose.scene import Step
from paintover_engine.compose.tracker import Tracker

WIDTH, HEIGHT, STEP = 160, 96, 6
BODY, UPPER, LOWER = np.s_[24:72, 40:90], np.s_[38:47, 42:88], np.s_[48:72, 40:90]
NONE = np.zeros((HEIGHT, WIDTH), np.float32)


def ones(part: tuple[slice, slice], shift: int = 0) -> NDArray[np.float32]:
    plane = NONE.copy()
    plane[part] = 1
    return np.roll(plane, shift, 1)


def flow(moving: NDArray[np.float32], step: float = STEP) -> Field:
    field: Field = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    field[moving > 0, 0] = step
    return field


def frame(shift: int) -> AnalysisFrame:
    """A body of one texture that stands before another one, `shift` pixels farther to the right than on the first."""
    noise = np.random.default_rng(4).random((2 * HEIGHT, 2 * WIDTH, 3), np.float32)
    ground = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 0.5) * 400 + (120, 150, 190), 0, 255).astype(np.uint8)
    skin = np.clip((cv2.GaussianBlur(noise[::-1], (0, 0), 2) - 0.5) * 400 + (150, 90, 50), 0, 255).astype(np.uint8)
    inside = np.repeat(np.repeat(ones(BODY, shift), 2, 0), 2, 1)[..., None] > 0
    return AnalysisFrame(np.where(inside, np.roll(skin, 2 * shift, 1), ground))


def test_what_moves_with_the_paint_beside_it_is_found() -> None:
    there = flow(ones(BODY, STEP), -STEP)
    found = unpainted.beside(ones(LOWER), flow(ones(BODY)), there)
    assert found[UPPER].min() > 0.9
    assert found[ones(BODY) == 0].max() < 0.1
    assert found[LOWER].max() == 0


def test_nothing_is_found_where_nothing_moves() -> None:
    assert unpainted.beside(ones(LOWER), flow(NONE), flow(NONE)).max() < 0.01


def test_ground_that_flow_drags_along_is_no_part() -> None:
    dragged = np.s_[48:72, 90:98]
    there = flow(ones(BODY, STEP), -STEP)
    assert unpainted.beside(ones(LOWER), flow(np.maximum(ones(BODY), ones(dragged))), there)[dragged].max() < 0.1


def test_evidence_counts_for_the_nearer_of_the_two() -> None:
    found = unpainted.competing(ones(BODY), ones(UPPER), NONE, ones(LOWER))
    assert found[40:44, 50:80].max() < 0.2
    assert found[55:70, 50:80].min() > 0.9


def test_claim_counts_as_far_as_motion_is_certain() -> None:
    plain = -np.ones_like(NONE)
    assert unpainted.competing(None, ones(UPPER), ones(BODY), NONE)[UPPER].max() == -1
    assert np.abs(unpainted.competing(None, ones(UPPER), NONE, NONE)).max() == 0
    assert (unpainted.competing(plain, ones(UPPER), ones(BODY), NONE) == -1).all()  # never less than plainly not


def test_paint_takes_back_what_it_is_found_on() -> None:
    assert unpainted.remaining(None, ones(LOWER)) is None
    left = unpainted.remaining(ones(BODY), ones(LOWER))
    assert left is not None
    assert np.array_equal(left, ones(BODY) - ones(LOWER))


def leak(known: bool) -> float:
    """The share of the body above its painted half that is painted after five steps, with the unpainted part known, or
    not."""
    here, there = flow(ones(BODY)), flow(ones(BODY, STEP), -STEP)
    edit = MeasuredNet.of(frame(0), ones(LOWER), here, there if known else flow(NONE)).edit(ones(LOWER), False)
    assert bool(edit.unpainted.any()) == known
    tracker = Tracker(frame(0), edit)
    state = tracker.start()
    registration = state.registration
    for number in range(1, 6):
        shift = number * STEP
        backward, forward = flow(ones(BODY, shift), -STEP), flow(ones(BODY, shift - STEP))
        step = Step(number, number - 1, frame(shift), frame(shift - STEP), backward, forward)
        state = tracker.advance(state, registration, step)
    assert state.matte[ones(LOWER, shift) > 0].mean() > 0.9
    return float(state.matte[ones(UPPER, shift) > 0].mean())


def test_edge_within_an_object_stays_where_it_was_painted() -> None:
    assert leak(known=True) < 0.1 < leak(known=False)


def test_registration_is_not_believed_of_what_moves_as_the_surroundings() -> None:
    """It stays on the ground that the painted surface left."""
    edit = MeasuredNet.of(frame(0), ones(LOWER), flow(ones(BODY)), flow(ones(BODY, STEP), -STEP)).edit(
        ones(LOWER), True
    )
    tracker = Tracker(frame(0), edit)
    step = Step(1, 0, frame(STEP), frame(0), flow(ones(BODY, STEP), -STEP), flow(ones(BODY)))
    found = tracker.advance(tracker.start(), Registration.identity(HEIGHT, WIDTH), step)
    left, kept = np.s_[50:70, 40:45], np.s_[50:70, 55:85]
    assert found.registration is not None
    assert found.registration.confidence[left].max() < 0.1
    assert found.registration.confidence[kept].min() > 0.9
    assert found.matte[left].max() < 0.1
