"""Dense optical flow of the plate at a reduced size: estimation, warping, forward-backward consistency, and cuts.

The estimator is OpenCV's DIS (Kroeger et al.: Fast Optical Flow using Dense Inverse Search, ECCV 2016).
A flow field is (h, w, 2) float32: field[y, x] = (dx, dy) such that pixel (x, y) of the first picture shows what pixel
(x + dx, y + dy) of the second shows, in pixels of the field's own grid.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.planes import planes_of
from paintover_engine.media.bounds import Bounds

Field = NDArray[np.float32]  # (h, w, 2)
Plane = NDArray[np.float32]  # (h, w)
Array = TypeVar("Array", bound=NDArray[Any])

LONG_SIDE = 640
"""Pixels on the long side of the picture that motion and mattes are computed on; larger plates are reduced to it."""

_UNIT = 240.0  # pixels; coordinates are divided by it before an affine motion's slopes are regularised

PACK_SCALE = 32.0
"""Packed flow counts in 1/32 pixel: finer than flow is exact, and 16 bits still hold motions of 1000 pixels."""


def analysis_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the analysis picture of a plate: the plate's own up to `LONG_SIDE`, never enlarged."""
    scale = min(1.0, LONG_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def flow_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the plate's flow fields: half its analysis picture."""
    wide, high = analysis_size(width, height)
    return max(1, (wide + 1) // 2), max(1, (high + 1) // 2)


def halved(picture: Array) -> Array:
    """A picture of twice the flow's size at the flow's."""
    return shrink(picture, (picture.shape[1] // 2, picture.shape[0] // 2))


def shrink(picture: Array, size: tuple[int, int]) -> Array:
    """The picture at (width, height) `size`, area-averaged; itself where it has that size."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    small: Array = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return small


class FlowEstimator:
    """Dense flow between grey uint8 pictures of one size. An instance reuses its buffers; it serves one thread."""

    MINIMUM = 16  # DIS needs room for a pyramid of 8 pixel patches

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)
        # The preset refines flow variationally 5 times, at half of its time: that rounds off what is small and fast.
        self._dis.setVariationalRefinementIterations(0)
        self._dis.setPatchStride(5)  # not 3: half of the time that is left

    def between(self, first: NDArray[np.uint8], second: NDArray[np.uint8], *, start: Field | None = None) -> Field:
        """The flow (h, w, 2) from the first picture (h, w) to the second; 0 for pictures smaller than `MINIMUM`.

        start: (h, w, 2), roughly that flow, where it is long and known."""
        if min(first.shape) < self.MINIMUM:
            return np.zeros((*first.shape, 2), np.float32)
        field: Field = self._dis.calc(first, second, None if start is None else start.copy())
        return field


def pack(flow: Field) -> NDArray[np.int16]:
    """A field as 1/32 pixel integers, half its bytes."""
    return np.asarray(np.clip(np.rint(flow * PACK_SCALE), -32767, 32767), np.int16)


def unpack(packed: NDArray[np.int16]) -> Field:
    """The field that `pack` packed."""
    return packed.astype(np.float32) / np.float32(PACK_SCALE)


def endpoints(flow: Field, bounds: Bounds | None = None) -> Field:
    """(h, w, 2): where each pixel's flow ends. bounds: the part of the frame that the flow covers; None: all."""
    x, y = bounds[:2] if bounds is not None else (0, 0)
    height, width = flow.shape[:2]
    ends = np.empty((height, width, 2), np.float32)
    np.add(flow[..., 0], np.arange(x, x + width, dtype=np.float32), out=ends[..., 0])
    np.add(flow[..., 1], np.arange(y, y + height, dtype=np.float32)[:, None], out=ends[..., 1])
    return ends


def warp(picture: Array, flow: Field) -> Array:
    """Backward warping: the second picture brought to the first one's grid, bilinear, border repeated.

    picture: (h, w[, c]), sampled at the flow's end points; flow: (h, w, 2), first -> second."""
    relative, points = cv2.WARP_RELATIVE_MAP, flow
    if picture.ndim == 3 and picture.shape[2] == 2:  # which OpenCV 5.0 samples at other points then
        relative, points = 0, endpoints(flow)
    moved: Array = cv2.remap(picture, points, None, cv2.INTER_LINEAR | relative, borderMode=cv2.BORDER_REPLICATE)
    return moved


def magnitudes(field: Field) -> Plane:
    """(h, w): the length of a field's vectors."""
    x, y = planes_of(field)  # not cv2.magnitude: its last bit depends on where in memory its arguments lie
    return np.asarray(np.sqrt(x * x + y * y))


def consistency(forward: Field, backward: Field, bounds: Bounds | None = None) -> Plane:
    """Confidence in a flow by the forward-backward test (Sundaram, Brox, Keutzer: Dense point trajectories by
    GPU-accelerated large displacement optical flow, ECCV 2010).

    forward: first -> second, of `bounds` alone where they are given; backward: second -> first, of the whole picture.
    Returns (h, w) float32: 1 where forward and backward flow cancel, falling to 0 where the surface is occluded in the
    second picture or leaves it."""
    ends = endpoints(forward, bounds)
    returned: Field = cv2.remap(backward, ends, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    (x, y), (back_x, back_y) = planes_of(forward), planes_of(returned)
    allowed = np.float32(0.5) + np.float32(0.01) * (x * x + y * y + back_x * back_x + back_y * back_y)
    error = (x + back_x) ** 2 + (y + back_y) ** 2
    return np.asarray(cv2.exp(-error / allowed) * within_picture(ends, backward.shape), np.float32)


def within_picture(points: Field, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(h, w) bool: which points (h, w, 2) lie in a picture of a shape (height, width, …), to less than a pixel."""
    x, y = planes_of(points)
    return np.asarray((x > -1) & (x < shape[1]) & (y > -1) & (y < shape[0]))


def affine_motion(field: Field, weight: Plane, robust: bool = False, pitch: int = 2) -> Field:
    """The affine motion (h, w, 2) nearest to a field (h, w, 2), weighted by (h, w) and sampled every `pitch` pixels.

    robust: outliers are left out, by iteratively reweighted least squares with Cauchy's weights."""
    height, width = weight.shape
    grid = _grid(height, width)
    given = weight[::pitch, ::pitch].ravel()
    chosen = given > 0.01
    given = given[chosen][:, None]
    values = field[::pitch, ::pitch].reshape(-1, 2)[chosen]
    points = grid[::pitch, ::pitch].reshape(-1, 2)[chosen] / np.float32(_UNIT)
    basis = np.concatenate([points, np.ones((len(values), 1), np.float32)], -1)
    w, solution = given, np.zeros((3, 2), np.float32)
    for _ in range(5 if robust else 1):
        weighted = (basis * w).T
        ridge = np.diag([1e-3, 1e-3, 1e-6]) * max(1.0, float(w.sum()))
        solution = np.linalg.solve(weighted @ basis + ridge, weighted @ values).astype(np.float32)
        residual = basis @ solution - values
        w = given / (1 + 4 * (residual[:, :1] ** 2 + residual[:, 1:] ** 2))
    motion: Field = cv2.transform(grid, np.concatenate([solution[:2].T / _UNIT, solution[2:].T], -1))
    return motion


@functools.lru_cache(maxsize=16)
def _grid(height: int, width: int) -> Field:
    """(h, w, 2): every pixel's coordinates. Cached and shared by threads: read-only."""
    grid = endpoints(np.zeros((height, width, 2), np.float32))
    grid.flags.writeable = False
    return grid


def unexplained(first: NDArray[np.uint8], second: NDArray[np.uint8], flow: Field) -> float:
    """The mean difference that flow leaves between two grey pictures (h, w), as a share of the first's contrast: under
    0.25 in nearly all footage, 1 and about it where the two have nothing in common. flow: first -> second."""
    here = first.astype(np.float32)
    difference = warp(second.astype(np.float32), flow) - here
    return float(np.abs(difference - difference.mean()).mean()) / (float(here.std()) + 1.0)


def is_cut(first: NDArray[np.uint8], second: NDArray[np.uint8], left: float) -> bool:
    """Whether the shot cuts between two display-encoded pictures.

    first, second: (h, w, 3) uint8. left: what flow leaves unexplained between them. A cut changes the colour histogram
    *and* leaves a picture that motion cannot explain; a whip pan does only one of the two."""
    overlap = cv2.compareHist(_histogram(first), _histogram(second), cv2.HISTCMP_INTERSECT)
    return bool(overlap <= 0.7 and left > 0.35)


def _histogram(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    counts = cv2.calcHist([picture], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    smooth = cv2.GaussianBlur(counts.reshape(8, 64), (1, 3), 0)
    return np.asarray(smooth / max(1.0, float(counts.sum())), np.float32)
