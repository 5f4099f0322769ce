"""The matte between two keyframes: outlines of either side stay, whole parts are decided."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.matte_net import MatteNet, Shown, train
from paintover_engine.compose.reconcile import Side, in_sight, reconciled

SIZE = (96, 128)
STILL = np.zeros((*SIZE, 2), np.float32)


def disc_at(x: int, radius: int) -> Plane:
    return np.asarray(cv2.circle(np.zeros(SIZE, np.float32), (x, 48), radius, 1.0, -1))


WHOLE = disc_at(40, 20)
HALF = np.where(np.arange(SIZE[1]) < 40, WHOLE, np.float32(0))


def frame_of(matte: Plane) -> AnalysisFrame:
    noise = np.random.default_rng(3).normal(0, 12, (*SIZE, 3))
    picture = np.where(matte[..., None] > 0, (190, 60, 50), (70, 120, 80)) + noise
    return AnalysisFrame(cv2.resize(np.clip(picture, 0, 255).astype(np.uint8), None, fx=2, fy=2))


def side(matte: Plane, weight: float, confidence: float = 1.0) -> Side:
    return Side(Evidence(matte, np.full_like(matte, confidence)), weight, 0.0, 0, 1)


@pytest.fixture(scope="module")
def net() -> MatteNet:
    return MatteNet(train(*[Shown(frame_of(WHOLE).lab, WHOLE, STILL)] * 2))


def test_outline_that_one_side_lost_stays_but_no_spill(net: MatteNet) -> None:
    """Blurred by its motion an edge looks like what is behind it; so the network does not bring it back."""
    eaten, spill = disc_at(40, 18), disc_at(95, 10)
    frame = frame_of(eaten)
    found = reconciled(net, [side(eaten, 100.0), side(np.maximum(WHOLE, spill), 1.0)], frame, frame, STILL).matte
    assert found[(WHOLE > 0) & (eaten == 0)].mean() > 0.4
    assert found[spill > 0].mean() < 0.05


def test_part_that_the_surer_side_lost_comes_back(net: MatteNet) -> None:
    frame = frame_of(WHOLE)
    found = reconciled(net, [side(HALF, 3.0), side(WHOLE, 1.0)], frame, frame, STILL).matte
    assert found[WHOLE > 0].mean() > 0.8


@pytest.mark.parametrize(("confidence", "least", "most"), [(0.2, 0.7, 1.0), (1.0, 0.0, 0.4)])
def test_part_a_keyframe_never_saw_is_the_others(net: MatteNet, confidence: float, least: float, most: float) -> None:
    """The network cannot tell the part from its surroundings: it has their colours."""
    frame = frame_of(HALF)
    found = reconciled(net, [side(HALF, 3.0, confidence), side(WHOLE, 1.0)], frame, frame, STILL).matte
    assert least < found[(WHOLE > 0) & (np.arange(SIZE[1]) > 43)].mean() < most


@pytest.mark.parametrize(("sure", "least", "most"), [(0.1, 0.0, 0.3), (1.0, 0.6, 1.0)])
def test_whole_part_of_one_side_counts_as_it_is_sure(net: MatteNet, sure: float, least: float, most: float) -> None:
    """The other side is not certain that the part is bare."""
    part = disc_at(70, 10)
    both = np.maximum(WHOLE, part)
    frame = frame_of(both)
    first = Side(Evidence(WHOLE, np.where(part > 0, np.float32(0.6), np.float32(1))), 2.0, 0.0, 0, 1)
    second = Side(Evidence(both, np.where(part > 0, np.float32(sure), np.float32(1))), 1.0, 0.0, 0, 1)
    share = reconciled(net, [first, second], frame, frame, STILL).share
    assert least <= share[disc_at(70, 8) > 0].mean() <= most


@pytest.mark.parametrize(("spill", "least", "most"), [(0.0, 0.6, 1.0), (0.95, 0.0, 0.4)])
def test_uncertain_paint_of_an_edit_that_spills_counts_little(
    net: MatteNet, spill: float, least: float, most: float
) -> None:
    """The other side is not very certain either that the part is bare."""
    part = disc_at(70, 10)
    frame = frame_of(WHOLE)
    first = side(WHOLE, 1.0, 0.4)
    second = Side(side(np.maximum(WHOLE, part), 1.0, 0.1).evidence, 1.0, spill, 0, 1)
    share = reconciled(net, [first, second], frame, frame, STILL).share
    assert least <= share[disc_at(70, 8) > 0].mean() <= most


def uncovered(part: Plane, spill: float = 0.0) -> Plane:
    """The certainty, in `part`, of a side that paints `HALF`; its keyframe's frame hides the part. spill: of the other
    side."""
    there = STILL.copy()
    there[part > 0, 0] = 12  # what lies there on the keyframe comes from elsewhere
    other = Side(Evidence(WHOLE, np.ones(SIZE, np.float32)), 1.0, spill, 9, 8)
    seen = in_sight(side(HALF, 1.0), other, STILL, there)
    assert (seen.evidence.matte == HALF).all()
    assert seen.evidence.confidence[(part == 0) & (cv2.dilate(part, np.ones((5, 5))) == 0)].min() > 0.99
    return seen.evidence.confidence[part > 0]


def test_a_keyframe_knows_nothing_of_what_its_frame_hides() -> None:
    part = WHOLE - HALF
    assert uncovered(part).max() < 0.05
    assert uncovered(part, spill=0.9).min() > 0.9  # the other's paint there is likely none
    assert uncovered(np.ones(SIZE, np.float32) - HALF).min() > 0.9  # nothing is found again: that is no motion
