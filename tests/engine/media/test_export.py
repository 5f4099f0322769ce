"""Frames exported for painting, and what comes back from editors: their layers, and files that nobody should trust."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pytest
from paintover_engine.compose.composite import composite
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import layers
from paintover_engine.media.export import ResultFrame, export_frame
from paintover_engine.media.keyframe import Keyframe, load_keyframe
from paintover_engine.media.plate import Plate
from paintover_engine.media.source import SourceInfo, open_source, probe
from PIL import Image, ImageCms
from psd_tools import PSDImage
from psd_tools.constants import BlendMode, ChannelID, Clipping, Compression, Resource
from psd_tools.psd import PSD
from psd_tools.psd.layer_and_mask import ChannelData, ChannelInfo, MaskData

Make = Callable[..., Path]
WIDTH, HEIGHT = 64, 48
BOX = (slice(8, 20), slice(10, 30))

Shot = tuple[SourceInfo, Plate]


def soft(kind: str = "uint8") -> np.ndarray:
    small = np.random.default_rng(3).integers(40, 200, (6, 8, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return picture if kind == "uint8" else (picture.astype(np.uint16) * 257 + 13)


def opened(source: Any, frame: int) -> Shot:
    info = probe(source)
    with open_source(info) as reader:
        return info, reader.read(frame)


@pytest.fixture
def shot(make_sequence: Make) -> Shot:
    return opened(make_sequence("f.%04d.png", {1: soft(), 2: soft()}), 2)


@pytest.fixture
def deep_shot(make_sequence: Make) -> Shot:
    return opened(make_sequence("f.%04d.tif", {1: soft("uint16"), 2: soft("uint16")}, folder="deep"), 2)


@pytest.fixture
def linear_shot(make_sequence: Make) -> Shot:
    pixels = (soft().astype(np.float32) / 255) ** 2.2
    pixels[30:36, 40:50] = 6.0
    half = pixels.astype(np.float16)
    return opened(make_sequence("f.%04d.exr", {1: half, 2: half}, folder="linear"), 2)


def exported(tmp_path: Path, shot: Shot, name: str = "k.psd") -> Path:
    export_frame(tmp_path / name, shot[1], shot[0])
    return tmp_path / name


def painted(path: Path, colour: tuple[int, ...] = (255, 0, 0, 255), layer: int = 1, box: Any = BOX) -> Path:
    """Does to a layer's samples what an editor does; colour and alpha in 8 bits."""
    with path.open("rb") as file:
        document = PSD.read(file)
    records = document._get_layer_info()
    for info, channel in zip(records.layer_records[layer].channel_info, records.channel_image_data[layer], strict=True):
        kind = ">u2" if document.header.depth == 16 else "u1"
        size = (WIDTH, HEIGHT, document.header.depth)
        samples = np.frombuffer(channel.get_data(*size), kind).reshape(HEIGHT, WIDTH).copy()
        samples[box] = colour[3 if info.id == -1 else int(info.id)] * (257 if kind == ">u2" else 1)
        channel.compression = Compression.RLE
        channel.set_data(samples.tobytes(), *size)
    with path.open("wb") as file:
        document.write(file)
    return path


def load(path: Path, shot: Shot) -> Keyframe:
    return load_keyframe(path, shot[1].number, shot[1], shot[0])


def refusal(path: Path, shot: Shot) -> str:
    with pytest.raises(PaintoverError) as caught:
        load(path, shot)
    assert "\n" not in caught.value.message
    assert path.name in caught.value.message
    return caught.value.message


def box_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[BOX] = 1
    return mask


# What is exported.


