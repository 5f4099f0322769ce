"""What stands before the background and moves with an edit's object, as a test of what its matte may hold.

A network that knows an object from one keyframe does not know its other side. But whatever stands before a background
that is remembered, and moves as the object does, is a part of it, however it looks; and what flow led into the matte,
and moves as the surroundings do, is none (layered motion: Wang, Adelson: Representing moving images with layers, IEEE
Transactions on Image Processing 1994). How far the first holds is measured in each frame: how often it is seen where no
object is.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.background import OTHER
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.matte_net import RelativeMotion

_CELL = 8  # pixels; the pitch at which false alarms are counted
_AROUND = (9, 9)  # cells over which they are
_UNTOLD = 1e-3  # share of the pixels around that counts as if half of them were false alarms
_FEWEST = 0.0025  # share of false alarms that cannot be told from none: exp(-6), as the network's log-odds


def evidence(prior: Evidence, behind: Plane, relative: RelativeMotion, near: NDArray[np.uint8]) -> Plane:
    """(h, w) -1..1: how plainly pixels are the object (1), or are not (-1), by what lies behind them and by how they
    move; 0 where that does not say.

    prior: the motion-compensated matte, which counts for more where motion is certain. behind: (h, w),
    `Background.odds`. near: (h, w), 1 where the object may be."""
    before = relative.with_object * np.clip(behind * np.float32(1 / OTHER), 0, 1)
    before *= _reliability(before, (behind != 0) & (near == 0))
    before *= _steep(1 - prior.confidence * (1 - prior.matte))
    still = np.maximum(-relative.plane, 0) * cv2.exp(-relative.around * relative.around)
    unknown = np.clip(2 - behind * np.float32(0.5), 0, 1)
    return np.asarray(before - still * unknown * _steep(1 - prior.confidence), np.float32)


def _steep(uncertainty: Plane) -> Plane:
    """Its fourth power: what is a little certain counts as certain."""
    square = uncertainty * uncertainty
    return np.asarray(square * square)


def _reliability(alarm: Plane, outside: NDArray[np.bool_]) -> Plane:
    """(h, w) 0..1: what an alarm, (h, w) 0..1, is worth around each pixel, by how often it is false: its log-likelihood
    ratio over the greatest there is. outside: where it is false."""
    height, width = alarm.shape
    size = (-(-width // _CELL), -(-height // _CELL))
    empty = outside.astype(np.float32)
    false, all_ = (
        cv2.blur(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), _AROUND, borderType=cv2.BORDER_CONSTANT)
        for plane in (alarm * empty, empty)
    )
    share = (false + np.float32(_UNTOLD / 2)) / (all_ + np.float32(_UNTOLD))
    worth = np.log(share + np.float32(_FEWEST)) / np.float32(np.log(_FEWEST))
    return np.asarray(cv2.resize(np.clip(worth, 0, 1), (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
