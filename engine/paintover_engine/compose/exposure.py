"""Exposure changes between frames: a gain and a lift of each channel, estimated and undone.

A flash, a strobe, a light that is switched or dimmed, a fade and an iris change the brightness of the whole picture.
Flow, colours and cuts are then judged on pictures of one exposure.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, endpoints

Display = NDArray[np.uint8]  # (h, w, 3), display-encoded

PLAIN = 12 / 255
"""Strength of an exposure from which it is plainly seen."""

_CLIPPED = (3, 252)  # levels beyond which a sample may be clipped
_LEAST_SAMPLES = 24  # fewer that are not clipped determine nothing
_LEAST_SHARE = 0.02  # likewise, of all
_QUANTILES = np.linspace(0.005, 0.995, 199)
_LEVELS = np.array([48.0, 128.0, 208.0])  # at which the strength of an exposure is measured
_WEAK, _SEEN = 3 / 255, 6 / 255  # strengths of an exposure that makes no difference, and of one that does
_PITCH = 6  # aligned pictures are sampled every so many pixels
_SMOOTH = (5, 5)  # pixels over which aligned pictures are averaged: interpolation softens one of them alone
_TILES = (8, 6)
_SLIGHT = 1.5 / 255  # strength of a change from one frame to the next below which it is none
_UNEXPLAINED = ((1.5 / 255, 3 / 255, 6 / 255), (0.45, 0.65, 0.75))  # by strength: the share a change may leave
_AS_GOOD = 1.1  # share of the error that a simpler exposure may leave
_LIFTED = 2  # channels that a lift must explain better: of one alone it is noise
_STEP = 0.2  # of a level: likewise, at least
_ROUNDS = 5
_FLAT = 1.0  # variance in squared levels that makes a channel without contrast keep its own
_LARGEST_GAIN = 12.0


@dataclass(frozen=True)
class Exposure:
    """What makes one picture's exposure another's: gain · picture + lift, clipped.

    gain, lift: (3,) float32, one a channel; lift in display values, 1 = white."""

    gain: NDArray[np.float32]
    lift: NDArray[np.float32]

    @staticmethod
    def unpacked(packed: NDArray[np.float32]) -> Exposure:
        """The one that `packed` packed; `NO_CHANGE` where that changes nothing."""
        changes = (packed[0] != 1).any() or packed[1].any()
        return Exposure(packed[0], packed[1]) if changes else NO_CHANGE

    def packed(self) -> NDArray[np.float32]:
        """(2, 3): gain and lift."""
        return np.stack([self.gain, self.lift])

    def significant(self) -> Exposure:
        """Itself where it makes a difference, and less of it the weaker it is: every shot's light changes a little."""
        share = np.float32(np.clip((self.strength - _WEAK) / (_SEEN - _WEAK), 0, 1))
        if share == 0:
            return NO_CHANGE
        gain = np.asarray(1 + share * (self.gain - 1), np.float32)
        return Exposure(gain, np.asarray(share * self.lift, np.float32))

    def then(self, other: Exposure) -> Exposure:
        """This change followed by another."""
        return Exposure(self.gain * other.gain, self.lift * other.gain + other.lift)

    def inverse(self) -> Exposure:
        if self is NO_CHANGE:
            return self
        return Exposure(np.asarray(1 / self.gain, np.float32), -self.lift / self.gain)

    def distance(self, other: Exposure) -> float:
        """The strength of what makes this exposure another."""
        return self.inverse().then(other).strength

    @functools.cached_property
    def strength(self) -> float:
        """How much it changes dark, middle and bright colours, as the largest mean over a channel; 1 = white."""
        levels = _LEVELS[:, None] / 255
        return float(np.abs(self.gain * levels + self.lift - levels).mean(0).max())

    def __call__(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """A picture (h, w, 3), 1 = white, exposed so; not clipped."""
        matrix = np.concatenate([np.diag(self.gain), self.lift[:, None]], axis=1)
        return np.asarray(cv2.transform(picture, matrix))

    def of_display(self, picture: Display) -> Display:
        """A picture (h, w, 3) uint8 exposed so, and clipped."""
        levels = np.arange(256, dtype=np.float32)[:, None] * self.gain + 255 * self.lift
        table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(picture, table[None]))


NO_CHANGE = Exposure(np.ones(3, np.float32), np.zeros(3, np.float32))


def of_histograms(first: Display, second: Display) -> Exposure | None:
    """The exposure change from one picture to another of about the same scene, by their quantiles, wherever things have
    moved. None where too little of either is not clipped."""
    here, there = (
        [cv2.calcHist([picture], [c], None, [256], [0, 256]).ravel().cumsum() for c in range(3)]
        for picture in (first, second)
    )
    found = _fitted(_quantiles(here, [(0, 1)] * 3), _quantiles(there, [(0, 1)] * 3), None)
    if found is not None:
        return found
    shown = [_shown(*counts) for counts in zip(here, there, strict=True)]
    if min(high - low for low, high in shown) < _LEAST_SHARE:
        return None
    return _fitted(_quantiles(here, shown), _quantiles(there, shown), None)


def _quantiles(counts: Sequence[NDArray[np.float32]], between: Sequence[tuple[float, float]]) -> NDArray[np.float32]:
    """(n, 3): the levels of equally many quantiles of each channel, of cumulative counts (256,), between two shares."""
    levels = [
        np.searchsorted(each, (low + _QUANTILES * (high - low)) * each[-1])
        for each, (low, high) in zip(counts, between, strict=True)
    ]
    return np.stack(levels, -1).astype(np.float32)