@pytest.mark.parametrize(("depth", "which"), [(8, "shot"), (16, "deep_shot"), (16, "linear_shot")])
def test_psd_has_locked_plate_and_empty_layer(
    depth: int, which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    shot = request.getfixturevalue(which)
    document = PSDImage.open(exported(tmp_path, shot))
    plate, paint = document
    assert document.depth == depth
    assert plate.name.startswith("Plate (") and plate.name.endswith(", frame 2)")
    assert plate.locks is not None and plate.locks.complete
    assert (paint.name, paint.locks) == ("Paint", None)
    assert Resource.ICC_PROFILE not in document.image_resources  # or GIMP would ask what to do with it
    read = oiio.ImageInput.open(str(tmp_path / "k.psd"))
    assert (read.spec().width, read.spec().height, str(read.spec().format)) == (WIDTH, HEIGHT, f"uint{depth}")


def test_psd_has_the_profile_of_the_shot(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number in (2, 3):
        Image.fromarray(soft()).save(tmp_path / f"f.{number:04d}.png", icc_profile=profile)
    document = PSDImage.open(exported(tmp_path, opened(tmp_path / "f.####.png", 2)))
    assert document.image_resources.get_data(Resource.ICC_PROFILE) == profile


def test_a_psd_flattens_to_the_plate_to_the_last_bit(tmp_path: Path, deep_shot: Shot) -> None:
    exported(tmp_path, deep_shot)
    flattened = oiio.ImageInput.open(str(tmp_path / "k.psd")).read_image("uint16")
    np.testing.assert_array_equal(flattened, deep_shot[1].native_rgb())


@pytest.mark.parametrize("name", ["k.png", "k.tif"])
def test_unpainted_flat_export_equals_the_plate(name: str, tmp_path: Path, deep_shot: Shot) -> None:
    assert "nothing to propagate" in refusal(exported(tmp_path, deep_shot, name), deep_shot)


def test_an_exr_keeps_light_above_one(tmp_path: Path, linear_shot: Shot) -> None:
    read = oiio.ImageInput.open(str(exported(tmp_path, linear_shot, "k.exr"))).read_image("float")
    assert read.max() == 6.0
    assert "nothing to propagate" in refusal(tmp_path / "k.exr", linear_shot)


def test_an_exr_of_a_display_encoded_shot_is_refused(tmp_path: Path, shot: Shot) -> None:
    with pytest.raises(PaintoverError, match="display-encoded; paint on psd"):
        exported(tmp_path, shot, "k.exr")
    assert list(tmp_path.glob("*k*")) == []


def test_existing_picture_needs_overwrite(tmp_path: Path, shot: Shot) -> None:
    (tmp_path / "k.psd").write_bytes(b"three hours of painting")
    with pytest.raises(PaintoverError) as caught:
        exported(tmp_path, shot)
    assert caught.value.code is Code.ALREADY_EXISTS
    assert (tmp_path / "k.psd").read_bytes() == b"three hours of painting"
    export_frame(tmp_path / "k.psd", shot[1], shot[0], overwrite=True)
    assert (tmp_path / "k.psd").read_bytes()[:4] == b"8BPS"


# What comes back.


@pytest.mark.parametrize("which", ["shot", "deep_shot", "linear_shot"])
def test_paint_layers_give_edit_and_matte(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shot = request.getfixturevalue(which)
    keyframe = load(painted(exported(tmp_path, shot), (255, 51, 0, 102)), shot)
    assert keyframe.matte is not None
    np.testing.assert_allclose(keyframe.matte, box_mask() * 102 / 255, atol=1e-4)
    np.testing.assert_allclose(keyframe.working[BOX].mean((0, 1)), (1, 0.2, 0), atol=1e-3)
    outside = keyframe.matte == 0
    np.testing.assert_array_equal(keyframe.working[outside], shot[1].working()[outside])


@pytest.mark.parametrize("which", ["shot", "deep_shot", "linear_shot"])
def test_result_to_correct_is_a_keyframe_as_it_is(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    info, plate = request.getfixturevalue(which)
    paint = np.empty((12, 20, 4), np.float16)
    paint[...] = (0.8, 0.1, 0.3, 0.5)
    paint[:, 10:, 3] = 1
    paint[0] = 0
    bounds = (10, 8, 20, 12)
    result = composite(plate, paint, bounds)
    exported_result = ResultFrame("", plate, result, bounds, paint[..., 3])
    export_frame(tmp_path / "k.psd", plate, info, result=exported_result)
    keyframe = load(tmp_path / "k.psd", (info, plate))
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[BOX] = paint[..., 3] > 0
    assert keyframe.matte is not None and np.array_equal(keyframe.matte, matte)
    drawn = matte > 0
    np.testing.assert_allclose(keyframe.working[drawn], np.clip(result.working(), 0, 1)[drawn], atol=0.005)
    with pytest.raises(PaintoverError, match="corrected on a layer"):
        export_frame(tmp_path / "k.png", plate, info, result=exported_result)


def test_an_empty_paint_layer_is_no_keyframe_yet(tmp_path: Path, shot: Shot) -> None:
    assert "Nothing is painted in 'k.psd' yet" in refusal(exported(tmp_path, shot), shot)


def test_paint_on_plate_layer_counts_with_a_note(tmp_path: Path, shot: Shot) -> None:
    file = exported(tmp_path, shot)
    painted(file, layer=0)
    document = PSDImage.open(file)
    document._record.image_data.set_data(
        [np.where(box_mask() > 0, 255 * (c == 0), soft()[..., c]).astype(np.uint8).tobytes() for c in range(3)],
        document._record.header,
    )
    with file.open("wb") as opened_file:
        document._record.write(opened_file)
    keyframe = load(file, shot)
    assert keyframe.matte is None
    assert "plate layer was painted on" in " ".join(keyframe.notes)
    np.testing.assert_array_equal((keyframe.working != shot[1].working()).any(-1), box_mask() > 0)


def test_layers_beyond_the_canvas_are_cropped(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot), box=np.s_[:, :])
    document = PSDImage.open(file)
    record = document[1]._record
    record.left, record.right, record.top, record.bottom = 50, 50 + WIDTH, -40, HEIGHT - 40
    with file.open("wb") as opened_file:
        document._record.write(opened_file)
    matte = load(file, shot).matte
    assert matte is not None
    expected = np.zeros((HEIGHT, WIDTH), np.float32)
    expected[: HEIGHT - 40, 50:] = 1
    np.testing.assert_array_equal(matte, expected)


def test_a_hidden_layer_does_not_count(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot))
    document = PSDImage.open(file)
    document[1]._record.flags.visible = False
    with file.open("wb") as opened_file:
        document._record.write(opened_file)
    assert "Nothing is painted" in refusal(file, shot)


def test_multiply_layer_gives_equivalent_paint(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot), (255, 128, 128, 255))
    document = PSDImage.open(file)
    document[1]._record.blend_mode = BlendMode.MULTIPLY
    shown = soft().astype(float)
    shown[BOX][..., 1:] *= 128 / 255
    planes = [np.rint(shown[..., c]).astype(np.uint8).tobytes() for c in range(3)]
    document._record.image_data.set_data(planes, document._record.header)
    with file.open("wb") as opened_file:
        document._record.write(opened_file)
    keyframe = load(file, shot)
    assert keyframe.matte is not None
    np.testing.assert_allclose(keyframe.working * 255, np.where(box_mask()[..., None] > 0, shown, soft()), atol=1.1)


def test_hidden_plate_matters_to_blend_modes_only(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot))
    document = PSDImage.open(file)
    document[0]._record.flags.visible = False
    with file.open("wb") as opened_file:
        document._record.write(opened_file)
    keyframe = load(file, shot)
    assert keyframe.matte is not None and not keyframe.notes
    np.testing.assert_array_equal(keyframe.matte, box_mask())
    document[1]._record.blend_mode = BlendMode.MULTIPLY
    with file.open("wb") as opened_file:
        document._record.write(opened_file)
    assert "is hidden; show it" in refusal(file, shot)


