"""Where each pixel of a frame stood on the keyframe: a long-range map, held to the keyframe by direct comparison.

Chained flow drifts, and knows nothing of what was hidden for a while. So at every frame the keyframe's picture, moved by
the chained map, is compared with the frame itself: flow between the two takes the drift out, what agrees is trusted,
and where nothing agrees the map is continued from the trusted parts around (cf. Crivelli et al.: Robust optical flow
integration, 2015; Lucas, Kanade 1981 for the direct step).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import FlowEstimator, follow, grid
from paintover_engine.compose.matte import extend

Plane = NDArray[np.float32]

_PATCH = (9, 9)
_NOISE = 40.0  # variance that sensor and compression leave between two pictures of one surface, in squared 8-bit levels
_CLEARLY = 0.1  # a gain in agreement that is more than chance
_FARTHEST = 1.5  # drift found at a frame, in pixels; a longer way is a mistaken match
_AROUND = 10  # how far around the paint its surface surely goes on, in pixels
_LOST = 0.25  # share of the paint in sight below which its surface is searched for in the whole frame
_INLIERS = 8  # features that must agree on where it is
_LIGHT = 50.0  # how much brighter or darker a surface may turn, in 8-bit levels


@dataclass
class Registration:
    """offset: (h, w, 2), from a frame's pixel to where it stood on the keyframe; trust: (h, w) 0..1."""

    offset: NDArray[np.float32]
    trust: Plane

    @staticmethod
    def identity(height: int, width: int) -> Registration:
        return Registration(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.float32))


class Registrar:
    """Registers frames against one keyframe. key: (h, w) uint8 grey picture of its plate; region: (h, w) where it is painted."""

    def __init__(self, key: NDArray[np.uint8], region: Plane) -> None:
        self._key = key.astype(np.float32)
        self._region = region
        self._around = cv2.dilate(region, np.ones((2 * _AROUND + 1, 2 * _AROUND + 1), np.uint8))
        self._estimator = FlowEstimator()
        self._features = cv2.SIFT_create(contrastThreshold=0.02)
        wide = cv2.dilate(region, np.ones((8 * _AROUND + 1, 8 * _AROUND + 1), np.uint8))
        self._key_points, self._key_features = self._features.detectAndCompute(key, (wide > 0.1).astype(np.uint8))

    def advance(
        self, before: Registration, home: NDArray[np.float32], visible: Plane, frame: NDArray[np.uint8]
    ) -> Registration:
        """The next frame's registration.

        home: flow from it to the frame of `before`; visible (h, w) 0..1: how much that flow is to be believed."""
        offset = home + follow(before.offset, home)
        trust = follow(before.trust, home) * visible
        offset = _continued(offset, trust * follow(self._around, offset))
        agreement = self._agreement(offset, frame)
        offset += self._drift(offset, frame, agreement)
        agreement = self._agreement(offset, frame)
        trust = self._trust(trust, agreement)
        if self._share_in_sight(offset, trust) < _LOST:
            found = self._found_again(frame)
            if found is not None:
                return found
        return Registration(offset, trust)

    def _trust(self, chained: Plane, agreement: Plane) -> Plane:
        """What the chain vouches for, unless it looks wrong; and what looks right."""
        return np.minimum(np.maximum(chained, _ramp(agreement, 0.5, 0.8)), _ramp(agreement, 0.02, 0.15))

    def _share_in_sight(self, offset: NDArray[np.float32], trust: Plane) -> float:
        """How much of the painted region the frame still shows."""
        return float((follow(self._region, offset) * trust).sum()) / max(1.0, float(self._region.sum()))

    def _found_again(self, frame: NDArray[np.uint8]) -> Registration | None:
        """The keyframe's surface where it is seen again after it was hidden or out of frame, by its features (Lowe:
        Distinctive image features from scale-invariant keypoints, 2004); None where they are not found."""
        points, features = self._features.detectAndCompute(frame, None)
        if self._key_features is None or features is None or len(features) < 2 or len(self._key_features) < _INLIERS:
            return None
        pairs = cv2.BFMatcher().knnMatch(self._key_features, features, k=2)
        matches = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < 0.75 * pair[1].distance]
        if len(matches) < _INLIERS:
            return None
        here = np.array([points[match.trainIdx].pt for match in matches], np.float32)
        there = np.array([self._key_points[match.queryIdx].pt for match in matches], np.float32)
        affine, inliers = cv2.estimateAffine2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=2.0)
        if affine is None or int(inliers.sum()) < _INLIERS:
            return None
        own = grid(frame.shape[1], frame.shape[0])
        offset = (own @ affine[:, :2].T.astype(np.float32) + affine[:, 2].astype(np.float32) - own).astype(np.float32)
        agreement = self._agreement(offset, frame)
        offset += self._drift(offset, frame, agreement)
        trust = _ramp(self._agreement(offset, frame), 0.2, 0.6) * follow(self._around, offset)
        return Registration(offset, trust) if self._share_in_sight(offset, trust) > _LOST / 2 else None

    def _drift(self, offset: NDArray[np.float32], frame: NDArray[np.uint8], agreement: Plane) -> NDArray[np.float32]:
        """What to add to the offset: flow between the frame and the keyframe moved onto it, where it makes the two agree
        better. Drift is smooth, so the correction is made so."""
        slip = self._estimator.between(_flattened(frame.astype(np.float32)), _flattened(follow(self._key, offset)))
        direct = slip + follow(offset, slip)
        gain = np.clip(self._agreement(direct, frame) - agreement - _CLEARLY, 0, 1)
        gain[np.linalg.norm(slip, axis=-1) > _FARTHEST] = 0
        weighted = cv2.GaussianBlur(np.dstack([(direct - offset) * gain[..., None], gain]), (0, 0), 8)
        return np.asarray(weighted[..., :2] / (weighted[..., 2:] + 0.05))

    def _agreement(self, offset: NDArray[np.float32], frame: NDArray[np.uint8]) -> Plane:
        """0..1: how well the moved keyframe looks like the frame around each pixel, whatever the light.

        What the best local gain and bias leave of the frame's variance, against that variance (normalised
        cross-correlation) and the noise; and the difference of the local means, which light may change but not turn over."""
        here, there = frame.astype(np.float32), follow(self._key, offset)
        planes = cv2.blur(np.dstack([here, there, here * here, there * there]), _PATCH)
        mean_here, mean_there, square_here, square_there = cv2.split(planes)
        together = cv2.blur(here * there, _PATCH) - mean_here * mean_there
        variance_here = np.maximum(square_here - mean_here * mean_here, 0)
        variance_there = np.maximum(square_there - mean_there * mean_there, 0)
        left = np.maximum(variance_here - np.maximum(together, 0) ** 2 / (variance_there + _NOISE), 0)
        wrong = left / (0.5 * variance_here + _NOISE) + ((mean_here - mean_there) / _LIGHT) ** 2
        points = grid(offset.shape[1], offset.shape[0]) + offset
        height, width = wrong.shape
        inside = (points[..., 0] > -1) & (points[..., 0] < width) & (points[..., 1] > -1) & (points[..., 1] < height)
        return np.asarray(np.exp(-wrong) * inside, np.float32)


