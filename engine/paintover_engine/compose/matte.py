"""Mattes: where an edit applies, found from the keyframe and kept clean."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def difference_matte(plate: NDArray[np.float32], edited: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where a painted picture differs from its plate, 0..1.

    plate, edited: (H, W, 3) float32, display-encoded (1 = white). Returns (H, W) float32: exactly 0 where the two are the
    same but for rounding or compression noise, 1 where the paint is plainly visible, between on soft paint.
    Specks and holes of a few pixels are removed."""
    difference = np.abs(edited - plate).max(-1)
    low = max(1.5 / 255, 4.0 * _noise(edited - plate))
    high = low + 10.0 / 255
    matte = np.clip((difference - low) / (high - low), 0.0, 1.0)
    return clean(matte)


def _noise(difference: NDArray[np.float32]) -> float:
    """The standard deviation of what compression added: the difference's finest detail, robustly (Immerkaer 1996 with a
    median instead of a mean, so that paint, which covers little of the finest detail, does not count)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    detail = np.abs(cv2.filter2D(difference, cv2.CV_32F, kernel))
    return float(np.median(detail)) / 0.6745


def clean(matte: NDArray[np.float32], smallest: int = 24) -> NDArray[np.float32]:
    """The matte without specks and holes of fewer than `smallest` pixels. (H, W) float32 0..1 in and out."""
    solid = (matte > 0).astype(np.uint8)
    matte = matte * _without_small(solid, smallest)
    filled = 1 - _without_small(1 - (matte > 0.5).astype(np.uint8), smallest)
    around = cv2.dilate(matte, np.ones((5, 5), np.uint8))
    return np.where((filled > 0) & (matte <= 0.5), around, matte).astype(np.float32)


def _without_small(solid: NDArray[np.uint8], smallest: int) -> NDArray[np.uint8]:
    """A 0/1 picture without its connected regions of fewer than `smallest` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= smallest
    keep[0] = False
    return keep.astype(np.uint8)[labels]


def bounds(matte: NDArray[np.float32], margin: int = 0) -> tuple[int, int, int, int]:
    """x, y, width, height of the smallest box that holds every pixel above 0, grown by `margin` inside the picture."""
    x, y, width, height = cv2.boundingRect((matte > 0).astype(np.uint8))
    if width == 0:
        return 0, 0, 0, 0
    right, bottom = min(matte.shape[1], x + width + margin), min(matte.shape[0], y + height + margin)
    x, y = max(0, x - margin), max(0, y - margin)
    return x, y, right - x, bottom - y
