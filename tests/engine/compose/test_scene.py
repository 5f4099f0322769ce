"""What happens to the frames of a shot, on the way from a keyframe."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.exposure import NO_CHANGE
from paintover_engine.compose.motion import Motion, estimate
from paintover_engine.compose.scene import FrameEvent, SceneCursor, Step, joined

from tests.engine.compose.test_exposure import exposed
from tests.engine.compose.test_flow import textured

WIDE = textured(5, 420, 200)


def plain(number: int) -> np.ndarray:
    return WIDE[:, 4 * number : 4 * number + 300]


def scene_of(pictures: list[np.ndarray]) -> SceneCursor:
    frames = [AnalysisFrame(np.ascontiguousarray(picture)) for picture in pictures]
    motion = Motion([((0, len(frames) - 2), estimate(0, iter(frames), lambda: None))], 1)
    return SceneCursor(0, NO_CHANGE, motion, frames.__getitem__, (0, len(frames) - 1))


def events(pictures: list[np.ndarray]) -> list[FrameEvent]:
    scene = scene_of(pictures)
    steps = [scene.advance(number) for number in range(1, len(pictures))]
    return [FrameEvent.HIDDEN if step is None else step.events for step in steps]


NOTHING = FrameEvent(0)


def test_plain_motion_is_no_event() -> None:
    assert events([plain(n) for n in range(4)]) == [NOTHING] * 3


def test_plain_motion_is_leapt_over() -> None:
    pictures = [plain(n) for n in range(7)]
    leaping, walking = scene_of(pictures), scene_of(pictures)
    leapt, steps = leaping.leap(4), [walking.advance(number) for number in range(1, 5)]
    assert leapt and steps[-1] and (leapt.number, leapt.before, leapt.events) == (4, 0, NOTHING)
    assert np.array_equal(leapt.frame.sharp, steps[-1].frame.sharp)
    assert float(np.median(leapt.backward[..., 0])) == pytest.approx(4 * 2, abs=0.2)  # at half the size
    beyond = [scene.advance(5) for scene in (leaping, walking)]
    assert all(step and step.before == 4 for step in beyond)


@pytest.mark.parametrize("change", [lambda p: plain(1), lambda p: p * 0, lambda p: exposed(p, 0.5)])
def test_what_else_happens_is_not_leapt_over(change: Callable[[np.ndarray], np.ndarray]) -> None:
    scene = scene_of([change(plain(n)) if n == 2 else plain(n) for n in range(5)])
    assert scene.leap(4) is None
    assert scene.last_seen == 0


def steps_of(pictures: list[np.ndarray]) -> list[Step | None]:
    scene = scene_of(pictures)
    return [scene.advance(number) for number in range(1, len(pictures))]


@pytest.mark.parametrize("change", [lambda p: p * 0, lambda p: exposed(p, 1.6, 20), lambda p: exposed(p, 0.5)])
def test_one_step_leads_over_what_happens_between(change: Callable[[np.ndarray], np.ndarray]) -> None:
    whole = joined(steps_of([change(plain(n)) if n == 2 else plain(n) for n in range(5)]))
    assert whole is not None and (whole.number, whole.before) == (4, 0)
    assert float(np.median(whole.backward[..., 0])) == pytest.approx(4 * 2, abs=0.3)
    assert float(np.median(whole.forward[..., 0])) == pytest.approx(-4 * 2, abs=0.3)


def test_no_step_leads_to_a_frame_that_is_passed() -> None:
    assert joined(steps_of([exposed(plain(n), 1.6, 20) if n == 3 else plain(n) for n in range(4)])) is None
    assert joined(steps_of([plain(n) * (n != 3) for n in range(4)])) is None


def test_copies_are_one_step_to_a_copy() -> None:
    still, moved = (joined(steps_of(pictures)) for pictures in ([plain(0)] * 3, [plain(n // 2) for n in range(4)]))
    assert still and still.events == FrameEvent.REPEATED
    assert moved and moved.events == NOTHING


def test_repeated_frames_are_known() -> None:
    assert events([plain(n // 2) for n in range(5)]) == [FrameEvent.REPEATED, NOTHING, FrameEvent.REPEATED, NOTHING]


def test_motion_goes_on_across_black_frames() -> None:
    found = events([plain(n) * (n not in (2, 3)) for n in range(6)])
    assert found == [NOTHING, FrameEvent.HIDDEN, FrameEvent.HIDDEN, FrameEvent.ACROSS, NOTHING]


def test_motion_goes_on_across_a_flash() -> None:
    found = events([exposed(plain(n), 1.6, 20) if n == 2 else plain(n) for n in range(5)])
    assert found == [NOTHING, FrameEvent.LIGHT | FrameEvent.PASSED, FrameEvent.ACROSS, NOTHING]


def test_lights_that_stay_on_are_gone_on_from() -> None:
    found = events([exposed(plain(n), 1.6, 20) if n >= 2 else plain(n) for n in range(8)])
    assert all(event & FrameEvent.PASSED for event in found[1:4])
    assert found[5:] == [NOTHING, NOTHING]


@pytest.mark.parametrize("gain", [0.5, 0.35])
def test_changed_light_is_known(gain: float) -> None:
    assert events([exposed(plain(n), gain if n >= 2 else 1) for n in range(4)]) == [NOTHING, FrameEvent.LIGHT, NOTHING]


def test_light_that_comes_back_is_the_same_again() -> None:
    """A strobe leaves no error in the frames between its dark ones."""
    frames = [AnalysisFrame(exposed(plain(n), 0.37 if n % 2 else 1, 3 * (n % 2))) for n in range(8)]
    motion = Motion([((0, 6), estimate(0, iter(frames), lambda: None))], 1)
    scene = SceneCursor(0, NO_CHANGE, motion, frames.__getitem__, (0, len(frames) - 1))
    exposures = [step.exposure for step in map(scene.advance, range(1, 8)) if step is not None]
    assert all(exposure is NO_CHANGE for exposure in exposures[1::2])
    assert len({exposure.strength for exposure in exposures[::2]}) == 1


def test_jump_is_known() -> None:
    assert events([plain(0), plain(1), plain(24), plain(25)]) == [NOTHING, FrameEvent.JUMP, NOTHING]


def test_cut_hides_the_scene() -> None:
    other = 255 - textured(9, 420, 200) // 3
    pictures = [plain(0), plain(1), *(other[:, 4 * n : 4 * n + 300] for n in range(3))]
    assert events(pictures) == [NOTHING] + [FrameEvent.HIDDEN] * 3
