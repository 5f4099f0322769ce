from __future__ import annotations

import cv2
import numpy as np
from paintover_engine.compose.analysis_frame import cielab
from paintover_engine.compose.flow import warp
from paintover_engine.compose.matte_net import MatteNet, Shown, feature_planes, motion_plane, train
from paintover_engine.methods.tensors import to_tensors

SHAPE = (90, 140)


def picture() -> tuple[np.ndarray, np.ndarray]:
    """A reddish disc on greenish texture, and its matte."""
    noise = np.random.default_rng(3).normal(0, 12, (*SHAPE, 3))
    matte = np.zeros(SHAPE, np.float32)
    cv2.circle(matte, (70, 45), 22, 1.0, -1)
    colour = np.where(matte[..., None] > 0, (170, 90, 80), (80, 120, 70))
    return np.clip(colour + noise, 0, 255).astype(np.uint8), matte


def still() -> np.ndarray:
    return np.zeros((*SHAPE, 2), np.float32)


def inside(net: MatteNet, now: np.ndarray, prior: np.ndarray, motion: np.ndarray) -> np.ndarray:
    return net.odds(feature_planes(cielab(now), cielab(now), prior, motion), np.ones(SHAPE, bool)) > 0


def test_displaced_matte_is_corrected() -> None:
    now, matte = picture()
    slip = np.full((*SHAPE, 2), 4.0, np.float32)
    slipped = warp(matte, slip)
    net = MatteNet(train(Shown(cielab(now), matte, still())))
    found = inside(net, now, slipped, motion_plane(still(), slipped))
    wrong = (found != (matte > 0.5)).mean()
    assert wrong < 0.4 * ((slipped > 0.5) != (matte > 0.5)).mean()


def test_training_is_deterministic() -> None:
    now, matte = picture()
    first, second = train(Shown(cielab(now), matte, still())), train(Shown(cielab(now), matte, still()))
    one, other = to_tensors(first), to_tensors(second)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_motion_decides_where_appearance_cannot() -> None:
    now = np.clip(np.random.default_rng(4).normal(110, 15, (*SHAPE, 3)), 0, 255).astype(np.uint8)
    _, matte = picture()
    prior = warp(matte, np.full((*SHAPE, 2), 3.0, np.float32))
    net = MatteNet(train(Shown(cielab(now), matte, still())))
    found = inside(net, now, prior, motion_plane(still(), prior))
    assert (found != (prior > 0.5)).mean() < 0.03


def test_motion_plane_separates_object_from_ground() -> None:
    _, matte = picture()
    home = still()
    home[matte > 0.5] = (6, 0)
    plane = motion_plane(home, matte)
    assert plane[matte > 0.9].mean() > 0.8
    assert plane[matte < 0.1].mean() < -0.8


def test_new_surroundings_are_learned() -> None:
    now, matte = picture()
    net = MatteNet(train(Shown(cielab(now), matte, still())))
    changed = now.copy()
    changed[matte < 0.5] = np.clip(changed[matte < 0.5].astype(int) + np.array((75, -25, 10)), 0, 255)
    motion = motion_plane(still(), matte)
    looks = cielab(changed)
    planes = feature_planes(looks, looks, matte, motion)
    unsure = feature_planes(looks, looks, np.full(SHAPE, 0.5, np.float32), motion * 0)
    before = (net.odds(unsure, np.ones(SHAPE, bool)) > 0)[matte < 0.1].mean()
    rng = np.random.default_rng(0)
    for _ in range(40):
        net.learn(planes, matte < 0.1, matte > 0.9, rng)
    after = (net.odds(unsure, np.ones(SHAPE, bool)) > 0)[matte < 0.1].mean()
    assert after < max(0.05, 0.5 * before)
