"""Motion over several frames: what it finds, which way it leads, and which of several motions a matte is taken by."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.long_range import (
    Evidence,
    Hop,
    HopChunk,
    LongRangeMotion,
    estimate_hops,
    motion_error,
    proposed,
)

WIDTH, HEIGHT, SHIFT, HOP, PAIRS = 160, 96, 2, 4, 5
POLE = np.s_[:, 60:90]


def textured(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).random((height, width, 3), np.float32)
    return np.asarray(np.clip((cv2.GaussianBlur(noise, (0, 0), 5) - 0.5) * 1500 + 128, 0, 255), np.uint8)


def frames() -> list[AnalysisFrame]:
    """A texture that slides left by `SHIFT` flow pixels a frame; the last frame has a pole before it."""
    wide = textured(2 * WIDTH + 60, 2 * HEIGHT, 1)
    shown = []
    for number in range(PAIRS + HOP):
        sharp = np.ascontiguousarray(wide[:, 2 * SHIFT * number : 2 * SHIFT * number + 2 * WIDTH])
        if number == PAIRS + HOP - 1:
            sharp[:, 2 * POLE[1].start : 2 * POLE[1].stop] = (20, 90, 20)
        shown.append(AnalysisFrame(sharp))
    return shown


@functools.lru_cache(1)
def chunk() -> HopChunk:
    shown = frames()
    return estimate_hops(HOP, (0, PAIRS - 1), lambda number: shown[number], lambda: None)


@pytest.mark.parametrize(("step", "number", "to"), [(1, HOP, 0), (-1, 0, HOP)])
def test_hop_leads_to_the_keyframes_side(step: int, number: int, to: int) -> None:
    motion = LongRangeMotion([((0, PAIRS - 1), HOP, chunk())], step, (WIDTH, HEIGHT))
    ((found, hop),) = motion.hops(number)
    assert found == to
    inside = np.s_[16:-16, 24:-24]
    assert np.abs(np.median(hop.backward[inside], (0, 1)) - (step * SHIFT * HOP, 0)).max() < 0.3
    assert hop.error[inside].mean() < 1


@pytest.mark.parametrize(("gain", "same"), [(0.5, 1.0), (0.9, 0.6)])
def test_dimmed_light_is_no_error_of_the_motion(gain: float, same: float) -> None:
    """Nor where much of the picture is another, which dimmed or not no flow explains."""
    shown, end = frames()[: HOP + 1], int(same * WIDTH)
    last = shown[-1].sharp.copy()
    last[:, 2 * end :] = textured(2 * WIDTH, 2 * HEIGHT, 9)[:, 2 * end :]
    shown[-1] = AnalysisFrame((last * gain).astype(np.uint8))
    found = estimate_hops(HOP, (0, 0), lambda number: shown[number], lambda: None)
    ((_, hop),) = LongRangeMotion([((0, 0), HOP, found)], 1, (WIDTH, HEIGHT)).hops(HOP)
    assert hop.error[16:-16, 24 : end - 24].mean() < 1


def test_hops_join_anchors_alone() -> None:
    motion = LongRangeMotion([((0, PAIRS - 1), HOP, chunk())], 1, (WIDTH, HEIGHT))
    assert [number for number in range(HOP + PAIRS + HOP) if list(motion.hops(number))] == [HOP, 2 * HOP]


def test_error_is_large_behind_an_occluder() -> None:
    motion = LongRangeMotion([((0, PAIRS - 1), HOP, chunk())], 1, (WIDTH, HEIGHT))
    ((_, hop),) = motion.hops(HOP + PAIRS - 1)
    pole = hop.error[20:-20, 66:84]
    assert np.median(pole) > 3
    assert np.median(hop.error[20:-20, 110:150]) < 1


def test_error_is_largest_outside_the_picture() -> None:
    lab = np.zeros((32, 40, 3), np.float32)
    flow = np.zeros((32, 40, 2), np.float32)
    flow[..., 0] = 30
    error = motion_error(flow, -flow, lab, lab)
    assert error[:, 11:].min() > 30
    assert error[:, :10].max() < 0.01


def plane(value: float) -> NDArray[np.float32]:
    return np.full((8, 10), value, np.float32)


STILL = np.zeros((8, 10, 2), np.float32)


def test_matte_is_taken_by_the_right_motion() -> None:
    known = [
        (Hop(STILL, plane(12)), Evidence(plane(0), plane(1))),
        (Hop(STILL, plane(0.5)), Evidence(plane(1), plane(1))),
    ]
    found = proposed(known)
    assert found.matte.min() > 0.99
    assert found.confidence.min() > 0.8


def test_motions_that_are_all_wrong_count_alike() -> None:
    found = proposed([(Hop(STILL, plane(31)), Evidence(plane(value), plane(1))) for value in (0, 1)])
    assert np.allclose(found.matte, 0.5, atol=1e-3)
    assert found.confidence.max() < 0.01


def test_certain_matte_outweighs_a_guess() -> None:
    guess, sure = Evidence(plane(1), plane(0.05)), Evidence(plane(0), plane(1))
    found = proposed([(Hop(STILL, plane(0)), guess), (Hop(STILL, plane(1)), sure)])
    assert found.matte.max() < 0.2
    alone = proposed([(Hop(STILL, plane(0)), guess)])
    assert np.allclose(alone.matte, 1)
    assert np.allclose(alone.confidence, 0.05)


def test_small_errors_of_motion_do_not_add_up_to_doubt() -> None:
    found = Evidence(plane(1), plane(1))
    for _ in range(30):
        found = proposed([(Hop(STILL, plane(1)), found)])
    assert found.confidence.min() == 1
    assert proposed([(Hop(STILL, plane(8)), found)]).confidence.max() < 0.3


def test_what_comes_in_across_the_border_goes_on_as_what_lay_there() -> None:
    out = STILL + np.float32((0, -9))  # the camera turns up
    half = plane(0)
    half[:, :5] = 1
    found = proposed([(Hop(out, plane(31)), Evidence(half, plane(1)))])
    assert np.allclose(found.matte, half)
    assert found.confidence.min() == 0.5
    sideways = proposed(
        [(Hop(out, plane(31)), Evidence(half, plane(1))), (Hop(STILL, plane(31)), Evidence(half, plane(1)))]
    )
    assert sideways.confidence.max() < 0.01


def test_unpainted_part_is_carried_along_and_the_certainty_of_motion_is_its_own() -> None:
    doubtful = Evidence(plane(0), plane(0.2), plane(1))
    found = proposed([(Hop(STILL, plane(0)), doubtful), (Hop(STILL, plane(31)), doubtful)])
    assert found.unpainted is not None
    assert found.unpainted.min() > 0.99
    assert found.motion.min() == 1
    assert found.confidence.max() < 0.3
    assert proposed([(Hop(STILL, plane(31)), doubtful)]).motion.max() < 0.01
    assert proposed([(Hop(STILL, plane(0)), Evidence(plane(0), plane(1)))]).unpainted is None
