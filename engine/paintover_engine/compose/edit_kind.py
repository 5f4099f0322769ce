"""The kind of edit that a keyframe is: a local change, a style of the whole frame, or a change of shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]  # (H, W, 3)

EditKind = Literal["local", "style", "shape"]

_SIDE = 384  # the long side of the pictures that are compared, in pixels
_SEEN = 12 / 255  # changes above this are plainly seen
_WIDE = 0.5  # of the frame: more is no local edit
_SMALL = 0.1  # of the frame: less is always a local edit
_PRESERVED = 0.4  # of the contours: less is a change of shape
_SPARSE = 0.02  # of the changed area: fewer contours than this are none
_EDGES = 0.02  # gradient, in display values a pixel, from which there are contours at all


@dataclass(frozen=True)
class Edit:
    """kind: of the edit. covered: share of the frame that changed. preserved: share of the plate's contours there that
    the edit has too; 1 where the plate has none."""

    kind: EditKind
    covered: float
    preserved: float

    @property
    def words(self) -> str:
        """ "it changes 92 % of the frame and keeps 81 % of the contours there"."""
        return f"it changes {self.covered:.0%} of the frame and keeps {self.preserved:.0%} of the contours there"


def edit_of(plate: Picture, edited: Picture) -> Edit:
    """The kind of edit that a keyframe is. plate, edited: (H, W, 3) in display encoding, 0..1."""
    before, after = _small(plate), _small(edited)
    changed = np.abs(after - before).max(axis=2) > _SEEN
    covered, preserved = float(changed.mean()), _preserved(before, after, changed)
    if covered < _SMALL:
        kind: EditKind = "local"
    elif preserved < _PRESERVED:
        kind = "shape"
    else:
        kind = "style" if covered > _WIDE else "local"
    return Edit(kind, covered, preserved)


def _preserved(before: Picture, after: Picture, changed: NDArray[np.bool_]) -> float:
    """The share of the plate's contours, by their strength and direction, that is left where the picture changed."""
    old, new = _slopes(before), _slopes(after)
    strength = np.hypot(*old)
    contour = changed & (strength > _EDGES)
    if contour.sum() <= _SPARSE * changed.sum():
        return 1.0
    along = (old[0] * new[0] + old[1] * new[1])[contour] / strength[contour]
    return float(np.clip(along, 0, strength[contour]).sum() / strength[contour].sum())


def _slopes(picture: Picture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Horizontal and vertical gradient of the brightness, (h, w) each."""
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    return cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)


def _small(picture: Picture) -> Picture:
    """At most `_SIDE` pixels long."""
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(np.clip(picture, 0, 1), size, interpolation=cv2.INTER_AREA), np.float32)
