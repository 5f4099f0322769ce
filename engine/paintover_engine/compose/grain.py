"""The grain that a frame has and the paint in it has not.

How strong grain is at each brightness is the lower envelope of how much the finest detail varies (Liu, Szeliski, Kang,
Zitnick, Freeman: Automatic estimation and removal of noise from a single image, PAMI 2008, section 4). What paint lacks
of it is added: the frame's own grain from under the paint, and where the plate has texture there, grain of the same
strength and softness.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.matte import Plane

Picture = NDArray[np.float32]  # (h, w, 3)
Levels = NDArray[np.float32]  # (_BINS, 3): a variance at each brightness, of each channel

_FINE = 1.5  # standard deviation, in pixels, of the blur that is finer than texture and coarser than grain
_FINE_WINDOW = (9, 9)
_WINDOW = (7, 7)
_ALIKE = (11, 11)  # over which the detail of two frames is compared
_PITCH = 3  # pixels between the windows that are looked at
_BINS = 6  # of brightness
_TILE = 256  # side in pixels of the random grain, which is repeated
_SAMPLES = 50_000  # pixels by which random grain is made like a frame's
_ENOUGH = 60  # windows from which on a brightness counts
_ENVELOPE = 0.2  # share of the windows that show grain alone
_LOW = 0.83  # the variance at that share of windows with nothing but grain, as a share of their mean
_NEAR = (25, 25)  # pixels; the cleanest window in them tells whether paint has grain: the others may have detail
_LEAST = 0.65  # as `_LOW`, of the one that varies least
_CHANCE = 0.15  # what is missing by chance
_CLIPPED = (0.02, 0.97)  # brightness beyond which a sample may be clipped
_SEEN = 0.6 / 255  # standard deviation from which on grain is seen
_UNEVEN = 6.0  # ratio of grain's variance at a brightness to the median at which it is texture
_STRONGEST = 0.06  # the same of the strongest grain there is; more is texture
_WHITE = -0.08  # correlation of neighbours in the finest detail of noise that is white
_ALL = 0.99  # share of the picture that is plain, from which on none is drawn at random
_THIRDS = np.full((1, 3), 1 / 3, np.float32)
_TEXTURE = (1.6, 3.0)  # ratio of the variance to the grain's up to which the plate shows grain alone, and none


@dataclass(frozen=True)
class Grain:
    """A frame's grain. unit: (h, w, 3), with variance 1; levels: its variance."""

    unit: Picture
    levels: Levels

    def onto(self, paint: Picture, transmission: Plane, where: NDArray[np.bool_]) -> Picture:
        """Paint (h, w, 3) with the grain that it lacks.

        transmission: (h, w) 0..1, how much of the plate, and so of its grain, is in the paint already; where: (h, w),
        the pixels that it covers."""
        if not where.any():
            return paint
        wanted = _looked_up(self.levels, _brightness(paint))
        through = transmission[..., None]
        frozen = _mean(_variance(_fine(paint))) / _mean(wanted) - transmission**2  # the keyframe's, or the brush's
        cleanest = cv2.erode(np.where(where, np.minimum(frozen, 2), np.float32(2)), np.ones(_NEAR, np.uint8))
        missing = 1 - cv2.blur(cleanest, _NEAR) / np.float32(_LEAST)
        share = np.maximum(np.sqrt(np.clip((missing - _CHANCE) / (1 - _CHANCE), 0, 1))[..., None] - through, 0)
        return np.asarray(paint + share * np.sqrt(wanted) * self.unit, np.float32)


def grain_of(frame: Picture, key: Picture, same: NDArray[np.bool_], number: int) -> Grain | None:
    """The grain of a part of a frame; None where there is none to be seen.

    frame: (h, w, 3); key: the keyframe's plate, moved onto it; same: (h, w), where the two show the same surface: what
    both have there is texture. number: of the frame; grain that is drawn at random is the same for the same number."""
    fine, brightness = _fine(frame), _brightness(frame)
    variance = _variance(fine)
    levels = _levels(variance, brightness, np.ones(brightness.shape, np.bool_))
    if levels is None or float(levels.mean(-1).max()) < _SEEN**2:
        return None
    before = _fine(key)
    changing = _levels(_variance(fine - before), brightness, same)  # the grain of both frames, less interpolation's
    if changing is None:
        return None
    levels = np.minimum(levels, changing / np.float32(1.4))
    levels = np.minimum(levels, np.float32(_UNEVEN) * np.median(levels, axis=0))
    if not _SEEN**2 < float(levels.mean(-1).max()) < _STRONGEST**2:
        return None
    deviation = np.sqrt(_looked_up(levels, brightness)) + np.float32(1e-6)
    unit = (fine - _texture(fine, before)) / deviation
    low, high = _TEXTURE
    red, green, blue = cv2.split(_variance(unit))
    ratio = cv2.max(cv2.max(red, green), blue)  # NumPy's maximum over an axis of three is slow
    unit /= np.sqrt(np.maximum(ratio / np.float32(low), 1))[..., None]
    plain = np.clip((high - ratio) / (high - low), 0, 1)[..., None]
    plain[(brightness < _CLIPPED[0]) | (brightness > _CLIPPED[1])] = 0
    if float(plain.mean()) < _ALL:
        unit = np.sqrt(plain) * unit + np.sqrt(1 - plain) * _drawn(unit, plain[..., 0] > 0.5, number)
    return Grain(np.asarray(unit, np.float32), levels)


