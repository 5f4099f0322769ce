"""Painted frames as a job publishes them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.keyframe_layer import KeyframeLayer
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.reason import Reason
from paintover_engine.media.bounds import EMPTY, Bounds, bounds_of
from paintover_engine.media.colour import from_working
from paintover_engine.methods.stage import Context, ResultFrame

THIN = 1 / 32
"""A matte below this is 0: no haze of changes that nobody sees."""


def publish(
    context: Context,
    number: int,
    bounds: Bounds,
    painted: NDArray[np.float32],
    alpha: Plane,
    surest: KeyframeLayer | None = None,
) -> ResultFrame:
    """A part of a painted frame in the shot's encoding, cropped to where the matte is above `THIN`.

    painted: (h, w, 3) in the working encoding; alpha: (h, w), its matte; bounds: where the two lie in the plate.
    surest: the layer that counts most in the frame; None on a keyframe."""
    confidence, reason = (surest.confidence(number), surest.reason(number)) if surest else (1.0, Reason.NONE)
    alpha = np.where(alpha < THIN, np.float32(0), alpha)
    x, y, width, height = bounds_of(alpha)
    if width == 0:
        return ResultFrame(number, EMPTY, np.zeros((0, 0, 4), np.float16), confidence, reason)
    part = np.s_[y : y + height, x : x + width]
    colour = from_working(np.ascontiguousarray(painted[part]), context.info.colorspace)
    pixels = cv2.merge([colour, alpha[part]])
    half: NDArray[np.float16] = cv2.add(pixels, np.zeros(4), dtype=cv2.CV_16F)  # ten times as quick as NumPy's
    return ResultFrame(number, (bounds[0] + x, bounds[1] + y, width, height), half, confidence, reason)
