"""How far the edit in a frame is to be trusted, measured on the plate: how certain the motion is that brought its
matte, whether the picture is as sharp there as on the keyframe, whether the matte comes from where the keyframe was
painted, and whether it and its surroundings look as they did there.

The confidence is a product of measures, each 1 on the keyframe:

    product = certain · (agreement · (0.3 + 0.7 covered) · alike)^½ · surrounded · e^-corrected
    certain = e^-((uncertain + 1.3 ln(1 / sharp)) / 1.4)²

and less where the edit is out of sight. Of an edit that is registered to its surface it is registered² · product^¼: its
paint lies where the registration says, whatever the matte's motion.

`certain` and `registered` rank the frames of a shot: edits are lost where the error of motion adds up and where the
picture is blurred. The others fall where an edit is plainly wrong; `covered` does not reach 0 because flow alone loses
what moves fast, which the matte may have kept. The weights were fitted to the ranks of frames whose true edit is known,
each sequence left out in turn, and rounded. `benchmarks/confidence.py` shows how well the confidence ranks.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame, Lab
from paintover_engine.compose.flow import Field, halved, warp
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane, disc
from paintover_engine.compose.reason import Reason

_SURROUNDINGS = 12  # pixels around the matte that count as its surroundings
_OUT_OF_SIGHT = 0.02  # share of the keyframe's matte below which the edit is out of sight
_HIDDEN = 0.4  # factor of the confidence of an edit that is out of sight
_BINS = 16
_RANGES = [0.0, 2.01, -2.5, 2.5, -2.5, 2.5]  # of scaled L*, a*, b*
_UNEDITED = 1e-3  # confidence of an edit of which nothing is right
_EDGE = 4  # pixels around the matte whose certainty counts
_BLUR = 1.3  # weight of the logarithm of sharpness
_TOLERATED = 1.4  # uncertainty at which the confidence is 1/e
_SOFTEST = 0.1  # sharpness that is added: below it, it is noise

Histogram = NDArray[np.float32]  # (_BINS, _BINS, _BINS), of sum 1


@dataclass(frozen=True)
class Trail:
    """How an edit came from its keyframe to a frame.

    offset: (h, w, 2), the chained flow from the frame's pixels to the keyframe. agreement: 0..1, the product over the
    frames in between of how far the matte agreed with the one that motion alone would give (Dice coefficient ^ ¼).
    corrected: how much of the matte differs from that in the frame itself, over the matte's area."""

    offset: Field
    agreement: float
    corrected: float = 0.0


@dataclass(frozen=True)
class Measures:
    """Of an edit in a frame, each 0..1 if not said otherwise.

    uncertain: 0 and more, the area in and beside the matte whose motion is not certain, over the matte's. sharp: 0 and
    more, the detail in the matte over that in the keyframe's. agreement, corrected (0 and more): as of its `Trail`.
    covered: share of the keyframe's region, moved along the trail, that lies in the matte. alike, surrounded: likeness
    of the colours in the matte and of those around it to the keyframe's (Bhattacharyya coefficient). seen: the matte's
    area over the keyframe's; grown: over that of the keyframe's region, moved along the trail. registered: the mean
    confidence of the registration in the matte; None of an edit without one."""

    uncertain: float
    sharp: float
    agreement: float
    corrected: float
    covered: float
    alike: float
    surrounded: float
    seen: float
    grown: float
    registered: float | None

    @property
    def confidence(self) -> float:
        """0..1."""
        tracked = self._certain * (self.agreement * self._reached) ** 0.5 * np.exp(-self.corrected)
        looks = self.alike**0.5 * self.surrounded
        product = tracked * looks
        if self.registered is not None:
            product = self.registered**2 * product**0.25
        return float(np.clip(product * (_HIDDEN if self.seen < _OUT_OF_SIGHT else 1), _UNEDITED, 1))

    @property
    def _certain(self) -> float:
        blurred = max(0.0, -math.log(self.sharp + _SOFTEST))
        return math.exp(-(((self.uncertain + _BLUR * blurred) / _TOLERATED) ** 2))

    @property
    def _reached(self) -> float:
        return 0.3 + 0.7 * self.covered

    @property
    def reason(self) -> Reason:
        """What lowers the confidence most."""
        if self.seen < _OUT_OF_SIGHT:
            return Reason.OUT_OF_SIGHT
        causes = (
            (self._certain if self.registered is None else self.registered, Reason.UNCERTAIN),
            (self.agreement**0.5 * self._reached, Reason.LOST if self.grown < 1 else Reason.SPREAD),
            (self.alike, Reason.CHANGED),
            (self.surrounded, Reason.DRIFTED),
        )
        return min(causes, key=lambda cause: cause[0])[1]


