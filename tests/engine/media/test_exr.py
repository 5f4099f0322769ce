"""What renderers and compositors write as EXR: layers, parts, windows, compressions, pixels that are no numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pytest
from paintover_engine.errors import PaintoverError
from paintover_engine.media.source import probe

Make = Callable[..., Any]
WIDTH, HEIGHT = 96, 64
BOX = np.s_[20:40, 30:60]
Part = tuple[str, str, dict[str, np.ndarray]]  # its name, its view, and samples (H, W) by channel


def write(path: Path, pixels: np.ndarray, **attributes: Any) -> Path:
    """An EXR file of one part. attributes: of the header; `at` and `shows` are the windows' corner and size."""
    names = attributes.pop("names", ("R", "G", "B", "A")[: pixels.shape[2]])
    x, y = attributes.pop("at", (0, 0))
    shows = attributes.pop("shows", (0, 0, pixels.shape[1], pixels.shape[0]))
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], {2: "half", 4: "float"}[pixels.itemsize])
    spec.channelnames = tuple(names)
    spec.x, spec.y = x, y
    spec.full_x, spec.full_y, spec.full_width, spec.full_height = shows
    for name, value in attributes.items():
        if isinstance(value, list):
            spec.attribute(name, oiio.TypeDesc(f"string[{len(value)}]"), value)
        else:
            spec[name] = value
    image = oiio.ImageOutput.create(str(path))
    assert image.open(str(path), spec), image.geterror()
    assert image.write_image(np.ascontiguousarray(pixels)), image.geterror()
    image.close()
    return path


def write_parts(path: Path, parts: Sequence[Part]) -> Path:
    specs = []
    for name, view, channels in parts:
        spec = oiio.ImageSpec(WIDTH, HEIGHT, len(channels), "half")
        spec.channelnames = tuple(channels)
        spec["oiio:subimagename"] = name
        if view:
            spec["view"] = view
        specs.append(spec)
    image = oiio.ImageOutput.create(str(path))
    assert image.open(str(path), tuple(specs)), image.geterror()
    for index, (spec, (_, _, channels)) in enumerate(zip(specs, parts, strict=True)):
        if index:
            assert image.open(str(path), spec, "AppendSubimage"), image.geterror()
        assert image.write_image(np.dstack(list(channels.values())).astype(np.float16)), image.geterror()
    image.close()
    return path


def read(path: Path) -> tuple[np.ndarray, oiio.ImageSpec]:
    image = oiio.ImageInput.open(str(path))
    assert image, oiio.geterror()
    spec = oiio.ImageSpec(image.spec())
    pixels = image.read_image(0, 0, 0, spec.nchannels, spec.format)
    image.close()
    return np.asarray(pixels), spec


def layer(name: str, pixels: np.ndarray, components: str = "RGB") -> dict[str, np.ndarray]:
    prefix = f"{name}." if name else ""
    return {f"{prefix}{component}": pixels[..., index] for index, component in enumerate(components)}


def painted(pixels: np.ndarray) -> np.ndarray:
    copy = pixels.copy()
    copy[BOX][..., :3] = (0.8, 0.05, 0.05)
    return copy


# ---------------------------------------------------------------- layers

BEAUTIES = {
    "plain RGB": (["AO", ""], ""),
    "rgba, later in the alphabet": (["AO", "rgba"], "rgba"),
    "Blender's Combined": (["Main.AO", "Main.Combined", "Main.Normal"], "Main.Combined"),
    "Blender's compositor": (["Composite.Combined", "View.Combined", "Wide.Combined"], "Composite.Combined"),
    "beauty": (["albedo", "beauty", "diffuse"], "beauty"),
    "the only one": (["whatever"], "whatever"),
    "in capitals": (["ALBEDO", "BEAUTY"], "BEAUTY"),
}


