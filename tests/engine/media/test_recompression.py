"""Paint told from what JPEG does to the plate around it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.media.recompression import encoder_of, is_lossy, without_compression
from PIL import Image

HEIGHT, WIDTH = 160, 240


@pytest.fixture(scope="module")
def plate() -> NDArray[np.float32]:
    """A busy picture of whole steps of 1/255."""
    noise = np.random.default_rng(3).random((HEIGHT, WIDTH, 3), np.float32)
    busy = (cv2.GaussianBlur(noise, (0, 0), 2.0) - 0.5) * 4 + 0.5
    return np.rint(np.clip(busy, 0, 1) * 255).astype(np.float32) / np.float32(255)


def painted(plate: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """With a disc and a thin line on it; and where those are."""
    where = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(where, (90, 80), 30, 1, -1)
    cv2.line(where, (150, 20), (220, 140), 1, 2)
    return np.where(where[..., None] > 0, np.float32([0.9, 0.1, 0.2]), plate), where > 0


def saved(picture: NDArray[np.float32], file: Path, **options: int) -> NDArray[np.float32]:
    """The picture as the file gives it back."""
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(file, **options)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


@pytest.mark.parametrize("quality", [50, 75, 92])
@pytest.mark.parametrize(("subsampling", "fringe"), [(0, 0.05), (2, 0.3)])  # 4:4:4 and 4:2:0, whose blocks are larger
def test_compression_around_the_paint_is_no_paint(
    plate: NDArray[np.float32], quality: int, subsampling: int, fringe: float, tmp_path: Path
) -> None:
    edit, where = painted(plate)
    file = tmp_path / "key.jpg"
    read = saved(edit, file, quality=quality, subsampling=subsampling)
    found = (without_compression(file, read, plate) != plate).any(axis=2)
    assert ((read != plate).any(axis=2) & ~where).sum() > 0.5 * (~where).sum()  # compression changed most of it
    assert (found & where).sum() > 0.97 * where.sum()
    beside = cv2.dilate(where.astype(np.uint8), np.ones((7, 7))) > 0  # where chroma's coarser samples mix
    assert (found & ~beside).sum() < fringe * where.sum()
    far = cv2.dilate(where.astype(np.uint8), np.ones((33, 33))) == 0  # beyond the blocks that the paint reaches into
    assert not found[far].any()


def test_untouched_blocks_are_the_same_to_the_last_bit(plate: NDArray[np.float32], tmp_path: Path) -> None:
    file = tmp_path / "key.jpeg"
    read = saved(plate, file, quality=60)
    encoder = encoder_of(file)
    assert encoder and np.array_equal(encoder.compressed(plate), read)


def test_other_files_are_taken_as_they_are(plate: NDArray[np.float32], tmp_path: Path) -> None:
    edit, _ = painted(plate)
    for name in ("key.png", "renamed.jpg"):
        read = saved(edit, tmp_path / "key.png")
        (tmp_path / name).write_bytes((tmp_path / "key.png").read_bytes())
        assert without_compression(tmp_path / name, read, plate) is read


def test_a_jpeg_without_paint_stays_as_it_is(plate: NDArray[np.float32], tmp_path: Path) -> None:
    file = tmp_path / "key.jpg"
    read = saved(plate, file, quality=75)
    assert without_compression(file, read, plate) is read


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("key.jpg", {"quality": 95}, True),
        ("key.webp", {"quality": 80}, True),
        ("key.gif", {}, True),
        ("key.webp", {"lossless": True}, False),
        ("key.png", {}, False),
        ("key.tif", {}, False),
    ],
)
def test_lossy_formats_are_known_by_content(
    plate: NDArray[np.float32], name: str, options: dict[str, int], lossy: bool, tmp_path: Path
) -> None:
    saved(plate, tmp_path / name, **options)
    (tmp_path / name).rename(tmp_path / "painted")
    assert is_lossy(tmp_path / "painted") is lossy


def test_a_palette_loses_colours(plate: NDArray[np.float32], tmp_path: Path) -> None:
    file = tmp_path / "key.png"
    Image.fromarray(np.rint(plate * 255).astype(np.uint8)).quantize(64).save(file)
    assert is_lossy(file)
