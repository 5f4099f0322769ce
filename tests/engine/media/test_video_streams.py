"""Videos as cameras, phones and editors write them: what of their streams is read and kept."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenImageIO as oiio
import pytest
from av.filter import Graph
from paintover_engine.compose.composite import composite
from paintover_engine.errors import PaintoverError
from paintover_engine.media import colour
from paintover_engine.media.container import describe
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.output import open_sink
from paintover_engine.media.plate import VideoPlate
from paintover_engine.media.source import open_source, probe

Make = Callable[..., Path]


def carry(source: Path, out: Path) -> list[str]:
    """Writes all frames of a source as a job without paint would; returns all notes."""
    info = probe(source)
    with open_source(info) as frames, open_sink(out, info) as sink:
        for number in range(info.first, info.last + 1):
            sink.write(frames.read(number))
        sink.commit()
        return [*info.notes, *sink.notes]


def frame_of_noise(width: int, height: int, pix_fmt: str, seed: int) -> av.VideoFrame:
    noise = np.random.default_rng(seed).integers(0, 65536, (height, width, 4)).astype(np.uint16)
    return av.VideoFrame.from_ndarray(noise, "rgba64le").reformat(format=pix_fmt)


def encode(path: Path, codec: str, frames: list[av.VideoFrame], **settings: Any) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(25), options=settings.pop("options", {}))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# ---------------------------------------------------------------- several streams


def two_streams(path: Path, default: int | None) -> Path:
    """Streams of 64x48 and 96x48, of which one may be marked as the default."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        for width in (64, 96):
            stream: Any = container.add_stream("libx264", rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
            streams.append(stream)
        if default is not None:
            for stream in streams:
                stream.disposition = 1 if stream.index == default else 0
        for number in range(6):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(np.full((48, stream.width, 3), 20 * number, np.uint8), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("default", "width"), [(0, 64), (1, 96)])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov"])
def test_the_default_stream_is_edited(name: str, default: int, width: int, tmp_path: Path) -> None:
    path = two_streams(tmp_path / name, default)
    info = probe(path)
    assert (info.width, info.stream, info.count) == (width, default, 6)
    other = f"{1 - default} (h264 {160 - width}x48)"
    assert any(other in note and "left out" in note and "--stream" in note for note in info.notes)
    carry(path, tmp_path / "o.mkv")
    assert probe(tmp_path / "o.mkv").width == width


def test_a_stream_is_chosen_by_its_number(tmp_path: Path) -> None:
    path = two_streams(tmp_path / "a.mkv", 1)
    first, second = probe(path, stream=0), probe(path, stream=1)
    assert (first.width, second.width) == (64, 96)
    assert first.fingerprint != second.fingerprint == probe(path).fingerprint
    with open_source(first) as source:
        assert source.read(3).width == 64
    with pytest.raises(PaintoverError, match=r"no video stream 7; its video streams are 0 \(h264 64x48\), 1 \(h264"):
        probe(path, stream=7)


def test_a_folder_has_no_streams(tmp_path: Path, make_sequence: Make, noise: Callable[..., Any]) -> None:
    folder = make_sequence("f.%04d.png", {number: noise(8, 8, 3, np.uint8) for number in range(2)})
    with pytest.raises(PaintoverError, match="no video"):
        probe(folder, stream=0)


# ---------------------------------------------------------------- HDR10 and fields

MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


@pytest.mark.parametrize(("container", "out"), [("a.mp4", "o.mov"), ("a.mkv", "o.mp4"), ("a.ts", "o.mkv")])
def test_hdr10_metadata_is_kept(container: str, out: str, tmp_path: Path) -> None:
    params = (
        f"log-level=none:master-display={MASTERING}:max-cll=1234,321:"
        "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:repeat-headers=1"
    )
    frames = [frame_of_noise(96, 64, "yuv420p10le", number) for number in range(3)]
    encode(tmp_path / container, "libx265", frames, options={"x265-params": params})
    carry(tmp_path / container, tmp_path / out)
    hdr = describe(str(tmp_path / out)).hdr
    assert hdr is not None and hdr.light is not None and hdr.display is not None
    assert (hdr.light.pixel, hdr.light.frame) == (1234, 321)
    assert hdr.display.luminance == (Fraction(50, 10000), 1000)
    assert hdr.display.primaries is not None
    expected = [(0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.329)]
    np.testing.assert_allclose(np.array(hdr.display.primaries, float), expected, atol=1e-4)
    assert probe(tmp_path / out).count == 3


def test_a_video_without_hdr10_metadata_gets_none(tmp_path: Path, make_video: Make) -> None:
    carry(make_video(tmp_path / "a.mp4", count=3), tmp_path / "o.mov")
    assert describe(str(tmp_path / "o.mov")).hdr is None


def interlaced(frames: list[av.VideoFrame], mode: str) -> list[av.VideoFrame]:
    first = frames[0]
    graph = Graph()
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 25))
    marker, sink = graph.add("setparams", f"field_mode={mode}"), graph.add("buffersink")
    source.link_to(marker)
    marker.link_to(sink)
    graph.configure()
    marked = []
    for frame in frames:
        graph.vpush(frame)
        marked.append(graph.vpull())
    return marked