@pytest.mark.parametrize("kind", BEAUTIES)
def test_the_beauty_is_edited(kind: str, tmp_path: Path, scene: Make, propagate: Make) -> None:
    names, expected = BEAUTIES[kind]
    for number in range(3):
        others = {key: np.full((HEIGHT, WIDTH), 0.3, np.float32) for name in names for key in layer(name, scene(0))}
        channels = others | layer(expected, scene(number))
        write(
            tmp_path / f"f.{number}.exr", np.dstack(list(channels.values())).astype(np.float16), names=tuple(channels)
        )
    write(tmp_path / "key.exr", painted(scene(1).astype(np.float16)))
    info, notes = propagate(tmp_path / "f.#.exr", {1: tmp_path / "key.exr"}, tmp_path / "out.#.exr")
    assert info.layer == expected
    assert len(names) == 1 or any(f"'{expected or 'RGB'}'" in note and "--layer" in note for note in notes)
    before, spec = read(tmp_path / "f.2.exr")
    after, _ = read(tmp_path / "out.2.exr")
    changed = {name for name, differs in zip(spec.channelnames, (before != after).any((0, 1)), strict=True) if differs}
    assert changed == set(layer(expected, before))


def test_channel_order_may_differ_between_frames(tmp_path: Path, scene: Make) -> None:
    for number, names in enumerate((["AO", "rgba"], ["rgba", "zz"])):
        channels: dict[str, np.ndarray] = {}
        for name in names:
            channels |= layer(name, scene(number))
        write(
            tmp_path / f"f.{number}.exr", np.dstack(list(channels.values())).astype(np.float16), names=tuple(channels)
        )
    assert probe(tmp_path / "f.#.exr").layer == "rgba"


def test_a_layer_is_chosen_by_name(tmp_path: Path, scene: Make, propagate: Make) -> None:
    for number in range(3):
        channels = layer("sky.diffuse", scene(number)) | layer("sky.glow", scene(number) * 0.5)
        write(
            tmp_path / f"f.{number}.exr", np.dstack(list(channels.values())).astype(np.float16), names=tuple(channels)
        )
    with pytest.raises(PaintoverError, match=r"--layer: sky\.diffuse, sky\.glow"):
        probe(tmp_path / "f.#.exr")
    with pytest.raises(PaintoverError, match=r"'sky\.glowing'.*sky\.diffuse, sky\.glow.*Did you mean 'sky\.glow'"):
        probe(tmp_path / "f.#.exr", layer="sky.glowing")
    whole, short = (probe(tmp_path / "f.#.exr", layer=name) for name in ("sky.glow", "Glow"))
    assert whole == short
    assert whole.fingerprint != probe(tmp_path / "f.#.exr", layer="sky.diffuse").fingerprint
    write(tmp_path / "key.exr", painted((scene(0) * 0.5).astype(np.float16)))
    propagate(tmp_path / "f.#.exr", {0: tmp_path / "key.exr"}, tmp_path / "out.#.exr", layer="glow")
    before, spec = read(tmp_path / "f.2.exr")
    after, _ = read(tmp_path / "out.2.exr")
    assert [spec.channelnames[i] for i in np.flatnonzero((before != after).any((0, 1)))] == [
        "sky.glow.R", "sky.glow.G", "sky.glow.B"]  # fmt: skip


def test_files_without_layers_say_so(tmp_path: Path, make_sequence: Make, noise: Make) -> None:
    folder = make_sequence("f.%04d.png", {n: noise(4, 4, 3, np.uint8) for n in (1, 2)})
    with pytest.raises(PaintoverError, match="no layers"):
        probe(folder, layer="beauty")


PARTS = {
    "a later part": [("AO", "", "RGB"), ("rgba", "", "RGBA"), ("depth", "", "Z")],
    "stereo": [("depth_left", "left", "Z"), ("rgba_right", "right", "RGB"), ("rgba_left", "left", "RGB")],
    "prefixed channels": [("normal", "", "RGB"), ("beauty", "", "RGB")],
}
CHOSEN = {"a later part": "rgba", "stereo": "rgba_left", "prefixed channels": "beauty"}


