from __future__ import annotations

import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.plate import ImagePlate
from paintover_engine.media.source import SourceInfo, open_source, probe
from safetensors.numpy import save_file

Make = Callable[..., Path]
Noise = Callable[..., np.ndarray]


def refusal(path: Path | str, *arguments: Any) -> PaintoverError:
    with pytest.raises(PaintoverError) as caught:
        probe(path, *arguments)
    assert "\n" not in caught.value.message
    return caught.value


def read(info: SourceInfo, number: int) -> ImagePlate:
    with open_source(info) as source:
        plate = source.read(number)
    assert isinstance(plate, ImagePlate)
    return plate


@pytest.mark.parametrize("name", ["shot.%04d.exr", "shot.####.exr", "shot.@@@@.exr", ""])
def test_a_sequence_is_named_by_folder_or_pattern(name: str, make_sequence: Make, noise: Noise) -> None:
    frames = {n: noise(5, 7, 3, np.float16, n) for n in range(1001, 1005)}
    info = probe(make_sequence("shot.%04d.exr", frames) / name)
    assert (info.first, info.last, info.width, info.height) == (1001, 1004, 7, 5)
    assert (info.kind, info.sample, info.format, info.channels) == ("sequence", "half", "exr half", 3)
    assert np.array_equal(read(info, 1003).pixels, frames[1003])


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("%05d.png", range(3)),
        ("shot-%04d.png", range(1, 4)),
        ("shot_%d.png", range(8, 13)),
        ("a.v002.%03d.png", range(98, 103)),
    ],
)
def test_common_ways_of_numbering_are_understood(
    pattern: str, numbers: range, make_sequence: Make, noise: Noise
) -> None:
    folder = make_sequence(pattern, {n: noise(3, 3, 3, np.uint8, n) for n in numbers})
    info = probe(folder)
    assert (info.first, info.last) == (numbers[0], numbers[-1])
    assert np.array_equal(read(info, numbers[1]).pixels, noise(3, 3, 3, np.uint8, numbers[1]))


