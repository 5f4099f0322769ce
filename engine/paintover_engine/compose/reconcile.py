"""The matte of frames between two keyframes, where what was propagated from either differs.

Blended, two mattes that differ are half transparent there. So a network that was trained on both keyframes decides: it
knows the edit as either shows it, and is given the blend as the matte that motion compensation gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.flow import Field, warp
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane, disc
from paintover_engine.compose.matte_net import MatteNet
from paintover_engine.compose.tracker import segment

_AGREEMENT = 0.3  # difference of two mattes up to which their blend stands
_KEPT = 0.5  # share of what the network takes away from the blend that stays: a hole is seen more than a spill
_THIN = 2  # radius in pixels of what fits into no difference along an outline
_WIDENED = 0.7  # share of such a difference that is added: either side's edge is eaten into where it moved fast


def reconciled(
    net: MatteNet, sides: Sequence[tuple[Plane, float]], frame: AnalysisFrame, previous: AnalysisFrame, backward: Field
) -> Plane:
    """(h, w) 0..1: the matte of a frame.

    sides: the matte (h, w) from either keyframe, and its weight above 0. previous: the frame
    before this one; backward: flow from this frame to that."""
    (first, one), (second, other) = sides
    share = np.float32(other / (one + other))
    blend = first + share * (second - first)
    differing = cv2.blur(np.clip(2 * cv2.absdiff(first, second) - np.float32(_AGREEMENT), 0, 1), (5, 5))
    if not differing.any():
        return blend
    prior = Evidence(blend, np.zeros_like(blend))
    decided = segment(net, prior, frame, warp(previous.lab, backward), backward).matte
    found = blend + np.minimum(2 * differing, 1) * (decided - blend)
    found += np.float32(_KEPT) * np.maximum(blend - found, 0)
    outline = 1 - np.maximum(_broad(first - second), _broad(second - first))
    missing = np.maximum(np.maximum(first, second) - found, 0)
    return np.asarray(found + np.float32(_WIDENED) * outline * missing, np.float32)


def _broad(excess: Plane) -> Plane:
    """(h, w) 0..1: where one matte covers more than another in a whole part, not along its outline alone. excess:
    (h, w) -1..1, how much more."""
    opened = cv2.morphologyEx((excess > 0.4).astype(np.float32), cv2.MORPH_OPEN, disc(_THIN))
    return np.asarray(cv2.blur(cv2.dilate(opened, disc(_THIN)), (3, 3)), np.float32)
