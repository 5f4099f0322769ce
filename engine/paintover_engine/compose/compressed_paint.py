"""The matte of paint in a picture that was compressed, where a colour map explains the paint.

Compression smears paint over its edge, most of all its chroma, and adds noise that hides weak paint. Where the paint is
a function of the plate's colour, each pixel is instead compared with both pictures that it may come from: the plate,
and the plate as the map changes it. The opacity between them that fits best is its matte: the matting equation of
known foreground and background (Smith, Blinn: Blue screen matting, SIGGRAPH 1996), by least squares over a window.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.matte import Plane, clean, sharpen
from paintover_engine.compose.paint import Paint

Picture = NDArray[np.float32]  # (H, W, 3)

_FRINGE = 9  # pixels; compression mixes paint and plate in a band of about this width
_ENOUGH = 200  # pixels that determine a colour map
_REACH = 17  # side of the window around what plainly differs in which paint is searched for
_WINDOW = 1.0  # pixels; standard deviation of the window over which the opacity is fitted
_ROUNDING = 3 * (1 / 255) ** 2  # squared difference, summed over channels, below which two colours are the same
_DETERMINED = 0.05  # weight of a window below which it determines no opacity
_FAINTEST = 1 / 255  # less of the paint is not seen
_SPECK = 24  # pixels of an island that is noise
_EDGE = 2.0  # how much steeper the fitted edge is made: the window softens it


def separated(plate: Picture, picture: Picture, matte: Plane) -> Plane:
    """The matte (H, W) 0..1 of the paint in a compressed picture; the given one where the paint is no function of the
    plate's colour.

    plate, picture: (H, W, 3) float32, display-encoded. matte: where they plainly differ (`difference_matte`)."""
    solid = (matte > 0.5).astype(np.uint8)
    core = cv2.erode(solid, np.ones((_FRINGE, _FRINGE), np.uint8))
    core = core if core.sum() >= _ENOUGH else solid
    if not core.any():
        return matte
    paint = Paint(plate, picture, picture, core.astype(np.float32), compressed=True)
    colour = paint.colour()
    if paint.is_drawn(colour):
        return matte
    change, difference = colour(plate) - plate, picture - plate
    far = cv2.dilate(solid, np.ones((2 * _REACH, 2 * _REACH), np.uint8)) == 0
    noise = max(_ROUNDING, float((difference[far] ** 2).sum(-1).mean()) if far.any() else 0.0)
    power = (change * change).sum(-1)
    along = cv2.GaussianBlur((difference * change).sum(-1) / (power + noise), (0, 0), _WINDOW)
    weight = cv2.GaussianBlur(power / (power + noise), (0, 0), _WINDOW)
    opacity = sharpen(along / np.maximum(weight, np.float32(_DETERMINED)), _EDGE)
    near = cv2.dilate(solid, np.ones((_REACH, _REACH), np.uint8)) > 0
    return clean(np.where(near & (opacity >= _FAINTEST), opacity, np.float32(0)), _SPECK)
