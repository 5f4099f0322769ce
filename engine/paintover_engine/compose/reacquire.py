"""A moving object found again behind frames that did not show it, where it moved too far for flow.

Dense flow over several frames takes a small object's motion for that of what lies around it. Its picture as a whole,
moved and scaled, is found wherever it went.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, endpoints, halved, warp
from paintover_engine.compose.long_range import Hop, motion_error
from paintover_engine.compose.matte import Plane, disc
from paintover_engine.compose.scene import Step
from paintover_engine.media.bounds import bounds_of

_SOUND = 3.0  # pixels of error up to which flow follows the object
_LEAST_SOUND = 0.25  # share of the object that flow must follow
_REACH = 6  # pixels that an object moves from a frame to the next, at half the flow's size, at most
_SCALE = 1.08  # of its size, likewise
_SCALES = (3, 6)  # powers of that, at least and at most
_LEAST_ALIKE = 0.55  # normalised cross-correlation of an object that is found
_LEAST_SIDE = 5  # pixels at half the flow's size; less is found anywhere
_BESIDE = 4  # pixels around the object that move as it does


@dataclass(frozen=True)
class Reacquired:
    """A step to a frame in which an object was found again, whose flow is the object's motion near it; and that motion
    in the whole frame."""

    step: Step
    hop: Hop


def reacquired(step: Step, matte: Plane) -> Reacquired | None:
    """An object found again in a step's frame; None where flow followed it, or where it is not found.

    matte: (h, w) 0..1, the object in the frame before."""
    inside = matte > 0.5
    here, there = step.frame.smooth_lab, step.previous.smooth_lab
    if not inside.any():
        return None
    error = motion_error(step.forward, step.backward, there, here)
    if float((error[inside] < _SOUND).mean()) >= _LEAST_SOUND:
        return None
    matrix = _placed(halved(there), halved(here), halved(matte), step.distance)
    if matrix is None:
        return None
    grid = endpoints(np.zeros((*matte.shape, 2), np.float32))
    forward: Field = cv2.transform(grid, matrix) - grid
    backward: Field = cv2.transform(grid, cv2.invertAffineTransform(matrix)) - grid
    around = cv2.dilate(matte, disc(_BESIDE))
    moved = replace(
        step,
        backward=np.where(warp(around, backward)[..., None] > 0.5, backward, step.backward),
        forward=np.where(around[..., None] > 0.5, forward, step.forward),
    )
    return Reacquired(moved, Hop(backward, motion_error(backward, forward, here, there)))


def _placed(
    before: NDArray[np.float32], after: NDArray[np.float32], matte: Plane, distance: int
) -> NDArray[np.float32] | None:
    """(2, 3): where an object is in a picture so many frames from one before, as a scaling and a translation in pixels
    of twice these pictures' size; None where it is not found. By normalised cross-correlation inside the matte, at
    several scales.

    before, after: (h, w, 3) L*a*b*; matte: (h, w) 0..1, of `before`."""
    x, y, width, height = bounds_of(np.where(matte > 0.5, matte, 0))
    if min(width, height) < _LEAST_SIDE:
        return None
    best, found, reach = _LEAST_ALIKE, None, _REACH * distance
    most = int(np.clip(distance + 1, *_SCALES))
    for scale in _SCALE ** np.arange(-most, most + 1):
        size = (max(_LEAST_SIDE, round(width * scale)), max(_LEAST_SIDE, round(height * scale)))
        object_, mask = (
            cv2.resize(np.ascontiguousarray(plane[y : y + height, x : x + width]), size) for plane in (before, matte)
        )
        left, top = x + (width - size[0]) // 2 - reach, y + (height - size[1]) // 2 - reach
        beside = (reach + size[1], reach + size[0])
        large = cv2.copyMakeBorder(after, beside[0], beside[0], beside[1], beside[1], cv2.BORDER_REPLICATE)
        searched = large[top + beside[0] :, left + beside[1] :][: size[1] + 2 * reach, : size[0] + 2 * reach]
        inside = (mask > 0.5).astype(np.float32)
        alike = cv2.matchTemplate(searched, object_, cv2.TM_CCOEFF_NORMED, mask=cv2.merge([inside] * 3))
        alike = np.where(np.isfinite(alike) & (alike < 1.001), alike, -1)
        _, score, _, (across, down) = cv2.minMaxLoc(alike)
        if score > best:
            ratio = (size[0] / width, size[1] / height)
            shift = (left + across - ratio[0] * x, top + down - ratio[1] * y)
            best, found = score, np.array([[ratio[0], 0, 2 * shift[0]], [0, ratio[1], 2 * shift[1]]], np.float32)
    return found
