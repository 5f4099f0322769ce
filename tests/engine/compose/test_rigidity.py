"""What a rigid object uncovers is not the object, though flow there follows it; an object with limbs keeps them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.flow import Field, warp
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte_net import MatteNet, motion_plane, object_motion
from paintover_engine.compose.measured_net import MeasuredNet
from paintover_engine.compose.rigidity import Rigidity, unlike_object
from paintover_engine.compose.tracker import segment

WIDTH, HEIGHT, STEP = 160, 96, 12
BODY = np.s_[30:66, 50:110]  # in the frame before; it moves STEP pixels to the left
UNCOVERED = np.s_[32:64, 104:110]
UNKNOWN = np.zeros((HEIGHT, WIDTH), np.float32)


def box(part: tuple[slice, slice], left: int = 0) -> NDArray[np.float32]:
    matte = UNKNOWN.copy()
    matte[part[0], part[1].start - left : part[1].stop - left] = 1
    return matte


def moved(before: NDArray[np.float32], limb: NDArray[np.float32] | None = None) -> tuple[Field, Evidence]:
    """The flow back to the frame before, and what it proposes: where the object was, it is unsure and half follows it.
    limb: (h, w), a part that stands still."""
    after, still = np.roll(before, -STEP, 1), UNKNOWN if limb is None else limb
    backward = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    backward[after > 0] = STEP, 0
    uncovered = (before > 0) & (after == 0)
    backward[uncovered] = 0.45 * STEP, 0
    backward[still > 0] = 0
    sure = np.where(uncovered & (still == 0), np.float32(0.02), np.float32(1))
    return backward, Evidence(np.maximum(warp(before, backward), still), sure)


def judged(before: NDArray[np.float32], backward: Field, prior: Evidence) -> tuple[Rigidity, NDArray[np.float32]]:
    """The object's rigidity, and what its motion excludes."""
    own = object_motion(backward, prior.matte)
    unlike = unlike_object(own, motion_plane(backward, prior.matte, own), before)
    rigidity = Rigidity().updated(prior, unlike)
    return rigidity, rigidity.excluded(unlike, prior.confidence, UNKNOWN)


def test_what_a_rigid_object_uncovers_is_excluded() -> None:
    before = box(BODY)
    rigidity, excluded = judged(before, *moved(before))
    assert rigidity.weight == 1
    assert excluded[UNCOVERED].min() > 0.8
    assert excluded[box(BODY, STEP) > 0].max() < 0.1


def test_object_with_limbs_loses_nothing() -> None:
    limb = box((slice(66, 84), slice(70, 80)))
    rigidity, excluded = judged(np.maximum(box(BODY), limb), *moved(box(BODY), limb))
    assert rigidity.weight == 0
    assert not excluded.any()


def test_what_a_rigid_object_carries_along_is_held_in_any_light() -> None:
    """Nothing but its motion says so: the prior is unsure of a part that the sun reaches."""
    before = box(BODY)
    backward, prior = moved(before)
    own, after = object_motion(backward, prior.matte), box((slice(34, 62), slice(42, 94))) > 0
    motion, everywhere = motion_plane(backward, prior.matte, own), np.ones_like(UNKNOWN)
    held = Rigidity(100, 100).carried(own, motion, before, everywhere)
    assert held[after].min() > 0.9
    assert held[box(BODY, STEP) == 0].max() < 0.1
    assert not Rigidity(90, 100).carried(own, motion, before, everywhere).any()
    assert not Rigidity(100, 100).carried(own, -motion, before, everywhere)[after].any()


def test_what_comes_from_behind_a_pole_is_not_excluded() -> None:
    rigid = Rigidity(100, 100)
    nowhere, differs = np.ones_like(UNKNOWN), np.full_like(UNKNOWN, 4)
    assert not rigid.excluded(nowhere, UNKNOWN, differs).any()
    assert rigid.excluded(nowhere, UNKNOWN, UNKNOWN).all()


def test_uncovered_ground_like_the_object_is_left() -> None:
    noise = np.random.default_rng(4).random((2 * HEIGHT, 2 * WIDTH, 3), np.float32)
    ground = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 0.5) * 300 + 190, 0, 255).astype(np.uint8)
    dark = np.clip((cv2.GaussianBlur(noise[::-1], (0, 0), 3) - 0.5) * 300 + 70, 0, 255).astype(np.uint8)
    key, shown = ground.copy(), ground.copy()
    before = box(BODY)
    key[60:132, 100:220] = dark[60:132, 100:220]
    shown[60:132, 76:196] = dark[60:132, 100:220]
    shown[60:132, 196:220] = dark[10:82, 20:44]  # what it uncovers looks as it does
    backward, prior = moved(before)
    still = np.zeros_like(backward)
    edit = MeasuredNet.of(AnalysisFrame(key), before, still, still).edit(before, False)
    frame, warped = AnalysisFrame(shown), warp(AnalysisFrame(key).lab, backward)
    motion = motion_plane(backward, prior.matte)
    clings = segment(MatteNet(edit.net), prior, frame, warped, motion).matte
    left = segment(MatteNet(edit.net), prior, frame, warped, motion, plain=-judged(before, backward, prior)[1]).matte
    assert clings[UNCOVERED].mean() > 0.5
    assert left[UNCOVERED].mean() < 0.1
    assert left[box(BODY, STEP) > 0].mean() > 0.95