def test_a_number_inside_a_name_is_found_by_pattern(make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence("x%02d_left.png", {n: noise(3, 3, 3, np.uint8) for n in range(1, 4)})
    assert probe(folder / "x##_left.png").last == 3


def test_gaps_are_named_with_the_range_that_works(make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence("f.%04d.png", {n: noise(3, 3, 3, np.uint8) for n in [1, 2, 5, 6, 7, 8, 10]})
    message = refusal(folder).message
    assert "3-4, 9 missing" in message
    assert "--range 5-8" in message
    assert probe(folder, 5, 8).count == 4


def test_frames_of_other_sizes_are_named(make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence(
        "f.%04d.png", {1: noise(3, 4, 3, np.uint8), 2: noise(3, 4, 3, np.uint8), 3: noise(5, 4, 3, np.uint8)}
    )
    message = refusal(folder).message
    assert "f.0003.png" in message
    assert "4x5" in message
    assert "4x3" in message
    assert probe(folder, 1, 2).count == 2


def test_several_sequences_are_listed(make_sequence: Make, noise: Noise) -> None:
    pixels = {n: noise(3, 3, 3, np.uint8) for n in (1, 2)}
    make_sequence("left.%04d.png", pixels)
    folder = make_sequence("right.%03d.tif", pixels)
    message = refusal(folder).message
    assert "left.####.png" in message
    assert "right.###.tif" in message
    assert probe(folder / "left.####.png").count == 2


def test_what_is_no_sequence_is_refused(tmp_path: Path, make_image: Make, make_sequence: Make, noise: Noise) -> None:
    one = make_image(tmp_path / "still.png", noise(3, 3, 3, np.uint8))
    assert "one image" in refusal(one).message
    assert "f.####.png" in refusal(make_sequence("f.%04d.png", {1: noise(3, 3, 3, np.uint8)}) / "f.0001.png").message
    assert "one frame" in refusal(tmp_path / "plate").message
    (tmp_path / "void").mkdir()
    assert refusal(tmp_path / "void").code is Code.NOT_FOUND
    assert refusal(tmp_path / "no" / "f.####.png").code is Code.NOT_FOUND
    assert "holds f.####.png" in refusal(tmp_path / "plate" / "g.####.png").message
    assert refusal(tmp_path / "plate" / "f.####.txt").code is Code.INVALID_ARGUMENT


def test_a_damaged_frame_is_named(make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence("f.%04d.png", {n: noise(64, 64, 3, np.uint8, n) for n in range(4)})
    data = (folder / "f.0002.png").read_bytes()
    (folder / "f.0002.png").write_bytes(data[: len(data) // 2])
    info = probe(folder)
    with pytest.raises(PaintoverError, match=r"f\.0002\.png"):
        read(info, 2)
    (folder / "f.0003.png").write_bytes(b"nothing of the kind")
    assert "f.0003.png" in refusal(folder).message


def test_a_pipe_among_the_frames_does_not_block(make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence("f.%04d.png", {n: noise(4, 4, 3, np.uint8) for n in range(3)})
    os.mkfifo(folder / "f.0003.png")
    assert "f.0003.png" in refusal(folder).message


def test_a_hostile_size_is_refused_before_memory_is_taken(make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence("f.%04d.exr", {n: noise(4, 4, 3, np.float16) for n in range(3)})
    spec = oiio.ImageSpec(8, 8, 3, "half")
    path = folder / "f.0000.exr"
    image = oiio.ImageOutput.create(str(path))
    image.open(str(path), spec)
    image.write_image(np.zeros((8, 8, 3), np.float16))
    image.close()
    data = path.read_bytes()
    path.write_bytes(data.replace((7).to_bytes(4, "little") * 2, (2**30).to_bytes(4, "little") * 2))
    refusal(folder)


LINEAR = "Linear Rec.709 (sRGB)"
CHROMATICITIES = {
    "ACEScg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "ACES2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "Linear Rec.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
}


@pytest.mark.parametrize("space", CHROMATICITIES)
def test_an_exr_says_its_primaries(space: str, tmp_path: Path, noise: Noise) -> None:
    for number in (1, 2):
        spec = oiio.ImageSpec(4, 4, 3, "half")
        spec.attribute("chromaticities", oiio.TypeDesc("float[8]"), CHROMATICITIES[space])
        image = oiio.ImageOutput.create("x.exr")
        assert image.open(str(tmp_path / f"f.{number}.exr"), spec)
        image.write_image(noise(4, 4, 3, np.float16))
        image.close()
    assert probe(tmp_path).colorspace == space


def test_colour_is_guessed_from_the_samples(make_sequence: Make, noise: Noise) -> None:
    float_info = probe(make_sequence("f.%04d.exr", {n: noise(4, 4, 3, np.float16) for n in (1, 2)}, folder="a"))
    assert (float_info.colorspace, float_info.scene_linear) == (LINEAR, True)
    png_info = probe(make_sequence("f.%04d.png", {n: noise(4, 4, 3, np.uint16) for n in (1, 2)}, folder="b"))
    assert (png_info.colorspace, png_info.scene_linear) == ("", False)
    plate = read(png_info, 1)
    assert np.array_equal(plate.working(), plate.rgb())
    named = probe(Path(png_info.path), colorspace="arri_logc4")
    assert named.colorspace == "ARRI LogC4"
    assert named.fingerprint != png_info.fingerprint
    assert "Did you mean 'ACEScg'" in refusal(png_info.path, None, None, "ACEScgg").message


def test_grey_and_alpha_are_told_apart(make_sequence: Make, noise: Noise) -> None:
    grey = read(probe(make_sequence("f.%04d.png", {n: noise(4, 4, 1, np.uint8) for n in (1, 2)}, folder="g")), 1)
    assert grey.grey
    assert np.array_equal(grey.display(), np.repeat(grey.pixels, 3, axis=2))
    assert grey.alpha() is None
    rgba = read(probe(make_sequence("f.%04d.png", {n: noise(4, 4, 4, np.uint8) for n in (1, 2)}, folder="a")), 1)
    alpha = rgba.alpha()
    assert alpha is not None
    assert np.allclose(alpha, rgba.pixels[..., 3] / 255)


def test_a_cropped_exr_is_padded_to_its_display_window(tmp_path: Path, noise: Noise) -> None:
    for number in (1, 2):
        spec = oiio.ImageSpec(4, 3, 3, "half")
        spec.x, spec.y = 2 + number, 1
        spec.full_x, spec.full_y, spec.full_width, spec.full_height = 0, 0, 10, 8
        image = oiio.ImageOutput.create("x.exr")
        assert image.open(str(tmp_path / f"f.{number}.exr"), spec)
        image.write_image(noise(3, 4, 3, np.float16))
        image.close()
    info = probe(tmp_path)
    assert (info.width, info.height) == (10, 8)
    pixels = read(info, 2).pixels
    assert np.array_equal(pixels[1:4, 4:8], noise(3, 4, 3, np.float16))
    assert not pixels[4:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_uploaded_frames_are_a_source(dtype: Any, tmp_path: Path, noise: Noise) -> None:
    frames = {n: noise(6, 8, 4, dtype, n) for n in range(90, 94)}
    for number, pixels in frames.items():
        save_file({"frame": pixels}, tmp_path / f"{number:08d}.safetensors")
    (tmp_path / "shot.json").write_text(json.dumps({"rate": [24000, 1001]}))
    info = probe(tmp_path)
    assert (info.kind, info.first, info.last, info.rate) == ("frames", 90, 93, Fraction(24000, 1001))
    assert info.scene_linear == np.issubdtype(dtype, np.floating)
    assert np.array_equal(read(info, 92).pixels, frames[92])
    (tmp_path / "00000091.safetensors").write_bytes(b"torn")
    assert "00000091" in refusal(tmp_path).message
    (tmp_path / "00000091.safetensors").unlink()
    assert "91 missing" in refusal(tmp_path).message


def test_camera_orientation_is_applied(tmp_path: Path, noise: Noise) -> None:
    upright = np.kron(noise(2, 3, 3, np.uint8), np.ones((16, 16, 1), np.uint8))
    for number in (1, 2):
        spec = oiio.ImageSpec(32, 48, 3, "uint8")
        spec["Orientation"] = 6  # the camera was turned: shown a quarter turn clockwise
        spec["compression"] = "zip"
        image = oiio.ImageOutput.create("x.tif")
        assert image.open(str(tmp_path / f"f.{number}.tif"), spec)
        image.write_image(np.ascontiguousarray(np.rot90(upright)))
        image.close()
    info = probe(tmp_path)
    assert (info.width, info.height) == (48, 32)
    assert np.array_equal(read(info, 1).pixels, upright)
