"""Paint that goes on beyond what its keyframe shows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.fill import Smooth, continued, goes_on, is_pattern

HEIGHT, WIDTH = 96, 160


def test_known_paint_stays_as_it_is() -> None:
    picture = np.random.default_rng(1).random((HEIGHT, WIDTH, 3), np.float32)
    known = np.ones((HEIGHT, WIDTH), np.float32)
    known[30:60, 50:90] = 0
    filled = continued(picture, known)
    assert np.array_equal(filled[known > 0], picture[known > 0])


def test_hole_takes_colour_and_texture() -> None:
    noise = np.random.default_rng(2).normal(0, 0.05, (HEIGHT, WIDTH, 3)).astype(np.float32)
    ramp = np.linspace(0.2, 0.8, WIDTH, dtype=np.float32)[None, :, None]
    sky = cv2.GaussianBlur(noise, (0, 0), 1.5) * 3 + ramp
    known = np.ones((HEIGHT, WIDTH), np.float32)
    hole = np.s_[36:64, 60:92]
    known[hole] = 0
    hidden = sky.copy()
    hidden[hole] = 0
    filled = continued(hidden, known)[hole]
    assert abs(float(filled.mean()) - float(sky[hole].mean())) < 0.03
    fine = (filled - cv2.GaussianBlur(filled, (0, 0), 4)).std()
    truth = (sky[hole] - cv2.GaussianBlur(sky[hole], (0, 0), 4)).std()
    assert 0.5 < fine / truth < 1.5


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (np.s_[:40], True),
        (np.s_[60:], True),
        (np.s_[:, 100:], True),
        (np.s_[30:60, 40:90], False),
        (np.s_[:9, :9], False),
    ],
)
def test_surface_that_goes_on_reaches_the_border(part: tuple[slice, ...], expected: bool) -> None:
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[part] = 1
    assert goes_on(matte) is expected


def striped(contrast: float) -> NDArray[np.float32]:
    """Stripes 32 pixels wide, around a grey of 0.5."""
    row = 0.5 + contrast * (np.arange(WIDTH) // 32 % 2 - 0.5)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).astype(np.float32).copy()


@pytest.mark.parametrize(("contrast", "expected"), [(0.6, True), (0.05, False)])
def test_strong_outlines_make_a_pattern(contrast: float, expected: bool) -> None:
    assert is_pattern(striped(contrast), np.ones((HEIGHT, WIDTH), np.float32)) is expected


def test_edge_of_the_paint_is_no_outline() -> None:
    known = np.zeros((HEIGHT, WIDTH), np.float32)
    known[40:] = 1
    picture = np.where(known[..., None] > 0, np.float32(0.2), np.float32(1)).repeat(3, 2)
    assert not is_pattern(picture, known)


def test_pattern_goes_on_in_its_smooth_colours() -> None:
    picture = np.dstack([striped(0.6), np.full((HEIGHT, WIDTH), 0.3, np.float32)])
    points = np.stack(np.meshgrid(np.arange(2 * WIDTH), np.arange(HEIGHT)), -1).astype(np.float32)
    mirrored = cv2.remap(picture, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    result = Smooth(picture).beyond(points, mirrored)
    assert np.array_equal(result[:, :WIDTH], picture)
    assert np.abs(np.diff(result[:, WIDTH - 1 :], axis=1)).max() < 0.06
    far = result[:, WIDTH + 64 :, :3]
    assert far.std() < 0.1 and abs(float(far.mean()) - 0.5) < 0.15
