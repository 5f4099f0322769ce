"""Dense optical flow of the plate, small enough to keep: what moves where, where it can be trusted, where the shot cuts.

The estimator is DIS (Kroeger, Timofte, Dai, Van Gool: Fast Optical Flow using Dense Inverse Search, ECCV 2016), OpenCV's.
A flow field is (h, w, 2) float32: field[y, x] = (dx, dy) such that pixel (x, y) of the first picture shows what pixel
(x + dx, y + dy) of the second shows, in pixels of the field's own grid.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

LONG_SIDE = 960
"""Pixels on the long side of the picture that motion and mattes are computed on; larger plates are reduced to it."""

PACK_SCALE = 32.0
"""Packed flow counts in 1/32 pixel: finer than flow is exact, and a 16-bit integer still holds motions of 1000 pixels."""


def analysis_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the analysis picture of a plate: the plate's own up to `LONG_SIDE`, never enlarged."""
    scale = min(1.0, LONG_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def flow_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the plate's flow fields: half its analysis picture."""
    wide, high = analysis_size(width, height)
    return max(1, (wide + 1) // 2), max(1, (high + 1) // 2)


def shrink(picture: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.generic]:
    """The picture at (width, height) `size`, area-averaged; itself where it has that size."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


class FlowEstimator:
    """Dense flow between grey uint8 pictures of one size. Keep one: it reuses its buffers."""

    MINIMUM = 16  # DIS needs room for a pyramid of 8 pixel patches

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._dis.setFinestScale(0)

    def between(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w) uint8 twice -> (h, w, 2) float32."""
        if min(first.shape) < self.MINIMUM:
            return np.zeros((*first.shape, 2), np.float32)
        return self._dis.calc(first, second, None)


def pack(flow: NDArray[np.float32]) -> NDArray[np.int16]:
    """A field as 1/32 pixel integers, half its bytes."""
    return np.clip(np.rint(flow * PACK_SCALE), -32767, 32767).astype(np.int16)


def unpack(packed: NDArray[np.int16]) -> NDArray[np.float32]:
    """The field that `pack` packed."""
    return packed.astype(np.float32) / np.float32(PACK_SCALE)


@functools.lru_cache(maxsize=4)
def grid(width: int, height: int) -> NDArray[np.float32]:
    """(h, w, 2) float32: every pixel's own (x, y)."""
    y, x = np.mgrid[:height, :width]
    points = np.stack([x, y], -1).astype(np.float32)
    points.flags.writeable = False
    return points


def follow(picture: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the second picture shows, moved to where the first shows it: bilinear, border repeated.

    picture: (h, w[, c]) seen at the flow's ends; flow: (h, w, 2)."""
    points = grid(flow.shape[1], flow.shape[0]) + flow
    return cv2.remap(picture, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def consistency(there: NDArray[np.float32], back: NDArray[np.float32]) -> NDArray[np.float32]:
    """Trust in a flow by the forward-backward test (Sundaram, Brox, Keutzer: Dense point trajectories, ECCV 2010).

    there: first -> second, back: second -> first, (h, w, 2). Returns (h, w) float32: 1 where going there and back ends
    at the start, falling to 0 where the surface is hidden in the second picture or leaves it."""
    points = grid(there.shape[1], there.shape[0]) + there
    returned = cv2.remap(back, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    miss = ((there + returned) ** 2).sum(-1)
    allowed = 0.5 + 0.01 * ((there**2).sum(-1) + (returned**2).sum(-1))
    height, width = miss.shape
    inside = (points[..., 0] > -1) & (points[..., 0] < width) & (points[..., 1] > -1) & (points[..., 1] < height)
    return np.where(inside, np.exp(-miss / allowed), 0.0).astype(np.float32)


def affine_motion(
    field: NDArray[np.float32], weight: NDArray[np.float32], robust: bool = False, pitch: int = 2
) -> NDArray[np.float32]:
    """The affine motion (h, w, 2) nearest to a field (h, w, 2), weighted by (h, w) and sampled every `pitch` pixels.

    robust: leaving out what moves otherwise, by iteratively reweighted least squares with Cauchy's weights."""
    height, width = weight.shape
    given = weight[::pitch, ::pitch].ravel()
    chosen = given > 0.01
    given = given[chosen][:, None]
    values = field[::pitch, ::pitch].reshape(-1, 2)[chosen]
    points = grid(width, height)[::pitch, ::pitch].reshape(-1, 2)[chosen] / width
    basis = np.concatenate([points, np.ones((len(values), 1), np.float32)], -1)
    w, solution = given, np.zeros((3, 2), np.float32)
    for _ in range(5 if robust else 1):
        weighted = (basis * w).T
        stiff = np.diag([1e-3, 1e-3, 1e-6]) * max(1.0, float(w.sum()))
        solution = np.linalg.solve(weighted @ basis + stiff, weighted @ values).astype(np.float32)
        w = given / (1 + 4 * ((basis @ solution - values) ** 2).sum(-1, keepdims=True))
    slopes = np.concatenate([solution[:2].T / width, solution[2:].T], -1)
    return cv2.transform(grid(width, height), slopes)


def is_cut(first: NDArray[np.uint8], second: NDArray[np.uint8], flow: NDArray[np.float32]) -> bool:
    """Whether the shot changes between two display pictures.

    first, second: (h, w, 3) uint8 at the flow's size. A cut changes the colour histogram *and* leaves a picture that
    motion cannot explain; a flash or a whip pan does only one of the two."""
    overlap = cv2.compareHist(_histogram(first), _histogram(second), cv2.HISTCMP_INTERSECT)
    if overlap > 0.7:
        return False
    grey_first, grey_second = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (first, second))
    unexplained = np.abs(follow(grey_second, flow) - grey_first).mean()
    contrast = float(grey_first.std()) + 1.0
    return bool(unexplained > 0.35 * contrast)


def _histogram(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    counts = cv2.calcHist([picture], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    return cv2.GaussianBlur(counts.reshape(8, 64), (1, 3), 0) / max(1.0, float(counts.sum()))
