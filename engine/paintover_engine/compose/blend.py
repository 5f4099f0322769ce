"""The blend of what two keyframes paint on a frame between them.

Colours that differ smoothly are dissolved into each other. Where the two differ in structure (a matte's edge, a mark
that lies elsewhere) a dissolve would show both, half transparent: there the surer one wins. Paint that sticks to a
surface is aligned before: either is moved towards the other, the less sure one more.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, FlowEstimator, magnitudes, shrink, warp
from paintover_engine.compose.keyframe_layer import KeyframeLayer
from paintover_engine.compose.layer import Picture, PlateRegion
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.planes import times

Share = Plane | np.float32
"""0..1: of a whole frame, or (h, w) of each pixel."""

_SMOOTH = 31  # pixels over which a difference of colour is smooth
_STRUCTURE = 0.06  # difference in fine structure from which on the surer one wins
_STEEPNESS = 12.0  # exponent of the weights there
_ALIGNED = 480  # pixels on the long side of the pictures that are aligned
_FARTHEST = 12.0  # pixels, of those, that paint is moved at most


def blended(
    layers: Sequence[KeyframeLayer], number: int, view: PlateRegion, shares: Plane | None = None
) -> tuple[Picture, Plane]:
    """Painted colour (h, w, 3) and matte (h, w) of a view of a frame, of one keyframe or of two.

    shares: (h', w') 0..1, of the second in each pixel of the whole frame; None: as they are weighted."""
    weighted = [(layer, counts) for layer in layers if (counts := layer.weight(number)) > 0]
    if not view.working.size or not weighted:
        return np.zeros_like(view.working), np.zeros(view.working.shape[:2], np.float32)
    if len(weighted) == 1:
        return weighted[0][0].composite(number, view)
    (first, one), (second, other) = weighted
    share = other / (one + other)
    sides = (first.composite(number, view), second.composite(number, view))
    if first.mapped and second.mapped:
        sides = _aligned(sides, share, view.working)
    return _merged(sides, np.float32(share) if shares is None else view.enlarged(shares))


def _merged(sides: tuple[tuple[Picture, Plane], tuple[Picture, Plane]], share: Share) -> tuple[Picture, Plane]:
    """share: 0..1, of the second side."""
    (first, alpha), (second, other) = sides
    shares = _shares(times(second, other) - times(first, alpha), other - alpha, share)
    left, right = (1 - shares) * alpha, shares * other
    matte = left + right
    painted = times(first, left) + times(second, right)
    painted /= np.maximum(matte, np.float32(1e-4))[..., None]
    return painted, matte


def _shares(difference: Picture, edge: Plane, share: Share) -> Plane:
    """(h, w) 0..1: the share of the second side in each pixel: `share`, but nearer to 0 or 1 where the two differ in
    structure. difference: (h, w, 3), of what either paints; edge: (h, w), of their mattes."""
    structure = cv2.absdiff(difference, cv2.blur(difference, (_SMOOTH, _SMOOTH))).max(-1)
    structure = cv2.blur(np.maximum(structure, np.abs(edge)), (9, 9))
    exponent = 1 + (_STEEPNESS - 1) * np.minimum(structure / np.float32(_STRUCTURE), 1)
    odds = np.log(np.maximum(share, np.float32(1e-6)) / np.maximum(1 - share, np.float32(1e-6))) * exponent
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))), np.float32)


def _aligned(
    sides: tuple[tuple[Picture, Plane], tuple[Picture, Plane]], share: float, plate: Picture
) -> tuple[tuple[Picture, Plane], tuple[Picture, Plane]]:
    """The sides, moved onto each other by the flow between the plate painted over by either; as they are where that
    does not make them more alike. plate: (h, w, 3), what is painted over."""
    first, second = (_grey(plate + times(painted - plate, alpha)) for painted, alpha in sides)
    to_second = FlowEstimator().between(first, second)
    to_first = FlowEstimator().between(second, first)
    before = float(cv2.absdiff(first, second).sum())
    if before < 1 or float(cv2.absdiff(warp(second, to_second), first).sum()) > 0.8 * before:
        return sides
    height, width = plate.shape[:2]
    scale = width / to_second.shape[1]
    moved = []
    for (painted, alpha), flow, part in zip(sides, (to_first, to_second), (share, 1 - share), strict=True):
        near = np.minimum(_FARTHEST / np.maximum(magnitudes(flow), 1e-3), 1)[..., None]
        large: Field = cv2.resize(flow * near * np.float32(part * scale), (width, height))
        moved.append((warp(painted, large), warp(alpha, large)))
    return moved[0], moved[1]


def _grey(picture: Picture) -> NDArray[np.uint8]:
    """(h', w') uint8, reduced to `_ALIGNED` pixels on the long side."""
    height, width = picture.shape[:2]
    scale = min(1.0, _ALIGNED / max(height, width))
    small = shrink(np.clip(picture, 0, 1), (max(1, round(width * scale)), max(1, round(height * scale))))
    return np.asarray(cv2.cvtColor((small * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY))