@pytest.mark.parametrize("kind", PARTS)
def test_the_beauty_of_a_multipart_file_is_found(kind: str, tmp_path: Path, scene: Make) -> None:
    for number in range(2):
        parts = []
        for name, view, components in PARTS[kind]:
            pixels = scene(number) if name == CHOSEN[kind] else np.full((HEIGHT, WIDTH, 4), 0.3, np.float32)
            pixels = np.dstack([pixels, np.ones((HEIGHT, WIDTH), np.float32)])
            parts.append((name, view, layer(name if kind == "prefixed channels" else "", pixels, components)))
        write_parts(tmp_path / f"f.{number}.exr", parts)
    info = probe(tmp_path / "f.#.exr")
    assert info.layer == CHOSEN[kind]
    assert any("parts in a file" in note for note in info.notes)


def test_the_default_view_is_edited(tmp_path: Path, scene: Make) -> None:
    for number in range(2):
        channels = layer("left", scene(number) * 0.5) | layer("", scene(number))
        path = tmp_path / f"f.{number}.exr"
        pixels = np.dstack(list(channels.values())).astype(np.float16)
        write(path, pixels, names=tuple(channels), multiView=["right", "left"])
    assert probe(tmp_path / "f.#.exr").layer == ""


def test_luminance_and_chroma_is_refused_plainly(tmp_path: Path, scene: Make) -> None:
    for number in range(2):
        path = write(tmp_path / f"f.{number}.exr", scene(number).astype(np.float16), names=("Y", "RY", "BY"))
        data = path.read_bytes()
        for name in (b"RY\0", b"BY\0"):  # subsampled, as the OpenEXR library writes it
            at = data.index(name) + len(name) + 8
            data = data[:at] + (2).to_bytes(4, "little") * 2 + data[at + 8 :]
        path.write_bytes(data)
    with pytest.raises(
        PaintoverError, match=r"luminance and subsampled chroma \(Y, RY, BY\).*save it as RGB"
    ) as caught:
        probe(tmp_path / "f.#.exr")
    assert caught.value.message.count("Y, RY, BY") == 1


# ---------------------------------------------------------------- windows

SHOWS = (0, 0, WIDTH, HEIGHT)
WINDOWS = {
    "overscan": [(-8, -6, WIDTH + 16, HEIGHT + 12)] * 3,
    "one pixel off": [(1, 0, WIDTH, HEIGHT)] * 3,
    "autocrop": [(6 + 2 * n, 5, WIDTH - 12 - 3 * n, HEIGHT - 9) for n in range(3)],
    "wandering past the display": [(-12 + 7 * n, -9, WIDTH + 4, HEIGHT + 2) for n in range(3)],
    "shifted display": [(90, 40, WIDTH + 20, HEIGHT + 20)] * 3,
}


def shows(kind: str) -> tuple[int, int, int, int]:
    return (100, 50, WIDTH, HEIGHT) if kind == "shifted display" else SHOWS


def windowed(folder: Path, kind: str, scene: Make) -> list[np.ndarray]:
    """Writes the frames; gives what each shows in the display window."""
    shown = []
    left, top = shows(kind)[:2]
    for number, (x, y, width, height) in enumerate(WINDOWS[kind]):
        whole = scene(number, WIDTH + 60, HEIGHT + 60).astype(np.float16)
        data = whole[30 + y - top : 30 + y - top + height, 30 + x - left : 30 + x - left + width]
        write(folder / f"f.{number}.exr", data, at=(x, y), shows=shows(kind))
        shown.append(whole[30 : 30 + HEIGHT, 30 : 30 + WIDTH])
    return shown


def check_windowed(folder: Path, kind: str) -> None:
    left, top = shows(kind)[:2]
    for number in range(3):
        before, stored = read(folder / f"f.{number}.exr")
        after, written = read(folder / f"out.{number}.exr")
        for name in ("x", "y", "width", "height", "full_x", "full_y", "full_width", "full_height"):
            assert getattr(written, name) == getattr(stored, name), name
        rows, columns = np.nonzero((before != after).any(axis=2))
        assert len(rows) > 400
        assert 18 <= rows.min() + stored.y - top <= 22
        assert 38 <= rows.max() + stored.y - top <= 41
        assert abs(columns.min() + stored.x - left - (30 - 2 * (number - 1))) <= 2
        assert abs(columns.max() + stored.x - left - (59 - 2 * (number - 1))) <= 2


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_keyframe_of_the_display_window_is_placed(kind: str, tmp_path: Path, scene: Make, propagate: Make) -> None:
    shown = windowed(tmp_path, kind, scene)
    write(tmp_path / "key.exr", painted(shown[1]))
    info, notes = propagate(tmp_path / "f.#.exr", {1: tmp_path / "key.exr"}, tmp_path / "out.#.exr")
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    assert any("data window" in note for note in notes)
    check_windowed(tmp_path, kind)


