from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import video
from paintover_engine.media.plate import Plate, VideoPlate
from paintover_engine.media.source import Source, SourceInfo, open_source, probe
from paintover_engine.media.video_picture import rgb_of

Make = Callable[..., Path]


def shown(plate: Plate) -> int:
    """The frame number that a plate's luma tells."""
    assert isinstance(plate, VideoPlate)
    luma = plate.picture.planes[0]
    corner = luma[luma.shape[0] * 3 // 4 :, luma.shape[1] * 3 // 4 :]
    return round((float(np.median(corner)) / 2 ** (plate.picture.bits - 8) - 30) / 4)


def numbers_read(source: Source, order: list[int]) -> list[int]:
    return [shown(source.read(number)) for number in order]


B_FRAMES = {"g": "12", "bf": "3", "crf": "4", "preset": "veryfast"}
KINDS = {
    "closed GOP with B-frames": ("a.mp4", {"options": B_FRAMES}),
    "open GOP": ("a.mkv", {"options": B_FRAMES | {"x264-params": "open-gop=1:scenecut=0"}}),
    "open GOP in mp4": ("a.mp4", {"options": B_FRAMES | {"x264-params": "open-gop=1:scenecut=0"}}),
    "10 bits": ("a.mov", {"options": B_FRAMES, "pix_fmt": "yuv420p10le", "bits": 10}),
    "prores": ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuv444p10le", "bits": 10, "options": {"profile": "4444"}}),
    "mpeg4 in avi": ("a.avi", {"codec": "mpeg4", "options": {"qmin": "1", "qmax": "2", "g": "12"}}),
    "mpeg4 with B-frames in avi": ("a.avi", {"codec": "mpeg4", "options": {"qmin": "1", "qmax": "2", "bf": "2"}}),
    "transport stream, not from 0": ("a.ts", {"options": B_FRAMES}),
    "program stream": ("a.mpg", {"codec": "mpeg2video", "options": {"qmin": "1", "qmax": "2", "bf": "2", "g": "12"}}),
    "no timestamps": ("a.h264", {"options": B_FRAMES, "format": "h264"}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"crf": "10", "b": "0", "deadline": "realtime", "g": "12"}}),
    "vp8": (
        "a.webm",
        {"codec": "libvpx", "options": {"crf": "4", "b": "2M", "auto-alt-ref": "1"}},
    ),
    "mjpeg": ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {"qmin": "1", "qmax": "2"}}),
    "hevc": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:crf=8"}}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_frame_is_found_by_its_number_in_any_order(kind: str, tmp_path: Path, make_video: Make) -> None:
    name, arguments = KINDS[kind]
    try:
        path = make_video(tmp_path / name, **arguments)
    except av.codec.codec.UnknownCodecError:
        pytest.skip("this build has no such encoder")
    info = probe(path)
    assert (info.first, info.last) == (0, 47)
    if kind != "no timestamps":
        assert info.rate == 25
    scattered = [40, 3, 47, 0, 13, 12, 11, 36, 35, 24, 23, 46, 1]
    with open_source(info) as source:
        assert numbers_read(source, list(range(48))) == list(range(48))
    with Source(info, video.VideoReader(info.path, ""), cache_bytes=1) as source:  # nothing kept: every read decodes
        assert numbers_read(source, scattered) == scattered


def test_frames_hidden_by_an_edit_list_are_not_counted(tmp_path: Path, make_video: Make) -> None:
    whole = make_video(tmp_path / "whole.mp4", options=B_FRAMES)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        offset = int(5 / 25 / stream.time_base)
        for packet in source.demux(stream):
            if packet.size:
                packet.pts -= offset
                packet.dts -= offset
                packet.stream = copy
                target.mux(packet)
    info = probe(cut)
    assert info.count == 43
    with open_source(info) as source:
        assert numbers_read(source, [0, 42, 20]) == [5, 47, 25]


