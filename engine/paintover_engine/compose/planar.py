"""Planar parts: painted surfaces that are flat or rigid enough for one homography move as a whole.

Each part's homography from the keyframe is that which most of its features agree on: features of the keyframe, where
the last frame's registration puts them, are tracked into the frame (Lucas, Kanade; Bouguet: Pyramidal implementation,
2000) and fitted robustly (Barath et al.: MAGSAC++, CVPR 2020). Then the frame, warped back to the keyframe, is compared
with the keyframe itself, so that nothing drifts. A part that is not flat has no such homography, and none is returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, endpoints, warp
from paintover_engine.compose.matte import Plane, disc
from paintover_engine.media.bounds import Bounds, bounds_of

Points = NDArray[np.float32]  # (N, 2)
Grey = NDArray[np.uint8]
Homography = NDArray[np.float64]  # (3, 3)

_JOINED = 8  # marks whose distance is less than twice this, in flow pixels, are on one part
_AROUND = 6  # how far around its marks a part's features are taken, in flow pixels
_PARTS = 4
_FEATURES = 200
_LEAST = 12  # features that must agree
_SHARE = 0.3  # of those that are in view
_MISSED = 1.0  # pixels by which tracking back may miss
_REACH = 2.0  # pixels from its homography within which a feature agrees with it
_LARGEST = 4.0  # scale of a part, or its inverse, beyond which the fit is a mistake
_PITCH = 3  # flow pixels between the samples of a registration
_WINDOW = (15, 15)


@dataclass(frozen=True)
class Part:
    """mask: (h, w) 0 or 1 on the keyframe, at the flow's size. points: features on it and around it, in pixels of
    twice the flow's size."""

    mask: Plane
    points: Points


@dataclass(frozen=True)
class Placed:
    """A part in a frame. offset: (h, w, 2), from the frame's pixels to the keyframe, of the whole frame; mask: (h, w)
    0..1, where the part lies."""

    offset: Field
    mask: Plane


class PlanarParts:
    """The parts of one keyframe's paint. key: its plate, grey, of twice the flow's size; region: (h, w) 0..1."""

    def __init__(self, key: Grey, region: Plane) -> None:
        self._key = key
        self._normal_key = normalised(key)
        self._parts = list(self._found(region))

    def _found(self, region: Plane) -> Iterator[Part]:
        joined = cv2.morphologyEx((region > 0.1).astype(np.uint8), cv2.MORPH_CLOSE, disc(_JOINED))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
        largest = sorted(range(1, count), key=lambda label: -stats[label, cv2.CC_STAT_AREA])
        for label in largest[:_PARTS]:
            mask = (labels == label).astype(np.uint8)
            near = cv2.resize(cv2.dilate(mask, disc(_AROUND)), self._key.shape[::-1], interpolation=cv2.INTER_NEAREST)
            points = cv2.goodFeaturesToTrack(self._key, _FEATURES, 0.005, 4, mask=near)
            if points is not None and len(points) >= _LEAST:
                yield Part(mask.astype(np.float32), np.asarray(points, np.float32).reshape(-1, 2))

    def place(self, before: Field, confidence: Plane, previous: Grey, frame: Grey) -> Iterator[Placed]:
        """The parts that move as planes from the frame before to a frame, and where they are.

        before, confidence: (h, w[, 2]), the registration of the frame before; previous, frame: the two, of twice its
        size."""
        for part in self._parts:
            last = _plane_of(before, warp(part.mask, before) * confidence)
            if last is None:
                continue
            placed = self._refined(self._tracked(part, last, previous, frame), part, frame)
            if placed is not None:
                offset = _offset(placed, before.shape)
                yield Placed(offset, warp(part.mask, offset))

    def _tracked(self, part: Part, last: Homography, previous: Grey, frame: Grey) -> Homography | None:
        """The part's homography from the keyframe to a frame; last: to the one before."""
        here = _mapped(part.points, last)
        there, good = _track(previous, frame, here)
        return _fit(part.points[good], there[good], int(_within(here, frame).sum()))

    def _refined(self, found: Homography | None, part: Part, frame: Grey) -> Homography | None:
        """A homography without its drift: that of the keyframe's features in the frame that it warps back."""
        if found is None:
            return None
        x, y, width, height = self._bounds(part)
        crop = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        back = cv2.warpPerspective(frame, found @ crop, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        corner = np.array([x, y], np.float32)
        key = np.ascontiguousarray(self._normal_key[y : y + height, x : x + width])
        there, good = _track(key, normalised(np.asarray(back, np.uint8)), part.points - corner)
        there += corner
        seen = _within(_mapped(part.points, found), frame)
        good &= seen & (np.abs(there - part.points).max(-1) < 2 * _REACH)
        return _fit(part.points[good], _mapped(there[good], found), int(seen.sum()))

    def _bounds(self, part: Part) -> Bounds:
        x, y, width, height = bounds_of(part.mask, 4 * _AROUND)
        return 2 * x, 2 * y, 2 * width, 2 * height


def normalised(picture: Grey) -> Grey:
    """A grey picture with its local mean and contrast normalised: shading stays in place while a surface moves."""
    grey = picture.astype(np.float32)
    mean, square = cv2.blur(grey, (31, 31)), cv2.blur(grey * grey, (31, 31))
    spread = np.sqrt(np.maximum(square - mean * mean, 0) + 40)
    return np.asarray(np.clip(128 + 45 * (grey - mean) / spread, 0, 255), np.uint8)


def _track(first: Grey, second: Grey, points: Points) -> tuple[Points, NDArray[np.bool_]]:
    """Where points (N, 2) of a picture are in another, and which of them tracking back confirms."""
    there, status, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, np.empty_like(points), winSize=_WINDOW, maxLevel=3
    )
    back, returned, _ = cv2.calcOpticalFlowPyrLK(
        second, first, there, np.empty_like(points), winSize=_WINDOW, maxLevel=3
    )
    good = (status.ravel() > 0) & (returned.ravel() > 0) & (np.abs(back - points).max(-1) < _MISSED)
    return np.asarray(there, np.float32), np.asarray(good & _within(points, first))


