from __future__ import annotations

import cv2
import numpy as np
from paintover_engine.compose.flow import (
    FlowEstimator,
    affine_motion,
    consistency,
    endpoints,
    flow_size,
    is_cut,
    magnitudes,
    pack,
    unexplained,
    unpack,
    warp,
)


def textured(seed: int = 1, width: int = 200, height: int = 120) -> np.ndarray:
    noise = np.random.default_rng(seed).random((height, width, 3), np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 2) - 0.5) * 700 + 128, 0, 255).astype(np.uint8)


def grey(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def test_flow_is_accurate_to_a_tenth_of_a_pixel() -> None:
    wide = grey(textured())
    flow = FlowEstimator().between(np.ascontiguousarray(wide[:, 10:170]), np.ascontiguousarray(wide[:, 6:166]))
    assert np.abs(np.median(flow[..., 0]) - 4) < 0.1
    assert np.abs(np.median(flow[..., 1])) < 0.1


def test_packed_flow_is_exact_to_a_32nd() -> None:
    flow = np.random.default_rng(1).normal(0, 40, (30, 40, 2)).astype(np.float32)
    assert np.abs(unpack(pack(flow)) - flow).max() <= 1 / 64 + 1e-6


def test_warp_samples_at_flow_endpoints() -> None:
    picture = np.arange(20, dtype=np.float32)[None].repeat(5, 0)
    flow = np.zeros((5, 20, 2), np.float32)
    flow[..., 0] = 2.5
    assert np.allclose(warp(picture, flow)[2, :16], np.arange(16) + 2.5, atol=0.02)
    assert np.allclose(endpoints(flow, (3, 1, 20, 5))[0, 0], (5.5, 1))


def test_occluded_pixels_are_inconsistent() -> None:
    there = np.zeros((20, 40, 2), np.float32)
    back = np.zeros_like(there)
    back[:, 20:, 0] = 8
    confidence = consistency(there, back)
    assert confidence[:, :18].min() > 0.99
    assert confidence[:, 22:].max() < 0.01


def test_pixels_leaving_the_frame_are_inconsistent() -> None:
    there = np.zeros((10, 30, 2), np.float32)
    there[..., 0] = 12
    confidence = consistency(there, -there)
    assert confidence[:, :15].min() > 0.99
    assert confidence[:, 20:].max() == 0


def test_robust_affine_motion_ignores_outliers() -> None:
    field = np.zeros((60, 80, 2), np.float32)
    field[..., 0] = 0.05 * np.arange(80)
    field[20:40, 10:30] = 15
    motion = affine_motion(field, np.ones((60, 80), np.float32), robust=True)
    assert np.abs(motion[:, 40:] - field[:, 40:]).max() < 0.3


def test_cut_is_found_but_not_pan_or_flash() -> None:
    first, other = textured(), 255 - textured(2) // 3
    estimator = FlowEstimator()

    def cut(a: np.ndarray, b: np.ndarray) -> bool:
        flow = estimator.between(grey(a), grey(b))
        return is_cut(a, b, unexplained(grey(a), grey(b), flow))

    assert cut(first, other)
    assert not cut(np.ascontiguousarray(first[:, :150]), np.ascontiguousarray(first[:, 12:162]))
    assert not cut(first, np.clip(first.astype(int) + 35, 0, 255).astype(np.uint8))


def test_flow_size_is_limited() -> None:
    assert max(flow_size(7680, 4320)) == max(flow_size(1920, 1080))
    assert flow_size(1, 1) == (1, 1)
    assert flow_size(40, 30) == (20, 15)


def test_consistency_within_bounds_equals_the_whole() -> None:
    rng = np.random.default_rng(2)
    there, back = (cv2.GaussianBlur(rng.normal(0, 9, (30, 50, 2)).astype(np.float32), (0, 0), 3) for _ in range(2))
    whole = consistency(there, back)
    part = consistency(np.ascontiguousarray(there[4:24, 7:37]), back, (7, 4, 30, 20))
    assert np.allclose(part, whole[4:24, 7:37], atol=1e-5)


def test_lengths_do_not_depend_on_memory_alignment() -> None:
    """cv2.magnitude's last bit does, which made one input give two results."""
    for shape in ((95, 193), (52, 140), (180, 320)):
        field = np.random.default_rng(3).normal(0, 3, (*shape, 2)).astype(np.float32)
        at_any_place = []
        for offset in (0, 4, 16, 32, 48):
            memory = np.empty(field.nbytes + 128, np.uint8)
            start = -memory.ctypes.data % 64 + offset
            moved = memory[start : start + field.nbytes].view(np.float32).reshape(field.shape)
            moved[...] = field
            at_any_place.append(magnitudes(moved).tobytes())
        assert len(set(at_any_place)) == 1
        x, y = field[..., 0].astype(np.float64), field[..., 1].astype(np.float64)
        assert np.allclose(magnitudes(field), np.hypot(x, y), rtol=1e-6)
