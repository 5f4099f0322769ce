"""What stands before the background and moves with the object is a part of it, whatever it looks like."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from paintover_engine.compose import foreground
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.background import OTHER
from paintover_engine.compose.flow import Field, warp
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte_net import MatteNet, RelativeMotion
from paintover_engine.compose.measured_net import MeasuredNet
from paintover_engine.compose.tracker import segment

WIDTH, HEIGHT, STEP = 160, 96, 12
NONE = np.zeros((HEIGHT, WIDTH), np.float32)
BODY, SIDE = np.s_[30:66, 40:80], np.s_[30:66, 80:88]  # SIDE came into view
FAR = np.s_[10:22, 130:142]  # of which nothing is remembered


def ones(*parts: tuple[slice, slice]) -> NDArray[np.float32]:
    plane = NONE.copy()
    for part in parts:
        plane[part] = 1
    return plane


def seen(
    moving: NDArray[np.float32], matte: NDArray[np.float32], alarm: NDArray[np.float32], sure: float = 0.0
) -> NDArray[np.float32]:
    """The evidence of a frame in which `moving` moves, flow brings `matte`, and `alarm` looks unlike its background."""
    backward: Field = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    backward[moving > 0] = STEP, 0
    near = cv2.dilate(matte, np.ones((21, 21), np.uint8)).astype(np.uint8)
    behind = np.where(alarm > 0, np.float32(OTHER), np.float32(-6)) * (1 - ones(FAR))
    prior = Evidence(matte, np.full_like(matte, sure))
    return foreground.evidence(prior, behind, RelativeMotion.of(backward, matte), near)


def test_side_that_comes_into_view_is_the_object() -> None:
    found = seen(ones(BODY, SIDE), ones(BODY), ones(BODY, SIDE))
    assert found[SIDE].min() > 0.9
    assert found[ones(BODY, SIDE) == 0].max() < 0.1


def test_what_motion_surely_leaves_unpainted_stays_so() -> None:
    assert seen(ones(BODY, SIDE), ones(BODY), ones(BODY, SIDE), sure=0.9)[SIDE].max() < 0.01


def test_evidence_counts_less_where_it_is_seen_without_an_object() -> None:
    """A background that is not where it was expected differs everywhere."""
    moving = ones(np.s_[:, :100])
    misplaced = seen(moving, ones(BODY), moving)
    assert misplaced[SIDE].max() < 0.5


def test_what_moves_as_the_surroundings_does_not_cling() -> None:
    clinging = ones(BODY, FAR)
    found = seen(ones(BODY), clinging, ones(BODY))
    assert found[FAR].max() < -0.9
    assert seen(ones(BODY), clinging, ones(BODY), sure=1.0)[FAR].min() == 0  # what motion surely brings stays


def test_nothing_is_said_where_nothing_moves() -> None:
    assert np.abs(seen(NONE, ones(BODY), ones(BODY))).max() < 0.01


def test_matte_takes_in_a_side_of_another_colour() -> None:
    noise = np.random.default_rng(4).random((2 * HEIGHT, 2 * WIDTH, 3), np.float32)
    ground = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 0.5) * 300 + 120, 0, 255).astype(np.uint8)
    key, shown = ground.copy(), ground.copy()
    key[60:132, 104:184] = 200, 40, 40
    shown[60:132, 80:160] = 200, 40, 40
    shown[60:132, 160:176] = 40, 60, 190
    before, body, side = ones(np.s_[30:66, 52:92]), ones(BODY), ones(SIDE)
    backward: Field = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    backward[body + side > 0] = STEP, 0
    edit = MeasuredNet.of(AnalysisFrame(key), before, backward, -backward).edit(before, False)
    prior = Evidence(body, np.full_like(body, 0.1))
    frame, warped = AnalysisFrame(shown), warp(AnalysisFrame(key).lab, backward)
    motion = RelativeMotion.of(backward, body).plane
    without = segment(MatteNet(edit.net), prior, frame, warped, motion).matte
    plain = seen(body + side, body, body + side)
    found = segment(MatteNet(edit.net), prior, frame, warped, motion, plain=plain).matte
    assert without[SIDE].mean() < 0.2
    assert found[SIDE].mean() > 0.9
    assert found[body + side == 0].mean() < 0.01