def _fit(on_key: Points, on_frame: Points, seen: int) -> Homography | None:
    """The homography, or affine motion where features are few, that most points agree on; None where too few of those
    `seen` do."""
    if len(on_key) < _LEAST:
        return None
    affine, kept = cv2.estimateAffine2D(on_key, on_frame, method=cv2.RANSAC, ransacReprojThreshold=_REACH)
    found, agreeing = cv2.findHomography(on_key, on_frame, cv2.USAC_MAGSAC, _REACH)
    if affine is not None and (found is None or kept.sum() >= 0.9 * agreeing.sum()):
        found, agreeing = np.vstack([affine, [0, 0, 1]]), kept
    if found is None or agreeing.sum() < max(_LEAST, _SHARE * seen):
        return None
    scale = abs(float(np.linalg.det(found[:2, :2]))) ** 0.5
    return np.asarray(found, np.float64) if 1 / _LARGEST < scale < _LARGEST else None


def _plane_of(offset: Field, weight: Plane) -> Homography | None:
    """The homography from the keyframe to a frame, in pixels of twice the flow's size, that a registration of it holds
    where it counts; None where it holds none."""
    rows, columns = np.nonzero(weight[::_PITCH, ::_PITCH] > 0.3)
    here = np.stack([columns, rows], -1).astype(np.float32) * _PITCH
    if len(here) < _LEAST:
        return None
    on_key = here + offset[::_PITCH, ::_PITCH][rows, columns]
    return _fit(2 * on_key + np.float32(0.5), 2 * here + np.float32(0.5), len(here))


def _mapped(points: Points, homography: Homography) -> Points:
    if not len(points):
        return points
    return np.asarray(cv2.perspectiveTransform(points[:, None], homography)[:, 0], np.float32)


def _within(points: Points, picture: Grey) -> NDArray[np.bool_]:
    """(N,): which points lie in a picture."""
    x, y = points.T
    return np.asarray((x >= 0) & (y >= 0) & (x < picture.shape[1]) & (y < picture.shape[0]))


def _offset(homography: Homography, shape: tuple[int, ...]) -> Field:
    """(h, w, 2): from a frame's pixels to the keyframe. homography: from the keyframe to it, in pixels of twice the
    flow's size."""
    grid = endpoints(np.zeros((*shape[:2], 2), np.float32))
    on_key = cv2.perspectiveTransform(2 * grid + np.float32(0.5), np.linalg.inv(homography))
    return np.asarray((on_key - np.float32(0.5)) / 2 - grid, np.float32)