FIELDS = {
    "mpeg2 in mxf": ("a.mxf", "mpeg2video", "yuv420p", {"b": "20M"}),
    "mpeg2 in ts": ("a.ts", "mpeg2video", "yuv420p", {"b": "20M"}),
    "h264": ("a.mp4", "libx264", "yuv420p", {}),
    "prores": ("a.mov", "prores_ks", "yuv422p10le", {}),
    "ffv1": ("a.mkv", "ffv1", "yuv422p10le", {}),
}


@pytest.mark.parametrize(
    ("kind", "mode", "out"),
    [
        ("mpeg2 in mxf", "bff", "o.mov"), ("mpeg2 in ts", "bff", "o.mkv"), ("mpeg2 in ts", "tff", "o.mp4"),
        ("h264", "bff", "o.mp4"), ("h264", "tff", "o.mov"), ("prores", "bff", "o.mov"), ("ffv1", "tff", "o.mkv"),
    ],
)  # fmt: skip
def test_field_order_is_kept(kind: str, mode: str, out: str, tmp_path: Path) -> None:
    name, codec, pix_fmt, options = FIELDS[kind]
    frames = interlaced([frame_of_noise(128, 96, pix_fmt, 3)] * 3, mode)
    flags = (1 << 18) | (1 << 29)  # interlaced DCT and motion
    if codec == "libx264":
        options = {"x264-params": f"{mode}=1"}
    encode(tmp_path / name, codec, frames, flags=flags, options=options)
    before = describe(str(tmp_path / name))
    assert before.fields == mode
    notes = carry(tmp_path / name, tmp_path / out)
    assert any("interlaced" in note and "one a frame" in note for note in notes)
    after = describe(str(tmp_path / out))
    assert after.fields == mode


def test_progressive_stays_progressive(tmp_path: Path, make_video: Make) -> None:
    carry(make_video(tmp_path / "a.mp4", count=3), tmp_path / "o.mov")
    assert describe(str(tmp_path / "o.mov")).fields == ""


# ---------------------------------------------------------------- sizes and times


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_a_size_that_changes_is_refused(name: str, tmp_path: Path) -> None:
    """Two videos, one behind the other in one stream, as a recording of a stream that switched."""
    path = tmp_path / name
    parts = []
    for number, width in enumerate((64, 96)):
        frames = [frame_of_noise(width, 48, "yuv420p", k) for k in range(6)]
        parts.append(encode(tmp_path / f"{number}.ts", "libx264", frames, options={"bf": "0"}))
    with av.open(str(path), "w") as target:
        with av.open(str(parts[0])) as first:
            stream = target.add_stream_from_template(first.streams.video[0])
            step = int(Fraction(1, 25) / first.streams.video[0].time_base)
        for number, part in enumerate(parts):
            with av.open(str(part)) as source:
                for place, packet in enumerate(p for p in source.demux(video=0) if p.size):
                    packet.pts = packet.dts = (6 * number + place) * step
                    packet.stream = stream
                    target.mux(packet)
    with pytest.raises(PaintoverError, match="size at frame 6, from 64x48 to 96x48; use --range 0-5, or convert"):
        probe(path)
    info = probe(path, first=0, last=5)
    with open_source(info) as source:
        assert [source.read(number).width for number in range(6)] == [64] * 6
    assert probe(path, first=6, last=11).width == 96


def test_frame_of_another_size_is_an_error(tmp_path: Path, make_video: Make) -> None:
    info = probe(make_video(tmp_path / "a.mp4", count=3))
    with open_source(info) as source:
        object.__setattr__(source.info, "width", 128)  # as if frame 1 were another than the first
        with pytest.raises(PaintoverError, match="changes its size at frame 1, from 128x48 to 64x48"):
            source.read(1)


def test_negative_durations_are_read(tmp_path: Path, make_video: Make) -> None:
    times = [0, 40, 87, 120, 167, 200, 240, 287, 320, 360]
    path = make_video(tmp_path / "a.mp4", count=10, times=times, time_base=Fraction(1, 1000), options={"bf": "0"})
    data = bytearray(path.read_bytes())
    entries = data.find(b"stts") + 12
    data[entries + 20 : entries + 24] = struct.pack(">i", -300)  # the third entry's duration
    path.write_bytes(data)
    info = probe(path)
    assert info.count == 10
    carry(path, tmp_path / "o.mkv")
    assert probe(tmp_path / "o.mkv").count == 10


# ---------------------------------------------------------------- depth and colour

DEEP = [
    "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuva444p10le", "yuv420p12le", "yuv422p12le", "yuv444p12le",
    "yuva444p12le", "gbrp10le", "gbrp12le", "gbrap12le", "gray10le", "gray12le", "yuv444p16le", "rgb48le", "rgba64le",
]  # fmt: skip


