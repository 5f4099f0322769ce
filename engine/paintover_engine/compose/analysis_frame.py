"""A frame of the plate reduced to the sizes that motion and mattes are computed at."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.exposure import NO_CHANGE, Exposure
from paintover_engine.compose.flow import halved
from paintover_engine.compose.planes import summed

Display = NDArray[np.uint8]
"""(h, w, 3) display-encoded RGB."""
Grey = NDArray[np.uint8]
"""(h, w), the grey of the same."""
Lab = NDArray[np.float32]
"""(h, w, 3) CIE L*a*b* as `cielab` gives it."""


class AnalysisFrame:
    """A frame at the analysis size. Its pictures are computed on first use: not by `functools.cached_property`, which
    in Python 3.11 and earlier lets one thread at a time compute such a property of any frame.

    sharp: (2h, 2w, 3) uint8, or what reads it when it is needed."""

    def __init__(self, sharp: Display | Callable[[], Display]) -> None:
        self._read = sharp if callable(sharp) else None
        self._sharp = None if callable(sharp) else sharp
        self._display: Display | None = None
        self._grey: Grey | None = None
        self._sharp_grey: Grey | None = None
        self._lab: Lab | None = None
        self._smooth_lab: Lab | None = None

    @property
    def sharp(self) -> Display:
        """(2h, 2w, 3)."""
        if self._sharp is None:
            assert self._read
            self._sharp = self._read()
        return self._sharp

    @property
    def display(self) -> Display:
        """(h, w, 3): at the flow's size, which is half of it."""
        if self._display is None:
            self._display = halved(self.sharp)
        return self._display

    @property
    def grey(self) -> Grey:
        """(h, w)."""
        if self._grey is None:
            self._grey = np.asarray(cv2.cvtColor(self.display, cv2.COLOR_RGB2GRAY))
        return self._grey

    @property
    def sharp_grey(self) -> Grey:
        """(2h, 2w)."""
        if self._sharp_grey is None:
            self._sharp_grey = np.asarray(cv2.cvtColor(self.sharp, cv2.COLOR_RGB2GRAY))
        return self._sharp_grey

    @property
    def lab(self) -> Lab:
        """(h, w, 3)."""
        if self._lab is None:
            self._lab = cielab(self.display)
        return self._lab

    @property
    def smooth_lab(self) -> Lab:
        """(h, w, 3): `lab` without its finest grain."""
        if self._smooth_lab is None:
            self._smooth_lab = np.asarray(cv2.blur(self.lab, (3, 3)), np.float32)
        return self._smooth_lab

    def exposed(self, exposure: Exposure) -> AnalysisFrame:
        """The frame at another exposure; itself where it changes nothing."""
        return self if exposure is NO_CHANGE else AnalysisFrame(lambda: exposure.of_display(self.sharp))


def cielab(picture: Display) -> Lab:
    """(h, w, 3) uint8 sRGB to CIE L*a*b*, scaled: L* / 50, a* / 40, b* / 40."""
    lab = cv2.cvtColor(picture.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
    lab *= np.array([1 / 50, 1 / 40, 1 / 40], np.float32)
    return np.asarray(lab)


def distances(first: Lab, second: Lab) -> NDArray[np.float32]:
    """(h, w): how far the colours of two pictures are apart."""
    squares = first - second
    squares *= squares
    return np.asarray(np.sqrt(summed(squares)))
