from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_engine.compose.exposure import NO_CHANGE, Exposure, of_aligned, of_histograms

from tests.engine.compose.test_flow import textured


def exposed(picture: np.ndarray, gain: float | np.ndarray, lift: float = 0) -> np.ndarray:
    return np.clip(np.rint(picture * gain + lift), 0, 255).astype(np.uint8)


def shifted(dx: float, shape: tuple[int, ...]) -> np.ndarray:
    flow = np.zeros((*shape[:2], 2), np.float32)
    flow[..., 0] = dx
    return flow


@pytest.mark.parametrize(("gain", "lift"), [(0.45, 0), (0.2, 0), (0.9, 0), (1.8, 30), (0.7, 60)])
def test_exposure_is_found_across_motion(gain: float, lift: float) -> None:
    wide = textured()
    first, second = wide[:, 4:164].copy(), exposed(wide[:, :160], gain, lift)
    about = of_histograms(first, second)
    assert about is not None
    found = of_aligned(first, second, shifted(4, first.shape), about)
    assert np.abs(found.gain - gain).max() < 0.05 * max(1, gain)
    assert np.abs(255 * found.lift - lift).max() < 4


def test_exposure_is_found_by_the_little_that_a_flash_leaves() -> None:
    wide = np.maximum(textured(), np.uint8(96))
    wide[20:60, 40:90] //= 3  # a twelfth of the picture stays below white
    first, second = wide[:, 4:164].copy(), exposed(wide[:, :160], 2.5, 20)
    assert 0.85 < (second == 255).all(-1).mean() < 0.95
    about = of_histograms(first, second)
    assert about is not None
    dark = first[25:55, 60:80]
    assert np.abs(about.of_display(dark).astype(int) - exposed(dark, 2.5, 20)).mean() < 12


def test_dimmed_picture_has_one_gain_and_no_lift() -> None:
    wide = textured()
    first, second = wide[:, 4:164].copy(), exposed(wide[:, :160], 0.95)
    found = of_aligned(first, second, shifted(4, first.shape), of_histograms(first, second))
    assert not found.lift.any()
    assert len(set(found.gain.tolist())) == 1


def test_lift_of_one_channel_alone_is_none() -> None:
    """A thing of one colour that moves looks like one, and a chain of them would tint the paint."""
    wide = textured()
    first, second = wide[:, 4:164].copy(), exposed(wide[:, :160], 0.95)
    second[..., 1] = exposed(wide[:, :160, 1], 0.92, 4)
    assert not of_aligned(first, second, shifted(4, first.shape), of_histograms(first, second)).lift.any()


def test_tinted_picture_has_a_gain_for_each_channel() -> None:
    wide, gains = textured(), np.array([1.1, 1.0, 0.85])
    first, second = wide[:, 4:164].copy(), exposed(wide[:, :160], gains)
    found = of_aligned(first, second, shifted(4, first.shape), of_histograms(first, second))
    assert np.abs(found.gain - gains).max() < 0.03


def test_local_change_is_no_exposure() -> None:
    first = textured()
    second = first.copy()
    second[:, 140:] = exposed(second[:, 140:], 0.5)
    second[:, :60] = exposed(second[:, :60], 1.3)
    assert of_aligned(first, second, shifted(0, first.shape), None) is NO_CHANGE
    assert of_aligned(first, first, shifted(0, first.shape), None) is NO_CHANGE


def test_exposure_of_black_is_unknown() -> None:
    assert of_histograms(textured(), np.zeros_like(textured())) is None


def test_inverse_and_sequence_of_exposures() -> None:
    one = Exposure(np.float32([0.5, 0.8, 1.2]), np.float32([0.1, 0, -0.05]))
    picture = cv2.blur(textured(), (3, 3)).astype(np.float32) / 255
    assert np.allclose(one.then(one.inverse())(picture), picture, atol=1e-5)
    assert np.allclose(one.then(one)(picture), one(one(picture)), atol=1e-5)
    assert np.abs(one.of_display(np.rint(picture * 255).astype(np.uint8)) / 255 - np.clip(one(picture), 0, 1)).max() < (
        2 / 255
    )


def test_slight_exposures_do_not_count() -> None:
    assert Exposure(np.full(3, 1.01, np.float32), np.zeros(3, np.float32)).significant() is NO_CHANGE
    strong = Exposure(np.full(3, 0.6, np.float32), np.zeros(3, np.float32))
    assert np.array_equal(strong.significant().gain, strong.gain)
