"""What an artist's correction of a frame does to the edit that was propagated there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import shrink
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.unpainted import remaining
from paintover_engine.media.correction import Correction, corrected
from paintover_engine.media.keyframe_kind import KeyframeKind

_PLAIN = 0.9  # of a drawn matte, from which it says that a pixel is white
_CLEAR = 0.1  # up to which it is black


@dataclass(frozen=True)
class DrawnMatte:
    """A correction at the flow's size. kind: HOLDOUT or ROTO; matte: (h, w) 0..1."""

    kind: KeyframeKind
    matte: Plane

    @staticmethod
    def of(correction: Correction, size: tuple[int, int]) -> DrawnMatte:
        """size: (width, height) of the flow."""
        return DrawnMatte(correction.kind, np.clip(shrink(correction.matte, size), 0, 1))

    def evidence(self, found: Evidence) -> Evidence:
        """What was found, corrected, and certain where the correction says anything."""
        if self.kind is KeyframeKind.ROTO:
            other = remaining(found.unpainted, self.matte)
            return Evidence(self.matte, np.ones_like(self.matte), other)
        matte = corrected(self.kind, self.matte, found.matte)
        return replace(found, matte=matte, confidence=np.maximum(found.confidence, self.matte))

    def overruled(self, on_key: Plane) -> Plane:
        """(h, w) 0..1: where the matte that the keyframe has on the registered surface, `on_key`, is wrong."""
        return np.abs(on_key - self.matte) if self.kind is KeyframeKind.ROTO else self.matte

    @property
    def outside(self) -> NDArray[np.bool_]:
        """(h, w): the pixels that the correction says are outside."""
        return self.matte < _CLEAR if self.kind is KeyframeKind.ROTO else self.matte > _PLAIN