def test_a_groups_opacity_thins_the_matte(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot))
    document = PSDImage.open(file)
    document.create_group(layer_list=[document[1]], name="mine", opacity=128)
    document.save(file)
    matte = load(file, shot).matte
    assert matte is not None
    np.testing.assert_allclose(matte, box_mask() * 128 / 255, atol=1e-4)


def test_a_mask_cuts_the_matte(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot), box=np.s_[:, :])
    document = PSDImage.open(file)
    record, channels = document[1]._record, document[1]._channels
    record.mask_data = MaskData(top=10, left=20, bottom=30, right=40, background_color=0)
    record.channel_info.append(ChannelInfo(ChannelID.USER_LAYER_MASK))
    channels.append(ChannelData(Compression.RAW, bytes([51]) * 400))
    with file.open("wb") as opened_file:
        document._record.write(opened_file)
    matte = load(file, shot).matte
    assert matte is not None
    expected = np.zeros((HEIGHT, WIDTH), np.float32)
    expected[10:30, 20:40] = 0.2
    np.testing.assert_allclose(matte, expected, atol=1e-4)


def test_a_clipped_layer_is_taken_by_its_difference(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot))
    document = PSDImage.open(file)
    document[1]._record.clipping = Clipping.NON_BASE
    shown = soft().copy()
    shown[BOX] = (255, 0, 0)
    planes = [shown[..., c].tobytes() for c in range(3)]
    document._record.image_data.set_data(planes, document._record.header)
    with file.open("wb") as opened_file:
        document._record.write(opened_file)
    keyframe = load(file, shot)
    assert keyframe.matte is None and "is clipped to another" in " ".join(keyframe.notes)
    np.testing.assert_array_equal((keyframe.working != shot[1].working()).any(-1), box_mask() > 0)


