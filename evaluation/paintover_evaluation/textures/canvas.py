"""What textures are composed from: noise, anti-aliased shapes, mixing of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Field = NDArray[np.float32]
Array = NDArray[np.floating[Any]]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Area:
    """A picture's extent: width and height in units, density in texels per unit."""

    width: float
    height: float
    density: float

    @property
    def rows(self) -> int:
        return round(self.height * self.density)

    @property
    def columns(self) -> int:
        return round(self.width * self.density)


def grid(area: Area) -> tuple[Field, Field]:
    """Coordinates in units of every texel's centre: x (1, W) and y (H, 1), ready to broadcast."""
    x = (np.arange(area.columns, dtype=np.float32) + 0.5) / np.float32(area.density)
    y = (np.arange(area.rows, dtype=np.float32) + 0.5) / np.float32(area.density)
    return x[None, :], y[:, None]


def noise(rng: np.random.Generator, area: Area, cell: float, octaves: int = 1) -> Field:
    """Value noise in 0..1, (H, W) float32; `cell` is the size in units of its coarsest bumps."""
    total = np.zeros((area.rows, area.columns), np.float32)
    weight = 0.0
    for octave in range(octaves):
        size = cell / 2**octave
        coarse = rng.random((int(area.height / size) + 4, int(area.width / size) + 4), dtype=np.float32)
        scale = 1.0 / (size * area.density)
        matrix = np.array([[scale, 0, 1.0], [0, scale, 1.0]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        total += cv2.warpAffine(coarse, matrix, (area.columns, area.rows), flags=flags) * np.float32(0.5**octave)
        weight += 0.5**octave
    return np.asarray(np.clip(total / weight, 0, 1), np.float32)


def step(edge: Array, area: Area, softness: float = 1.5) -> Field:
    """Coverage 0..1 of a signed distance in units (positive inside); its edge is `softness` texels wide."""
    return np.asarray(np.clip(edge * (area.density / softness) + 0.5, 0, 1), np.float32)


def vector(colour: Sequence[float]) -> Field:
    """A colour to calculate with."""
    return np.asarray(colour, np.float32)


def mix(under: Field, colour: Sequence[float] | Array, amount: Array | float) -> Field:
    """`under` (H, W, 3) with `colour` over it by `amount` 0..1, one number or (H, W)."""
    weight = np.asarray(amount, np.float32)[..., None]
    return np.asarray(under + (np.asarray(colour, np.float32) - under) * weight, np.float32)


def flat(shape: tuple[int, int], colour: Sequence[float] | Field) -> Field:
    """An even colour, (H, W, 3)."""
    return np.broadcast_to(np.asarray(colour, np.float32), (*shape, 3)).copy()


def sprite(rgb: Field, alpha: Field) -> Picture:
    """Premultiplied RGBA from colours 0..255 and coverage 0..1."""
    return np.clip(np.dstack([rgb * alpha[..., None], alpha * 255]) + 0.5, 0, 255).astype(np.uint8)


def polygons(shapes: Sequence[Sequence[tuple[float, float]]], area: Area) -> Field:
    """Anti-aliased coverage 0..1 of polygons whose corners are given in units."""
    mask = np.zeros((area.rows * 4, area.columns * 4), np.uint8)
    for shape in shapes:
        cv2.fillPoly(mask, [np.round(np.array(shape) * area.density * 4).astype(np.int32)], 255)
    small = cv2.resize(mask, (mask.shape[1] // 4, mask.shape[0] // 4), interpolation=cv2.INTER_AREA)
    return np.asarray(small / np.float32(255), np.float32)


def box(x: Array, y: Array, left: float, top: float, right: float, bottom: float, corner: float) -> Field:
    """Signed distance in units (positive inside) to a rectangle with round corners."""
    away_x = np.abs(x - (left + right) / 2) - (right - left) / 2 + corner
    away_y = np.abs(y - (top + bottom) / 2) - (bottom - top) / 2 + corner
    outside = np.hypot(np.maximum(away_x, 0), np.maximum(away_y, 0))
    return np.asarray(corner - outside - np.minimum(np.maximum(away_x, away_y), 0), np.float32)


def stamp(picture: Picture, over: Field, left: int, top: int) -> None:
    """Puts a premultiplied RGBA sprite over a premultiplied RGBA picture, clipped to it, in place."""
    rows, columns = picture.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + over.shape[1], columns), min(top + over.shape[0], rows)
    if x0 >= x1 or y0 >= y1:
        return
    part = over[y0 - top : y1 - top, x0 - left : x1 - left]
    under = picture[y0:y1, x0:x1].astype(np.float32)
    picture[y0:y1, x0:x1] = np.clip(under * (1 - part[..., 3:] / 255) + part + 0.5, 0, 255).astype(np.uint8)
