"""A frame of the plate reduced to the sizes that motion and mattes are computed at."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.exposure import NO_CHANGE, Exposure
from paintover_engine.compose.flow import halved

Display = NDArray[np.uint8]
"""(h, w, 3) display-encoded RGB."""
Lab = NDArray[np.float32]
"""(h, w, 3) CIE L*a*b* as `cielab` gives it."""


class AnalysisFrame:
    """sharp: (2h, 2w, 3) uint8, the frame at the analysis size; display: (h, w, 3) uint8, at the flow's size (half of
    it). Grey pictures (uint8) and L*a*b* (h, w, 3) are computed on first use."""

    def __init__(self, sharp: Display) -> None:
        self.sharp = sharp
        self.display: Display = halved(sharp)

    @functools.cached_property
    def grey(self) -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(self.display, cv2.COLOR_RGB2GRAY))

    @functools.cached_property
    def sharp_grey(self) -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(self.sharp, cv2.COLOR_RGB2GRAY))

    @functools.cached_property
    def lab(self) -> Lab:
        return cielab(self.display)

    def exposed(self, exposure: Exposure) -> AnalysisFrame:
        """The frame at another exposure; itself where it changes nothing."""
        return self if exposure is NO_CHANGE else AnalysisFrame(exposure.of_display(self.sharp))

    def prepared(self) -> AnalysisFrame:
        """Itself, with `sharp_grey` and `lab` computed."""
        _ = self.sharp_grey, self.lab
        return self


def cielab(picture: Display) -> Lab:
    """(h, w, 3) uint8 sRGB to CIE L*a*b*, scaled: L* / 50, a* / 40, b* / 40."""
    lab = cv2.cvtColor(picture.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
    lab *= np.array([1 / 50, 1 / 40, 1 / 40], np.float32)
    return np.asarray(lab)
