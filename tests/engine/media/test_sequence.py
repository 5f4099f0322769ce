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
from paintover_engine.media.output import open_sink
from paintover_engine.media.plate import ImagePlate
from paintover_engine.media.source import SourceInfo, open_source, probe
from PIL import Image
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


BELOW_ZERO = {
    "Blender": ["a.-0002.png", "a.-0001.png", "a.0000.png", "a.0001.png"],
    "C": ["a.-002.png", "a.-001.png", "a.0000.png", "a.0001.png"],
    "all below": ["a.-0012.png", "a.-0011.png", "a.-0010.png"],
    "unpadded": ["f-2.png", "f-1.png", "f0.png", "f1.png"],
    "no name": ["-0001.png", "0000.png"],
}


@pytest.mark.parametrize("kind", BELOW_ZERO)
def test_numbers_below_zero_are_as_they_are(kind: str, tmp_path: Path, make_image: Make, noise: Noise) -> None:
    names = BELOW_ZERO[kind]
    numbers = [int(name.removeprefix("a.").removeprefix("f").removesuffix(".png")) for name in names]
    (tmp_path / "plate").mkdir()
    for name, number in zip(names, numbers, strict=True):
        make_image(tmp_path / "plate" / name, noise(4, 4, 3, np.uint8, number + 20))
    prefix = names[0][: names[0].index("-")]
    padding = "%d" if kind == "unpadded" else "%04d"
    for source in (tmp_path / "plate", tmp_path / "plate" / f"{prefix}{padding}.png"):
        info = probe(source)
        assert (info.first, info.last) == (numbers[0], numbers[-1])
        with open_source(info) as frames, open_sink(tmp_path / f"out_{source.name}", info) as sink:
            for number in range(info.first, info.last + 1):
                plate = frames.read(number)
                assert isinstance(plate, ImagePlate)
                assert np.array_equal(plate.pixels, noise(4, 4, 3, np.uint8, number + 20))
                sink.write(plate)
            sink.commit()
    assert sorted(path.name for path in (tmp_path / "out_plate").iterdir()) == sorted(names)
    written = {path.name.removeprefix("out_") for path in tmp_path.glob("out_*.png")}
    assert written == set(names)


@pytest.mark.parametrize("name", ["shot-%04d.png", "shot-%d.png"])
def test_a_dash_before_numbers_is_no_sign(name: str, make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence(name, {n: noise(3, 3, 3, np.uint8) for n in (1, 2, 3)})
    assert (probe(folder).first, probe(folder / name).last) == (1, 3)
    assert "holds shot-" in refusal(folder / name.replace("-", "")).message


@pytest.mark.parametrize("prefix", ["take#2_", "100%_", "me@home.", "a%20b#.", "50%d_", "##.@"])
@pytest.mark.parametrize("number", ["%04d", "####"])
def test_a_name_may_hold_what_stands_for_numbers(
    number: str, prefix: str, tmp_path: Path, make_sequence: Make, noise: Noise
) -> None:
    frames = {n: noise(3, 3, 3, np.uint8, n) for n in (7, 8)}
    folder = make_sequence(prefix.replace("%", "%%") + "%04d.png", frames)
    (tmp_path / "out").mkdir()
    info = probe(folder / f"{prefix}{number}.png")
    with open_source(info) as source, open_sink(tmp_path / "out" / f"{prefix}{number}.png", info) as sink:
        for n in (7, 8):
            sink.write(source.read(n))
        sink.commit()
    names = [f"{prefix}0007.png", f"{prefix}0008.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


@pytest.mark.skipif(os.sep != "/", reason="there, these are paths")
@pytest.mark.parametrize(
    "path", [r"C:\shots\sh 010\f.%04d.exr", r"\\server\share\f.####.exr", "plate\\f.####.png", "D:/f.mov"]
)
def test_a_path_of_windows_is_told(path: str) -> None:
    assert refusal(path).message.startswith(f"'{path}' is a path of Windows")


def test_stepped_sequence_holds_frames_and_numbers(
    tmp_path: Path, make_sequence: Make, make_image: Make, scene: Make, propagate: Make
) -> None:
    frames = {n: np.rint(scene((n - 1000) // 3) * 255).astype(np.uint8) for n in range(1000, 1010, 3)}
    folder = make_sequence("f.%04d.png", frames)
    key = frames[1003].copy()
    key[20:40, 30:60] = (220, 20, 30)
    info, notes = propagate(folder, {1003: make_image(tmp_path / "key.png", key)}, tmp_path / "out")
    assert (info.first, info.last, info.step) == (1000, 1009, 3)
    assert any("steps of 3" in note for note in notes)
    assert sorted(path.name for path in (tmp_path / "out").glob("f.*")) == [f"f.{n}.png" for n in frames]
    written = np.asarray(Image.open(tmp_path / "out" / "f.1009.png"))
    assert 400 < (written != frames[1009]).any(axis=2).sum() < 900
    assert np.array_equal(read(info, 1005).pixels, frames[1003])
    assert (probe(folder, 1001, 1008).first, probe(folder, 1001, 1008).last) == (1003, 1006)
    assert "no file in the range" in refusal(folder, 1004, 1005).message


def test_gaps_are_named_with_the_range_that_works(make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence("f.%04d.png", {n: noise(3, 3, 3, np.uint8) for n in [1, 2, 5, 6, 7, 8, 10]})
    message = refusal(folder).message
    assert "3-4, 9 missing" in message
    assert "--range 5-8" in message
    assert probe(folder, 5, 8).count == 4
    uneven = make_sequence("g.%04d.png", {n: noise(3, 3, 3, np.uint8) for n in [1, 3, 6]}, folder="uneven")
    assert refusal(uneven).message.endswith("2, 4-5 missing; number its files without gaps.")


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


def test_false_size_is_refused_before_allocation(make_sequence: Make, noise: Noise) -> None:
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


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_frames_that_no_result_can_keep_are_refused(mode: str, tmp_path: Path) -> None:
    for number in (1, 2):
        rgb = Image.new("RGB", (8, 6), (200, 30, 60))
        converted = rgb.convert("CMYK") if mode == "CMYK" else Image.frombytes("LAB", (8, 6), rgb.tobytes())
        converted.save(tmp_path / f"f.{number}.tif")
    message = refusal(tmp_path).message
    assert mode in message.replace("L*a*b*", "LAB")
    assert "save it as RGB" in message


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


@pytest.mark.parametrize("last", ["1764340000", "99999999999999999999"])
def test_files_named_by_the_time_of_day_are_gaps_at_once(last: str, tmp_path: Path, make_image: Make) -> None:
    for number in ("1732800000", last):
        make_image(tmp_path / f"shot.{number}.png", np.zeros((4, 4, 3), np.uint8))
    message = refusal(tmp_path).message
    assert f"has gaps: 1732800001-{int(last) - 1} missing" in message
