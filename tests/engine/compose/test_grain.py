"""Grain measured in a frame, and added to paint that lacks it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.grain import Grain, grain_of

HEIGHT, WIDTH = 120, 160
EVERYWHERE = np.ones((HEIGHT, WIDTH), np.bool_)
OPAQUE = np.zeros((HEIGHT, WIDTH), np.float32)
Picture = NDArray[np.float32]


def grainy(deviation: float, seed: int, softness: float = 0.0) -> Picture:
    noise = np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH, 3), np.float32)
    if softness:
        noise = cv2.GaussianBlur(noise, (0, 0), softness)
        noise /= noise.std()
    return np.asarray(noise * np.float32(deviation), np.float32)


def plate() -> Picture:
    ramp = np.linspace(0.2, 0.7, WIDTH, dtype=np.float32)[None, :, None]
    return np.broadcast_to(ramp, (HEIGHT, WIDTH, 3)).copy()


def measured(deviation: float, softness: float = 0.0) -> tuple[Grain | None, Picture]:
    """The grain of a frame, and the frame's noise."""
    noise = grainy(deviation, 1, softness)
    return grain_of(plate() + noise, plate() + grainy(deviation, 2, softness), EVERYWHERE, 7), noise


def fine(picture: Picture) -> Picture:
    return picture - cv2.GaussianBlur(picture, (0, 0), 1.5)


@pytest.mark.parametrize("softness", [0.0, 0.6])
def test_clean_paint_takes_the_frames_own_grain(softness: float) -> None:
    grain, noise = measured(0.03, softness)
    assert grain is not None
    paint = np.full((HEIGHT, WIDTH, 3), 0.4, np.float32)
    added = grain.onto(paint, OPAQUE, EVERYWHERE) - paint
    assert fine(added).std() == pytest.approx(fine(noise).std(), rel=0.15)
    assert np.corrcoef(added.ravel(), fine(noise).ravel())[0, 1] > 0.9


def test_paint_that_is_as_grainy_takes_none() -> None:
    grain, _ = measured(0.03)
    assert grain is not None
    cloned = plate() + grainy(0.03, 3)
    assert fine(grain.onto(cloned, OPAQUE, EVERYWHERE)).std() < 1.15 * fine(cloned).std()


def test_paint_that_shows_the_plate_keeps_its_grain() -> None:
    grain, noise = measured(0.03)
    assert grain is not None
    glazed = 0.5 * (plate() + noise) + 0.2
    result = grain.onto(glazed, OPAQUE + 0.5, EVERYWHERE)
    assert fine(result).std() == pytest.approx(fine(noise).std(), rel=0.2)


def test_clean_plate_has_no_grain() -> None:
    assert measured(0.001)[0] is None


def test_texture_is_no_grain() -> None:
    texture = grainy(0.04, 4, 0.8)
    moved = np.roll(texture, 1, axis=1) * np.float32(0.1) + texture * np.float32(0.9)
    assert grain_of(plate() + texture, plate() + moved, EVERYWHERE, 7) is None


def test_grain_over_texture_is_random_but_the_same_again() -> None:
    squares = (np.indices((HEIGHT, WIDTH)) // 3).sum(0) % 2
    checks = np.repeat(squares[..., None] * np.float32(0.3), 3, axis=-1).astype(np.float32)
    checks[:, : WIDTH // 2] = 0
    frames = [plate() + checks + grainy(0.02, seed) for seed in (1, 2)]
    first, again = (grain_of(frames[0], frames[1], EVERYWHERE, 7) for _ in range(2))
    assert first is not None and again is not None
    assert np.array_equal(first.unit, again.unit)
    textured = np.s_[:, WIDTH // 2 + 20 :]
    assert first.unit[textured].std() == pytest.approx(1, rel=0.25)
    assert abs(np.corrcoef(first.unit[textured].ravel(), fine(checks)[textured].ravel())[0, 1]) < 0.2


def test_flicker_at_one_brightness_is_no_grain() -> None:
    foliage = np.s_[:, 3 * WIDTH // 4 :]
    frames = [plate() + grainy(0.01, seed) for seed in (1, 2)]
    for frame, seed in zip(frames, (3, 4), strict=True):
        frame[foliage] += grainy(0.05, seed)[foliage]
    grain = grain_of(frames[0], frames[1], EVERYWHERE, 7)
    assert grain is not None
    assert float(np.sqrt(grain.levels).max()) < 0.03
