"""The matte between two keyframes: outlines of either side stay, whole parts are decided."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.matte_net import MatteNet, Shown, train
from paintover_engine.compose.reconcile import reconciled

SIZE = (96, 128)
STILL = np.zeros((*SIZE, 2), np.float32)


def disc_at(x: int, radius: int) -> Plane:
    return np.asarray(cv2.circle(np.zeros(SIZE, np.float32), (x, 48), radius, 1.0, -1))


WHOLE = disc_at(40, 20)


def frame_of(matte: Plane) -> AnalysisFrame:
    noise = np.random.default_rng(3).normal(0, 12, (*SIZE, 3))
    picture = np.where(matte[..., None] > 0, (190, 60, 50), (70, 120, 80)) + noise
    return AnalysisFrame(cv2.resize(np.clip(picture, 0, 255).astype(np.uint8), None, fx=2, fy=2))


@pytest.fixture(scope="module")
def net() -> MatteNet:
    return MatteNet(train(*[Shown(frame_of(WHOLE).lab, WHOLE, STILL)] * 2))


def test_outline_that_one_side_lost_stays_but_no_spill(net: MatteNet) -> None:
    """Blurred by its motion an edge looks like what is behind it; so the network does not bring it back."""
    eaten, spill = disc_at(40, 18), disc_at(95, 10)
    frame = frame_of(eaten)
    found = reconciled(net, [(eaten, 100.0), (np.maximum(WHOLE, spill), 1.0)], frame, frame, STILL)
    assert found[(WHOLE > 0) & (eaten == 0)].mean() > 0.4
    assert found[spill > 0].mean() < 0.05


def test_part_that_the_surer_side_lost_comes_back(net: MatteNet) -> None:
    half = np.where(np.arange(SIZE[1]) < 40, WHOLE, np.float32(0))
    frame = frame_of(WHOLE)
    found = reconciled(net, [(half, 3.0), (WHOLE, 1.0)], frame, frame, STILL)
    assert found[WHOLE > 0].mean() > 0.8
