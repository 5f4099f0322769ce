"""An object that moved too far for flow while frames did not show it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.exposure import NO_CHANGE
from paintover_engine.compose.flow import warp
from paintover_engine.compose.motion import Motion, estimate
from paintover_engine.compose.reacquire import reacquired
from paintover_engine.compose.scene import FrameEvent, SceneCursor, Step

from tests.engine.compose.test_flow import textured

BACKGROUND, OBJECT = textured(5, 420, 200), 255 - textured(8, 400, 240)[:40, :56]


def pictures(speed: int, growth: float, gap: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A pan, and an object that moves against it; all but the first two frames and the last two black. The same of the
    object's mattes, at the flow's size."""
    frames, mattes = [], []
    for number in range(gap + 4):
        frame, matte = BACKGROUND[:, 2 * number : 2 * number + 300].copy(), np.zeros((200, 300), np.float32)
        scale = growth**number
        object_ = cv2.resize(OBJECT, None, fx=scale, fy=scale)
        y, x = 60, 60 + speed * number
        frame[y : y + object_.shape[0], x : x + object_.shape[1]] = object_
        matte[y : y + object_.shape[0], x : x + object_.shape[1]] = 1
        frames.append(frame * (number < 2 or number >= gap + 2))
        mattes.append(cv2.resize(matte, (150, 100), interpolation=cv2.INTER_AREA))
    return frames, mattes


def across(frames: list[np.ndarray]) -> Step:
    """The step over the black frames."""
    shown = [AnalysisFrame(frame) for frame in frames]
    motion = Motion([((0, len(shown) - 2), estimate(0, iter(shown), lambda: None))], 1)
    scene = SceneCursor(0, NO_CHANGE, motion, shown.__getitem__, (0, len(shown) - 1))
    (found,) = (step for step in map(scene.advance, range(1, len(shown))) if step and step.events & FrameEvent.ACROSS)
    return found


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.minimum(first, second).sum() / np.maximum(first, second).sum())


@pytest.mark.parametrize(("speed", "growth", "gap"), [(14, 1.0, 3), (16, 1.03, 5), (12, 1.08, 5)])
def test_object_is_found_where_it_went(speed: int, growth: float, gap: int) -> None:
    frames, mattes = pictures(speed, growth, gap)
    step = across(frames)
    assert overlap(warp(mattes[step.before], step.backward), mattes[step.number]) < 0.6
    found = reacquired(step, mattes[step.before])
    assert found is not None
    assert overlap(warp(mattes[step.before], found.hop.backward), mattes[step.number]) > 0.85


def test_object_that_flow_followed_is_left_to_it() -> None:
    frames, mattes = pictures(1, 1.0, 3)
    step = across(frames)
    assert reacquired(step, mattes[step.before]) is None


def test_object_that_is_gone_is_not_found() -> None:
    frames, mattes = pictures(14, 1.0, 3)
    frames[-2:] = [np.ascontiguousarray(BACKGROUND[:, 2 * n : 2 * n + 300]) for n in (5, 6)]
    step = across(frames)
    assert reacquired(step, mattes[step.before]) is None