def _texture(fine: Picture, before: Picture) -> Picture:
    """(h, w, 3): as much of a frame's finest detail as the keyframe, moved onto it, has too: the least squares fit of
    one to the other around each pixel."""
    both = cv2.blur(fine * before, _ALIKE) / (cv2.blur(before * before, _ALIKE) + np.float32(1e-8))
    return np.asarray(np.clip(both, 0, 1) * before, np.float32)


def _drawn(unit: Picture, plain: NDArray[np.bool_], number: int) -> Picture:
    """Random grain (h, w, 3) of variance 1, as soft as a frame's (`unit`) where the plate is `plain`, and with its
    channels as much alike."""
    height, width = plain.shape
    tile = np.random.default_rng(number).standard_normal((min(height, _TILE), min(width, _TILE), 3), np.float32)
    white = np.tile(tile, (-(-height // _TILE), -(-width // _TILE), 1))[:height, :width]
    rows = np.s_[:: max(1, plain.size // _SAMPLES)]
    shown, known = unit[rows], plain[rows]
    both = known[:, 1:] & known[:, :-1]
    if both.sum() < _ENOUGH:
        return white
    left, right = shown[:, :-1][both], shown[:, 1:][both]
    alike = float((left * right).mean() / np.square(left).mean())
    side = np.clip(alike - _WHITE, 0, 0.6) / 2
    soft = cv2.sepFilter2D(white, -1, np.array([side, 1, side]), np.array([side, 1, side]))
    covariance = np.cov(shown[known].T) + 1e-4 * np.eye(3)
    mixed = cv2.transform(_fine(soft), np.linalg.cholesky(covariance).astype(np.float32))
    return np.asarray(mixed / (mixed.std() + np.float32(1e-6)), np.float32)


def _fine(picture: Picture) -> Picture:
    return np.asarray(picture - cv2.GaussianBlur(picture, _FINE_WINDOW, _FINE), np.float32)


def _variance(fine: Picture) -> Picture:
    return np.asarray(cv2.blur(fine * fine, _WINDOW), np.float32)


def _brightness(picture: Picture) -> Plane:
    return np.asarray(cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), _FINE), np.float32)


def _levels(variance: Picture, brightness: Plane, where: NDArray[np.bool_]) -> Levels | None:
    """The variance of grain at each brightness: of the windows that vary least; None where there are too few."""
    some = np.s_[::_PITCH, ::_PITCH]
    light = brightness[some]
    chosen = where[some] & (light > _CLIPPED[0]) & (light < _CLIPPED[1])
    values, bins = variance[some][chosen], np.minimum((light[chosen] * _BINS).astype(np.int64), _BINS - 1)
    known = [index for index in range(_BINS) if (bins == index).sum() >= _ENOUGH]
    if not known:
        return None
    found = [np.quantile(values[bins == index], _ENVELOPE, axis=0) / _LOW for index in known]
    every = np.arange(_BINS)
    return np.stack([np.interp(every, known, channel) for channel in np.stack(found, -1)], -1).astype(np.float32)


def _looked_up(levels: Levels, brightness: Plane) -> Picture:
    """(h, w, 3): levels at each pixel's brightness."""
    middles, every = (np.arange(_BINS) + 0.5) / _BINS, np.linspace(0, 1, 256)
    table = np.stack([np.interp(every, middles, channel) for channel in levels.T], -1).astype(np.float32)
    places = np.clip(brightness * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.merge([places] * 3), table[:, None]), np.float32)


def _mean(picture: Picture) -> Plane:
    return np.asarray(cv2.transform(picture, _THIRDS), np.float32)  # NumPy's mean over an axis of three is slow
