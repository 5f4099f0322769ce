"""The unpainted part of a painted object: what moves with the paint on its keyframe and is not painted there.

Where paint ends within an object (on the lower half of a dog, at a car's shadow, which moves with it), the plate may
show no edge, and nothing that knows the paint by its looks or by its motion can tell it from what lies beside. But the
keyframe can: there the edge is known. So what lies beyond it is followed by the same motion as the paint, and the two
compete for every pixel of the object by the place that each had on the keyframe (on what moves as one layer: Wang,
Adelson: Representing moving images with layers, IEEE Transactions on Image Processing 1994).
"""

from __future__ import annotations

import cv2
import numpy as np

from paintover_engine.compose.flow import Field, consistency
from paintover_engine.compose.matte import Plane, disc
from paintover_engine.compose.matte_net import RelativeMotion

_REACH = 10  # how far from the paint it is followed, in pixels: a matte is not looked for farther off in a frame
_HALO = 2  # radius in pixels of what is too small for a part: flow that spreads beyond an object's edge
_NEAR = 3.0  # standard deviation in pixels of the window in which the nearer of the two is found
_LEAST = 1e-3  # share of a window that counts as nothing


def beside(region: Plane, backward: Field, returned: Field) -> Plane:
    """(h, w) 0..1: how plainly a keyframe's pixels near the paint are unpainted and move with it.

    region: (h, w) 0..1, where it is painted. backward: (h, w, 2), flow from it to a neighbour; returned: flow from that
    to it, by which flow that an object drags along beside it is told from motion."""
    near = (cv2.dilate(region, disc(_REACH)) > 0.5) * (1 - region)
    along = near * RelativeMotion.of(backward, region).with_object * consistency(backward, returned)
    return np.asarray(cv2.morphologyEx(along.astype(np.float32), cv2.MORPH_OPEN, disc(_HALO)), np.float32)


def competing(plain: Plane | None, unpainted: Plane, sure: Plane, matte: Plane) -> Plane:
    """(h, w) -1..1: how plainly pixels are painted, or are not: evidence for the object, which is not for the paint
    where its unpainted part is nearer, and what that part claims for itself where motion brings no paint.

    plain: (h, w) -1..1, how plainly pixels are the object; None: not known. unpainted, matte: (h, w) 0..1, as motion
    brings them; sure: (h, w) 0..1, how certain motion is."""
    claimed = unpainted * sure * (1 - matte)
    if plain is None:
        return -claimed
    other, own = (cv2.GaussianBlur(plane, (0, 0), _NEAR) for plane in (unpainted, matte))
    plain = plain - np.maximum(plain, 0) * (other / (other + own + np.float32(_LEAST)))
    return np.asarray(plain - claimed * (1 + plain), np.float32)


def remaining(unpainted: Plane | None, matte: Plane) -> Plane | None:
    """(h, w) 0..1: what is left of an unpainted part where a frame's matte is found. None: there is none."""
    return None if unpainted is None else np.asarray(unpainted * (1 - matte), np.float32)