def _shown(here: NDArray[np.float32], there: NDArray[np.float32]) -> tuple[float, float]:
    """The shares between which the quantiles of two cumulative counts (256,) are not clipped."""
    low, high = _CLIPPED
    ends = [(counts[low] / counts[-1], counts[high - 1] / counts[-1]) for counts in (here, there)]
    return float(max(end[0] for end in ends)), float(min(end[1] for end in ends))


def of_aligned(first: Display, second: Display, flow: Field, about: Exposure | None) -> Exposure:
    """The exposure change from one picture to another; `NO_CHANGE` where there is none that holds in the whole picture.

    flow: first -> second. about: roughly that change, where it is known."""
    points = np.ascontiguousarray(endpoints(flow)[::_PITCH, ::_PITCH])
    first, second = _smoothed(first), _smoothed(second)
    here = first[::_PITCH, ::_PITCH].astype(np.float32)
    there = cv2.remap(second, points, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    found = _fitted(here.reshape(-1, 3), there.reshape(-1, 3), about) or about
    if found is None or found.strength < _SLIGHT:
        return NO_CHANGE
    allowed = np.interp(found.strength, *_UNEXPLAINED)
    return found if _left_by(found, here, there) < allowed else NO_CHANGE


def _smoothed(picture: Display) -> Display:
    """The picture averaged over `_SMOOTH`; white where a sample of those is clipped."""
    window = np.ones(_SMOOTH, np.uint8)
    clipped = (cv2.dilate(picture, window) >= _CLIPPED[1]) | (cv2.erode(picture, window) <= _CLIPPED[0])
    return np.where(clipped, np.uint8(255), cv2.blur(picture, _SMOOTH))


def _left_by(exposure: Exposure, here: NDArray[np.float32], there: NDArray[np.float32]) -> float:
    """The share of the difference between two aligned pictures (h, w, 3), in 8-bit levels, that an exposure does not
    explain, on the mean of tiles: what a moving object or a shadow changes is not the light of the whole picture."""
    valid = (_unclipped(here) & _unclipped(there)).astype(np.float32)
    tiles = (min(_TILES[0], here.shape[1]), min(_TILES[1], here.shape[0]))
    expected = exposure(np.asarray(here / np.float32(255))) * np.float32(255)
    differences = ((there - here) * valid, (there - expected) * valid)
    before, after = (cv2.resize(each, tiles, interpolation=cv2.INTER_AREA) for each in differences)
    return float(np.abs(after).sum()) / max(1e-3, float(np.abs(before).sum()))


def _fitted(first: NDArray[np.float32], second: NDArray[np.float32], about: Exposure | None) -> Exposure | None:
    """The line through samples (n, 3) of two pictures in 8-bit levels. Of several that are as good the simplest: one
    gain for all channels, one for each, and a lift where several channels have one; what a line need not explain would
    be noise, and chains of lines add that up.

    about: roughly that line, by which it is told what is clipped."""
    samples = []
    for channel in range(3):
        x, y = first[:, channel], second[:, channel]
        expected = y if about is None else about.gain[channel] * x + 255 * about.lift[channel]
        valid = _unclipped(x) & _unclipped(expected) & (y > 0) & (y < 255)
        if valid.sum() < max(_LEAST_SAMPLES, _LEAST_SHARE * len(x)):
            return None
        samples.append((x[valid], y[valid]))
    lines = [_line(x, y) for x, y in samples]
    ratios = [(gain, 0.0, error) for gain, error in (_ratio(x, y) for x, y in samples)]
    worse = [ratio[-1] >= _AS_GOOD * line[-1] for line, ratio in zip(lines, ratios, strict=True)]
    lifted = sum(worse) >= _LIFTED
    chosen = [line if lifted and bad else ratio for line, ratio, bad in zip(lines, ratios, worse, strict=True)]
    gains, lifts, errors = (np.array(each, np.float32) for each in zip(*chosen, strict=True))
    lifts = lifts / np.float32(255)
    common = np.float32(gains.mean())
    if not lifts.any() and all(
        _median(np.abs(y - common * x)) < _AS_GOOD * error + _STEP
        for (x, y), error in zip(samples, errors, strict=True)
    ):
        gains[:] = common
    if gains.min() < 1 / _LARGEST_GAIN or gains.max() > _LARGEST_GAIN:
        return None
    return Exposure(gains, lifts)


def _line(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, float, float]:
    """Gain and lift of the reduced major axis of samples, which noise in either does not flatten, with Cauchy's
    weights; and the median error that it leaves."""
    weight, gain, lift, error = np.ones(len(x), np.float32), 1.0, 0.0, 0.0
    for _ in range(_ROUNDS):
        total = weight.sum()
        mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
        spread_x, spread_y = (
            np.sqrt((weight * (each - mean) ** 2).sum() / total + _FLAT) for each, mean in ((x, mean_x), (y, mean_y))
        )
        gain = float(spread_y / spread_x)
        lift = float(mean_y - gain * mean_x)
        weight, error = _cauchy(np.abs(y - lift - gain * x))
    return gain, lift, error


def _ratio(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, float]:
    """The same without a lift: the gain and its error."""
    weight, gain, error = np.ones(len(x), np.float32), 1.0, 0.0
    for _ in range(_ROUNDS):
        gain = float(np.sqrt((weight * y * y).sum() / (weight * x * x).sum()))
        weight, error = _cauchy(np.abs(y - gain * x))
    return gain, error


def _cauchy(residual: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Cauchy's weights of residuals, and their median."""
    error = _median(residual)
    return np.asarray(1 / (1 + (residual / max(1.0, 2.4 * error)) ** 2), np.float32), error


def _median(values: NDArray[np.float32]) -> float:
    """The median of values (n,): `numpy.median`'s own checks take longer than so few of them."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    low, high = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return float((low + high) / 2)


def _unclipped(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (levels > _CLIPPED[0]) & (levels < _CLIPPED[1])