@pytest.mark.parametrize("with_windows", [True, False])
@pytest.mark.parametrize("kind", WINDOWS)
def test_a_keyframe_of_the_data_window_is_placed(
    kind: str, with_windows: bool, tmp_path: Path, scene: Make, propagate: Make
) -> None:
    windowed(tmp_path, kind, scene)
    data, spec = read(tmp_path / "f.1.exr")
    dx, dy = shows(kind)[0] - spec.x, shows(kind)[1] - spec.y
    key = data.copy()
    key[BOX[0].start + dy : BOX[0].stop + dy, BOX[1].start + dx : BOX[1].stop + dx] = (0.8, 0.05, 0.05)
    windows = {"at": (spec.x, spec.y), "shows": shows(kind)} if with_windows else {}
    write(tmp_path / "key.exr", key, **windows)
    propagate(tmp_path / "f.#.exr", {1: tmp_path / "key.exr"}, tmp_path / "out.#.exr")
    check_windowed(tmp_path, kind)


def test_paint_in_the_overscan_is_left_out_and_said(tmp_path: Path, scene: Make, propagate: Make) -> None:
    windowed(tmp_path, "overscan", scene)
    data, _ = read(tmp_path / "f.1.exr")
    key = data.copy()
    key[2:30, 20:60] = (0.9, 0.1, 0.1)  # from row -4 of the display on
    write(tmp_path / "key.exr", key)
    _, notes = propagate(tmp_path / "f.#.exr", {1: tmp_path / "key.exr"}, tmp_path / "out.#.exr")
    assert any("outside the display window" in note for note in notes)
    after, _ = read(tmp_path / "out.1.exr")
    assert np.array_equal(after[:6], data[:6])
    assert (after[6:30, 20:60] != data[6:30, 20:60]).any(axis=2).mean() > 0.9


def test_paint_outside_the_data_window_makes_it_larger(tmp_path: Path, scene: Make, propagate: Make) -> None:
    shown = windowed(tmp_path, "autocrop", scene)
    for number, (x, y, width, height) in enumerate(WINDOWS["autocrop"]):
        outside = np.ones((HEIGHT, WIDTH), bool)
        outside[y : y + height, x : x + width] = False
        shown[number][outside] = 0
    key = shown[1].copy()
    key[30:40, 0:20] = (0.7, 0.1, 0.1)
    write(tmp_path / "key.exr", key)
    _, notes = propagate(tmp_path / "f.#.exr", {1: tmp_path / "key.exr"}, tmp_path / "out.#.exr")
    assert any("made larger" in note for note in notes)
    after, spec = read(tmp_path / "out.1.exr")
    assert (spec.x, spec.full_x, spec.full_width) == (0, 0, WIDTH)
    assert np.abs(after[33 - spec.y, 3 - spec.x].astype(float) - (0.7, 0.1, 0.1)).max() < 0.01


def test_frames_of_another_display_window_are_refused(tmp_path: Path, scene: Make) -> None:
    for number, size in enumerate([(0, 0, WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT + 2)]):
        write(tmp_path / f"f.{number}.exr", scene(number).astype(np.float16), shows=size)
    with pytest.raises(PaintoverError, match=r"f\.1\.exr' is 96x66"):
        probe(tmp_path / "f.#.exr")


# ---------------------------------------------------------------- samples

