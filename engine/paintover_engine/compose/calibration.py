"""What one keyframe's painting says of how well another's edit was propagated to it.

A confidence ranks the frames that one keyframe's edit was propagated to; it does not compare two keyframes. But each
keyframe shows the true edit on its own frame, so that what was propagated there from the other has a known error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paintover_engine.compose.matte import Plane

_LEAST = 0.02  # share of an edit that is right, where little is
_NEAR = 1.5  # exponent of the distance
_ROUNDING = 0.05  # share that is wrong beside a keyframe, too
_EXPECTED = 0.5  # error where another keyframe is reached, on the mean
_MISSED = 0.1  # overlap below which an edit has partly missed the true one
_UNSURE = 0.5  # confidence from which on an error is measured


@dataclass(frozen=True)
class Calibration:
    """How well an edit agreed, in one frame, with the true one.

    overlap: 0..1, intersection over union of the two mattes; precision: 0..1, share of its own that lies in the true
    one; confidence: 0..1, of the edit there."""

    overlap: float
    precision: float
    confidence: float

    @staticmethod
    def of(matte: Plane, truth: Plane, confidence: float) -> Calibration:
        """matte, truth: (h, w) 0..1, as propagated and as it should be."""
        both, either, own = (
            float(plane.sum()) for plane in (np.minimum(matte, truth), np.maximum(matte, truth), matte)
        )
        return Calibration(both / either if either else 1.0, both / own if own else 1.0, confidence)

    @staticmethod
    def along(frames: Sequence[Calibration]) -> Calibration:
        """frames: those next to the other keyframe, the nearest first. An edit that misses what is painted there has
        been lost on the way: what its confidence falls to at last (it leaves the picture, say) tells nothing of where,
        so that its error counts for the surest of the frames."""
        nearest, surest = frames[0], max(each.confidence for each in frames)
        missed = max(0.0, 1 - nearest.overlap / _MISSED)
        confidence = nearest.confidence * (surest / max(nearest.confidence, 1e-9)) ** missed
        return Calibration(nearest.overlap, nearest.precision, confidence)

    def weight(self, confidence: float) -> float:
        """How much the edit counts in a frame where its confidence is given; 0 where that shows another scene.

        Confidences are products along the way, so that an edit's error grows as their logarithm does: from 0 on the
        keyframe to what it is in the frame that is known, which counts half, because an edit may be lost in that frame
        alone. The weight is the odds of being right."""
        if confidence <= 0:
            return 0.0
        error = self._way(confidence) * (1 - self.overlap + _EXPECTED) / 2
        right = min(1.0, max(_LEAST, 1 - error))
        return right / (1 - right + _ROUNDING)

    def spill(self, confidence: float) -> float:
        """0..1: the share of what the edit paints in a frame that is likely wrong."""
        return min(1.0, self._way(confidence)) * (1 - self.precision) if confidence > 0 else 1.0

    def _way(self, confidence: float) -> float:
        """How far a frame's error has come to that in the frame that is known: from 0 on the keyframe to 1."""
        return math.log(min(confidence, 0.999)) / math.log(min(self.confidence, _UNSURE) + 1e-9)


def colour_weight(weight: float, distance: int) -> float:
    """How much an edit's colours count beside another's. weight: `Calibration.weight`; distance: to its keyframe, in
    frames, which says more of which of two edits is right than their confidences do."""
    return float(math.sqrt(weight) / distance**_NEAR)