def _flattened(picture: Plane) -> NDArray[np.uint8]:
    """The picture's detail without its light and contrast, as uint8: light stays in place while a surface turns through it,
    and would hold the registration back."""
    mean, square = cv2.blur(picture, (15, 15)), cv2.blur(picture * picture, (15, 15))
    spread = np.sqrt(np.maximum(square - mean * mean, 0) + _NOISE)
    return np.clip(128 + 45 * (picture - mean) / spread, 0, 255).astype(np.uint8)


def _ramp(plane: Plane, low: float, high: float) -> Plane:
    """0 at `low` and below, 1 at `high` and above."""
    return np.clip((plane - low) / (high - low), 0, 1).astype(np.float32)


def _continued(offset: NDArray[np.float32], trust: Plane) -> NDArray[np.float32]:
    """The offset where it is trusted, continued smoothly from there where it is not."""
    known = _ramp(trust, 0.2, 0.6)
    if known.max() < 0.5:
        return offset
    affine = _affine(offset, known)
    continued = affine + extend(offset - affine, known)
    return np.where(trust[..., None] < 0.2, continued, offset)


def _affine(offset: NDArray[np.float32], weight: Plane) -> NDArray[np.float32]:
    """The affine motion (h, w, 2) nearest to the offset, weighted."""
    height, width = weight.shape
    points = grid(width, height)[::4, ::4].reshape(-1, 2)
    w = weight[::4, ::4].reshape(-1, 1)
    basis = np.concatenate([points / width, np.ones((len(points), 1), np.float32)], -1)
    normal = (basis * w).T @ basis + np.diag([1e-3, 1e-3, 1e-6]) * max(1.0, float(w.sum()))
    solution = np.linalg.solve(normal, (basis * w).T @ offset[::4, ::4].reshape(-1, 2)).astype(np.float32)
    whole = grid(width, height) / np.float32(width)
    return np.asarray(whole @ solution[:2] + solution[2])
