from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_engine.compose.matte import (
    apply_coefficients,
    difference_matte,
    extend,
    feathered,
    guided_coefficients,
    sharpen,
    speck_size,
    without_specks,
)


def plate(seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).random((80, 120, 3), np.float32)
    return np.rint(cv2.GaussianBlur(noise, (0, 0), 2) * 255).astype(np.float32) / 255


def test_difference_matte_is_exactly_0_outside_paint() -> None:
    base, edited = plate(), plate()
    edited[20:50, 30:70] = (0.9, 0.1, 0.1)
    matte = difference_matte(base, edited)
    assert (matte[20:50, 30:70] == 1).all()
    matte[20:50, 30:70] = 0
    assert not matte.any()


def test_soft_paint_has_a_soft_matte() -> None:
    base = np.full((80, 120, 3), 0.5, np.float32)
    fade = np.clip(np.linspace(-0.05, 0.2, 120), 0, None).astype(np.float32)
    matte = difference_matte(base, base + fade[None, :, None])
    row = matte[40]
    assert row[0] == 0
    assert row[-1] == 1
    assert (np.diff(row) >= 0).all()
    assert ((row > 0.1) & (row < 0.9)).sum() >= 5


def test_compression_noise_is_not_paint() -> None:
    base = plate()
    edited = (base * 255).astype(np.uint8)
    edited[20:60, 30:80] = (230, 30, 30)
    coded = cv2.imencode(".jpg", edited, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    matte = difference_matte(base, cv2.imdecode(coded, cv2.IMREAD_COLOR).astype(np.float32) / 255)
    assert matte[25:55, 35:75].min() == 1
    assert (matte[:, 95:] > 0).mean() < 0.05


def test_specks_and_pinholes_are_removed() -> None:
    matte = np.zeros((60, 60), np.float32)
    matte[10:40, 10:40] = 1
    matte[20:22, 20:22] = 0
    matte[50:52, 50:52] = 1
    cleaned = without_specks(matte, 12)
    assert cleaned[10:40, 10:40].min() == 1
    assert cleaned[50:52, 50:52].max() == 0


def test_large_holes_stay() -> None:
    matte = np.ones((60, 60), np.float32)
    matte[20:40, 20:40] = 0
    assert without_specks(matte, 12)[25:35, 25:35].max() == 0


def test_guided_filter_moves_edge_to_picture_edge() -> None:
    guide = np.zeros((40, 60, 3), np.float32)
    guide[:, 30:] = 0.8
    slipped = np.zeros((40, 60), np.float32)
    slipped[:, 32:] = 1
    found = apply_coefficients(guided_coefficients(guide, slipped, 6, 1e-4), guide)
    step = np.abs(np.diff(found[20]))
    assert step.argmax() == 29


def test_extend_fills_unknown_and_keeps_known_pixels() -> None:
    picture = np.zeros((32, 32, 3), np.float32)
    picture[:, :16], picture[:, 16:] = 0.2, 0.8
    known = np.ones((32, 32), np.float32)
    known[10:20, 4:28] = 0
    filled = extend(picture * known[..., None], known)
    assert np.array_equal(filled[known > 0], picture[known > 0])
    assert filled[15, 5].mean() < 0.4
    assert filled[15, 26].mean() > 0.6


def test_sharpen_and_feather_stay_in_range() -> None:
    matte = cv2.GaussianBlur(np.pad(np.ones((20, 20), np.float32), 10), (0, 0), 3)
    sharp = sharpen(matte, 2)
    assert sharp.min() == 0
    assert sharp.max() == 1
    assert (feathered(sharp, 5) <= sharp).all()
    assert feathered(sharp, 0) is sharp


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 2)])
def test_mattes_of_tiny_pictures(shape: tuple[int, int]) -> None:
    base = np.full((*shape, 3), 0.4, np.float32)
    assert difference_matte(base, base + 0.4).shape == shape
    assert extend(base, np.ones(shape, np.float32)).shape == base.shape


def test_faint_grade_is_not_taken_for_noise() -> None:
    base = plate()
    graded = np.rint((base * (0.94, 1.0, 1.04)) * 255).astype(np.float32) / 255
    changed = np.abs(graded - base).max(-1) > 3 / 255
    assert (difference_matte(base, graded)[changed] > 0).mean() > 0.9


def test_faint_paint_beside_strong_paint_is_found() -> None:
    clean = cv2.resize(plate(3), (240, 160), interpolation=cv2.INTER_NEAREST)
    painted = clean.copy()
    painted[10:80, 10:90] = (0.9, 0.1, 0.2)
    painted[100:140, 60:180] += 2 / 255
    assert (difference_matte(clean, painted) > 0)[100:140, 60:180].all()


def test_speck_is_half_the_smallest_part_or_a_share_of_a_large_one() -> None:
    region = np.zeros((80, 80), np.float32)
    region[5:65, 5:65] = 1
    assert speck_size(region, 12) == 12
    assert speck_size(region, 12, 0.02) == 72
    region[70:74, 70:72] = 1
    assert speck_size(region, 12, 0.02) == 4
