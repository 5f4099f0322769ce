from __future__ import annotations

import cv2
import numpy as np
from paintover_engine.compose.colour_map import SIZE, ColourMap, fit

RNG = np.random.default_rng(5)


def colours(count: int) -> np.ndarray:
    return RNG.random((count, 3)).astype(np.float32)


def blocks(count: int) -> np.ndarray:
    return np.arange(count) // 40


def missed(found: ColourMap, plate: np.ndarray, painted: np.ndarray) -> float:
    return float(np.sqrt(((found(plate) - painted) ** 2).mean()))


def test_grade_is_fitted_to_less_than_a_level() -> None:
    def grade(x: np.ndarray) -> np.ndarray:
        return (x * (0.8, 0.95, 1.0)) ** (1.2, 1.0, 0.85)

    seen, unseen = colours(6000), colours(2000)
    assert missed(fit(seen, grade(seen), blocks(6000)), unseen, grade(unseen)) < 1 / 255


def test_hue_shift_is_fitted() -> None:
    def turn(x: np.ndarray) -> np.ndarray:
        hsv = cv2.cvtColor(x[None], cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 140) % 360
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]

    seen, unseen = colours(8000), colours(2000)
    change = float(np.sqrt(((turn(unseen) - unseen) ** 2).mean()))
    assert missed(fit(seen, turn(seen), blocks(8000)), unseen, turn(unseen)) < 0.1 * change


def test_noise_is_not_overfitted() -> None:
    seen, unseen = colours(800), colours(800)
    painted = np.full((800, 3), 0.5, np.float32) + RNG.normal(0, 0.05, (800, 3)).astype(np.float32)
    assert missed(fit(seen, painted, blocks(800)), unseen, np.full((800, 3), 0.5, np.float32)) < 0.02


def test_values_above_white_change_as_white_does() -> None:
    seen = colours(3000)
    found = fit(seen, seen * 0.5, blocks(3000))
    bright = np.array([[4.0, 4.0, 4.0]], np.float32)
    assert np.allclose(found(bright), bright - 0.5, atol=0.03)


def test_no_samples_give_the_identity() -> None:
    nothing = np.zeros((0, 3), np.float32)
    found = fit(nothing, nothing, np.zeros(0, np.int64))
    assert found.table.shape == (SIZE, SIZE, SIZE, 3)
    assert np.array_equal(found(colours(5) * 0), np.zeros((5, 3), np.float32))


def test_few_equal_samples_give_a_finite_map() -> None:
    plate = np.full((3, 3), 0.3, np.float32)
    found = fit(plate, plate + 0.2, np.zeros(3, np.int64))
    assert np.allclose(found(plate), plate + 0.2, atol=0.02)
    assert np.abs(found(colours(100))).max() < 2