def note_starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames for which a decoder is placed from now on."""
    starts: list[int] = []
    start = video._Run._start
    monkeypatch.setattr(video._Run, "_start", lambda run, number: (starts.append(number), start(run, number))[1])
    return starts


def test_backward_chunks_decode_each_group_once(
    tmp_path: Path, make_video: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mp4", options=B_FRAMES | {"g": "48"})
    info = probe(path)
    starts = note_starts(monkeypatch)
    source = Source(info, video.VideoReader(info.path, ""))
    for chunk in range(40, -1, -8):
        assert numbers_read(source, list(range(chunk, chunk + 8))) == list(range(chunk, chunk + 8))
    assert starts == [40]


def test_a_small_cache_still_reads_a_chunk_in_one_go(
    tmp_path: Path, make_video: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mp4", options=B_FRAMES | {"g": "48"})
    info = probe(path)
    starts = note_starts(monkeypatch)
    source = Source(info, video.VideoReader(info.path, ""), cache_bytes=10 * 64 * 48 * 2)
    for chunk in range(40, -1, -8):
        numbers_read(source, list(range(chunk, chunk + 8)))
    assert len(starts) <= 6


def test_parallel_readers_do_not_seek_each_other(
    tmp_path: Path, make_video: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mp4", options=B_FRAMES | {"g": "48"})
    starts = note_starts(monkeypatch)
    with Source(probe(path), video.VideoReader(str(path), ""), cache_bytes=1) as source:  # nothing is kept
        starts.clear()
        turns = [number for near in range(16) for number in (near, near + 16, near + 32)]
        assert numbers_read(source, turns) == turns
    assert len(starts) == 3


def test_a_variable_frame_rate_is_said(tmp_path: Path, make_video: Make) -> None:
    times = [0, 40, 80, 200, 240, 300, 460, 500, 540, 580]
    path = make_video(tmp_path / "v.mkv", count=10, times=times, time_base=Fraction(1, 1000), options=B_FRAMES)
    info = probe(path)
    assert info.variable_rate
    assert info.rate == 25
    assert any("variable frame rate" in note for note in info.notes)
    with open_source(info) as source:
        assert numbers_read(source, [9, 3, 6]) == [9, 3, 6]


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60), Fraction(12, 5)])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_constant_rate_is_exact(rate: Fraction, name: str, tmp_path: Path, make_video: Make) -> None:
    info = probe(make_video(tmp_path / name, rate=rate, options=B_FRAMES))
    assert not info.variable_rate
    assert info.rate == rate


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_shown_upright(rotation: int, tmp_path: Path, make_video: Make) -> None:
    info = probe(make_video(tmp_path / "r.mp4", rotation=rotation, count=4, aspect=Fraction(4, 3)))
    assert (info.width, info.height) == ((64, 48) if rotation == 180 else (48, 64))
    assert info.pixel_aspect == (Fraction(4, 3) if rotation == 180 else Fraction(3, 4))
    assert any("upright" in note for note in info.notes)
    with open_source(info) as source:
        plate = source.read(1)
    picture = plate.display()
    assert picture.shape == (plate.height, plate.width, 3)
    assert isinstance(plate, VideoPlate)
    stored = rgb_of(plate.picture)
    assert np.abs(picture.astype(int) - np.rot90(stored, rotation // 90)).max() <= 1


def test_info_says_what_ffprobe_would(tmp_path: Path, make_video: Make) -> None:
    path = make_video(
        tmp_path / "a.mov",
        codec="prores_ks",
        pix_fmt="yuva444p10le",
        bits=10,
        options={"profile": "4444"},
        timecode="01:00:00:00",
        aspect=Fraction(2, 1),
        audio="pcm_s16le",
    )
    info = probe(path, first=30, last=40)
    assert info.format.startswith("prores yuva444p")
    assert info.sample in ("uint10", "uint12")
    assert (info.timecode, info.pixel_aspect, info.has_audio) == ("01:00:01:05", Fraction(2), True)
    assert SourceInfo.from_json(info.to_json()) == info


def refusal(path: Path, **arguments: int) -> PaintoverError:
    with pytest.raises(PaintoverError) as caught:
        probe(path, **arguments)
    assert caught.value.message.count("\n") == 0
    assert path.name in caught.value.message
    return caught.value


def test_a_truncated_mkv_says_how_far_it_can_be_read(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "t.mkv", count=100, options=B_FRAMES)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    error = refusal(path)
    assert error.code is Code.DATA_LOSS
    last = int(error.message.split("--range 0-")[1].split(" ")[0])
    assert 30 < last < 99
    info = probe(path, 0, last)
    with open_source(info) as source:
        assert [n % 48 for n in range(last + 1)] == numbers_read(source, list(range(last + 1)))


def test_a_truncated_mp4_says_how_far_it_can_be_read(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "t.mp4", count=100, options=B_FRAMES, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    error = refusal(path)
    assert "of 100 frames" in error.message
    last = int(error.message.split("--range 0-")[1].split(" ")[0])
    info = probe(path, 0, last)
    with open_source(info) as source:
        assert [n % 48 for n in range(last + 1)] == numbers_read(source, list(range(last + 1)))


def test_an_mp4_without_its_index_is_refused(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "t.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    assert "damaged" in refusal(path).message


def test_damaged_frame_fails_alone(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "d.mov", codec="prores_ks", pix_fmt="yuv422p10le", bits=10)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][20]
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[position : position + size] = bytes(size)
    path.write_bytes(data)
    with open_source(probe(path)) as source:
        assert numbers_read(source, [19, 21, 47]) == [19, 21, 47]
        with pytest.raises(PaintoverError, match="Frame 20"):
            source.read(20)


def test_what_is_no_video_is_refused(tmp_path: Path, make_video: Make) -> None:
    assert refusal(tmp_path / "missing.mp4").code is Code.NOT_FOUND
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    refusal(tmp_path / "text.mp4")
    (tmp_path / "empty.mov").touch()
    assert "empty" in refusal(tmp_path / "empty.mov").message
    sound = tmp_path / "sound.m4a"
    with av.open(str(sound), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "holds no video" in refusal(sound).message
    assert "one frame" in refusal(make_video(tmp_path / "one.mp4", count=1)).message


def test_playlists_devices_and_pipes_are_refused(tmp_path: Path, make_video: Make) -> None:
    target = make_video(tmp_path / "secret.ts")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n")
    refusal(playlist)
    concat = tmp_path / "list.ffconcat"
    concat.write_text(f"ffconcat version 1.0\nfile '{target.name}'\n")
    refusal(concat)
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "regular file" in refusal(tmp_path / "pipe.mp4").message
    for address in ("http://127.0.0.1:1/a.mp4", "concat:a.mp4|b.mp4", "/dev/zero"):
        with pytest.raises(PaintoverError):
            probe(address)


def test_ranges_outside_the_video_are_refused(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "a.mp4")
    assert "frames 0 to 47" in refusal(path, first=10, last=48).message
    assert "frames 0 to 47" in refusal(path, first=60).message
    assert "one frame" in refusal(path, first=10, last=10).message
    with pytest.raises(PaintoverError, match="ends before"):
        probe(path, 9, 3)
    with open_source(probe(path, 10, 20)) as source, pytest.raises(PaintoverError, match="10 to 20"):
        source.read(21)


def test_source_changed_after_probe_is_refused(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "a.mp4")
    info = probe(path)
    make_video(path, count=30)
    with pytest.raises(PaintoverError, match="has changed"):
        open_source(info)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (65, 49), (16, 1)])
def test_odd_sizes_are_read(size: tuple[int, int], tmp_path: Path, make_video: Make) -> None:
    info = probe(make_video(tmp_path / "a.mkv", codec="ffv1", size=size, count=3, options={"slices": "1"}))
    with open_source(info) as source:
        plate = source.read(2)
    assert plate.display().shape == (size[1], size[0], 3)
    assert plate.rgb().shape == plate.working().shape == (size[1], size[0], 3)


def test_memory_does_not_grow_with_length(tmp_path: Path, make_video: Make) -> None:
    short = make_video(tmp_path / "s.mp4", count=40, size=(640, 360), options={"g": "12", "preset": "ultrafast"})
    long = make_video(tmp_path / "l.mp4", count=240, size=(640, 360), options={"g": "12", "preset": "ultrafast"})
    program = (
        "import resource, sys\n"
        "from paintover_engine.media.source import Source, probe\n"
        "from paintover_engine.media.video import VideoReader\n"
        "info = probe(sys.argv[1])\n"
        "source = Source(info, VideoReader(info.path, ''), cache_bytes=8 * 2**20)\n"
        "for n in range(info.count): source.read(n)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = [
        int(subprocess.run([sys.executable, "-c", program, str(p)], capture_output=True, check=True).stdout)
        for p in (short, long)
    ]
    assert peaks[1] < peaks[0] * 1.1
