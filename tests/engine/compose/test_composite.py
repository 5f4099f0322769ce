from __future__ import annotations

import dataclasses
from typing import Any

import av
import numpy as np
import pytest
from paintover_engine.compose.composite import composite
from paintover_engine.media.plate import ImagePlate, Orientation, VideoPlate
from paintover_engine.media.video_picture import ColourTags, VideoPicture

RED = (1.0, 0.0, 0.0)


def image(dtype: Any, channels: int = 3, alpha: int | None = None, shape: tuple[int, int] = (20, 30)) -> ImagePlate:
    generator = np.random.default_rng(3)
    if np.issubdtype(dtype, np.integer):
        pixels = generator.integers(0, np.iinfo(dtype).max + 1, (*shape, channels)).astype(dtype)
    else:
        pixels = generator.uniform(-1.0, 20.0, (*shape, channels)).astype(dtype)
    colours = (0, 1, 2) if channels >= 3 else (0, 0, 0)
    return ImagePlate(5, pixels, colours, alpha, "")


def picture(pix_fmt: str, width: int = 31, height: int = 21, orientation: Orientation | None = None) -> VideoPlate:
    frame = av.VideoFrame(width, height, pix_fmt)
    frame.color_range, frame.colorspace = 1, 1
    generator = np.random.default_rng(4)
    like = VideoPicture.of(frame)
    low, high = 20 << (like.bits - 8), 230 << (like.bits - 8)
    planes = tuple(generator.integers(low, high, plane.shape).astype(plane.dtype) for plane in like.planes)
    return VideoPlate(5, dataclasses.replace(like, planes=planes), orientation or Orientation(), "")


def paint(height: int, width: int, colour: tuple[float, float, float], matte: Any) -> np.ndarray:
    painted = np.empty((height, width, 4), np.float16)
    painted[..., :3] = colour
    painted[..., 3] = matte
    return painted


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_samples_under_zero_matte_are_unchanged(dtype: Any) -> None:
    plate = image(dtype, 4, 3)
    before = plate.pixels.copy()
    matte = np.random.default_rng(0).choice([0.0, 0.0, 0.3, 1.0], (9, 11))
    result = composite(plate, paint(9, 11, RED, matte), (4, 7, 11, 9))
    assert isinstance(result, ImagePlate)
    assert np.array_equal(plate.pixels, before), "the plate itself was written to"
    assert result.pixels.dtype == dtype
    full = np.zeros((20, 30))
    full[7:16, 4:15] = matte
    assert np.array_equal(result.pixels[full == 0], before[full == 0])
    assert np.array_equal(result.pixels[..., 3], before[..., 3]), "alpha passes through"
    assert np.allclose(result.rgb()[full == 1], RED, atol=1e-6)
    expected = 0.7 * plate.rgb()[full == 0.3] + 0.3 * np.array(RED)
    assert np.allclose(result.rgb()[full == 0.3], expected, rtol=2e-3, atol=3e-3)


def test_values_above_white_survive() -> None:
    plate = image(np.float16)
    result = composite(plate, paint(20, 30, (7.5, 30.0, 0.25), 1.0), (0, 0, 30, 20))
    assert np.array_equal(result.rgb()[3, 3], np.array([7.5, 30.0, 0.25], np.float32))
    half = composite(plate, paint(20, 30, (7.5, 30.0, 0.25), 0.5), (0, 0, 30, 20))
    assert np.allclose(half.rgb(), 0.5 * plate.rgb() + 0.5 * np.array([7.5, 30.0, 0.25]), rtol=1e-3, atol=1e-3)


def test_paint_replaces_nonfinite_pixels() -> None:
    plate = image(np.float32)
    pixels = plate.pixels.copy()
    pixels[2, 2], pixels[3, 3], pixels[4, 4] = np.inf, np.nan, np.inf
    plate = dataclasses.replace(plate, pixels=pixels)
    matte = np.zeros((20, 30))
    matte[2, 2], matte[3, 3] = 1.0, 0.5
    result = composite(plate, paint(20, 30, RED, matte), (0, 0, 30, 20))
    assert np.allclose(result.rgb()[2, 2], RED)
    assert np.allclose(result.rgb()[3, 3], RED)
    assert np.isinf(result.rgb()[4, 4]).all()


def test_nan_paint_changes_nothing_outside_the_matte() -> None:
    for plate in (image(np.uint8), picture("yuv420p"), picture("gbrp")):
        painted = paint(plate.height, plate.width, (np.nan, np.inf, -np.inf), 0.0)
        result = composite(plate, painted, (0, 0, plate.width, plate.height))
        assert np.array_equal(result.native_rgb(), plate.native_rgb())


def test_extra_channels_pass_through() -> None:
    plate = ImagePlate(1, image(np.float32, 6).pixels, (3, 1, 0), 4, "")
    result = composite(plate, paint(20, 30, (0.1, 0.2, 0.3), 1.0), (0, 0, 30, 20))
    assert isinstance(result, ImagePlate)
    assert np.array_equal(result.pixels[..., [2, 4, 5]], plate.pixels[..., [2, 4, 5]])
    assert np.allclose(result.pixels[0, 0, [3, 1, 0]], (0.1, 0.2, 0.3), atol=1e-3)