class ConfidenceMeter:
    """Measures the edit of one keyframe. key: its plate; region: (h, w) 0..1, where it is painted."""

    def __init__(self, key: AnalysisFrame, region: Plane) -> None:
        self._region = region
        self._area = max(1.0, float(region.sum()))
        self._key = key

    @functools.cached_property
    def _looks(self) -> tuple[Histogram, Histogram]:
        """Of the colours in the region and of those around it."""
        return _histograms(self._key.lab, self._region)

    @functools.cached_property
    def _detail(self) -> float:
        return max(1e-3, _detail(self._key, self._region))

    def start(self) -> Trail:
        """The trail of the keyframe itself."""
        return Trail(np.zeros((*self._region.shape, 2), np.float32), 1.0)

    def advance(self, trail: Trail, backward: Field, matte: Plane, prior: Plane) -> Trail:
        """The trail of the next frame. backward: flow from it to the frame of `trail`; prior: that one's matte moved by
        motion alone; matte: what it was corrected to."""
        both = float(matte.sum() + prior.sum())
        dice = 2 * float(np.minimum(matte, prior).sum()) / both if both > 1 else 1.0
        corrected = float(cv2.absdiff(matte, prior).sum()) / max(1.0, float(matte.sum()))
        return Trail(backward + warp(trail.offset, backward), trail.agreement * dice**0.25, corrected)

    def corrected(self, trail: Trail, outside: NDArray[np.bool_]) -> Trail:
        """The trail of a frame whose matte the artist corrected: it agrees with that, and what is drawn as `outside`
        (h, w) comes from where the keyframe is not painted."""
        y, x = np.unravel_index(int(self._region.argmin()), self._region.shape)
        elsewhere = np.array([x, y], np.float32) - np.dstack(np.meshgrid(*map(np.arange, self._region.shape[::-1])))
        return Trail(np.where(outside[..., None], elsewhere.astype(np.float32), trail.offset), 1.0)

    def measure(self, trail: Trail, frame: AnalysisFrame, found: Evidence, surface: Plane | None = None) -> Measures:
        """frame: the plate; found: the edit's matte in it; surface: (h, w) 0..1, the confidence of its registration to
        the keyframe, if it has one."""
        matte = found.matte
        moved = warp(self._region, trail.offset)
        area, reached = max(1.0, float(matte.sum())), max(1.0, float(moved.sum()))
        near = cv2.dilate((matte > 0.1).astype(np.uint8), disc(_EDGE))
        inside, around = _histograms(frame.lab, matte)
        return Measures(
            uncertain=float((near * (1 - found.confidence)).sum()) / area,
            sharp=_detail(frame, matte) / self._detail if matte.any() else 1.0,
            agreement=trail.agreement,
            corrected=trail.corrected,
            covered=float(np.minimum(moved, matte).sum()) / reached,
            alike=_likeness(inside, self._looks[0]),
            surrounded=_likeness(around, self._looks[1]),
            seen=float(matte.sum()) / self._area,
            grown=area / reached,
            registered=None if surface is None else float((surface * matte).sum()) / area,
        )


def _detail(frame: AnalysisFrame, matte: Plane) -> float:
    """The mean strength of a frame's finest detail in a matte: of the Laplacian at the analysis size."""
    strength = cv2.convertScaleAbs(cv2.Laplacian(frame.sharp_grey, cv2.CV_16S))
    return float((halved(strength) * matte).sum()) / max(1.0, float(matte.sum()))


def _histograms(lab: Lab, matte: Plane) -> tuple[Histogram, Histogram]:
    """Of the colours in a matte, and of those around it."""
    inside = (matte > 0.5).astype(np.uint8)
    around = cv2.dilate((matte > 0.1).astype(np.uint8), disc(_SURROUNDINGS)) - (matte > 0.1)
    return _histogram(lab, inside), _histogram(lab, around)


def _histogram(lab: Lab, where: NDArray[np.uint8]) -> Histogram:
    counts = cv2.calcHist([lab], [0, 1, 2], where, [_BINS] * 3, _RANGES).astype(np.float32)
    for axis in range(3):  # (1 2 1)/4 along each axis: a colour near a bin's edge counts in both
        smooth = 2 * counts
        bins, before = np.moveaxis(smooth, axis, 0), np.moveaxis(counts, axis, 0)
        bins[1:] += before[:-1]
        bins[:-1] += before[1:]
        counts = smooth / 4
    return np.asarray(counts / max(1e-6, float(counts.sum())), np.float32)


def _likeness(first: Histogram, second: Histogram) -> float:
    """The Bhattacharyya coefficient of two histograms: 1 for equal ones, 0 for such without a colour in common; 1 where
    one of them is empty."""
    if not first.any() or not second.any():
        return 1.0
    return float(np.minimum(np.sqrt(first * second).sum(), 1))
