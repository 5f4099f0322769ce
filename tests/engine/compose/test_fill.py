"""Paint that goes on beyond what its keyframe shows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_engine.compose.fill import continued, goes_on

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
