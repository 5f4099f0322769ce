"""Registration of frames to the keyframe: a long-range map from each pixel to where it stood on the keyframe.

Chained flow drifts, fails where a surface has little texture, and is lost where the surface was occluded for a while.
So the flow is regularised within each connected component of the edit; the keyframe, warped by the chained map, is
compared with the frame itself, which corrects the drift and shows what is occluded; a part that moves as a plane is
moved as one, where that explains more of the frame; and what was out of sight is searched for by its features.
Chaining and direct matching are combined as in Crivelli et al.: Robust Optical Flow Integration (IEEE TIP, 2015).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import (
    Array,
    Field,
    FlowEstimator,
    affine_motion,
    consistency,
    endpoints,
    halved,
    magnitudes,
    shrink,
    warp,
    within_picture,
)
from paintover_engine.compose.matte import Plane, extend
from paintover_engine.compose.planar import PlanarParts
from paintover_engine.compose.planes import planes_of
from paintover_engine.media.bounds import Bounds, bounds_of

_PATCH = (9, 9)
_NOISE = 40.0  # variance that sensor and compression leave between two pictures of one surface, in squared 8-bit levels
_LIGHT = 50.0  # how much brighter or darker a surface may turn, in 8-bit levels
_TEXTURE = 1e-3  # smaller eigenvalue of the structure tensor (cv2.cornerMinEigenVal's scale) that determines motion
_COMPONENTS = 6  # separate edits that are registered each by itself
_MAX_DRIFT = 2.0  # drift corrected at a frame, in pixels; a longer one is a mistaken match
_BESIDE = 6  # how far around a component's own box it is compared
_AROUND = 10  # how far around the paint its surface surely goes on, in pixels
_LOST = 0.25  # visible share of the paint below which its surface is searched for in the whole frame
_SLIVER = 0.1  # visible share of a component below which appearance alone is no evidence
_SURFACES = 3  # motions tried in a search: of the painted surface, and of what lies around it
_AMBIGUOUS = 0.6  # visible share of the second best place, against the best one's, from which on either may be right
_DIFFERENCE = np.float32(30)  # of normalised pictures, that makes a match doubtful
_LEAST_TEXTURE = 20.0  # pixels' worth of texture that determine a motion
_PLANE_BETTER = 0.02  # mean agreement by which a plane must beat the free field, which bends, too
_BESIDE_PLANE = 13  # side in pixels of what a plane moves along with it, around it
_INLIERS = 8  # features that must agree on a place


@dataclass
class Registration:
    """offset: (h, w, 2), from a frame's pixel to where it stood on the keyframe, in pixels; confidence: (h, w) 0..1,
    0 far from the paint."""

    offset: Field
    confidence: Plane

    @staticmethod
    def identity(height: int, width: int) -> Registration:
        return Registration(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.float32))


class Registrar:
    """Registers frames to one keyframe. Pictures are grey, uint8 and of twice the flow's size (2h, 2w).

    key: its plate; region: (h, w) 0..1, where it is painted."""

    def __init__(self, key: NDArray[np.uint8], region: Plane) -> None:
        self._sharp_key = key
        self._key = halved(key).astype(np.float32)
        self._region = region
        self._around = cv2.dilate(region, np.ones((2 * _AROUND + 1, 2 * _AROUND + 1), np.uint8))
        self._components = _components(cv2.dilate(region, np.ones((5, 5), np.uint8)))
        self._whole: Bounds = (0, 0, region.shape[1], region.shape[0])
        self._planes = PlanarParts(key, region)
        self._searched = False
        self._estimator = FlowEstimator()
        self._features = cv2.SIFT_create(contrastThreshold=0.02)

    def advance(
        self,
        before: Registration,
        backward: Field,
        forward: Field,
        previous: NDArray[np.uint8],
        sharp: NDArray[np.uint8],
    ) -> Registration:
        """The next frame's registration. backward: flow from it to the frame of `before`; forward: from that frame to
        it. previous, sharp: that frame and this one."""
        chained = Registration(backward + warp(before.offset, backward), warp(before.confidence, backward))
        visible = warp(self._around, chained.offset) * chained.confidence
        x, y, width, height = bounds = bounds_of((visible > 0.05).astype(np.float32), 2 * _AROUND)
        part = np.s_[y : y + height, x : x + width]
        found = Registration(chained.offset, np.zeros_like(chained.confidence))
        if width > 0:
            confidence = chained.confidence[part] * consistency(backward[part], forward, bounds)
            here = self._corrected(Registration(chained.offset[part], confidence), backward[part], sharp, bounds)
            found.offset[part], found.confidence[part] = here.offset, here.confidence
        found = self._with_planes(found, before, previous, sharp)
        if self._visible_share(found) >= _LOST:
            self._searched = False
            return found
        self._searched = not self._searched  # after a search in vain, one frame is left out
        return (self._searched and self.search(sharp)) or found

    def moved(self, found: Registration, motion: Field, sharp: NDArray[np.uint8]) -> Registration:
        """A frame's registration, moved by the artist: as certain as it was, or as the frame looks like the keyframe
        there. motion: (h, w, 2), from the frame's pixels to those of `found`."""
        offset = motion + warp(found.offset, motion)
        alike = _ramp(self._agreement(offset, halved(sharp), self._whole), 0.5, 0.8) * warp(self._around, offset)
        return Registration(offset, np.maximum(warp(found.confidence, motion), alike * (magnitudes(motion) > 0)))

    def _with_planes(
        self, free: Registration, before: Registration, previous: NDArray[np.uint8], sharp: NDArray[np.uint8]
    ) -> Registration:
        """The registration with each part that moves as a plane moved as one, where that explains more of the frame: a
        free field loses what has no texture of its own. Its confidence is by its looks alone, in the light it has
        now."""
        for placed in self._planes.place(before.offset, before.confidence, previous, sharp):
            x, y, width, height = bounds = bounds_of(placed.mask, 2 * _BESIDE)
            if min(width, height) < 4:
                continue
            part, frame = np.s_[y : y + height, x : x + width], _coarse(sharp, bounds)
            mask, offset = placed.mask[part], placed.offset[part]
            gain = self._gain(offset, frame, mask, bounds)
            agreement = self._agreement(offset, frame, bounds, gain)
            confidence = _ramp(agreement, 0.1, 0.3)
            others = self._agreement(free.offset[part], frame, bounds, gain) * free.confidence[part]
            if float((mask * (agreement * confidence - others)).sum()) < _PLANE_BETTER * float(mask.sum()):
                continue
            near = np.clip(cv2.GaussianBlur(cv2.dilate(mask, np.ones((_BESIDE_PLANE,) * 2, np.uint8)), (0, 0), 2), 0, 1)
            free.offset[part] += near[..., None] * (offset - free.offset[part])
            free.confidence[part] += near * (confidence - free.confidence[part])
        return free

    def _gain(self, offset: Field, frame: NDArray[np.uint8], mask: Plane, bounds: Bounds) -> float:
        """How much brighter the surface in a mask is in the frame than on the keyframe."""
        inside, key = mask > 0.5, self._warped(self._key, offset, bounds)
        if not inside.any():
            return 1.0
        return float(np.clip(np.median(frame[inside] / (key[inside] + 1)), 0.25, 4))

    def _corrected(
        self, chained: Registration, backward: Field, sharp: NDArray[np.uint8], bounds: Bounds
    ) -> Registration:
        """A chained registration of a part of the frame with its flow regularised, its gaps filled and its drift
        corrected."""
        frame = _coarse(sharp, bounds)
        offset = chained.offset + self._regularised(backward, chained.offset, frame, bounds) - backward
        offset = _continued(offset, chained.confidence * self._warped(self._around, offset, bounds))
        offset = self._without_drift(offset, self._agreement(offset, frame, bounds), sharp, bounds)
        agreement = self._agreement(offset, frame, bounds)
        confidence = np.maximum(chained.confidence, _ramp(agreement, 0.5, 0.8))  # either the chain or the appearance
        confidence = np.minimum(confidence, _ramp(agreement, 0.02, 0.15))  # but nothing that looks plainly different
        return Registration(offset, self._lowered_confidence(confidence, chained.confidence, agreement, offset, bounds))

    def _lowered_confidence(
        self, confidence: Plane, chained: Plane, agreement: Plane, offset: Field, bounds: Bounds
    ) -> Plane:
        """The confidence, lowered where little of a component is visible: the rest may lie on what occludes it, so that
        its appearance must agree however sure the chain is; and of a sliver the chain must be sure, too."""
        for component in self._components:
            mask = self._warped(component, offset, bounds)
            share = float((mask * confidence).sum()) / float(component.sum())
            if share < _LOST:
                least = np.minimum(confidence, _ramp(agreement, 0.2, 0.6))
                least = np.minimum(least, chained) if share < _SLIVER else least
                confidence = np.asarray(confidence + mask * (least - confidence), np.float32)
        return confidence

    def _warped(self, on_key: Plane, offset: Field, bounds: Bounds) -> Plane:
        """A plane of the keyframe warped to the frame, of its `bounds` alone."""
        ends = endpoints(offset, bounds)
        warped: Plane = cv2.remap(on_key, ends, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return warped

    def _regularised(self, backward: Field, offset: Field, frame: NDArray[np.uint8], bounds: Bounds) -> Field:
        """The flow, regularised where a component has too little texture to determine it: there the component's affine
        motion is taken, plus the smoothed residual of its textured neighbourhood (Shi, Tomasi: Good Features to Track,
        CVPR 1994, on the structure tensor)."""
        regular = backward.copy()
        corners = cv2.cornerMinEigenVal(np.ascontiguousarray(frame), 5)
        for component in self._components:
            mask = self._warped(component, offset, bounds)
            x, y, width, height = bounds_of(np.where(mask > 0.01, mask, 0), _BESIDE)
            box = np.s_[y : y + height, x : x + width]
            mask, flow = mask[box], backward[box]
            if mask.sum() < 64:
                continue
            weight = mask * (corners[box] / (corners[box] + _TEXTURE))
            motion = affine_motion(flow, weight, robust=True)
            residual = flow - motion
            weight = weight / (1 + magnitudes(residual) ** 2)
            motion += _smoothed(residual, weight, 4, 0.02)
            regular[box] += (mask * (1 - weight))[..., None] * (motion - regular[box])
        return regular

    def _without_drift(self, offset: Field, agreement: Plane, sharp: NDArray[np.uint8], bounds: Bounds) -> Field:
        """The offset without its drift, found for each component by comparing frame and keyframe at twice the size."""
        added, share = np.zeros_like(offset), np.full(agreement.shape, 1e-6, np.float32)
        for component in self._components:
            mask = self._warped(component, offset, bounds)
            x, y, width, height = bounds_of(np.where(mask > 0.1, mask, 0), _BESIDE)
            if min(width, height) < FlowEstimator.MINIMUM:
                continue
            box = np.s_[y : y + height, x : x + width]
            inner = (bounds[0] + x, bounds[1] + y, width, height)
            drift = self._drift(offset[box], mask[box] * agreement[box], sharp, inner)
            if drift is not None:
                near = cv2.blur(mask[box], (9, 9)) + np.float32(1e-3)
                added[box] += (drift + warp(offset[box], drift) - offset[box]) * near[..., None]
                share[box] += near
        return np.asarray(offset + added / share[..., None])

    def _drift(self, offset: Field, mask: Plane, sharp: NDArray[np.uint8], bounds: Bounds) -> Field | None:
        """(h, w, 2): the flow from a component's part of the frame to the keyframe warped onto it: the affine motion of
        its texture, plus the smoothed residual; the flow as it is would follow every shade and reflection. None where
        there is too little texture, where it is too long, or where it does not make the two more alike.

        mask: (h, w) 0..1, the component in `bounds` of the frame, as far as the two agree."""
        x, y, width, height = (2 * side for side in bounds)
        warped = cv2.remap(
            self._sharp_key,
            endpoints(_doubled(2 * offset), (x, y, width, height)),
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        frame = np.ascontiguousarray(sharp[y : y + height, x : x + width])
        now, key = _normalised(frame.astype(np.float32)), _normalised(warped.astype(np.float32))
        flow = self._estimator.between(now, key)
        difference = cv2.absdiff(warp(key, flow), now).astype(np.float32) / _DIFFERENCE
        corners = cv2.cornerMinEigenVal(frame, 5)
        mask = _doubled(mask)
        weight = mask * corners / ((corners + _TEXTURE) * (1 + difference * difference))
        if weight.sum() < _LEAST_TEXTURE:
            return None
        motion = affine_motion(flow, weight, robust=True, pitch=3)
        residual = flow - motion
        weight = weight / (1 + 4 * magnitudes(residual) ** 2)
        motion += _smoothed(residual, weight, 8, 0.1)
        if magnitudes(motion)[mask > 0.5].max(initial=0) > 2 * _MAX_DRIFT or not _improves(motion, now, key, mask):
            return None
        return np.asarray(shrink(motion, bounds[2:]) / 2)

    def _agreement(self, offset: Field, frame: NDArray[np.uint8], bounds: Bounds, gain: float = 1.0) -> Plane:
        """0..1 (h, w): how well the warped keyframe, `gain` times as bright, looks like the frame around each pixel,
        whatever the light.

        exp(-(r / (v / 2 + noise) + d²)): v is the frame's local variance, r what of it the best local gain and bias of
        the keyframe leave (normalised cross-correlation), d the difference of the local means over `_LIGHT`."""
        here, key = frame.astype(np.float32), self._warped(self._key, offset, bounds) * np.float32(gain)
        planes = cv2.blur(cv2.merge([here, key, here * here, key * key]), _PATCH)
        mean_here, mean_key, square_here, square_key = planes_of(planes)
        covariance = cv2.blur(here * key, _PATCH) - mean_here * mean_key
        variance_here = np.maximum(square_here - mean_here * mean_here, 0)
        variance_key = np.maximum(square_key - mean_key * mean_key, 0)
        residual = np.maximum(variance_here - np.maximum(covariance, 0) ** 2 / (variance_key + _NOISE), 0)
        error = residual / (0.5 * variance_here + _NOISE) + ((mean_here - mean_key) / _LIGHT) ** 2
        return np.asarray(cv2.exp(-error) * within_picture(endpoints(offset, bounds), self._key.shape))

    def _visible_share(self, registration: Registration) -> float:
        """0..1: the share of the painted region that is visible in the frame."""
        return float((warp(self._region, registration.offset) * registration.confidence).sum()) / max(
            1.0, float(self._region.sum())
        )

    def search(self, sharp: NDArray[np.uint8]) -> Registration | None:
        """The keyframe's surface anywhere in a frame, after it was occluded or out of sight, by its SIFT features
        (Lowe: Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004) and RANSAC; None where it is not
        found."""
        frame = halved(sharp)
        here, on_key = self._matches(frame)
        found: list[tuple[float, Registration]] = []
        for _ in range(_SURFACES):
            if len(here) < _INLIERS:
                break
            affine, inliers = cv2.estimateAffine2D(here, on_key, method=cv2.RANSAC, ransacReprojThreshold=2.0)
            if affine is None or int(inliers.sum()) < _INLIERS:
                break
            candidate = self._refined(affine.astype(np.float32), frame, sharp)
            found.append((self._visible_share(candidate), candidate))
            others = inliers.ravel() == 0
            here, on_key = here[others], on_key[others]
        found.sort(key=lambda pair: -pair[0])
        if not found or found[0][0] < _LOST / 2:
            return None
        if len(found) > 1 and found[1][0] > _AMBIGUOUS * found[0][0]:  # a pattern that repeats
            return None
        return found[0][1]

    @functools.cached_property
    def _key_features(self) -> tuple[Sequence[cv2.KeyPoint], NDArray[np.float32] | None]:
        near = (self._around > 0.1).astype(np.uint8)
        points, features = self._features.detectAndCompute(self._key.astype(np.uint8), near)
        return points, features

    def _matches(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Matching points (N, 2) of the frame and of the keyframe, by Lowe's ratio test."""
        none = np.zeros((0, 2), np.float32)
        key_points, key_features = self._key_features
        if key_features is None or len(key_features) < _INLIERS:
            return none, none
        points, features = self._features.detectAndCompute(frame, None)
        if features is None or len(features) < 2:
            return none, none
        pairs = cv2.BFMatcher().knnMatch(key_features, features, k=2)
        matches = [first for first, second in pairs if first.distance < 0.8 * second.distance]
        here = np.array([points[match.trainIdx].pt for match in matches], np.float32).reshape(-1, 2)
        on_key = np.array([key_points[match.queryIdx].pt for match in matches], np.float32).reshape(-1, 2)
        return here, on_key

    def _refined(self, affine: NDArray[np.float32], frame: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> Registration:
        """The registration that starts from an affine motion (2, 3) of the frame to the keyframe."""
        grid = endpoints(np.zeros((*frame.shape, 2), np.float32), self._whole)
        offset: Field = cv2.transform(grid, affine) - grid
        for _ in range(2):
            offset = self._without_drift(offset, self._agreement(offset, frame, self._whole), sharp, self._whole)
        confidence = _ramp(self._agreement(offset, frame, self._whole), 0.2, 0.6) * warp(self._around, offset)
        return Registration(offset, confidence)


def _smoothed(field: Field, weight: Plane, sigma: float, least: float) -> Field:
    """The field's weighted Gaussian mean around each pixel; it tends to 0 where the mean weight is `least` or less."""
    weighted = cv2.GaussianBlur(cv2.merge([*(plane * weight for plane in planes_of(field)), weight]), (0, 0), sigma)
    return np.asarray(weighted[..., :2] / (weighted[..., 2:] + np.float32(least)))


def _improves(motion: Field, frame: NDArray[np.uint8], key: NDArray[np.uint8], mask: Plane) -> bool:
    """Whether warping the keyframe by a motion makes it look more like the frame, inside a mask."""
    before, after = cv2.absdiff(key, frame), cv2.absdiff(warp(key, motion), frame)
    return float((mask * after).sum()) < float((mask * before).sum())


def _coarse(sharp: NDArray[np.uint8], bounds: Bounds) -> NDArray[np.uint8]:
    """`bounds` of a frame, at the flow's size."""
    x, y, width, height = bounds
    return halved(sharp[2 * y : 2 * (y + height), 2 * x : 2 * (x + width)])


def _doubled(picture: Array) -> Array:
    doubled: Array = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return doubled


def _normalised(picture: Plane) -> NDArray[np.uint8]:
    """The picture with its local mean and contrast normalised, as uint8: shading stays in place while a surface turns
    through it, and would bias the registration."""
    mean, square = cv2.blur(picture, (15, 15)), cv2.blur(picture * picture, (15, 15))
    spread = np.sqrt(np.maximum(square - mean * mean, 0) + _NOISE)
    return np.asarray(np.clip(128 + 45 * (picture - mean) / spread, 0, 255), np.uint8)


def _ramp(plane: Plane, low: float, high: float) -> Plane:
    """0 at `low` and below, 1 at `high` and above."""
    return np.asarray(np.clip((plane - low) / (high - low), 0, 1), np.float32)


def _continued(offset: Field, confidence: Plane) -> Field:
    """The offset where it is trusted, and a smooth extrapolation of it elsewhere."""
    weight = _ramp(confidence, 0.2, 0.6)
    if weight.max() < 0.5 or confidence.min() >= 0.2:
        return offset
    affine = affine_motion(offset, weight)
    continued = affine + extend(offset - affine, weight)
    return np.where(confidence[..., None] < 0.2, continued, offset)


def _components(region: Plane) -> list[Plane]:
    """The largest connected components of a region, each (h, w) 0 or 1."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((region > 0.1).astype(np.uint8))
    largest = sorted(range(1, count), key=lambda label: -stats[label, cv2.CC_STAT_AREA])
    return [(labels == label).astype(np.float32) for label in largest[:_COMPONENTS]]
