"""Paint that goes on where its keyframe did not show the surface: behind what stood before it, and beyond the frame.

The paint's colours are continued smoothly (`matte.extend`), and its fine texture is copied from where it is known: in
the picture in whole pieces (He, Sun: Statistics of patch offsets for image completion, ECCV 2012, with a fixed set of
offsets), beyond it mirrored. A pattern with outlines is not mirrored: there its colours alone go on.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, shrink
from paintover_engine.compose.matte import Plane, extend

_CELL = 8  # pixels of the grid on which displacements are chosen
_PIECES = 6  # displacements by which texture is copied
_FINE = 12.0  # standard deviation, in pixels, of what is finer than the colours that are continued
_OUTLINED = 0.1  # deviation of the fine detail, in display values, from which on paint is a pattern with outlines
_ALONG_BORDER = 0.1  # share of the frame's border from which on paint covers a surface that goes on beyond it


def goes_on(matte: Plane) -> bool:
    """Whether a keyframe's matte (H, W) covers a surface that goes on beyond the frame: a sky, a wall, a floor."""
    border = np.concatenate([matte[0], matte[-1], matte[1:-1, 0], matte[1:-1, -1]])
    return bool((border > 0.5).mean() > _ALONG_BORDER)


def continued(picture: NDArray[np.float32], known: Plane) -> NDArray[np.float32]:
    """A picture (h, w, c) where it is known, and its texture continued elsewhere. known: (h, w) 0 or 1."""
    if not known.any() or known.all():
        return picture
    weight = cv2.GaussianBlur(known, (0, 0), _FINE) + np.float32(1e-4)
    coarse = cv2.GaussianBlur(picture * known[..., None], (0, 0), _FINE) / weight[..., None]
    detail = (picture - coarse) * known[..., None]
    filled = extend(picture, known)
    for (right, down), where in _shifts(known):
        rows, columns = np.nonzero(where)
        filled[rows, columns] += detail[rows + down, columns + right]
    return filled


def is_pattern(picture: NDArray[np.float32], known: Plane) -> bool:
    """Whether a picture (h, w, 3), where it is known, has strong outlines: nobody knows how such goes on, and where it
    is mirrored it is plainly wrong. Clouds, plaster and grass have none."""
    weight = np.maximum(cv2.GaussianBlur(known, (0, 0), _FINE), np.float32(1e-3))[..., None]
    fine = picture - cv2.GaussianBlur(picture * known[..., None], (0, 0), _FINE) / weight
    power = float((np.square(fine).sum(-1) * known).sum()) / max(1.0, float(known.sum()))
    return power > _OUTLINED**2


class Smooth:
    """A picture (h, w, c), c up to 4, that goes on beyond its edges in smooth colours."""

    def __init__(self, picture: NDArray[np.float32]) -> None:
        height, width = self._shape = picture.shape[:2]
        columns, rows = max(1, round(width / _CELL)), max(1, round(height / _CELL))
        inside = np.s_[rows : 2 * rows, columns : 2 * columns]
        cells = np.zeros((3 * rows, 3 * columns, picture.shape[2]), np.float32)
        known = np.zeros(cells.shape[:2], np.float32)
        cells[inside], known[inside] = shrink(picture, (columns, rows)), 1
        parts = np.split(cells, range(3, cells.shape[2], 3), axis=2)  # OpenCV shrinks no more than four planes at once
        whole = np.dstack([extend(part, known) for part in parts])
        self._cells = cv2.GaussianBlur(whole, (0, 0), _FINE / _CELL)
        self._cell = np.array([width / columns, height / rows], np.float32)
        self._origin = np.array([columns, rows], np.float32)

    def beyond(self, points: Field, mirrored: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a picture shows at points (h, w, 2). mirrored: the picture there, mirrored beyond its edges, where it
        fades over `_FINE` pixels: what stands at the edge is not cut off."""
        x, y = cv2.split(points)
        sides = ((x, self._shape[1]), (y, self._shape[0]))
        across, down = (np.maximum(np.maximum(-at, at - (side - 1)), 0) for at, side in sides)
        outside = np.maximum(across, down)
        if not outside.any():
            return mirrored
        places = (points + np.float32(0.5)) / self._cell + (self._origin - np.float32(0.5))
        smooth = cv2.remap(self._cells, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        share = 1 - np.exp(outside * np.float32(-1 / _FINE))
        return np.asarray(mirrored + share[..., None] * (smooth - mirrored), np.float32)


def _shifts(known: Plane) -> Iterator[tuple[tuple[int, int], NDArray[np.bool_]]]:
    """Displacements (right, down) that lead from unknown pixels to known ones, each with the pixels (h, w) that take
    it: few and long ones, so that texture is copied in whole pieces, first the one that serves most pixels."""
    small = cv2.resize(known, None, fx=1 / _CELL, fy=1 / _CELL, interpolation=cv2.INTER_AREA) >= 1
    left, missing = ~small, known == 0
    for _ in range(_PIECES):
        served, shift = max((int((left & _moved(small, x, y)).sum()), (x, y)) for x, y in _candidates(small.shape))
        if not served:
            return
        left &= ~_moved(small, *shift)
        right, down = shift[0] * _CELL, shift[1] * _CELL
        where = missing & _moved(known > 0, right, down)
        missing = missing & ~where
        yield (right, down), where


def _candidates(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Displacements in eight directions, each twice as long as the last, as far as a picture reaches."""
    lengths = [2**n for n in range(1, 12) if 2**n < max(shape)]
    directions = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    return [(x * length, y * length) for length in lengths for x, y in directions]


def _moved(where: NDArray[np.bool_], right: int, down: int) -> NDArray[np.bool_]:
    """(h, w): whether the pixel that lies so far right and down of each is in a mask."""
    height, width = where.shape
    moved = np.zeros_like(where)
    rows = slice(max(0, -down), min(height, height - down))
    columns = slice(max(0, -right), min(width, width - right))
    if rows.start < rows.stop and columns.start < columns.stop:
        moved[rows, columns] = where[rows.start + down : rows.stop + down, columns.start + right : columns.stop + right]
    return moved
