"""The matte of frames between two keyframes, where what was propagated from either differs.

A keyframe that shows a part of the edited object says nothing of the rest: where its edit is absent, but nothing
certain shows that what is seen there was unpainted, the other's matte counts. Of what both are certain of, a blend
would be half transparent. So a network that was trained on both keyframes decides: it knows the edit as either shows
it, and is given the blend as the matte that motion compensation gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.flow import Field, warp
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane, disc
from paintover_engine.compose.matte_net import MatteNet, motion_plane
from paintover_engine.compose.tracker import segment

_AGREEMENT = 0.3  # difference of two mattes up to which their blend stands
_KEPT = 0.5  # share of what the network takes away from the blend that stays: a hole is seen more than a spill
_THIN = 2  # radius in pixels of what fits into no difference along an outline
_WIDENED = 0.7  # share of such a difference that is added: either side's edge is eaten into where it moved fast
_STEEPNESS = 3.0  # exponent of the certainty that something is unpainted
_LEAST = 1e-5  # of it, where nothing is certain


@dataclass(frozen=True)
class Reconciliation:
    """matte: (h, w) 0..1, of a frame. share: (h, w) 0..1, of the second keyframe in its colours: what one of them alone
    paints has that one's, because the other may never have seen it."""

    matte: Plane
    share: Plane


@dataclass(frozen=True)
class Side:
    """What was propagated to a frame from one keyframe: its weight, and the distance to the keyframe in frames."""

    evidence: Evidence
    weight: float
    distance: int

    @property
    def colour_weight(self) -> np.float32:
        """That of its colours, which dissolve on the way from one keyframe to the other."""
        return np.float32(self.weight / self.distance)

    def absence(self) -> Plane:
        """(h, w) 0..1: how far what is unpainted counts as such, of the side's weight."""
        return np.asarray(np.maximum(self.evidence.confidence**_STEEPNESS, _LEAST), np.float32)


def reconciled(
    net: MatteNet, sides: Sequence[Side], frame: AnalysisFrame, previous: AnalysisFrame, backward: Field
) -> Reconciliation:
    """The matte of a frame and whose colours it has.

    sides: from either keyframe. previous: the frame before this one; backward: flow from this frame to that."""
    first, second = (side.evidence.matte for side in sides)
    known = _known(sides)
    blend = first + _share(sides, [np.float32(side.weight) for side in sides], known) * (second - first)
    share = shares(sides)
    differing = cv2.blur(np.clip(2 * cv2.absdiff(first, second) - np.float32(_AGREEMENT), 0, 1), (5, 5))
    if not differing.any():
        return Reconciliation(blend, share)
    prior = Evidence(blend, np.zeros_like(blend))
    decided = segment(net, prior, frame, warp(previous.lab, backward), motion_plane(backward, blend)).matte
    found = blend + np.minimum(2 * differing, 1) * (decided - blend)
    found += (1 - (1 - np.float32(_KEPT)) * cv2.blur(known, (3, 3))) * np.maximum(blend - found, 0)
    outline = 1 - np.maximum(_broad(first - second), _broad(second - first))
    missing = np.maximum(np.maximum(first, second) - found, 0)
    return Reconciliation(np.asarray(found + np.float32(_WIDENED) * outline * missing, np.float32), share)


def shares(sides: Sequence[Side]) -> Plane:
    """(h, w) 0..1: the share of the second side's colours in each pixel of a frame."""
    return _share(sides, [side.colour_weight for side in sides], _known(sides))


def surer(sides: Sequence[Side]) -> Reconciliation:
    """One side's matte and colours, where nothing brings both together (a cut)."""
    second = int(sides[1].weight > sides[0].weight)
    matte = sides[second].evidence.matte
    return Reconciliation(matte, np.full_like(matte, second))


def _known(sides: Sequence[Side]) -> Plane:
    """(h, w) 0..1: how far the side that paints less in a pixel knows that it is unpainted."""
    first, second = sides
    return np.where(second.evidence.matte > first.evidence.matte, first.absence(), second.absence())


def _share(sides: Sequence[Side], weights: Sequence[np.float32], known: Plane) -> Plane:
    """(h, w) 0..1: the share of the second of two sides with some weights; `known` of it where it paints less."""
    more = sides[1].evidence.matte > sides[0].evidence.matte
    left, right = weights[0] * np.where(more, known, np.float32(1)), weights[1] * np.where(more, np.float32(1), known)
    return np.asarray(cv2.blur(np.asarray(right / (left + right), np.float32), (3, 3)))


def _broad(excess: Plane) -> Plane:
    """(h, w) 0..1: where one matte covers more than another in a whole part, not along its outline alone. excess:
    (h, w) -1..1, how much more."""
    opened = cv2.morphologyEx((excess > 0.4).astype(np.float32), cv2.MORPH_OPEN, disc(_THIN))
    return np.asarray(cv2.blur(cv2.dilate(opened, disc(_THIN)), (3, 3)), np.float32)
