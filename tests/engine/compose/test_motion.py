"""Motion between neighbouring frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_engine.compose import motion
from paintover_engine.compose.analysis_frame import AnalysisFrame

SIZE = 40
"""Pixels of a square's side, in the flow's grid."""


def textured(height: int, width: int, seed: int, coarseness: float) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), coarseness)
    low, high = smooth.min(), smooth.max()
    return np.asarray((smooth - low) / (high - low) * 255, np.uint8)


def shot(places: list[int]) -> list[AnalysisFrame]:
    """A square that flies over a still, paler background. places: how far to the right it is in each frame."""
    background, square = textured(360, 640, 1, 3), textured(2 * SIZE, 2 * SIZE, 2, 2)
    background = np.asarray(60 + 0.3 * background, np.uint8)
    frames = []
    for place in places:
        picture = background.copy()
        picture[100 : 100 + 2 * SIZE, 2 * place : 2 * (place + SIZE)] = square
        frames.append(AnalysisFrame(picture))
    return frames


def velocities(places: list[int]) -> list[float]:
    """Of the square, in each pair, by the median of the flow back from its middle."""
    chunk = motion.estimate(0, iter(shot(places)), lambda: None)
    middles = [slice(place + 6, place + SIZE - 6) for place in places[1:]]
    return [
        float(-np.median(back[56 : 50 + SIZE - 6, middle, 0])) / 32
        for back, middle in zip(chunk.backward, middles, strict=True)
    ]


def test_what_is_fast_and_speeds_up_is_followed_by_its_motion_in_the_pair_before() -> None:
    assert velocities([20, 32, 56, 92, 140]) == pytest.approx([12, 24, 36, 48], abs=1)


def test_what_is_fast_and_slows_down_is_followed_by_its_motion_in_the_pair_behind() -> None:
    assert velocities([20, 52, 76, 92]) == pytest.approx([32, 24, 16], abs=1)


def test_a_glance_is_at_the_nearest_other_picture() -> None:
    frames = shot([20, 20, 28, 44])
    moved, returned = motion.glance(frames[0], frames[1:])
    assert float(np.median(moved[56 : 50 + SIZE - 6, 26 : 20 + SIZE - 6, 0])) == pytest.approx(8, abs=1)
    assert float(np.median(returned[60 : 50 + SIZE - 2, 36 : 28 + SIZE - 2, 0])) == pytest.approx(-8, abs=1)
    assert not any(each.any() for each in motion.glance(frames[0], frames[:2]))


def test_chunks_are_read_when_they_are_needed() -> None:
    places = [20, 24, 28, 32, 36]
    chunk, read = motion.estimate(0, iter(shot(places)), lambda: None), list[int]()

    def reading(first: int) -> motion.FlowChunk:
        read.append(first)
        return chunk

    moved = motion.Motion([((first, first + 3), lambda first=first: reading(first)) for first in (0, 4)], 1)
    assert moved.covers(8) and not moved.covers(9) and not read
    moved.to_keyframe_side(2)
    moved.over(0, 4)
    assert read == [0]


def test_a_motion_that_ends_is_not_continued() -> None:
    assert velocities([20, 28, 44, 44, 44]) == pytest.approx([8, 16, 0, 0], abs=1)


def test_a_camera_that_shakes_is_followed() -> None:
    """The velocity of the pair before is the wrong way each time."""
    wide = textured(400, 700, 1, 4)
    frames = [AnalysisFrame(wide[20:380, x : x + 640].copy()) for x in (0, 40, 0, 40, 0)]
    chunk = motion.estimate(0, iter(frames), lambda: None)
    for pair in range(4):
        flow = np.median(chunk.forward[pair, 40:140, 60:260].reshape(-1, 2), axis=0) / 32
        assert flow == pytest.approx((-20 if pair % 2 == 0 else 20, 0), abs=0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_jump_is_found_where_flow_leaves_little_of_the_picture_unexplained(seed: int) -> None:
    """Most of the contrast is that of a sky above the ground, which any motion explains."""
    rng = np.random.default_rng(seed)
    wide = np.linspace(60, 150, 360)[:, None, None] + 0.1 * textured(360, 1000, seed, 12)
    for index in range(14):
        x, y = rng.integers(0, 960), rng.integers(20, 320)
        wide[y : y + 36, x : x + 24] += 0.8 * (textured(36, 24, 100 + index, 3) - 128.0)
    sharp = np.clip(wide, 0, 255).astype(np.uint8)
    frames = [AnalysisFrame(sharp[:, x : x + 640].copy()) for x in (0, 4, 8, 128, 132)]
    chunk = motion.estimate(0, iter(frames), lambda: None)
    assert chunk.jump.tolist() == [0, 0, 1, 0]
    assert float(np.median(np.abs(chunk.backward[2][:, 70:, 0] / 32 - 60))) < 1


@pytest.mark.parametrize("size", [80, 120])
def test_what_moves_otherwise_goes_on_to_do_so_in_a_jump(size: int) -> None:
    """A square that flies on while the camera jumps."""
    ground, square = textured(360, 1100, 1, 3), textured(size, size, 2, 3)
    frames = []
    for number in range(5):
        camera = 4 * number + 130 * (number > 2)
        picture, place = ground[:, camera : camera + 640].copy(), 420 + 24 * number - camera
        picture[150 : 150 + size, place : place + size] = square
        frames.append(AnalysisFrame(picture))
    chunk = motion.estimate(0, iter(frames), lambda: None)
    assert chunk.jump.tolist() == [0, 0, 1, 0]
    left, inner = (420 + 24 * 3 - 142) // 2, size // 2 - 6
    inside = chunk.backward[2][75 + 6 : 75 + inner, left + 6 : left + inner, 0] / 32
    assert float(np.median(inside)) == pytest.approx((134 - 24) / 2, abs=1)
