"""The matte of paint that comes in a compressed picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.compressed_paint import separated
from paintover_engine.compose.matte import difference_matte
from paintover_engine.compose.paint import Paint, analysed

HEIGHT, WIDTH = 160, 240

Picture = NDArray[np.float32]


@pytest.fixture(scope="module")
def plate() -> Picture:
    """A busy picture in whole steps of 1/255."""
    noise = np.random.default_rng(3).random((HEIGHT, WIDTH, 3), np.float32)
    busy = (cv2.GaussianBlur(noise, (0, 0), 2.0) - 0.5) * 3 + 0.5
    return np.rint(np.clip(busy, 0, 1) * 255).astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def inside() -> NDArray[np.bool_]:
    disc = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (120, 80), 50, 1, -1)
    return np.asarray(disc > 0)


def coded(picture: Picture, ending: str, quality: int) -> Picture:
    kind = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}[ending]
    file = cv2.imencode(ending, np.rint(picture[..., ::-1] * 255), [kind, quality])[1]
    return cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / np.float32(255)


def recoloured(plate: Picture) -> Picture:
    return np.asarray(np.clip(plate[..., [2, 0, 1]] * [1.1, 0.9, 1.0] + [0.05, 0, 0.1], 0, 1), np.float32)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(("ending", "quality"), [(".jpg", 75), (".jpg", 60), (".webp", 75)])
def test_edge_of_a_recolour_is_found_again(
    plate: Picture, inside: NDArray[np.bool_], ending: str, quality: int
) -> None:
    picture = coded(np.where(inside[..., None], recoloured(plate), plate), ending, quality)
    first = difference_matte(plate, picture)
    matte = separated(plate, picture, first)
    assert overlap(matte > 0.5, inside) > 0.96
    assert overlap(matte > 0.5, inside) > overlap(first > 0.5, inside)


def test_compression_makes_no_drawing_of_a_recolour(plate: Picture, inside: NDArray[np.bool_]) -> None:
    picture = coded(np.where(inside[..., None], recoloured(plate), plate), ".jpg", 40)
    matte = inside.astype(np.float32)
    kinds = [analysed(Paint.of(plate, picture, matte, False, compressed), "auto").drawn for compressed in (True, False)]
    assert kinds == [False, True]


@pytest.mark.parametrize("pitch", [3, 12])
def test_a_drawing_stays_one(plate: Picture, inside: NDArray[np.bool_], pitch: int) -> None:
    """Squares of two colours, and hatching finer than the blocks of compression."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    squares = np.where(((x // pitch + y // pitch) % 2 == 0)[..., None], [0.9, 0.9, 0.6], [0.1, 0.1, 0.4])
    picture = coded(np.where(inside[..., None], squares, plate).astype(np.float32), ".jpg", 75)
    first = difference_matte(plate, picture)
    assert separated(plate, picture, first) is first
    assert analysed(Paint.of(plate, picture, inside.astype(np.float32), False, compressed=True), "auto").drawn
