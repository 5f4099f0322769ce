"""Keyframe pictures of every program: profiles, modes, formats, sizes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import OpenImageIO as oiio
import pytest
from imagecodecs import cms_profile, cms_transform
from paintover_engine.errors import PaintoverError
from paintover_engine.media.keyframe import Keyframe, load_keyframe
from paintover_engine.media.plate import Plate
from paintover_engine.media.source import SourceInfo, open_source, probe
from PIL import Image, ImageCms
from psd_tools import PSDImage
from psd_tools.constants import ColorMode, Compression, Resource, Tag
from psd_tools.psd import PSD
from psd_tools.psd.color_mode_data import ColorModeData
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.image_resources import ImageResource, VersionInfo

Make = Callable[..., Any]
Shot = tuple[SourceInfo, Plate]
BOX = np.s_[20:40, 30:60]
RED = (205, 30, 40)


def eight_bits(rgb: np.ndarray) -> np.ndarray:
    return np.rint(rgb * 255).astype(np.uint8)


@pytest.fixture
def plate(scene: Make) -> np.ndarray:
    return eight_bits(scene(0))


@pytest.fixture
def key(plate: np.ndarray) -> np.ndarray:
    copy = plate.copy()
    copy[BOX] = RED
    return copy


@pytest.fixture
def shot(plate: np.ndarray, make_sequence: Make) -> Shot:
    return opened(make_sequence("f.%04d.png", {1: plate, 2: plate}))


def opened(folder: Path) -> Shot:
    info = probe(folder)
    with open_source(info) as source:
        return info, source.read(1)


def load(path: Path, shot: Shot, matte: Path | None = None) -> Keyframe:
    return load_keyframe(path, 1, shot[1], shot[0], matte)


def refusal(path: Path, shot: Shot) -> str:
    with pytest.raises(PaintoverError) as caught:
        load(path, shot)
    assert "\n" not in caught.value.message
    return caught.value.message


def check(keyframe: Keyframe, shot: Shot, colour: tuple[float, ...] = RED, within: float = 2.0) -> None:
    """The box is painted in that colour (8-bit levels), and nothing else differs from the plate."""
    differs = (keyframe.working != shot[1].working()).any(axis=2)
    expected = np.zeros(differs.shape, bool)
    expected[BOX] = True
    assert np.array_equal(differs, expected), f"{(differs & ~expected).mean():.2%} of the frame differs unpainted"
    assert np.abs(keyframe.working[BOX] * 255 - colour).max() <= within


# ---------------------------------------------------------------- profiles

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
D50, D65 = (0.3457, 0.3585, 1.0), (0.3127, 0.3290, 1.0)
PROFILES = {
    "ProPhoto": cms_profile(
        "rgb", whitepoint=D50, primaries=(0.7347, 0.2653, 1, 0.1596, 0.8404, 1, 0.0366, 0.0001, 1), gamma=1.8
    ),
    "Display P3": cms_profile(
        "rgb", whitepoint=D65, primaries=(0.68, 0.32, 1, 0.265, 0.69, 1, 0.15, 0.06, 1), gamma=2.2
    ),
    "Adobe RGB": cms_profile("adobergb"),
}


def in_profile(rgb: np.ndarray, profile: bytes, space: str = "rgb") -> np.ndarray:
    """(H, W, 3) 8-bit sRGB in another profile, float."""
    samples = (rgb / 255).astype(np.float32)
    return np.asarray(
        cms_transform(samples, SRGB, profile, colorspace="rgb", outcolorspace=space, outdtype=np.float32, intent=1)
    )


def save(path: Path, samples: np.ndarray, profile: bytes) -> Path:
    spec = oiio.ImageSpec(samples.shape[1], samples.shape[0], samples.shape[2], str(samples.dtype))
    spec.attribute("ICCProfile", oiio.TypeDesc(f"uint8[{len(profile)}]"), np.frombuffer(profile, np.uint8))
    image = oiio.ImageOutput.create(str(path))
    assert image.open(str(path), spec), image.geterror()
    assert image.write_image(np.ascontiguousarray(samples)), image.geterror()
    image.close()
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_converted_at_every_depth(
    name: str, dtype: Any, suffix: str, tmp_path: Path, key: np.ndarray, shot: Shot
) -> None:
    samples = in_profile(key, PROFILES[name]).clip(0, 1) * np.iinfo(dtype).max
    noise = (
        np.random.default_rng(1).uniform(-0.5, 0.5, samples.shape) if dtype == np.uint8 else 0.0
    )  # Photoshop dithers
    dithered = np.rint((samples + noise).clip(0, np.iinfo(dtype).max)).astype(dtype)
    keyframe = load(save(tmp_path / f"key{suffix}", dithered, PROFILES[name]), shot)
    check(keyframe, shot, within=6.0 if dtype == np.uint8 else 0.1)
    assert any("colour profile" in note and "sRGB" in note for note in keyframe.notes)


def test_a_deep_profile_over_a_deep_shot_is_exact(
    tmp_path: Path, scene: Make, make_sequence: Make, key: np.ndarray
) -> None:
    deep = np.rint(scene(0) * 65535).astype(np.uint16)
    shot = opened(make_sequence("d.%04d.png", {1: deep, 2: deep}, folder="deep"))
    painted = deep.copy()
    painted[BOX] = np.array(RED) * 257
    samples = in_profile(painted / 257.0, PROFILES["ProPhoto"])
    path = save(tmp_path / "key.png", np.rint(samples.clip(0, 1) * 65535).astype(np.uint16), PROFILES["ProPhoto"])
    check(load(path, shot), shot, within=0.1)


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB"])
def test_a_jpeg_with_a_profile_changes_what_is_painted(
    name: str, tmp_path: Path, scene: Make, plate: np.ndarray, key: np.ndarray, shot: Shot, propagate: Make
) -> None:
    converted = eight_bits(in_profile(key, PROFILES[name]).clip(0, 1))
    Image.fromarray(converted).save(tmp_path / "key.jpg", quality=95, icc_profile=PROFILES[name])
    propagate(Path(shot[0].path), {1: tmp_path / "key.jpg"}, tmp_path / "out")
    changed = (np.asarray(Image.open(tmp_path / "out" / "f.0001.png")) != plate).any(axis=2)
    assert changed[22:38, 32:58].all()
    changed[16:44, 24:66] = False
    assert not changed.any()


def test_picture_is_converted_to_plate_profile(tmp_path: Path, plate: np.ndarray, key: np.ndarray) -> None:
    (tmp_path / "p3").mkdir()
    own = PROFILES["Display P3"]
    for number in (1, 2):
        save(tmp_path / "p3" / f"f.{number}.png", eight_bits(in_profile(plate, own)), own)
    shot = opened(tmp_path / "p3")
    keyframe = load(save(tmp_path / "key.png", key, SRGB), shot)
    check(keyframe, shot, tuple(in_profile(np.array([[RED]]), own)[0, 0] * 255), within=3.0)
    assert any("the shot's" in note for note in keyframe.notes)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_lab_tiff_is_converted(bits: int, tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    lab = in_profile(key, LAB, "lab")
    if bits == 8:
        scaled = np.rint(lab * (2.55, 1, 1)).astype(np.int16).astype(np.uint8)  # a and b signed (TIFF 6.0, section 23)
        Image.frombytes("LAB", (96, 64), scaled.tobytes()).save(tmp_path / "key.tif")
    else:
        scaled = np.rint(lab * (655.35, 256, 256)).astype(np.int32).astype(np.uint16)
        path = save(tmp_path / "key.tif", scaled, LAB)
        data = path.read_bytes()
        tag = struct.pack("<HHIHH", 262, 3, 1, 2, 0)  # PhotometricInterpretation: RGB
        assert data.count(tag) == 1
        path.write_bytes(data.replace(tag, struct.pack("<HHIHH", 262, 3, 1, 8, 0)))
    keyframe = load(tmp_path / "key.tif", shot)
    check(keyframe, shot, within=4.0)
    assert any("L*a*b*" in note for note in keyframe.notes)


def test_a_cmyk_tiff_is_converted_by_its_profile(tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    ink = np.asarray(Image.fromarray(key).convert("CMYK"))
    Image.fromarray(ink, "CMYK").save(tmp_path / "plain.tif")
    assert any("CMYK" in note for note in load(tmp_path / "plain.tif", shot).notes)
    Image.fromarray(ink, "CMYK").save(tmp_path / "wrong.tif", icc_profile=SRGB)  # no profile of CMYK
    assert any("cannot be used" in note for note in load(tmp_path / "wrong.tif", shot).notes)


def linear(rgb: np.ndarray) -> np.ndarray:
    unit = rgb / 255.0
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4).astype(np.float32)


@pytest.mark.parametrize("name", ["key.exr", "key.tif", "key.hdr"])
def test_linear_picture_over_display_shot_is_encoded(
    name: str, tmp_path: Path, key: np.ndarray, shot: Shot, make_image: Make
) -> None:
    keyframe = load(make_image(tmp_path / name, linear(key)), shot)
    if name == "key.hdr":  # eight bits of one exponent for three channels
        difference = np.abs(keyframe.working - shot[1].working()).max(axis=2)
        difference[BOX] = 0
        assert difference.max() < 12 / 255
    else:
        check(keyframe, shot, within=0.6)
    assert any("Linear Rec.709" in note for note in keyframe.notes)


def test_exr_result_is_a_keyframe_unchanged(tmp_path: Path, key: np.ndarray, shot: Shot, make_image: Make) -> None:
    keyframe = load(make_image(tmp_path / "key.exr", (key / 255).astype(np.float32)), shot)
    check(keyframe, shot, within=0.6)
    assert not any("converted" in note for note in keyframe.notes)


def test_linear_picture_of_other_primaries_converts(
    tmp_path: Path, key: np.ndarray, plate: np.ndarray, make_sequence: Make, make_image: Make
) -> None:
    shot = opened(make_sequence("f.%04d.exr", {n: linear(plate) for n in (1, 2)}, folder="lin"))
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087-0
    spec = oiio.ImageSpec(96, 64, 3, "float")
    spec.attribute(
        "chromaticities", oiio.TypeDesc("float[8]"), (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329)
    )
    image = oiio.ImageOutput.create(str(tmp_path / "key.exr"))
    assert image.open(str(tmp_path / "key.exr"), spec)
    image.write_image((linear(key) @ to_2020.T).astype(np.float32))
    image.close()
    keyframe = load(tmp_path / "key.exr", shot)
    assert np.abs(keyframe.working[0:18] - shot[1].working()[0:18]).max() < 0.002
    assert any("Linear Rec.2020" in note for note in keyframe.notes)


# ---------------------------------------------------------------- formats


def test_an_animated_gif_gives_its_first_picture(tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    frames = [Image.fromarray(key), Image.fromarray(key[::-1].copy())]
    frames[0].save(tmp_path / "key.gif", save_all=True, append_images=frames[1:])
    keyframe = load(tmp_path / "key.gif", shot)
    assert np.abs(keyframe.working[BOX] * 255 - RED).max() < 25
    assert any("animation" in note for note in keyframe.notes)
    assert any("palette" in note for note in keyframe.notes)


def test_an_avif_is_read(tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    Image.fromarray(key).save(tmp_path / "key.avif", quality=100, subsampling="4:4:4")
    keyframe = load(tmp_path / "key.avif", shot)
    assert np.abs(keyframe.working - key / 255).max() < 0.1
    assert np.abs(keyframe.working[BOX] * 255 - RED).max() < 8


def heic(path: Path, rgb: np.ndarray) -> Path:
    """The smallest HEIF file of one HEVC picture (ISO/IEC 23008-12)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream(
            "libx265", rate=Fraction(1), options={"x265-params": "lossless=1:log-level=0"}
        )
        stream.width, stream.height, stream.pix_fmt = rgb.shape[1], rgb.shape[0], "yuv444p"
        stream.codec_context.color_range = 2
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuvj444p", dst_colorspace=5)
        frame = frame.reformat(format="yuv444p", src_color_range=2, dst_color_range=2)
        frame.color_range = 2
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = buffer.getvalue()
    configuration = data.index(b"hvcC")
    config = data[
        configuration - 4 : configuration - 4 + struct.unpack(">I", data[configuration - 4 : configuration])[0]
    ]
    at = data.index(b"mdat")
    picture = data[at + 4 : at - 4 + struct.unpack(">I", data[at - 4 : at])[0]]

    def box(kind: bytes, content: bytes, full: bool = False) -> bytes:
        content = b"\0\0\0\0" * full + content
        return struct.pack(">I", 8 + len(content)) + kind + content

    size = box(b"ispe", struct.pack(">II", rgb.shape[1], rgb.shape[0]), full=True)
    colour = box(b"colr", b"nclx" + struct.pack(">HHHB", 1, 13, 5, 128))
    properties = box(b"ipco", config + size + colour) + box(
        b"ipma", struct.pack(">IHBBBB", 1, 1, 3, 0x81, 2, 3), full=True
    )
    entry = b"\2\0\0\0" + struct.pack(">HH4s", 1, 0, b"hvc1") + b"\0"
    infos = box(b"iinf", struct.pack(">H", 1) + box(b"infe", entry), full=True)
    handler = box(b"hdlr", b"\0\0\0\0pict" + bytes(13), full=True)
    first = box(b"ftyp", b"heic\0\0\0\0mif1heic")

    def meta(offset: int) -> bytes:
        place = box(b"iloc", b"\x44\0" + struct.pack(">HHHHII", 1, 1, 0, 1, offset, len(picture)), full=True)
        parts = handler + box(b"pitm", struct.pack(">H", 1), full=True) + place + infos + box(b"iprp", properties)
        return box(b"meta", parts, full=True)

    offset = len(first) + len(meta(0)) + 8
    path.write_bytes(first + meta(offset) + box(b"mdat", picture))
    return path


