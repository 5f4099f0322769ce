"""What one keyframe's painting says of how well another's edit was propagated to it.

A confidence ranks the frames that one keyframe's edit was propagated to; it does not compare two keyframes. But each
keyframe shows the true edit on its own frame, so that what was propagated there from the other has a known error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paintover_engine.compose.matte import Plane

_LEAST = 0.02  # quality of an edit of which little is right
_STEEPNESS = 3.0  # exponent of the weights' odds
_ROUNDING = 0.05  # of quality, that keyframes themselves may be wrong by


@dataclass(frozen=True)
class Calibration:
    """How well an edit agreed, in one frame, with the true one.

    overlap: 0..1, intersection over union of the two mattes; confidence: 0..1, of the edit there."""

    overlap: float
    confidence: float

    @staticmethod
    def of(matte: Plane, truth: Plane, confidence: float) -> Calibration:
        """matte, truth: (h, w) 0..1, as propagated and as it should be."""
        union = float(np.maximum(matte, truth).sum())
        return Calibration(float(np.minimum(matte, truth).sum()) / union if union else 1.0, confidence)

    def weight(self, confidence: float) -> float:
        """How much the edit counts in a frame where its confidence is given; 0 where that shows another scene.

        Its quality, 1 on the keyframe, falls as its confidence does, to `overlap` in the frame that is known; the
        weight is the quality's odds cubed."""
        if confidence <= 0:
            return 0.0
        error = (1 - self.overlap) * (1 - confidence) / max(1e-3, 1 - self.confidence)
        quality = float(np.clip(1 - error, _LEAST, 1))
        return float((quality / (1 - quality + _ROUNDING)) ** _STEEPNESS)
