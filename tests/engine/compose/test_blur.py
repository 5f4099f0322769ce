"""The blur of a frame, measured against its keyframe's plate."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.blur import Blur, added_blur

HEIGHT, WIDTH = 120, 200
MOVING = np.broadcast_to(np.array([18, 0], np.float32), (HEIGHT, WIDTH, 2))
EVERYWHERE = np.ones((HEIGHT, WIDTH), np.float32)


def surface() -> NDArray[np.float32]:
    noise = np.random.default_rng(5).random((HEIGHT, WIDTH, 3), np.float32)
    return np.asarray(np.clip((cv2.GaussianBlur(noise, (0, 0), 1.5) - 0.5) * 3 + 0.5, 0, 1), np.float32)


def exposed(picture: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """A picture that moves to the right by so many pixels while it is exposed."""
    return np.asarray(cv2.blur(picture, (length, 1)), np.float32)


@pytest.mark.parametrize("length", [5, 9, 15])
def test_motion_blur_has_the_exposed_length(length: int) -> None:
    blur = added_blur(exposed(surface(), length), surface(), MOVING, EVERYWHERE)
    inner = np.s_[20:-20, 20:-20]
    assert np.median(2 * blur.line[inner][..., 0]) == pytest.approx(length, rel=0.3)
    assert np.abs(blur.line[..., 1]).max() < 0.3
    assert np.median(blur.spread[inner]) < 0.5


@pytest.mark.parametrize("spread", [1.5, 3.0])
@pytest.mark.parametrize("speed", [0, 10])
def test_defocus_is_the_same_in_all_directions(spread: float, speed: int) -> None:
    motion = np.zeros_like(MOVING)
    motion[..., 0] = speed
    blur = added_blur(cv2.GaussianBlur(surface(), (0, 0), spread), surface(), motion, EVERYWHERE)
    assert np.median(blur.spread) == pytest.approx(spread, rel=0.25)
    assert np.abs(blur.line).max() < 1.5


def test_as_sharp_a_frame_gets_no_blur() -> None:
    grain = np.random.default_rng(6).normal(0, 0.01, (2, HEIGHT, WIDTH, 3)).astype(np.float32)
    shifted = cv2.warpAffine(surface(), np.array([[1.0, 0, 0.8], [0, 1, 0.4]]), (WIDTH, HEIGHT))
    blur = added_blur(surface() + grain[0], shifted + grain[1], MOVING, EVERYWHERE)
    assert np.median(np.abs(blur.line)) == 0 and np.median(blur.spread) < 0.3


@pytest.mark.parametrize("contrast", [0.95, 0.87])
def test_haze_is_no_blur(contrast: float) -> None:
    hazy = surface() * np.float32(contrast) + np.float32((1 - contrast) / 2)
    blur = added_blur(hazy, surface(), MOVING, EVERYWHERE)
    assert np.median(blur.spread) < 0.25 and np.median(np.abs(blur.line)) < 0.25


def test_burnt_out_highlights_are_no_blur() -> None:
    """The frame's dark parts are as sharp as the keyframe's; its light ones the sun has made white."""
    sunlit = np.clip(surface() * 1.8, 0, 1).astype(np.float32)
    shoulder = np.where(sunlit > 0.85, 0.85 + 0.1 * (sunlit - 0.85), sunlit).astype(np.float32)
    blur = added_blur(shoulder, sunlit, MOVING, EVERYWHERE)
    assert np.median(blur.spread) < 0.25 and np.median(np.abs(blur.line)) < 0.25


def test_blur_is_no_longer_than_the_motion() -> None:
    slow = MOVING * np.float32(1 / 9)
    blur = added_blur(exposed(surface(), 15), surface(), slow, EVERYWHERE)
    assert 2 * np.abs(blur.line).max() <= 2


def test_paint_is_blurred_as_the_surface_is() -> None:
    paint = surface()[::-1, ::-1].copy()
    blur = added_blur(exposed(surface(), 9), surface(), MOVING, EVERYWHERE)
    inner = np.s_[20:-20, 20:-20]
    wanted = exposed(paint, 9)[inner]
    assert np.abs(blur(paint)[inner] - wanted).mean() < 0.3 * np.abs(paint[inner] - wanted).mean()


def widths_of_a_point(blur: Blur) -> tuple[float, float]:
    """The standard deviations, across and down, of what a point is blurred to."""
    point = np.zeros((101, 101), np.float32)
    point[50, 50] = 1
    seen, place = blur(point), np.arange(101) - 50.0
    return tuple(float(np.sqrt((seen.sum(axis) * place**2).sum() / seen.sum())) for axis in (0, 1))


@pytest.mark.parametrize("spread", [1.0, 3.0, 4.0, 8.0])
def test_spread_is_that_of_a_gaussian(spread: float) -> None:
    blur = Blur(np.zeros((101, 101, 2), np.float32), np.full((101, 101), spread, np.float32))
    assert widths_of_a_point(blur) == pytest.approx((spread, spread), rel=0.08)


@pytest.mark.parametrize("length", [4, 12, 30])
def test_point_is_drawn_out_to_its_line(length: int) -> None:
    line = np.broadcast_to(np.array([length / 2, 0], np.float32), (101, 101, 2)).copy()
    across, down = widths_of_a_point(Blur(line, np.zeros((101, 101), np.float32)))
    assert across == pytest.approx(length / 12**0.5, rel=0.08)
    assert down < 0.01
