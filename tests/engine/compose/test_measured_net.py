"""How well a keyframe's network knows the edge of what is painted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.matte_net import Shown, train
from paintover_engine.compose.measured_net import firmness
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

SIDE = 96
OBJECT = np.s_[24:72, 24:72]


def firm(painted: tuple[slice, slice], turns: int) -> float:
    """`firmness` on a bright object of one texture before a dark ground of the same, turned by quarters."""
    texture = cv2.GaussianBlur(np.random.default_rng(4).random((SIDE, SIDE, 3), np.float32), (0, 0), 3)
    picture = 0.5 * texture
    picture[OBJECT] += 0.4
    region: NDArray[np.float32] = np.zeros((SIDE, SIDE), np.float32)
    region[painted] = 1
    turned, here = (np.ascontiguousarray(np.rot90(plane, turns)) for plane in (picture, region))
    key = AnalysisFrame((np.repeat(np.repeat(turned, 2, 0), 2, 1) * 255).astype(np.uint8))
    still = np.zeros((SIDE, SIDE, 2), np.float32)
    with threadpool_limits(limits=1, user_api="blas"):  # as stages do
        return firmness(train(Shown(key.lab, here, still)), key, here, still)


@pytest.mark.parametrize("turns", [0, 1])
def test_an_object_is_firm_and_a_patch_of_its_surface_is_not(turns: int) -> None:
    assert firm(OBJECT, turns) > 0.7
    assert firm(np.s_[34:62, 34:62], turns) < 0.1
    assert 0.1 < firm(np.s_[24:72, 24:48], turns) < 0.8  # three edges are the object's
