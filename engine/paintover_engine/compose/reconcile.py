"""The matte of frames between two keyframes, where what was propagated from either differs.

A keyframe that shows a part of the edited object says nothing of the rest: where its edit is absent, but nothing
certain shows that what is seen there was unpainted, the other's matte counts: near a keyframe also where its frame
hides what is seen. But a whole part that one alone paints counts less where it is less certain than what both paint,
and the more so the more of the edit the other keyframe's painting has shown to be spilled: an edit that spills is sure
of the object and not of the spill. Of what both are certain of, a blend would be half transparent. So a network that
was trained on both keyframes decides: it knows the edit as either shows it, and is given the blend as the matte that
motion compensation gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.calibration import colour_weight
from paintover_engine.compose.flow import Field, consistency, warp
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane, disc
from paintover_engine.compose.matte_net import MatteNet, motion_plane
from paintover_engine.compose.tracker import segment

_AGREEMENT = 0.3  # difference of two mattes up to which their blend stands
_KEPT = 0.5  # share of what the network takes away from the blend that stays: a hole is seen more than a spill
_THIN = 2  # radius in pixels of what fits into no difference along an outline
_WIDENED = 0.4  # share of such a difference that is added: either side's edge is eaten into where it moved fast
_STEEPNESS = 1.5  # exponent of the certainty that something is unpainted
_LEAST = 3e-3  # of it, where nothing is certain
_WHOLE = 4  # radius in pixels of a part that one keyframe alone paints
_ENOUGH = 30  # pixels that both paint
NEAR = 8  # frames from a keyframe within which its frame is compared directly
_FOUND = (0.8, 0.9)  # share of the surroundings that is found again in it: less is no motion that shows what it hides
_CLEAN = 3  # exponent of the share of an edit that is not spilled


@dataclass(frozen=True)
class Reconciliation:
    """matte: (h, w) 0..1, of a frame. share: (h, w) 0..1, of the second keyframe in its colours: what one of them alone
    paints has that one's, because the other may never have seen it."""

    matte: Plane
    share: Plane


@dataclass(frozen=True)
class Side:
    """What was propagated to a frame from one keyframe: its weight, the share of it that is likely spilled, and the
    keyframe's number and distance in frames."""

    evidence: Evidence
    weight: float
    spill: float
    keyframe: int
    distance: int

    @property
    def colour_weight(self) -> float:
        """That of its colours, which dissolve on the way from one keyframe to the other."""
        return colour_weight(self.weight, self.distance)

    def certainty(self) -> Plane:
        """(h, w) 0..1: how far what is painted counts as such: the more of it is spilled, the more certain it has to
        be."""
        return np.asarray(np.maximum(self.evidence.confidence, _LEAST) ** np.float32(self.spill), np.float32)

    def absence(self) -> Plane:
        """(h, w) 0..1: how far what is unpainted counts as such, of the side's weight."""
        return np.asarray(np.maximum(self.evidence.confidence**_STEEPNESS, _LEAST), np.float32)


def in_sight(side: Side, other: Side, flow: Field, returned: Field) -> Side:
    """A side that knows nothing where its keyframe's frame hides what is seen, so that it may be painted all the same;
    as it is where most of the frame is not found again there, or where the other side's paint is likely spilled.

    flow, returned: from the frame to the keyframe's, and back."""
    seen = cv2.erode(consistency(flow, returned), np.ones((3, 3), np.uint8))
    unpainted = side.evidence.matte < 0.5
    around = unpainted & (other.evidence.matte < 0.5)
    found = float(seen[around].mean()) if around.any() else 0.0
    hidden = (1 - seen) * np.float32(np.interp(found, _FOUND, (0, 1)) * (1 - other.spill) ** _CLEAN)
    confidence = side.evidence.confidence * np.where(unpainted, 1 - hidden, np.float32(1))
    return replace(side, evidence=Evidence(side.evidence.matte, np.asarray(confidence, np.float32)))


