"""Figures that compare a propagated shot with its known truth, frame by frame.

Errors are in 8-bit levels, signal-to-noise ratios in dB of a peak of 255. A truth differs from its plate where the edit
is: those pixels are the inside, those farther than `FAR` pixels from any of them the outside.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

BEST = 99.0  # dB of an error too small to tell
BAND = 3  # half the width of the band around the edit's border
FAR = 15  # pixels from the edit from which on nothing may change

_SCALE = 2.0  # pixels; standard deviation of the blur before gradients, which hides grain
_FINEST = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
"""Immerkaer: Fast noise variance estimation (CVIU 1996)."""


@dataclass(frozen=True)
class Scores:
    """Means over the frames in which the edit is seen, keyframes left out; None where a figure has no meaning.

    psnr_in: inside the edit, dB. gain_in: the same, less that of giving back the plate. psnr_edge: in a band around the
    edit's border, dB. exact_out: share of the outside that is the plate, bit for bit, 0..1. psnr_out: dB outside.
    flicker: mean absolute change of the error from frame to frame inside the edit, in levels. missed: share of the edit
    that stayed the plate, 0..1. leak: share of the changed pixels that lie more than `BAND` pixels outside the edit.
    sharp: gradient inside the edit, as a ratio to the truth's: more than 1 where paint is sharper than its frame.
    grain: the same of the finest detail away from the edit's border: less than 1 where paint is cleaner than its frame.
    """

    psnr_in: float | None
    gain_in: float | None
    psnr_edge: float | None
    exact_out: float | None
    psnr_out: float | None
    flicker: float | None
    missed: float | None
    leak: float | None
    sharp: float | None
    grain: float | None


class Scorer:
    """Takes a shot's frames in order, holds two of them at most, and says how they compare.

    keyframes: numbers of the frames that were given, which earn nothing.
    """

    def __init__(self, keyframes: Collection[int]) -> None:
        self._keyframes = keyframes
        self._inside: list[float] = []
        self._unedited: list[float] = []
        self._edge: list[float] = []
        self._exact: list[float] = []
        self._outside: list[float] = []
        self._flicker: list[float] = []
        self._missed: list[float] = []
        self._leak: list[float] = []
        self._sharp: list[float] = []
        self._grain: list[float] = []
        self._before: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None

    def add(self, number: int, plate: Frame, truth: Frame, result: Frame) -> None:
        """One frame: (H, W, 3) uint8 each. Raises ValueError if their shapes differ."""
        if not plate.shape == truth.shape == result.shape:
            raise ValueError(f"frame {number}: shapes {plate.shape}, {truth.shape} and {result.shape} differ")
        edit = (truth != plate).any(-1)
        error = result.astype(np.float32) - truth
        if self._before is not None:
            both = edit & self._before[1]
            if both.any():
                self._flicker.append(float(np.abs(error - self._before[0])[both].mean()))
        self._before = (error, edit)
        if number in self._keyframes:
            return
        changed = (result != plate).any(-1)
        if changed.any():
            self._leak.append(float((changed & ~_grown(edit, BAND)).sum() / changed.sum()))
        if edit.any():
            self._missed.append(float((edit & ~changed).sum() / edit.sum()))
            self._inside.append(_psnr(error[edit]))
            self._unedited.append(_psnr(plate[edit].astype(np.float32) - truth[edit]))
            self._edge.append(_psnr(error[_border(edit)]))
            pictures = [cv2.cvtColor(each.astype(np.float32), cv2.COLOR_RGB2GRAY) for each in (result, truth)]
            self._sharp.append(_ratio([_gradient(each)[edit] for each in pictures]))
            if (inner := cv2.erode(edit.astype(np.uint8), _disc(BAND)) > 0).any():
                self._grain.append(_ratio([cv2.filter2D(each, cv2.CV_32F, _FINEST)[inner] for each in pictures]))
        outside = ~_grown(edit, FAR)
        if outside.any():
            self._exact.append(float((result == plate).all(-1)[outside].mean()))
            self._outside.append(_psnr(error[outside]))

    def scores(self) -> Scores:
        """The means of what was added."""
        inside, unedited = _mean(self._inside), _mean(self._unedited)
        gain = None if inside is None or unedited is None else inside - unedited
        edge, exact, outside = _mean(self._edge), _mean(self._exact), _mean(self._outside)
        flicker, missed, leak = _mean(self._flicker), _mean(self._missed), _mean(self._leak)
        texture = _mean(self._sharp), _mean(self._grain)
        return Scores(inside, gain, edge, exact, outside, flicker, missed, leak, *texture)


def _psnr(error: NDArray[np.float32]) -> float:
    mean_square = float(np.square(error, dtype=np.float64).mean()) if error.size else 0.0
    return min(BEST, 10 * float(np.log10(255.0**2 / max(mean_square, 1e-9))))


def _gradient(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) magnitude of a picture's gradient, without grain."""
    smooth = cv2.GaussianBlur(grey, (0, 0), _SCALE)
    return np.asarray(np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)), np.float32)


def _ratio(pair: Sequence[NDArray[np.float32]]) -> float:
    """The ratio of the standard deviation, about 0, of what a result shows to what the truth does."""
    result, truth = (float(np.sqrt(np.square(each, dtype=np.float64).mean())) for each in pair)
    return result / max(truth, 1e-6)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _grown(edit: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    return np.asarray(cv2.dilate(edit.astype(np.uint8), _disc(radius)) > 0)


def _border(edit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(_grown(edit, BAND) & (cv2.erode(edit.astype(np.uint8), _disc(BAND)) == 0))


def _disc(radius: int) -> NDArray[np.uint8]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
