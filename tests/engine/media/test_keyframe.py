from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.keyframe import Keyframe, load_keyframe
from paintover_engine.media.plate import Plate
from paintover_engine.media.source import SourceInfo, open_source, probe
from PIL import Image, ImageCms
from psd_tools import PSDImage

Make = Callable[..., Path]
BOX = (slice(8, 20), slice(10, 30))
WIDTH, HEIGHT = 64, 48


def soft(seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: a smooth picture."""
    small = np.random.default_rng(seed).integers(40, 200, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def painted(plate: np.ndarray) -> np.ndarray:
    key = plate.copy()
    key[BOX] = np.iinfo(key.dtype).max if np.issubdtype(key.dtype, np.integer) else 1.0
    key[BOX][..., 1:] = 0
    return key


Shot = tuple[SourceInfo, Plate]


@pytest.fixture
def shot(make_sequence: Make) -> Shot:
    info = probe(make_sequence("f.%04d.png", {1: soft(), 2: soft(1)}))
    with open_source(info) as source:
        return info, source.read(1)


@pytest.fixture
def linear_shot(make_sequence: Make) -> Shot:
    pixels = (soft().astype(np.float32) / 255) ** 2.2
    pixels[30:36, 40:50] = 6.0
    info = probe(
        make_sequence("f.%04d.exr", {1: pixels.astype(np.float16), 2: pixels.astype(np.float16)}, folder="lin")
    )
    with open_source(info) as source:
        return info, source.read(1)


def load(path: Path, shot: Shot, **arguments: Any) -> Keyframe:
    return load_keyframe(path, 1, shot[1], shot[0], **arguments)


def refusal(path: Path, shot: Shot, **arguments: Any) -> PaintoverError:
    with pytest.raises(PaintoverError) as caught:
        load(path, shot, **arguments)
    assert "\n" not in caught.value.message
    return caught.value


def edited(keyframe: Keyframe, shot: Shot) -> np.ndarray:
    return (keyframe.working != shot[1].working()).any(axis=2)


def only_the_box(mask: np.ndarray) -> bool:
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[BOX] = True
    return np.array_equal(mask, expected)


def test_8_bit_png_differs_only_where_painted(tmp_path: Path, shot: Shot) -> None:
    Image.fromarray(painted(soft())).save(tmp_path / "k.png")
    keyframe = load(tmp_path / "k.png", shot)
    assert only_the_box(edited(keyframe, shot))
    assert np.allclose(keyframe.working[BOX], (1, 0, 0))
    assert (keyframe.notes, keyframe.matte) == ((), None)
    assert keyframe.working.dtype == np.float32


def test_the_digest_names_picture_frame_and_matte(tmp_path: Path, shot: Shot) -> None:
    Image.fromarray(painted(soft())).save(tmp_path / "k.png")
    Image.fromarray(painted(soft())).save(tmp_path / "same.tif")
    other = painted(soft())
    other[9, 11] = 7
    Image.fromarray(other).save(tmp_path / "other.png")
    matte = np.zeros((HEIGHT, WIDTH), np.uint8)
    matte[BOX] = 255
    Image.fromarray(matte).save(tmp_path / "m.png")
    first = load(tmp_path / "k.png", shot)
    assert first.digest == load(tmp_path / "same.tif", shot).digest
    digests = {
        first.digest,
        load(tmp_path / "other.png", shot).digest,
        load(tmp_path / "k.png", shot, matte_path=tmp_path / "m.png").digest,
        load_keyframe(tmp_path / "k.png", 2, shot[1], shot[0]).digest,
    }
    assert len(digests) == 4


MODES = [
    ("P", "k.png", "palette"),
    ("L", "k.png", "grey"),
    ("CMYK", "k.jpg", "CMYK"),
    ("CMYK", "k.tif", "CMYK"),
    ("1", "k.png", "black and white"),
]


@pytest.mark.parametrize(("mode", "name", "word"), MODES)
def test_other_modes_are_converted_and_said_so(mode: str, name: str, word: str, tmp_path: Path, shot: Shot) -> None:
    Image.fromarray(painted(soft())).convert(mode).save(tmp_path / name)
    keyframe = load(tmp_path / name, shot)
    assert any(word in note for note in keyframe.notes)
    assert keyframe.working.shape == (HEIGHT, WIDTH, 3)
    if mode in ("P", "CMYK"):
        assert np.abs(keyframe.working[10, 12] - (1, 0, 0)).max() < 0.15


def test_16_bits_are_kept(tmp_path: Path, make_image: Make, shot: Shot) -> None:
    deep = painted(soft().astype(np.uint16) * 257)
    deep[BOX] = 12345
    keyframe = load(make_image(tmp_path / "k.png", deep), shot)
    assert only_the_box(edited(keyframe, shot))
    assert np.allclose(keyframe.working[BOX], 12345 / 65535, atol=2e-3)
    assert any("16-bit" in note for note in keyframe.notes)


def test_alpha_becomes_the_matte(tmp_path: Path, shot: Shot) -> None:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[BOX] = 128
    key = Image.fromarray(np.dstack([np.full((HEIGHT, WIDTH, 3), (255, 0, 0), np.uint8), alpha]), "RGBA")
    key.save(tmp_path / "k.png")
    keyframe = load(tmp_path / "k.png", shot)
    assert keyframe.matte is not None
    assert np.allclose(keyframe.matte[BOX], 128 / 255)
    assert keyframe.matte.sum() == pytest.approx(12 * 20 * 128 / 255)
    assert only_the_box(edited(keyframe, shot))
    assert np.allclose(keyframe.working[BOX], (1, 0, 0)), "colour is straight, not multiplied by alpha"
    assert any("alpha is the matte" in note for note in keyframe.notes)


def test_multiplied_alpha_is_divided_out(tmp_path: Path, make_image: Make, linear_shot: Shot) -> None:
    key = np.zeros((HEIGHT, WIDTH, 4), np.float32)
    key[BOX] = (0.5, 0.0, 0.0, 0.5)
    keyframe = load(make_image(tmp_path / "k.exr", key), linear_shot)
    assert np.allclose(keyframe.working[BOX], (1, 0, 0), atol=1e-4)
    assert keyframe.matte is not None
    assert np.allclose(keyframe.matte[BOX], 0.5)


def test_an_alpha_that_the_plate_has_too_is_no_matte(tmp_path: Path, make_sequence: Make, make_image: Make) -> None:
    alpha = np.full((HEIGHT, WIDTH, 1), 77, np.uint8)
    plate = np.dstack([soft(), alpha])
    info = probe(make_sequence("f.%04d.png", {1: plate, 2: plate}, folder="alpha"))
    with open_source(info) as source:
        shot = info, source.read(1)
    key = np.dstack([painted(soft()), alpha])
    assert load(make_image(tmp_path / "k.png", key), shot).matte is None
    opaque = np.dstack([painted(soft()), np.full_like(alpha, 255)])
    assert load(make_image(tmp_path / "o.png", opaque), shot).matte is None


def test_a_given_matte_overrides_alpha(tmp_path: Path, shot: Shot) -> None:
    alpha = np.full((HEIGHT, WIDTH), 100, np.uint8)
    Image.fromarray(np.dstack([painted(soft()), alpha]), "RGBA").save(tmp_path / "k.png")
    matte = np.zeros((HEIGHT * 2, WIDTH * 2), np.uint8)
    matte[20:30, 24:40] = 255
    Image.fromarray(matte).save(tmp_path / "m.png")
    keyframe = load(tmp_path / "k.png", shot, matte_path=tmp_path / "m.png")
    assert keyframe.matte is not None
    assert keyframe.matte.shape == (HEIGHT, WIDTH)
    assert (keyframe.matte > 0.5).sum() == 5 * 8
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "black.png")
    assert "black everywhere" in refusal(tmp_path / "k.png", shot, matte_path=tmp_path / "black.png").message
    assert "black.exr" in refusal(tmp_path / "k.png", shot, matte_path=tmp_path / "black.exr").message


def test_other_size_is_rescaled_other_aspect_refused(tmp_path: Path, shot: Shot) -> None:
    key = Image.fromarray(painted(soft()))
    for size in [(128, 96), (32, 24), (63, 47)]:
        key.resize(size).save(tmp_path / "k.png")
        keyframe = load(tmp_path / "k.png", shot)
        assert keyframe.working.shape == (HEIGHT, WIDTH, 3)
        assert any(f"{size[0]}x{size[1]}" in note and "64x48" in note for note in keyframe.notes)
        assert np.abs(keyframe.working[14, 20] - (1, 0, 0)).max() < 0.05
    for size in [(64, 64), (48, 64), (66, 48), (64, 50), (4, 3)]:
        key.resize(size).save(tmp_path / "k.png")
        message = refusal(tmp_path / "k.png", shot).message
        assert f"{size[0]}x{size[1]}" in message
        assert "64x48" in message


def test_a_picture_without_an_edit_is_refused(tmp_path: Path, make_image: Make, shot: Shot, linear_shot: Shot) -> None:
    Image.fromarray(soft()).save(tmp_path / "k.png")
    assert "nothing to propagate" in refusal(tmp_path / "k.png", shot).message
    Image.fromarray(linear_shot[1].display()).save(tmp_path / "lin.png")
    assert "nothing to propagate" in refusal(tmp_path / "lin.png", linear_shot).message
    Image.fromarray(painted(soft())).save(tmp_path / "k.png")
    matte = np.full((HEIGHT, WIDTH), 255, np.uint8)
    matte[BOX] = 0
    Image.fromarray(matte).save(tmp_path / "m.png")
    assert "nothing to propagate" in refusal(tmp_path / "k.png", shot, matte_path=tmp_path / "m.png").message


def test_integer_picture_over_linear_keeps_highlights(tmp_path: Path, linear_shot: Shot) -> None:
    Image.fromarray(painted(linear_shot[1].display())).save(tmp_path / "k.png")
    keyframe = load(tmp_path / "k.png", linear_shot)
    assert only_the_box(edited(keyframe, linear_shot))
    assert np.allclose(keyframe.working[BOX], (1, 0, 0))
    assert keyframe.working[32, 44].min() > 2, "unpainted values above 1 are the plate's"
    assert any("sRGB-encoded" in note for note in keyframe.notes)


def test_a_float_picture_over_a_linear_shot_is_linear(tmp_path: Path, make_image: Make, linear_shot: Shot) -> None:
    key = linear_shot[1].rgb().copy()
    key[BOX] = (0.18, 4.0, 0.0)
    keyframe = load(make_image(tmp_path / "k.exr", key), linear_shot)
    assert only_the_box(edited(keyframe, linear_shot))
    assert keyframe.working[10, 12] == pytest.approx([0.4614, 1.8246, 0.0], abs=2e-3)


def test_a_photoshop_file_is_read(tmp_path: Path, shot: Shot) -> None:
    PSDImage.frompil(Image.fromarray(painted(soft()))).save(tmp_path / "k.psd")
    assert only_the_box(edited(load(tmp_path / "k.psd", shot), shot))
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    PSDImage.frompil(Image.fromarray(noise)).save(tmp_path / "noise.psd")
    data = (tmp_path / "noise.psd").read_bytes()
    (tmp_path / "torn.psd").write_bytes(data[: len(data) // 2])
    assert "torn.psd" in refusal(tmp_path / "torn.psd", shot).message


def test_a_wide_profile_is_converted_and_srgb_is_not(tmp_path: Path, shot: Shot) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(painted(soft())).save(tmp_path / "k.png", icc_profile=srgb)
    keyframe = load(tmp_path / "k.png", shot)
    assert keyframe.notes == ()
    assert only_the_box(edited(keyframe, shot))
    Image.fromarray(painted(soft())).save(tmp_path / "k.png", icc_profile=swapped_profile(srgb))
    keyframe = load(tmp_path / "k.png", shot)
    assert any("colour profile" in note and "to sRGB" in note for note in keyframe.notes)
    assert np.abs(keyframe.working[10, 12] - (0, 1, 0)).max() < 0.1, "red and green are swapped in this profile"


def swapped_profile(srgb: bytes) -> bytes:
    """sRGB with its red and green primaries exchanged: no display has it, every conversion shows."""
    data = bytearray(srgb)
    tags = {}
    for index in range(struct.unpack(">I", data[128:132])[0]):
        begin = 132 + 12 * index
        tags[bytes(data[begin : begin + 4])] = begin
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = data[green + 4 : green + 12], data[red + 4 : red + 12]
    return bytes(data)


def test_hostile_and_broken_files_are_one_sentence(tmp_path: Path, shot: Shot) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 64000, 48000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    refusal(tmp_path / "bomb.png", shot)
    Image.fromarray(painted(soft())).save(tmp_path / "k.png")
    data = (tmp_path / "k.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(data[: len(data) // 2])
    assert "torn.png" in refusal(tmp_path / "torn.png", shot).message
    (tmp_path / "text.png").write_text("not a picture")
    assert "text.png" in refusal(tmp_path / "text.png", shot).message
    (tmp_path / "empty.tif").touch()
    assert "empty.tif" in refusal(tmp_path / "empty.tif", shot).message
    assert refusal(tmp_path / "missing.png", shot).code is Code.NOT_FOUND
    assert "regular file" in refusal(tmp_path, shot).message


def test_values_that_are_no_numbers_are_refused(tmp_path: Path, make_image: Make, linear_shot: Shot) -> None:
    key = linear_shot[1].rgb().copy()
    key[3, 3] = np.nan
    assert "no numbers" in refusal(make_image(tmp_path / "k.exr", key), linear_shot).message


def test_video_frame_of_common_tools_matches(tmp_path: Path, make_video: Make) -> None:
    """PyAV's own conversion gives what `ffmpeg -i clip frame.png` writes."""
    import av

    path = make_video(tmp_path / "v.mp4", count=3, size=(WIDTH, HEIGHT), tags=(1, 1, 1, 1))
    info = probe(path)
    with open_source(info) as source, av.open(str(path)) as container:
        plate = source.read(0)
        exported = next(container.decode(video=0)).to_ndarray(format="rgb24")
    Image.fromarray(painted(exported)).save(tmp_path / "k.png")
    assert only_the_box(edited(load(tmp_path / "k.png", (info, plate)), (info, plate)))
