"""What a palette made of the plate around the paint of a keyframe: GIF, indexed PNG, and what was saved from those.

Where nobody painted, a pixel holds the palette's nearest colour to the plate's; or, dithered, one near it, so that the
mean over a few pixels is the plate's (error diffusion: Floyd, Steinberg: An adaptive algorithm for spatial grayscale,
1976). What neither explains is painted.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_COLOURS = 256
_CELL = 63  # steps of a channel at which a palette's nearest colour is looked up
_ROUNDING = 3 / 255  # difference that rounding, and looking up by cells, make
_NEAREST = 1.6  # times the distance of the nearest colour up to which another may have been chosen
_DITHERED = 6.0  # the same of a dithered pixel, for the largest distance around it
_PLAIN = 48 / 255  # difference that is plainly paint, twice as much of a dithered pixel
_FITTING = 12 / 255  # distance of the nearest colour, at the median, of a palette that was made of the picture
_WINDOW = 3.0  # pixels; standard deviation of the window over which dithering keeps the mean
_MEAN = (6 / 255, 0.8)  # difference of the mean: of any plate, and in distances of the nearest colour
_SMOOTH = 5  # pixels


def without_palette(painted: Array, plate: Array) -> Array:
    """A painted picture of few colours with the plate's own values wherever its palette alone explains how the two
    differ.

    painted, plate: (H, W, 3) float32, display-encoded, 1 = white. Returns `painted` itself where it has more colours
    than a palette, the plate has as few, the palette is none of the plate's, or no paint would be left."""
    palette = _palette(painted)
    if palette is None or _palette(plate) is not None:
        return painted
    distance = _largest(_nearest(plate, palette) - plate)
    if np.median(distance) > _FITTING:
        return painted
    difference = painted - plate
    largest = _largest(difference)
    around = cv2.dilate(distance, np.ones((_SMOOTH, _SMOOTH), np.uint8))
    mean = _largest(cv2.GaussianBlur(difference, (0, 0), _WINDOW))
    even = mean <= np.maximum(_MEAN[0], _MEAN[1] * cv2.GaussianBlur(distance, (0, 0), _WINDOW))
    dithered = even & (largest <= np.minimum(_DITHERED * around + 2 * _ROUNDING, 2 * _PLAIN))
    paint = ((largest > np.minimum(_NEAREST * distance + _ROUNDING, _PLAIN)) & ~dithered).astype(np.uint8)
    paint = cv2.morphologyEx(cv2.medianBlur(paint, _SMOOTH), cv2.MORPH_CLOSE, np.ones((_SMOOTH, _SMOOTH), np.uint8))
    return np.where(paint[..., None] > 0, painted, plate).astype(np.float32) if paint.any() else painted


def _palette(picture: Array) -> Array | None:
    """The colours (n, 3) of a picture; None where they are more than a palette's."""
    red, green, blue = cv2.split(np.rint(np.clip(picture, 0, 1) * 255).astype(np.int32))
    colours = np.unique(red << 16 | green << 8 | blue)
    if len(colours) > _COLOURS:
        return None
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.float32) / np.float32(255)


def _nearest(picture: Array, palette: Array) -> Array:
    """The palette's nearest colour (H, W, 3) to each pixel of a picture."""
    red, green, blue = cv2.split(np.rint(np.clip(picture, 0, 1) * _CELL).astype(np.int32))
    codes, which = np.unique(red << 12 | green << 6 | blue, return_inverse=True)
    cells = np.stack([codes >> 12, codes >> 6 & _CELL, codes & _CELL], -1).astype(np.float32) / np.float32(_CELL)
    squares = (palette * palette).sum(-1) - 2 * cells @ palette.T
    return np.asarray(palette[squares.argmin(1)][which.reshape(red.shape)], np.float32)


def _largest(difference: Array) -> Array:
    """The largest (H, W) of a pixel's three differences."""
    return np.asarray(np.abs(difference).max(axis=2), np.float32)
