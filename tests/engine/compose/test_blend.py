"""What two keyframes paint on a frame between them: colours dissolve, structure does not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.blend import _aligned, _merged
from paintover_engine.compose.layer import Picture
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.matte_net import MatteNet, Shown, train
from paintover_engine.compose.reconcile import Side, reconciled

SIZE = (96, 128)


def even(value: float) -> Picture:
    return np.full((*SIZE, 3), value, np.float32)


def box(left: int, right: int) -> Plane:
    matte = np.zeros(SIZE, np.float32)
    matte[30:70, left:right] = 1
    return matte


def test_even_colours_are_dissolved() -> None:
    matte = box(20, 100)
    painted, alpha = _merged(((even(0.2), matte), (even(0.4), matte)), np.float32(0.25))
    assert np.allclose(alpha, matte, atol=1e-3)
    assert painted[50, 60, 0] == pytest.approx(0.25, abs=0.01)


def test_mattes_that_differ_are_not_half_transparent() -> None:
    painted, alpha = _merged(((even(0.2), box(20, 60)), (even(0.2), box(60, 100))), np.float32(0.3))
    assert alpha[50, 40] > 0.95  # the surer one's
    assert alpha[50, 80] < 0.05
    assert painted[50, 40, 0] == pytest.approx(0.2, abs=0.01)


def test_paint_that_lies_elsewhere_is_aligned() -> None:
    marks = [np.where(box(40 + shift, 60 + shift)[..., None] > 0, np.float32(0.9), even(0.1)) for shift in (0, 4)]
    whole = np.ones(SIZE, np.float32)
    ground = cv2.GaussianBlur(np.random.default_rng(0).random((*SIZE, 3), np.float32), (0, 0), 2)
    (first, _), (second, _) = _aligned(((marks[0], whole), (marks[1], whole)), 0.5, ground)
    assert np.abs(first - second).mean() < 0.4 * np.abs(marks[0] - marks[1]).mean()


def test_network_of_both_keyframes_decides_where_mattes_differ() -> None:
    disc = np.asarray(cv2.circle(np.zeros(SIZE, np.float32), (64, 48), 22, 1.0, -1))
    noise = np.random.default_rng(1).normal(0, 6, (*SIZE, 1))
    picture = np.clip(np.where(disc[..., None] > 0, (200, 60, 50), (60, 110, 80)) + noise, 0, 255).astype(np.uint8)
    frame = AnalysisFrame(cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST))
    still = np.zeros((*SIZE, 2), np.float32)
    net = MatteNet(train(Shown(frame.lab, disc, still), Shown(frame.lab, disc, still)))
    half = disc * (np.arange(SIZE[1]) < 64)
    sides = [Side(Evidence(matte, np.ones_like(disc)), 1.0, 0.0, 0, 1) for matte in (half.astype(np.float32), disc)]
    found = reconciled(net, sides, frame, frame, still).matte
    missing, blend = np.abs(found - disc)[disc > half].mean(), 0.5
    assert missing < 0.3 * blend