COMPRESSIONS = {
    "dwaa": (np.float16, "zip"),
    "dwab:120": (np.float32, "zip"),
    "b44": (np.float16, "zip"),
    "pxr24": (np.float32, "zip"),
    "piz": (np.float16, "piz"),
    "zips": (np.float32, "zips"),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_no_compression_changes_untouched_pixels(
    compression: str, tmp_path: Path, scene: Make, propagate: Make
) -> None:
    dtype, expected = COMPRESSIONS[compression]
    for number in range(3):
        write(tmp_path / f"f.{number}.exr", scene(number).astype(dtype), compression=compression)
    plate, _ = read(tmp_path / "f.1.exr")
    write(tmp_path / "key.exr", painted(plate))
    _, notes = propagate(tmp_path / "f.#.exr", {1: tmp_path / "key.exr"}, tmp_path / "out.#.exr")
    after, spec = read(tmp_path / "out.1.exr")
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[18:42, 28:62] = False
    assert np.array_equal(after[outside], plate[outside])
    assert spec.get_string_attribute("compression") == expected
    assert any("ZIP" in note for note in notes) == (expected != compression)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("kind", ["exr", "png"])
def test_pixels_that_are_no_numbers_pass_through(
    kind: str, value: str, tmp_path: Path, scene: Make, propagate: Make, make_image: Make
) -> None:
    for number in range(3):
        pixels = scene(number).astype(np.float16)
        pixels[4:9, 70:80] = float(value)
        pixels[50, 10] = (float(value), 0.5, 0.5)
        pixels[25:28, 40:45] = float(value)  # and under the paint
        write(tmp_path / f"f.{number}.exr", pixels)
    plate, _ = read(tmp_path / "f.1.exr")
    if kind == "exr":
        key = write(tmp_path / "key.exr", painted(plate))
    else:
        srgb = np.clip(np.nan_to_num(painted(plate).astype(np.float32)), 0, 1) ** (1 / 2.4) * 1.055 - 0.055
        key = make_image(tmp_path / "key.png", np.rint(srgb.clip(0, 1) * 255).astype(np.uint8))
    propagate(tmp_path / "f.#.exr", {1: key}, tmp_path / "out.#.exr")
    for number in range(3):
        before, _ = read(tmp_path / f"f.{number}.exr")
        after, _ = read(tmp_path / f"out.{number}.exr")
        assert before[4:9, 70:80].tobytes() == after[4:9, 70:80].tobytes()
        assert before[50, 10].tobytes() == after[50, 10].tobytes()
    painted_over = read(tmp_path / "out.1.exr")[0][25:28, 40:45]
    assert np.abs(painted_over.astype(float) - (0.8, 0.05, 0.05)).max() < 0.02


def test_text_that_is_no_utf8_is_told_as_it_is(tmp_path: Path, make_image: Make) -> None:
    for number in (1, 2):
        path = make_image(tmp_path / f"f.{number}.exr", np.zeros((4, 4, 3), np.float16))
        path.write_bytes(path.read_bytes().replace(b"chlist", b"ch\xffist"))
    with pytest.raises(PaintoverError, match=r"cannot be read: .*ch\\xffist"):
        probe(tmp_path)


@pytest.mark.parametrize("window", ["display", "both"])
def test_picture_of_gigapixels_is_refused_at_once(window: str, tmp_path: Path, make_image: Make) -> None:
    side = struct.pack("<4i", 0, 0, 39_999, 39_999)
    for number in (1, 2):
        path = make_image(tmp_path / f"f.{number}.exr", np.zeros((4, 4, 3), np.float16))
        content = path.read_bytes().replace(b"displayWindow\0box2i\0\x10\0\0\0" + struct.pack("<4i", 0, 0, 3, 3),
                                            b"displayWindow\0box2i\0\x10\0\0\0" + side)  # fmt: skip
        if window == "both":
            content = content.replace(b"dataWindow\0box2i\0\x10\0\0\0" + struct.pack("<4i", 0, 0, 3, 3),
                                      b"dataWindow\0box2i\0\x10\0\0\0" + side)  # fmt: skip
        path.write_bytes(content)
    with pytest.raises(PaintoverError, match="40000x40000 pixels, which is too large|malicious header"):
        probe(tmp_path)
