"""Boxes of pixels: the bounds of what is painted, in pixels from the picture's top left."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Bounds = tuple[int, int, int, int]
"""x, y, width, height; width = height = 0: empty."""

EMPTY: Bounds = (0, 0, 0, 0)


def bounds_of(matte: NDArray[np.float32] | NDArray[np.uint8], margin: int = 0) -> Bounds:
    """The smallest box that holds every pixel of (h, w) above 0, grown by `margin` pixels inside the picture."""
    if not matte.size:
        return EMPTY
    x, y, width, height = cv2.boundingRect((matte > 0).astype(np.uint8))
    if width == 0:
        return EMPTY
    right, bottom = min(matte.shape[1], x + width + margin), min(matte.shape[0], y + height + margin)
    x, y = max(0, x - margin), max(0, y - margin)
    return x, y, right - x, bottom - y


def union(boxes: Sequence[Bounds]) -> Bounds:
    """The smallest box that holds all of them; empty ones do not count."""
    corners = [(x, y, x + width, y + height) for x, y, width, height in boxes if width]
    if not corners:
        return EMPTY
    left, top, right, bottom = np.array(corners).T
    x, y = int(left.min()), int(top.min())
    return x, y, int(right.max()) - x, int(bottom.max()) - y
