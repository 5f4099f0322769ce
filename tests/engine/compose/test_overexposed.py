"""What a flash clipped, restored from the frames beside it."""

from __future__ import annotations

import numpy as np
import pytest
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.exposure import NO_CHANGE
from paintover_engine.compose.flow import magnitudes
from paintover_engine.compose.motion import Motion, estimate
from paintover_engine.compose.overexposed import CLIPPED, RestoredFrames, blown_out
from paintover_engine.compose.scene import SceneCursor, Step

from tests.engine.compose.test_exposure import exposed
from tests.engine.compose.test_flow import textured

WIDE = textured(5, 420, 200)
WIDE[50:150, 100:250] = WIDE[50:150, 100:250] // 3 + 160
FLASH = 3


def plain(number: int) -> np.ndarray:
    return np.ascontiguousarray(WIDE[:, 6 * number : 6 * number + 300])


@pytest.fixture(scope="module")
def step() -> Step:
    """That to a flash, in which much of the picture is white."""
    frames = [AnalysisFrame(exposed(plain(n), 1.8, 20) if n == FLASH else plain(n)) for n in range(6)]
    motion = Motion([((0, 4), estimate(0, iter(frames), lambda: None))], 1)
    scene = SceneCursor(0, NO_CHANGE, motion, frames.__getitem__, (0, 5))
    found = [scene.advance(n) for n in range(1, FLASH + 1)][-1]
    assert found is not None
    return found


def test_clipped_colours_are_restored(step: Step) -> None:
    truth, flash = plain(FLASH).astype(float), exposed(plain(FLASH), 1.8, 20)
    clipped = (flash >= CLIPPED)[20:-20, 20:-20]
    assert clipped.mean() > 0.3
    assert step.restored is not None
    error, left = (
        np.abs(picture - truth)[20:-20, 20:-20][clipped] for picture in (step.restored, (flash - 20.0) / 1.8)
    )
    assert error.mean() < 4 < 20 < left.mean()


def test_motion_of_white_pixels_is_that_through_the_flash(step: Step) -> None:
    blown = blown_out(AnalysisFrame(exposed(plain(FLASH), 1.8, 20)).display)[20:-20, 20:-20]
    assert blown.mean() > 0.2
    wrong = magnitudes(step.backward - np.array([3, 0], np.float32))[20:-20, 20:-20]
    assert np.percentile(wrong[blown], 90) < 0.5


def test_frames_without_clipped_samples_are_left() -> None:
    assert RestoredFrames.of([(3, None), (4, None)]) is None
    picture = plain(0)
    found = RestoredFrames.of([(3, None), (4, picture)])
    assert found is not None
    assert found.at(3) is None
    assert np.array_equal(found.at(4), picture)
