"""Where each pixel of a frame stood on the keyframe: a long-range map, held to the keyframe by direct comparison.

Chained flow drifts, fails where a surface has little texture, and knows nothing of what was hidden for a while. So the
flow is held together within each painted part; the keyframe, moved by the chained map, is compared with the frame
itself, which takes the drift out and tells what is hidden; and what was out of sight is searched for by its features.
Chaining and direct matching support each other as in Crivelli et al.: Robust optical flow integration (2015).
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
    follow,
    lengths,
    places,
    shrink,
    within_picture,
)
from paintover_engine.compose.matte import Plane, Window, bounds, extend

_PATCH = (9, 9)
_NOISE = 40.0  # variance that sensor and compression leave between two pictures of one surface, in squared 8-bit levels
_LIGHT = 50.0  # how much brighter or darker a surface may turn, in 8-bit levels
_TEXTURE = 1e-3  # smaller eigenvalue of the structure tensor (cv2.cornerMinEigenVal's scale) that tells motion
_PARTS = 6  # separate edits that are held together each by itself
_FARTHEST = 2.0  # drift found at a frame, in pixels; a longer way is a mistaken match
_BESIDE = 6  # how far around a part's own box it is compared
_AROUND = 10  # how far around the paint its surface surely goes on, in pixels
_LOST = 0.25  # share of the paint in sight below which its surface is searched for in the whole frame
_SLIVER = 0.1  # share of a part in sight below which it may be anything
_SURFACES = 3  # motions tried: what is painted, and what lies around it
_ALIKE = 0.6  # share in sight of another place, against the best one's, from which on either may be meant
_WRONG = np.float32(30)  # a difference between flattened pictures that makes a match doubtful
_TOLD = 20.0  # pixels' worth of texture that tell a motion
_INLIERS = 8  # features that must agree on where it is


@dataclass
class Registration:
    """offset: (h, w, 2), from a frame's pixel to where it stood on the keyframe; trust: (h, w) 0..1, 0 far from the
    paint."""

    offset: Field
    trust: Plane

    @staticmethod
    def identity(height: int, width: int) -> Registration:
        return Registration(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.float32))


class Registrar:
    """Registers frames against one keyframe. Pictures are grey, uint8 and of twice the flow's size (2h, 2w).

    key: its plate; region: (h, w) where it is painted."""

    def __init__(self, key: NDArray[np.uint8], region: Plane) -> None:
        self._sharp_key = key
        self._key = halved(key).astype(np.float32)
        self._region = region
        self._around = cv2.dilate(region, np.ones((2 * _AROUND + 1, 2 * _AROUND + 1), np.uint8))
        self._parts = _parts(cv2.dilate(region, np.ones((5, 5), np.uint8)))
        self._whole: Window = (0, 0, region.shape[1], region.shape[0])
        self._searched = False
        self._estimator = FlowEstimator()
        self._features = cv2.SIFT_create(contrastThreshold=0.02)

    def advance(self, before: Registration, home: Field, out: Field, sharp: NDArray[np.uint8]) -> Registration:
        """The next frame's registration. home: flow from it to the frame of `before`; out: the way back."""
        chained = Registration(home + follow(before.offset, home), follow(before.trust, home))
        seen = follow(self._around, chained.offset) * chained.trust
        x, y, width, height = window = bounds((seen > 0.05).astype(np.float32), 2 * _AROUND)
        part = np.s_[y : y + height, x : x + width]
        found = Registration(chained.offset, np.zeros_like(chained.trust))
        if min(width, height) > 2 * _AROUND:
            sure = chained.trust[part] * consistency(home[part], out, window)
            here = self._corrected(Registration(chained.offset[part], sure), home[part], sharp, window)
            found.offset[part], found.trust[part] = here.offset, here.trust
        if self._share_in_sight(found) >= _LOST:
            self._searched = False
            return found
        self._searched = not self._searched  # in vain just before: a frame later will do
        return (self._searched and self.search(sharp)) or found

    def _corrected(self, chained: Registration, home: Field, sharp: NDArray[np.uint8], window: Window) -> Registration:
        """A chained registration of a window, its flow held together, its gaps filled and its drift taken out."""
        frame = _coarse(sharp, window)
        offset = chained.offset + self._steadied(home, chained.offset, frame, window) - home
        offset = _continued(offset, chained.trust * self._seen(self._around, offset, window))
        offset = self._closer(offset, self._agreement(offset, frame, window), sharp, window)
        agreement = self._agreement(offset, frame, window)
        trust = np.maximum(
            chained.trust, _ramp(agreement, 0.5, 0.8)
        )  # what the chain vouches for, and what looks right
        trust = np.minimum(trust, _ramp(agreement, 0.02, 0.15))  # but nothing that looks wrong
        return Registration(offset, self._doubted(trust, chained.trust, agreement, offset, window))

    def _doubted(self, trust: Plane, vouched: Plane, agreement: Plane, offset: Field, window: Window) -> Plane:
        """The trust, where little is left of a part: that may lie on what hides it, so it must look right whatever the
        chain vouches for; and a sliver must be vouched for, too, whatever it looks like."""
        for part in self._parts:
            within = self._seen(part, offset, window)
            share = float((within * trust).sum()) / float(part.sum())
            if share < _LOST:
                least = np.minimum(trust, _ramp(agreement, 0.2, 0.6))
                least = np.minimum(least, vouched) if share < _SLIVER else least
                trust = np.asarray(trust + within * (least - trust), np.float32)
        return trust

    def _seen(self, on_key: Plane, offset: Field, window: Window) -> Plane:
        """A keyframe's plane as the frame's window shows it."""
        seen: Plane = cv2.remap(on_key, places(offset, window), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return seen

    def _steadied(self, home: Field, offset: Field, frame: NDArray[np.uint8], window: Window) -> Field:
        """The flow held together where a painted part shows too little texture for flow: there the part's affine motion
        holds, or that of its textured neighbourhood (Shi, Tomasi: Good features to track, 1994, on what texture
        tells)."""
        steady = home.copy()
        corners = cv2.cornerMinEigenVal(np.ascontiguousarray(frame), 5)
        for part in self._parts:
            within = self._seen(part, offset, window)
            x, y, width, height = bounds(np.where(within > 0.01, within, 0), _BESIDE)
            box = np.s_[y : y + height, x : x + width]
            within, flow = within[box], home[box]
            if within.sum() < 64:
                continue
            told = within * (corners[box] / (corners[box] + _TEXTURE))
            motion = affine_motion(flow, told, robust=True)
            apart = flow - motion
            told = told / (1 + lengths(apart) ** 2)
            motion += _smoothed(apart, told, 4, 0.02)
            steady[box] += (within * (1 - told))[..., None] * (motion - steady[box])
        return steady

    def _closer(self, offset: Field, agreement: Plane, sharp: NDArray[np.uint8], window: Window) -> Field:
        """The offset without its drift: each part is held to the keyframe by comparing the two at twice the size."""
        added, share = np.zeros_like(offset), np.full(agreement.shape, 1e-6, np.float32)
        for part in self._parts:
            within = self._seen(part, offset, window)
            x, y, width, height = bounds(np.where(within > 0.1, within, 0), _BESIDE)
            if min(width, height) < FlowEstimator.MINIMUM:
                continue
            box = np.s_[y : y + height, x : x + width]
            place = (window[0] + x, window[1] + y, width, height)
            slip = self._slip(offset[box], within[box] * agreement[box], sharp, place)
            if slip is not None:
                near = cv2.blur(within[box], (9, 9)) + np.float32(1e-3)
                added[box] += (slip + follow(offset[box], slip) - offset[box]) * near[..., None]
                share[box] += near
        return np.asarray(offset + added / share[..., None])

    def _slip(self, offset: Field, within: Plane, sharp: NDArray[np.uint8], window: Window) -> Field | None:
        """(h, w, 2): how far a part of the frame, `within` its window, lies from the keyframe moved onto it: the
        affine motion that its texture tells, and smoothly what that leaves. None where it is not told. (The flow
        between the two by itself would follow every shade and reflection.)"""
        x, y, width, height = (2 * side for side in window)
        moved = cv2.remap(
            self._sharp_key,
            places(_doubled(2 * offset), (x, y, width, height)),
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        frame = np.ascontiguousarray(sharp[y : y + height, x : x + width])
        now, then = _flattened(frame.astype(np.float32)), _flattened(moved.astype(np.float32))
        slip = self._estimator.between(now, then)
        wrong = cv2.absdiff(follow(then, slip), now).astype(np.float32) / _WRONG
        corners = cv2.cornerMinEigenVal(frame, 5)
        within = _doubled(within)
        told = within * corners / ((corners + _TEXTURE) * (1 + wrong * wrong))
        if told.sum() < _TOLD:
            return None
        motion = affine_motion(slip, told, robust=True, pitch=3)
        apart = slip - motion
        told = told / (1 + 4 * lengths(apart) ** 2)
        motion += _smoothed(apart, told, 8, 0.1)
        if lengths(motion)[within > 0.5].max(initial=0) > 2 * _FARTHEST or not _helps(motion, now, then, within):
            return None
        return np.asarray(shrink(motion, window[2:]) / 2)

    def _agreement(self, offset: Field, frame: NDArray[np.uint8], window: Window) -> Plane:
        """0..1: how well the moved keyframe looks like the frame around each pixel, whatever the light.

        What the best local gain and bias leave of the frame's variance, against that variance (normalised
        cross-correlation) and the noise; and the difference of the local means, which light may change but not turn
        over."""
        here, there = frame.astype(np.float32), self._seen(self._key, offset, window)
        planes = cv2.blur(cv2.merge([here, there, here * here, there * there]), _PATCH)
        mean_here, mean_there, square_here, square_there = cv2.split(planes)
        together = cv2.blur(here * there, _PATCH) - mean_here * mean_there
        variance_here = np.maximum(square_here - mean_here * mean_here, 0)
        variance_there = np.maximum(square_there - mean_there * mean_there, 0)
        left = np.maximum(variance_here - np.maximum(together, 0) ** 2 / (variance_there + _NOISE), 0)
        wrong = left / (0.5 * variance_here + _NOISE) + ((mean_here - mean_there) / _LIGHT) ** 2
        return np.asarray(cv2.exp(-wrong) * within_picture(places(offset, window), self._key.shape))

    def _share_in_sight(self, place: Registration) -> float:
        """How much of the painted region the frame still shows."""
        return float((follow(self._region, place.offset) * place.trust).sum()) / max(1.0, float(self._region.sum()))

    def search(self, sharp: NDArray[np.uint8]) -> Registration | None:
        """The keyframe's surface anywhere in a frame, after it was hidden or out of sight, by its features (Lowe:
        Distinctive image features from scale-invariant keypoints, 2004); None where they are not found."""
        frame = halved(sharp)
        here, there = self._matches(frame)
        found: list[tuple[float, Registration]] = []
        for _ in range(_SURFACES):
            if len(here) < _INLIERS:
                break
            affine, inliers = cv2.estimateAffine2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=2.0)
            if affine is None or int(inliers.sum()) < _INLIERS:
                break
            candidate = self._settled(affine.astype(np.float32), frame, sharp)
            found.append((self._share_in_sight(candidate), candidate))
            others = inliers.ravel() == 0
            here, there = here[others], there[others]
        found.sort(key=lambda pair: -pair[0])
        if not found or found[0][0] < _LOST / 2:
            return None
        if len(found) > 1 and found[1][0] > _ALIKE * found[0][0]:  # a pattern that repeats: no telling which it was
            return None
        return found[0][1]

    @functools.cached_property
    def _key_features(self) -> tuple[Sequence[cv2.KeyPoint], NDArray[np.float32] | None]:
        near = (self._around > 0.1).astype(np.uint8)
        points, features = self._features.detectAndCompute(self._key.astype(np.uint8), near)
        return points, features

    def _matches(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 2) of the frame and of the keyframe that look alike and like no other."""
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
        there = np.array([key_points[match.queryIdx].pt for match in matches], np.float32).reshape(-1, 2)
        return here, there

    def _settled(self, affine: NDArray[np.float32], frame: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> Registration:
        """The registration that an affine motion (2, 3) from frame to keyframe starts."""
        own = places(np.zeros((*frame.shape, 2), np.float32), self._whole)
        offset: Field = cv2.transform(own, affine) - own
        for _ in range(2):
            offset = self._closer(offset, self._agreement(offset, frame, self._whole), sharp, self._whole)
        trust = _ramp(self._agreement(offset, frame, self._whole), 0.2, 0.6) * follow(self._around, offset)
        return Registration(offset, trust)


def _smoothed(field: Field, told: Plane, sigma: float, least: float) -> Field:
    """The field's mean around each pixel, weighted by `told`; towards 0 where the weights come to `least` or less."""
    weighted = cv2.GaussianBlur(cv2.merge([*cv2.split(field * told[..., None]), told]), (0, 0), sigma)
    return np.asarray(weighted[..., :2] / (weighted[..., 2:] + np.float32(least)))


def _helps(motion: Field, now: NDArray[np.uint8], moved: NDArray[np.uint8], part: Plane) -> bool:
    """Whether a motion of the moved keyframe makes it look more like the frame, in a part."""
    before, after = cv2.absdiff(moved, now), cv2.absdiff(follow(moved, motion), now)
    return float((part * after).sum()) < float((part * before).sum())


def halved(picture: Array) -> Array:
    """A picture of twice the flow's size at the flow's."""
    return shrink(picture, (picture.shape[1] // 2, picture.shape[0] // 2))


def _coarse(sharp: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """A window of a frame at the flow's size."""
    x, y, width, height = window
    return halved(sharp[2 * y : 2 * (y + height), 2 * x : 2 * (x + width)])


def _doubled(picture: Array) -> Array:
    doubled: Array = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return doubled


def _flattened(picture: Plane) -> NDArray[np.uint8]:
    """The picture's detail without its light and contrast, as uint8: light stays in place while a surface turns
    through it, and would hold the registration back."""
    mean, square = cv2.blur(picture, (15, 15)), cv2.blur(picture * picture, (15, 15))
    spread = np.sqrt(np.maximum(square - mean * mean, 0) + _NOISE)
    return np.asarray(np.clip(128 + 45 * (picture - mean) / spread, 0, 255), np.uint8)


def _ramp(plane: Plane, low: float, high: float) -> Plane:
    """0 at `low` and below, 1 at `high` and above."""
    return np.asarray(np.clip((plane - low) / (high - low), 0, 1), np.float32)


def _continued(offset: Field, trust: Plane) -> Field:
    """The offset where it is trusted, continued smoothly from there where it is not."""
    known = _ramp(trust, 0.2, 0.6)
    if known.max() < 0.5 or trust.min() >= 0.2:
        return offset
    affine = affine_motion(offset, known)
    continued = affine + extend(offset - affine, known)
    return np.where(trust[..., None] < 0.2, continued, offset)


def _parts(region: Plane) -> list[Plane]:
    """The largest separate parts of a region, each (h, w) 0..1."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((region > 0.1).astype(np.uint8))
    largest = sorted(range(1, count), key=lambda part: -stats[part, cv2.CC_STAT_AREA])[:_PARTS]
    return [(labels == part).astype(np.float32) for part in largest]
