"""What an artist gives for frames beside the keyframes, to correct where the edit was propagated to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.keyframe import absolute, read_matte
from paintover_engine.media.keyframe_kind import DragPoint, KeyframeKind
from paintover_engine.media.plate import Plate

Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Correction:
    """A holdout or a roto matte of one frame.

    frame: its number in the shot. kind: HOLDOUT or ROTO. matte: (H, W) float32 0..1, of the plate's size. notes: what
    was converted, in sentences. digest: 64 hex digits of all of it."""

    frame: int
    kind: KeyframeKind
    matte: Plane
    notes: tuple[str, ...]
    digest: str


def load_correction(path: str | os.PathLike[str], frame: int, kind: KeyframeKind, plate: Plate) -> Correction:
    """Reads the matte that corrects a frame: a picture's grey, or its alpha where it has one.

    plate: the untouched frame, whose size or aspect the picture has. Raises PaintoverError where the picture cannot be
    read or has another shape, and for a holdout that is black everywhere; a black roto matte says that the edit is
    hidden."""
    file = absolute(path)
    notes: list[str] = []
    matte = read_matte(file, plate, notes)
    if kind is KeyframeKind.HOLDOUT and not matte.any():
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The holdout '{file.name}' of frame {frame} is black everywhere; paint white where the edit is wrong.",
        )
    digest = hashlib.sha256(repr((kind.value, frame, matte.shape)).encode())
    digest.update(np.ascontiguousarray(matte).data)
    return Correction(frame, kind, matte, tuple(notes), digest.hexdigest())


@dataclass(frozen=True, eq=False)
class Drag:
    """Points of one frame's propagated edit, and where they belong.

    frame: its number in the shot. points: (n, 4) float32, each a `DragPoint`. digest: 64 hex digits of all of it."""

    frame: int
    points: NDArray[np.float32]
    digest: str
    notes: tuple[str, ...] = ()
    kind = KeyframeKind.DRAG


def drag_of(frame: int, points: Sequence[DragPoint], size: tuple[int, int]) -> Drag:
    """size: (width, height) of the plate. Raises PaintoverError for points outside the picture, and for two that belong
    to one place."""
    if not points:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"The drag of frame {frame} has no points; give one that is dragged, and where to."
        )
    width, height = size
    for point in points:
        x, y, to_x, to_y = point
        if not (0 <= x < width and 0 <= to_x < width and 0 <= y < height and 0 <= to_y < height):
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"The drag of frame {frame} from {x:g},{y:g} to {to_x:g},{to_y:g} leaves the picture; its pixels are "
                f"0,0 to {width - 1},{height - 1}.",
            )
    if len({tuple(point[2:]) for point in points}) < len(points):
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"The drag of frame {frame} moves two points to one place; leave one of them out."
        )
    given = np.array(points, np.float32)
    digest = hashlib.sha256(repr((KeyframeKind.DRAG.value, frame, size)).encode())
    digest.update(given.data)
    return Drag(frame, given, digest.hexdigest())


def corrected(kind: KeyframeKind, drawn: Plane, matte: Plane) -> Plane:
    """A matte as the drawn one corrects it, all (h, w) 0..1."""
    return drawn if kind is KeyframeKind.ROTO else np.asarray(matte * (1 - drawn), np.float32)