def test_grey_plate_takes_luma() -> None:
    result = composite(image(np.uint8, 1), paint(20, 30, (0.0, 1.0, 0.0), 1.0), (0, 0, 30, 20))
    assert np.all(result.native_rgb() == round(0.7152 * 255))


YUV = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "yuva444p10le",
    "yuv411p",
    "yuv440p",
]


@pytest.mark.parametrize("bounds", [(0, 0, 31, 21), (3, 5, 9, 7), (4, 4, 8, 8), (30, 20, 1, 1), (0, 0, 1, 1)])
@pytest.mark.parametrize("pix_fmt", YUV)
def test_video_planes_change_only_inside_the_matte(pix_fmt: str, bounds: tuple[int, int, int, int]) -> None:
    plate = picture(pix_fmt)
    x, y, width, height = bounds
    generator = np.random.default_rng(8)
    matte = generator.choice([0.0, 1.0], (height, width), p=[0.3, 0.7])
    result = composite(plate, paint(height, width, (0.9, 0.1, 0.6), matte), bounds)
    assert isinstance(result, VideoPlate)
    assert result.picture.pix_fmt == pix_fmt
    outside = np.ones((21, 31), bool)
    outside[y : y + height, x : x + width] = matte == 0
    assert np.array_equal(result.picture.planes[0][outside], plate.picture.planes[0][outside])
    across, down = 16 // plate.picture.format.chroma_width(16), 16 // plate.picture.format.chroma_height(16)
    for plane in (1, 2):
        before, after = plate.picture.planes[plane], result.picture.planes[plane]
        for row, column in zip(*np.nonzero(before != after), strict=True):
            block = outside[row * down : (row + 1) * down, column * across : (column + 1) * across]
            assert not block.any(), f"chroma {row},{column} covers a pixel outside the matte"
    if pix_fmt.startswith("yuva"):
        assert np.array_equal(result.picture.planes[3], plate.picture.planes[3])


@pytest.mark.parametrize("pix_fmt", [*YUV, "gbrp", "gbrp10le", "gbrap16le"])
def test_opaque_paint_has_the_painted_colour(pix_fmt: str) -> None:
    for colour in [(0.8, 0.2, 0.4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.1, 0.6, 0.9)]:
        result = composite(picture(pix_fmt), paint(21, 31, colour, 1.0), (0, 0, 31, 21))
        assert np.abs(result.rgb() - colour).max() < 0.012


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gray16le"])
def test_grey_video_is_composited(pix_fmt: str) -> None:
    plate = picture(pix_fmt)
    result = composite(plate, paint(4, 4, (1.0, 1.0, 1.0), 1.0), (2, 2, 4, 4))
    changed = (result.native_rgb() != plate.native_rgb()).any(axis=2)
    assert changed[2:6, 2:6].all()
    assert changed.sum() == 16
    assert np.abs(result.rgb()[2:6, 2:6] - 1.0).max() < 0.02


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotated_video_is_painted_upright(turns: int, mirrored: bool) -> None:
    plate = picture("yuv444p", orientation=Orientation(turns, mirrored))
    result = composite(plate, paint(5, 3, RED, 1.0), (2, 6, 3, 5))
    seen = (result.rgb() != plate.rgb()).any(axis=2)
    assert seen[6:11, 2:5].all()
    assert seen.sum() == 15
    assert result.rgb().shape == (plate.height, plate.width, 3)


def test_video_keeps_colour_tags() -> None:
    plate = picture("yuv420p10le")
    tags = ColourTags(matrix=9, color_range=1, primaries=9, transfer=16)
    plate = dataclasses.replace(plate, picture=dataclasses.replace(plate.picture, tags=tags))
    result = composite(plate, paint(2, 2, RED, 1.0), (0, 0, 2, 2))
    assert isinstance(result, VideoPlate)
    assert result.picture.tags == tags


def test_empty_bounds_give_the_plate_itself() -> None:
    plate = image(np.uint8)
    assert composite(plate, np.zeros((0, 0, 4), np.float16), (0, 0, 0, 0)) is plate


def test_bounds_outside_the_plate_are_an_error() -> None:
    plate = image(np.uint8)
    for bounds in [(-1, 0, 4, 4), (28, 0, 4, 4), (0, 18, 4, 4), (0, 0, 5, 4)]:
        with pytest.raises(ValueError, match="do not fit"):
            composite(plate, paint(4, 4, RED, 1.0), bounds)


def test_single_pixel_frame() -> None:
    for plate in (image(np.uint8, shape=(1, 1)), picture("yuv420p", 1, 1), picture("yuv444p10le", 1, 1)):
        result = composite(plate, paint(1, 1, (0.5, 0.5, 0.5), 1.0), (0, 0, 1, 1))
        assert np.abs(result.rgb() - 0.5).max() < 0.01
