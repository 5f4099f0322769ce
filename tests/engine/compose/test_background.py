"""The background behind an edit: remembered while it is hidden, and told from what stands before it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.background import Background

WIDTH, HEIGHT, PAN, SIDE = 120, 80, 2, 24


def wall(left: int) -> NDArray[np.uint8]:
    """A part of a textured wall, of twice the flow's size, seen from `left` flow pixels on."""
    noise = np.random.default_rng(3).random((2 * HEIGHT, 2 * WIDTH + 200, 3), np.float32)
    picture = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 0.5) * 900 + 128, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture[:, 2 * left : 2 * left + 2 * WIDTH])


def frame(number: int, object_left: int) -> tuple[AnalysisFrame, NDArray[np.float32]]:
    """The wall under a pan of `PAN` pixels a frame, a plain square before it, and the square's matte."""
    shown, matte = wall(PAN * number), np.zeros((HEIGHT, WIDTH), np.float32)
    matte[28 : 28 + SIDE, object_left : object_left + SIDE] = 1
    shown[cv2.resize(matte, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_NEAREST) > 0] = (180, 90, 140)
    return AnalysisFrame(shown), matte


def followed(lefts: list[int]) -> tuple[Background, AnalysisFrame, NDArray[np.float32]]:
    """What is remembered behind the square, moving through `lefts`, before the last frame adds to it; that frame and
    its matte."""
    first, matte = frame(0, lefts[0])
    background = Background.of(first.lab, matte)
    still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    for number, left in enumerate(lefts[1:], start=1):
        shown, matte = frame(number, left)
        backward = still + np.array([PAN, 0], np.float32)
        before = frame(number - 1, lefts[number - 1])[1]
        wrong = cv2.dilate(np.maximum(before, matte), np.ones((9, 9), np.uint8)).astype(np.uint8)
        backward[wrong > 0] = lefts[number - 1] - left, 0  # flow follows the square, and around it
        background = background.moved(backward, still - np.array([PAN, 0], np.float32), wrong)
        if number < len(lefts) - 1:
            background = background.updated(shown.lab, matte)
    return background, shown, matte


def test_uncovered_wall_is_background() -> None:
    background, shown, matte = followed([20, 28, 36, 44, 52, 60])
    odds = background.odds(shown.lab)
    trail = np.s_[32:48, 52:56]  # hidden two frames ago, seen three frames ago
    assert matte[trail].max() == 0
    assert odds[trail].max() < -2


def test_what_hides_the_wall_is_no_background() -> None:
    background, shown, matte = followed([20, 28, 36, 44, 52, 60])
    inner = cv2.erode(matte, np.ones((9, 9), np.uint8)) > 0
    assert np.median(background.odds(shown.lab)[inner]) > 2


def test_what_was_never_seen_says_nothing() -> None:
    background, shown, matte = followed([40, 40])
    inner = cv2.erode(matte, np.ones((9, 9), np.uint8)) > 0
    assert np.abs(background.odds(shown.lab)[inner]).max() == 0
    assert np.abs(background.odds(shown.lab)[:, -PAN:]).max() == 0  # came in at the border
