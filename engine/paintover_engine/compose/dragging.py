"""A drag of a part of the edit: what was propagated to some points of a frame belongs to others."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, magnitudes, warp
from paintover_engine.compose.matte import Plane, disc
from paintover_engine.media.correction import Drag

Points = NDArray[np.float32]  # (n, 2) x, y

_VISIBLE = 0.1  # of a matte: what counts as a part of the edit
_BESIDE = 8  # pixels from the edit up to which a point takes hold of it
_GAP = 2  # pixels by which pieces of one part are grown until they touch
_AROUND = 4.0  # pixels around a part that move as it does
_LEAST_FALL = 8.0  # pixels beyond those over which the motion falls to 0, or
_FALL = 2.0  # times its length, so that the field does not fold


@dataclass(frozen=True)
class DragPoints:
    """A drag at the flow's size. at: where the points were propagated to; to: where they belong."""

    at: Points
    to: Points

    @staticmethod
    def of(drag: Drag, plate: tuple[int, int], size: tuple[int, int]) -> DragPoints:
        """plate, size: (width, height) of the plate and of the flow."""
        scale = np.array([size[0] / plate[0], size[1] / plate[1]] * 2, np.float32)
        points = (drag.points + np.float32(0.5)) * scale - np.float32(0.5)
        return DragPoints(points[:, :2], points[:, 2:])

    def motion(self, edit: Plane) -> Field:
        """(h, w, 2): from the pixels of the corrected frame to those of the propagated one.

        edit: (h, w) 0..1, the edit as propagated. Each of its parts that points lie on, or beside, is moved by these;
        all else stays, and points on none move nothing."""
        pieces = (edit > _VISIBLE).astype(np.uint8)
        motion, total = np.zeros((*edit.shape, 2), np.float32), np.ones(edit.shape, np.float32)
        if not pieces.any():
            return motion
        _, parts = cv2.connectedComponents(cv2.dilate(pieces, disc(_GAP)))
        parts *= pieces
        held = np.array([_part_at(parts, point) for point in self.at])
        for part in sorted({*held.tolist()} - {0}):
            moved = _deformation(edit.shape, self.to[held == part], self.at[held == part])
            others = ((parts > 0) & (parts != part)).astype(np.float32)
            share = _share(parts == part, moved) * (others == 0)
            share *= warp(others, share[..., None] * moved) == 0
            motion += share[..., None] * moved
            total += share
        return np.asarray(motion / np.maximum(1, total - 1)[..., None])

    def is_beside(self, edit: Plane) -> bool:
        """Whether any point ends on a part of an edit, or beside one. edit: (h, w) 0..1, as dragged: a drag that took
        hold of no part mostly ends on none, too."""
        parts = (edit > _VISIBLE).astype(np.int32)
        return bool(parts.any()) and any(_part_at(parts, point) for point in self.to)


def _part_at(parts: NDArray[np.int32], point: Points) -> int:
    """The label of the part nearest to a point; 0 where none is beside it."""
    y, x = np.nonzero(parts)
    apart = np.hypot(x - point[0], y - point[1])
    nearest = int(apart.argmin())
    return int(parts[y[nearest], x[nearest]]) if apart[nearest] <= _BESIDE else 0


def _share(part: NDArray[np.bool_], moved: Field) -> Plane:
    """(h, w): 1 on and around a part, where it was and where it is moved to, falling to 0 beyond."""
    inside = part.astype(np.float32)
    there = np.maximum(inside, warp(inside, moved)) > 0.1
    distance = cv2.distanceTransform(1 - there.astype(np.uint8), cv2.DIST_L2, 3)
    fall = max(_LEAST_FALL, _FALL * float(magnitudes(moved)[there].max()))
    return np.asarray(np.clip(1 - (distance - _AROUND) / fall, 0, 1), np.float32)


def _deformation(shape: tuple[int, ...], source: Points, target: Points) -> Field:
    """(h, w, 2): the similarity deformation of the plane that moves the source's points to the target's, by moving
    least squares with weights 1 / d² (Schaefer, McPhail, Warren: Image Deformation Using Moving Least Squares,
    SIGGRAPH 2006, section 2.2); of one point, its translation. In complex numbers a similarity is v -> a v + b."""
    height, width = shape[:2]
    grid = np.arange(width)[None] + 1j * np.arange(height)[:, None]
    p, q = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    weights = [1 / (np.abs(grid - point) ** 2 + 1e-3) for point in p]
    total = np.sum(weights, axis=0)
    p_mean, q_mean = (sum(w * point for w, point in zip(weights, points, strict=True)) / total for points in (p, q))
    turn, spread = np.zeros_like(grid), np.full(grid.shape, 1e-9)
    for w, from_point, to_point in zip(weights, p, q, strict=True):
        turn += w * (to_point - q_mean) * np.conj(from_point - p_mean)
        spread += w * np.abs(from_point - p_mean) ** 2
    a = turn / spread if len(p) > 1 else 1.0
    moved = a * (grid - p_mean) + q_mean - grid
    return np.dstack([moved.real, moved.imag]).astype(np.float32)