@pytest.mark.parametrize("pix_fmt", DEEP)
def test_deep_videos_keep_their_samples(pix_fmt: str, tmp_path: Path) -> None:
    frames = [frame_of_noise(63, 47, pix_fmt, number) for number in range(3)]
    path = encode(tmp_path / "a.nut", "rawvideo", frames)
    carry(path, tmp_path / "o.mkv")
    with open_source(probe(path)) as before, open_source(probe(tmp_path / "o.mkv")) as after:
        for number in range(3):
            first, second = before.read(number), after.read(number)
            assert isinstance(first, VideoPlate) and isinstance(second, VideoPlate)
            assert first.picture.pix_fmt == second.picture.pix_fmt
            for one, other in zip(first.picture.planes, second.picture.planes, strict=True):
                assert np.array_equal(one, other)


def test_xyz_is_converted_with_a_note(tmp_path: Path) -> None:
    frames = [frame_of_noise(64, 48, "xyz12le", number) for number in range(3)]
    notes = carry(encode(tmp_path / "a.nut", "rawvideo", frames), tmp_path / "o.mkv")
    assert any("X'Y'Z'" in note and "RGB" in note for note in notes)


LOGS = ["S-Log3 S-Gamut3", "S-Log3 S-Gamut3.Cine", "ARRI LogC4", "ARRI LogC3 (EI800)", "V-Log V-Gamut", "ACEScct"]


@pytest.mark.parametrize("colorspace", LOGS)
def test_log_footage_keeps_its_encoding(colorspace: str, tmp_path: Path) -> None:
    ramp = np.linspace(6000, 60000, 64 * 48).astype(np.uint16).reshape(48, 64, 1).repeat(3, axis=2)
    frames = [av.VideoFrame.from_ndarray(ramp, "rgb48le").reformat(format="yuv422p10le") for _ in range(3)]
    path = encode(tmp_path / "a.mkv", "ffv1", frames)
    info = probe(path, colorspace=colorspace)
    assert info.colorspace == colorspace and not info.scene_linear
    with open_source(info) as source:
        plate = source.read(0)
    picture = plate.native_rgb().copy()
    picture[10:20, 10:30] = (40000, 20000, 10000)  # in the shot's own encoding, as an exported frame is
    image = oiio.ImageOutput.create(str(tmp_path / "k.png"))
    image.open(str(tmp_path / "k.png"), oiio.ImageSpec(64, 48, 3, "uint16"))
    image.write_image(picture)
    image.close()
    keyframe = load_keyframe(tmp_path / "k.png", 0, plate, info)
    changed = (keyframe.working != plate.working()).any(axis=2)
    assert changed[10:20, 10:30].all() and changed.sum() == 200, "nothing but the paint differs"

    painted = np.dstack([colour.from_working(keyframe.working, colorspace), changed.astype(np.float32)])
    result = composite(plate, painted.astype(np.float16), (0, 0, 64, 48))
    apart = ~changed & (np.arange(64) > 32)  # from where chroma is shared with the paint
    assert np.array_equal(result.native_rgb()[apart], plate.native_rgb()[apart])
    inside = result.rgb()[13:17, 14:26].reshape(-1, 3)
    np.testing.assert_allclose(
        inside, np.broadcast_to(np.array([40000, 20000, 10000]) / 65535, inside.shape), atol=3e-3
    )


# ---------------------------------------------------------------- anamorphic


@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [
        ((720, 576), Fraction(64, 45), (1024, 576)),
        ((720, 480), Fraction(32, 27), (854, 480)),
        ((720, 480), Fraction(8, 9), (640, 480)),
        ((1440, 1080), Fraction(4, 3), (1920, 1080)),
    ],
)
def test_a_keyframe_as_players_show_it_fits(
    size: tuple[int, int], aspect: Fraction, shown: tuple[int, int], tmp_path: Path, make_video: Make, make_image: Make
) -> None:
    info = probe(make_video(tmp_path / "a.mp4", count=2, size=size, aspect=aspect))
    assert info.pixel_aspect == aspect
    pixels = np.full((shown[1], shown[0], 3), 255, np.uint8)
    with open_source(info) as source:
        plate = source.read(0)
    keyframe = load_keyframe(make_image(tmp_path / "k.png", pixels), 0, plate, info)
    assert keyframe.working.shape[:2] == size[::-1]
    assert any("rescaled" in note for note in keyframe.notes)
    with pytest.raises(PaintoverError, match="save the keyframe at the shot's size"):
        load_keyframe(make_image(tmp_path / "k.png", np.full((500, 500, 3), 255, np.uint8)), 0, plate, info)


# ---------------------------------------------------------------- places


def test_a_place_that_takes_no_files_is_no_full_disk(tmp_path: Path, make_video: Make) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("no /proc")
    info = probe(make_video(tmp_path / "a.mp4", count=2))
    with pytest.raises(PaintoverError, match="'/proc' takes no files"):
        open_sink("/proc/o.mov", info)
