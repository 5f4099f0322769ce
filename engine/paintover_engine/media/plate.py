"""One frame of the plate, in its native samples."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Plate(Protocol):
    """An untouched frame. Implementations keep the native samples and convert on demand.

    All arrays are upright, top row first, shape (height, width[, channels]).
    """

    number: int
    width: int
    height: int

    def rgb(self) -> NDArray[np.float32]:
        """(H, W, 3) in the shot's own encoding; integer samples scaled to 0..1, float samples as they are."""
        ...

    def working(self) -> NDArray[np.float32]:
        """(H, W, 3) sRGB-encoded Rec.709, unclamped: what methods compute in. Equals `rgb` for display-encoded shots;
        values above 1 of scene-linear shots survive (`SourceInfo`'s colour gives the way back)."""
        ...

    def display(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: `working` clipped to 0..1 and quantised; what flow and models see."""
        ...