def test_a_flattened_file_is_taken_by_its_difference(tmp_path: Path, shot: Shot) -> None:
    flat = soft().copy()
    flat[BOX] = (255, 0, 0)
    PSDImage.frompil(Image.fromarray(flat)).save(tmp_path / "k.psd")
    keyframe = load(tmp_path / "k.psd", shot)
    assert keyframe.matte is None
    np.testing.assert_array_equal((keyframe.working != shot[1].working()).any(-1), box_mask() > 0)


# What is refused.


def test_a_file_of_another_frame_or_shot_is_refused(tmp_path: Path, shot: Shot, make_sequence: Make) -> None:
    other = opened(make_sequence("other.%04d.png", {1: soft(), 2: soft()}, folder="other"), 2)
    message = refusal(painted(exported(tmp_path, other)), shot)
    assert "made from frame 2 of" in message and "not from frame 2 of" in message
    with open_source(shot[0]) as source:
        first = source.read(1)
    with pytest.raises(PaintoverError, match="made from frame 2 of .*, not from frame 1 of"):
        load_keyframe(painted(exported(tmp_path, shot, "second.psd")), 1, first, shot[0])


def test_a_file_of_another_size_is_refused(tmp_path: Path, shot: Shot, make_sequence: Make) -> None:
    large = np.asarray(Image.fromarray(soft()).resize((80, 90)))
    other = opened(make_sequence("f.%04d.png", {1: large, 2: large}, folder="large"), 2)
    assert "80x90" in refusal(exported(tmp_path, other), shot)


def test_a_file_turned_to_cmyk_is_refused(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot))
    data = bytearray(file.read_bytes())
    data[24:26] = struct.pack(">H", 4)
    file.write_bytes(data)
    assert "CMYK" in refusal(file, shot)


@pytest.mark.parametrize("which", ["shot", "deep_shot"])
def test_truncated_psd_is_refused(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shot = request.getfixturevalue(which)
    whole = painted(exported(tmp_path, shot)).read_bytes()
    torn = tmp_path / "torn.psd"
    for part in (0, 3, 20, 27, 400, *range(1000, len(whole), len(whole) // 23), len(whole) - 1):
        torn.write_bytes(whole[:part])
        assert "damaged" in refusal(torn, shot), part


def test_no_broken_byte_gives_more_than_a_sentence(tmp_path: Path, shot: Shot) -> None:
    whole = painted(exported(tmp_path, shot)).read_bytes()
    dice = np.random.default_rng(5)
    broken = tmp_path / "broken.psd"
    for _ in range(60):
        data = bytearray(whole)
        for place in dice.integers(0, 3000, 4):
            data[place] = dice.integers(256)
        broken.write_bytes(data)
        try:
            load(broken, shot)
        except PaintoverError as error:
            assert "\n" not in error.message


@pytest.mark.parametrize("bomb", ["canvas", "layer", "count", "zip"])
def test_false_huge_size_is_refused_in_little_memory(bomb: str, tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot))
    with file.open("rb") as opened_file:
        document = PSD.read(opened_file)
    info = document._get_layer_info()
    record, data = info.layer_records[1], info.channel_image_data[1]
    if bomb == "canvas":
        document.header.width = document.header.height = 300_000
    elif bomb == "layer":
        record.right, record.bottom = 200_000, 200_000
    elif bomb == "count":
        info.layer_records._items.extend([record] * (layers.MOST_LAYERS + 1))
        info.channel_image_data._items.extend([data] * (layers.MOST_LAYERS + 1))
        info.layer_count = len(info.layer_records)
    else:
        data[0].compression = Compression.ZIP
        data[0].data = zlib.compress(bytes(2**27), 1)
    with file.open("wb") as opened_file:
        document.write(opened_file)
    assert file.stat().st_size < 5 * 2**20
    tracemalloc.start()
    try:
        refusal(file, shot)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path, shot: Shot) -> None:
    file = painted(exported(tmp_path, shot))
    with file.open("r+b") as opened_file:
        opened_file.truncate(2 * 2**30)  # a hole: it takes no room on the disk
    tracemalloc.start()
    try:
        assert "larger than 1 GiB" in refusal(file, shot)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