def test_a_heic_is_read(tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    keyframe = load(heic(tmp_path / "key.heic", key), shot)
    assert np.abs(keyframe.working - key / 255).max() < 4 / 255
    (tmp_path / "cut.heic").write_bytes((tmp_path / "key.heic").read_bytes()[:200])
    assert refusal(tmp_path / "cut.heic", shot).endswith("save it as PNG.")


# ---------------------------------------------------------------- sizes

NEAR = {
    "cropped": (lambda key: key[:, 11:843], "cropped"),
    "stretched": (lambda key: cv2.resize(key, (832, 480), interpolation=cv2.INTER_AREA), "stretched"),
    "padded": (lambda key: np.pad(key, ((0, 0), (5, 5), (0, 0)), mode="edge"), "padded"),
    "cropped both ways": (lambda key: key[0:480, 3:851], "cropped"),
}


@pytest.mark.parametrize("kind", NEAR)
def test_sizes_that_tools_round_to_are_taken(kind: str, tmp_path: Path, scene: Make, make_sequence: Make) -> None:
    change, word = NEAR[kind]
    plate = eight_bits(scene(0, 854, 480))
    shot = opened(make_sequence("f.%04d.png", {1: plate, 2: plate}))
    key = plate.copy()
    key[200:260, 300:400] = RED
    Image.fromarray(np.ascontiguousarray(change(key))).save(tmp_path / "key.png")
    keyframe = load(tmp_path / "key.png", shot)
    assert any(word in note for note in keyframe.notes)
    assert np.abs(keyframe.working[203:257, 303:397] * 255 - RED).max() < 3
    difference = np.abs(keyframe.working - shot[1].working()).max(axis=2)
    difference[197:263, 297:403] = 0
    assert difference.max() == 0 if word != "stretched" else difference.max() < 0.1


def test_a_near_size_of_another_picture_is_refused(tmp_path: Path, scene: Make, make_sequence: Make) -> None:
    plate = eight_bits(scene(0, 854, 480))
    shot = opened(make_sequence("f.%04d.png", {1: plate, 2: plate}))
    Image.fromarray(255 - plate[::-1, 11:843]).save(tmp_path / "key.png")
    message = refusal(tmp_path / "key.png", shot)
    assert "832x480" in message
    assert "save the keyframe at the shot's size" in message
    Image.fromarray(plate[:, :700]).save(tmp_path / "odd.png")
    assert "700x480" in refusal(tmp_path / "odd.png", shot)


# ---------------------------------------------------------------- Photoshop


def flat_psd(path: Path, mode: ColorMode, planes: np.ndarray, compression: Compression = Compression.RAW) -> Path:
    """A Photoshop file without layers. planes: (H, W, C) uint8 or uint16."""
    depth = planes.dtype.itemsize * 8
    height, width, channels = planes.shape
    header = FileHeader(
        version=2 if path.suffix == ".psb" else 1,
        width=width,
        height=height,
        channels=channels,
        depth=depth,
        color_mode=mode,
    )
    document = PSD(header=header, image_data=ImageData(compression, b""))
    if mode is ColorMode.DUOTONE:
        document.color_mode_data = ColorModeData(b"\0\1" + bytes(522))
    kind = planes.dtype.newbyteorder(">")
    document.image_data.set_data([planes[..., i].astype(kind).tobytes() for i in range(channels)], header)
    with path.open("wb") as file:
        document.write(file)
    return path


@pytest.mark.parametrize("bits", [8, 16])
def test_a_lab_psd_is_converted(bits: int, tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    lab = in_profile(key, LAB, "lab")
    scaled = lab * ((2.55, 1, 1) if bits == 8 else (655.35, 256, 256)) + (0, 2 ** (bits - 1), 2 ** (bits - 1))
    planes = np.rint(scaled).astype(np.uint8 if bits == 8 else np.uint16)
    check(load(flat_psd(tmp_path / "key.psd", ColorMode.LAB, planes), shot), shot, within=4.0)


def test_a_duotone_psd_is_grey(tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    grey = np.asarray(Image.fromarray(key).convert("L"))[..., None]
    keyframe = load(flat_psd(tmp_path / "key.psd", ColorMode.DUOTONE, grey), shot)
    assert np.abs(keyframe.working - grey / 255).max() < 0.01
    assert any("DUOTONE" in note for note in keyframe.notes)


def test_cmyk_psd_converts_multichannel_is_refused(tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    ink = 255 - np.asarray(Image.fromarray(key).convert("CMYK"))
    check(load(flat_psd(tmp_path / "key.psd", ColorMode.CMYK, ink), shot), shot)
    assert "convert it to RGB" in refusal(flat_psd(tmp_path / "multi.psd", ColorMode.MULTICHANNEL, ink), shot)


def test_what_openimageio_does_not_parse_is_read(tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    path = flat_psd(tmp_path / "key.psd", ColorMode.RGB, key, Compression.ZIP)
    assert oiio.ImageInput.open(str(path)) is None or oiio.ImageBuf(str(path)).has_error
    check(load(path, shot), shot)


def test_a_psb_beyond_what_a_psd_holds_is_read(tmp_path: Path, make_sequence: Make) -> None:
    wide = np.tile(np.arange(31000, dtype=np.uint32)[None, :, None] // 200, (18, 1, 3)).astype(np.uint8)
    shot = opened(make_sequence("f.%04d.png", {1: wide, 2: wide}))
    painted = wide.copy()
    painted[4:12, 30500:30900] = RED
    keyframe = load(flat_psd(tmp_path / "key.psb", ColorMode.RGB, painted, Compression.RLE), shot)
    changed = (keyframe.working != shot[1].working()).any(axis=2)
    assert changed[4:12, 30500:30900].all()
    assert changed.sum() == 8 * 400


def without_flattened(path: Path, document: PSDImage) -> Path:
    info = io.BytesIO()
    VersionInfo(version=1, has_composite=False, writer="w", reader="r", file_version=1).write(info)
    document.image_resources[Resource.VERSION_INFO] = ImageResource(
        key=Resource.VERSION_INFO.value, data=info.getvalue()
    )
    document.save(path)
    return path


@pytest.mark.parametrize("hidden", [False, True])
def test_layers_that_cannot_be_put_together_are_told(hidden: bool, tmp_path: Path, key: np.ndarray, shot: Shot) -> None:
    document = PSDImage.new("RGB", (96, 64))
    document.create_pixel_layer(Image.fromarray(key), name="painted")
    adjustment = document.create_pixel_layer(Image.fromarray(key[:4, :4].copy()), name="warmer")
    adjustment._record.tagged_blocks.set_data(
        Tag.HUE_SATURATION,
        enable=1,
        colorization=(0, 0, 0),
        master=(40, 0, 0),
        items=[[(0, 0, 0, 0), (0, 0, 0)]] * 6,
    )
    adjustment.visible = not hidden
    path = without_flattened(tmp_path / "key.psd", document)
    if hidden:
        check(load(path, shot), shot)
    else:
        message = refusal(path, shot)
        assert "damaged" not in message
        assert "Maximize Compatibility" in message
