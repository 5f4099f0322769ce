"""Paint told from what a palette does to the plate around it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.media.palette import without_palette
from PIL import Image

HEIGHT, WIDTH = 160, 240
Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def plate() -> Array:
    """A picture of soft shapes and some grain."""
    random = np.random.default_rng(3)
    busy = (cv2.GaussianBlur(random.random((HEIGHT, WIDTH, 3), np.float32), (0, 0), 6.0) - 0.5) * 5 + 0.5
    grain = random.normal(0, 0.01, busy.shape)
    return np.rint(np.clip(busy + grain, 0, 1) * 255).astype(np.float32) / np.float32(255)


def recoloured(plate: Array) -> tuple[Array, NDArray[np.bool_]]:
    where = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (90, 80), 40, 1, -1) > 0
    return np.where(where[..., None], plate[..., ::-1] * np.float32(0.8), plate), where


def indexed(picture: Array, colours: int, dither: Image.Dither, file: Path) -> Array:
    """The picture as a GIF gives it back."""
    image = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
    image.quantize(palette=image.quantize(colours), dither=dither).save(file)
    with Image.open(file) as read:
        return np.asarray(read.convert("RGB"), np.float32) / np.float32(255)


@pytest.mark.parametrize("colours", [256, 128])
@pytest.mark.parametrize("dither", [Image.Dither.NONE, Image.Dither.FLOYDSTEINBERG])
def test_palette_around_the_paint_is_no_paint(plate: Array, colours: int, dither: Image.Dither, tmp_path: Path) -> None:
    edit, where = recoloured(plate)
    read = indexed(edit, colours, dither, tmp_path / "key.gif")
    found = (without_palette(read, plate) != plate).any(axis=2)
    assert ((read != plate).any(axis=2) & ~where).sum() > 0.9 * (~where).sum()  # the palette changed most of it
    assert (found & where).sum() > 0.85 * (found | where).sum()
    assert (found & ~where).sum() < 0.03 * (~where).sum()


def test_picture_of_few_colours_of_its_own_is_all_paint(plate: Array) -> None:
    flat = np.zeros_like(plate)
    flat[:, : WIDTH // 2] = (0.9, 0.1, 0.2)
    assert without_palette(flat, plate) is flat


def test_picture_of_many_colours_is_left_as_it_is(plate: Array) -> None:
    edit, _ = recoloured(plate)
    assert without_palette(edit, plate) is edit