def reconciled(
    net: MatteNet, sides: Sequence[Side], frame: AnalysisFrame, previous: AnalysisFrame, backward: Field
) -> Reconciliation:
    """The matte of a frame and whose colours it has.

    sides: from either keyframe. previous: the frame before this one; backward: flow from this frame to that."""
    first, second = (side.evidence.matte for side in sides)
    known, counted = _known(sides), _counted(sides, *_presence(sides))
    blend = first + _share([side.weight for side in sides], counted) * (second - first)
    share = _share([side.colour_weight for side in sides], counted)
    differing = cv2.blur(np.clip(2 * cv2.absdiff(first, second) - np.float32(_AGREEMENT), 0, 1), (5, 5))
    if not differing.any():
        return Reconciliation(blend, share)
    prior = Evidence(blend, np.zeros_like(blend))
    decided = segment(net, prior, frame, warp(previous.lab, backward), motion_plane(backward, blend)).matte
    found = blend + np.minimum(2 * differing, 1) * (decided - blend)
    found += (1 - (1 - np.float32(_KEPT)) * cv2.blur(known, (3, 3))) * np.maximum(blend - found, 0)
    outline = 1 - np.maximum(_broad(first - second, _THIN), _broad(second - first, _THIN))
    missing = np.maximum(np.maximum(first, second) - found, 0)
    return Reconciliation(np.asarray(found + np.float32(_WIDENED) * outline * missing, np.float32), share)


def shares(sides: Sequence[Side]) -> Plane:
    """(h, w) 0..1: the share of the second side's colours in each pixel of a frame, of paint that must stick to
    its surface: that, not how certain its matte is, says where their paint belongs."""
    everywhere = np.ones_like(sides[0].evidence.matte)
    return _share([side.colour_weight for side in sides], _counted(sides, everywhere, everywhere))


def surer(sides: Sequence[Side]) -> Reconciliation:
    """One side's matte and colours, where nothing brings both together (a cut)."""
    second = int(sides[1].weight > sides[0].weight)
    matte = sides[second].evidence.matte
    return Reconciliation(matte, np.full_like(matte, second))


def _known(sides: Sequence[Side]) -> Plane:
    """(h, w) 0..1: how far the side that paints less in a pixel knows that it is unpainted."""
    first, second = sides
    return np.where(second.evidence.matte > first.evidence.matte, first.absence(), second.absence())


def _counted(sides: Sequence[Side], *shown: Plane) -> tuple[Plane, Plane]:
    """(h, w) 0..1, of either side: how much of its weight counts in each pixel. shown: the same, of either, where it is
    the one that paints more."""
    more = sides[1].evidence.matte > sides[0].evidence.matte
    return np.where(more, sides[0].absence(), shown[0]), np.where(more, shown[1], sides[1].absence())


def _presence(sides: Sequence[Side]) -> tuple[Plane, Plane]:
    """(h, w) 0..1, of either side: how far its paint counts as such."""
    first, second = (side.evidence.matte for side in sides)
    both, whole = np.minimum(first, second), np.maximum(_broad(first - second, _WHOLE), _broad(second - first, _WHOLE))
    left, right = (_shown(side.evidence.confidence, both, whole) * side.certainty() for side in sides)
    return left, right


def _shown(confidence: Plane, both: Plane, whole: Plane) -> Plane:
    """(h, w) 0..1: how far a side's paint counts as such. Its confidence in what both sides paint is the measure of
    that in what it alone paints; without the former all of its paint counts.

    confidence, both: (h, w) 0..1, of the side, and the matte that both have. whole: (h, w) 0..1, the parts that one
    alone paints."""
    area = float(both.sum())
    if area < _ENOUGH:
        return np.ones_like(both)
    usual = max(float((confidence * both).sum()) / area, _LEAST)
    relative = np.clip(confidence / np.float32(usual), _LEAST, 1)
    return np.asarray(relative**whole, np.float32)


def _share(weights: Sequence[float], counted: tuple[Plane, Plane]) -> Plane:
    """(h, w) 0..1: the share of the second of two sides with some weights. counted: `_counted`."""
    left, right = (np.float32(weight) * part for weight, part in zip(weights, counted, strict=True))
    return np.asarray(cv2.blur(np.asarray(right / (left + right), np.float32), (3, 3)))


def _broad(excess: Plane, radius: int) -> Plane:
    """(h, w) 0..1: where one matte covers more than another in a whole part, into which a disc of a radius in pixels
    fits, not along its outline alone. excess: (h, w) -1..1, how much more."""
    opened = cv2.morphologyEx((excess > 0.4).astype(np.float32), cv2.MORPH_OPEN, disc(radius))
    return np.asarray(cv2.blur(cv2.dilate(opened, disc(radius)), (3, 3)), np.float32)
