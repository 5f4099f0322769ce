from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenImageIO as oiio
import pytest
from paintover_engine.compose.composite import composite
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.output import check_output, open_sink
from paintover_engine.media.plate import Orientation
from paintover_engine.media.source import open_source, probe
from paintover_engine.media.video_picture import plane_array

Make = Callable[..., Path]
Noise = Callable[..., np.ndarray]


def carry(
    source: Path, out: Path, first: int | None = None, last: int | None = None, colorspace: str = ""
) -> list[str]:
    """Writes a shot's frames unchanged; gives the sink's notes."""
    info = probe(source, first, last, colorspace)
    with open_source(info) as frames, open_sink(out, info) as sink:
        for number in range(info.first, info.last + 1):
            sink.write(frames.read(number))
        sink.commit()
    assert not list(out.parent.glob(".*.partial")), "staging is left behind"
    return sink.notes


def read(path: Path) -> tuple[np.ndarray, oiio.ImageSpec]:
    config = oiio.ImageSpec()
    config["oiio:UnassociatedAlpha"] = 1
    image = oiio.ImageInput.open(str(path), config)
    assert image, oiio.geterror()
    spec = image.spec()
    return image.read_image(0, 0, 0, spec.nchannels, spec.format), spec


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


# ---------------------------------------------------------------- images

SAME = {
    "8-bit PNG": ("f.%04d.png", np.uint8, 3),
    "8-bit PNG with alpha": ("f.%04d.png", np.uint8, 4),
    "grey PNG": ("f.%04d.png", np.uint8, 1),
    "16-bit PNG with alpha": ("f.%04d.png", np.uint16, 4),
    "16-bit TIFF": ("f.%04d.tif", np.uint16, 3),
    "float TIFF": ("f.%04d.tif", np.float32, 3),
    "half EXR with alpha": ("f.%04d.exr", np.float16, 4),
    "float EXR": ("f.%04d.exr", np.float32, 3),
}


@pytest.mark.parametrize("kind", SAME)
def test_a_sequence_comes_back_bit_for_bit(kind: str, tmp_path: Path, make_sequence: Make, noise: Noise) -> None:
    pattern, dtype, channels = SAME[kind]
    frames = {number: noise(9, 13, channels, dtype, number) for number in range(1001, 1004)}
    carry(make_sequence(pattern, frames), tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [pattern % number for number in frames]
    for number, expected in frames.items():
        pixels, _ = read(tmp_path / "out" / (pattern % number))
        assert pixels.dtype == dtype
        assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_dpx_keeps_its_depth(bits: int, tmp_path: Path, make_sequence: Make) -> None:
    codes = np.random.default_rng(1).integers(0, 2**bits, (8, 12, 3)).astype(np.uint16)
    samples = codes if bits == 16 else (codes << (16 - bits)) | (codes >> (2 * bits - 16))
    folder = make_sequence("f.%04d.dpx", {1: samples, 2: samples}, oiio__BitsPerSample=bits)
    assert probe(folder).sample == f"uint{bits}"
    carry(folder, tmp_path / "out.####.dpx")
    pixels, spec = read(tmp_path / "out.0002.dpx")
    assert spec.get_int_attribute("oiio:BitsPerSample") == bits
    assert np.array_equal(pixels, samples)


def test_further_exr_channels_pass_through(tmp_path: Path, make_sequence: Make, noise: Noise) -> None:
    frames = {n: noise(9, 13, 6, np.float32, n) for n in (1, 2)}
    names = ("R", "G", "B", "A", "Z", "N.X")
    carry(make_sequence("f.%04d.exr", frames, channelnames=names), tmp_path / "out")
    pixels, spec = read(tmp_path / "out" / "f.0002.exr")
    stored = {name: pixels[..., index] for index, name in enumerate(spec.channelnames)}
    for index, name in enumerate(names):
        assert np.array_equal(stored[name], frames[2][..., index]), name


def test_a_header_is_carried(tmp_path: Path, make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence(
        "f.%04d.exr",
        {1: noise(4, 4, 3, np.float16), 2: noise(4, 4, 3, np.float16)},
        compression="piz",
        PixelAspectRatio=2.0,
        Artist="someone",
        capDate="2020:01:01 00:00:00",
    )
    carry(folder, tmp_path / "out")
    _, spec = read(tmp_path / "out" / "f.0001.exr")
    assert spec.get_string_attribute("compression") == "piz"
    assert spec.get_float_attribute("PixelAspectRatio") == 2.0
    assert spec.get_string_attribute("Artist") == "someone"


def test_jpeg_sources_become_png_of_the_same_name(tmp_path: Path, make_sequence: Make, noise: Noise) -> None:
    folder = make_sequence("%05d.jpg", {n: noise(16, 16, 3, np.uint8, n) for n in range(3)})
    carry(folder, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["00000.png", "00001.png", "00002.png"]
    assert np.array_equal(read(tmp_path / "out" / "00001.png")[0], read(folder / "00001.jpg")[0])


def test_linear_exr_to_png_is_encoded_with_a_note(tmp_path: Path, make_sequence: Make) -> None:
    linear = np.full((4, 4, 3), 0.5, np.float16)
    linear[0, 0] = 4.0
    notes = carry(make_sequence("f.%04d.exr", {1: linear, 2: linear}), tmp_path / "out.####.png")
    assert any("values above 1 are clipped" in note for note in notes)
    pixels, _ = read(tmp_path / "out.0001.png")
    assert pixels.dtype == np.uint16
    assert np.abs(pixels[1, 1] / 65535 - 0.7354).max() < 1e-3  # IEC 61966-2-1
    assert pixels[0, 0, 0] == 65535


def test_a_video_written_to_a_folder_keeps_its_depth(tmp_path: Path, make_video: Make) -> None:
    eight = make_video(tmp_path / "a.mp4", count=3)
    carry(eight, tmp_path / "eight")
    assert sorted(os.listdir(tmp_path / "eight")) == ["a.00000.png", "a.00001.png", "a.00002.png"]
    pixels, _ = read(tmp_path / "eight" / "a.00001.png")
    assert np.array_equal(pixels, decoded(eight)[1].to_ndarray(format="rgb24"))
    carry(make_video(tmp_path / "b.mov", "prores_ks", "yuv444p10le", 3, bits=10), tmp_path / "ten")
    assert read(tmp_path / "ten" / "b.00000.png")[0].dtype == np.uint16


def test_a_video_written_as_exr_carries_its_timecode(tmp_path: Path, make_video: Make) -> None:
    source = make_video(tmp_path / "a.mov", "prores_ks", "yuv444p10le", 8, bits=10, timecode="10:00:00:22")
    carry(source, tmp_path / "o.####.exr", 2, 4)
    _, spec = read(tmp_path / "o.0003.exr")
    assert spec.get_string_attribute("smpte:TimeCode") == "10:00:01:00"


def test_uploaded_frames_are_written(tmp_path: Path, noise: Noise) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "up").mkdir()
    frames = {n: noise(6, 8, 4, np.float16, n) for n in range(7, 10)}
    for number, pixels in frames.items():
        save_file({"frame": pixels}, tmp_path / "up" / f"{number:08d}.safetensors")
    carry(tmp_path / "up", tmp_path / "out")
    assert np.array_equal(read(tmp_path / "out" / "00000008.exr")[0], frames[8])


# ---------------------------------------------------------------- videos


def test_mkv_is_lossless_outside_the_matte(tmp_path: Path, make_video: Make) -> None:
    for name, pix_fmt, bits in [("8", "yuv420p", 8), ("10", "yuv422p10le", 10), ("444", "yuv444p", 8)]:
        source = make_video(
            tmp_path / f"s{name}.mp4", pix_fmt=pix_fmt, bits=bits, count=6, size=(37, 23) if name == "444" else (64, 48)
        )
        info = probe(source)
        out = tmp_path / f"o{name}.mkv"
        painted = np.full((9, 9, 4), (1, 0, 0.5, 1), np.float16)
        with open_source(info) as frames, open_sink(out, info) as sink:
            for number in range(6):
                sink.write(composite(frames.read(number), painted, (3, 5, 9, 9)))
            sink.commit()
        for before, after in zip(decoded(source), decoded(out), strict=True):
            assert after.format.name == pix_fmt
            for plane in range(3):
                changed = plane_array(before, plane) != plane_array(after, plane)
                assert changed.any()
                across, down = (
                    (2, 2) if plane and pix_fmt == "yuv420p" else (2, 1) if plane and "422" in pix_fmt else (1, 1)
                )
                rows, columns = np.nonzero(changed)
                assert rows.min() * down >= 5
                assert (rows.max() + 1) * down <= 14
                assert columns.min() * across >= 3
                assert (columns.max() + 1) * across <= 12


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_image_sequence_in_mkv_is_lossless(
    dtype: Any, channels: int, tmp_path: Path, make_sequence: Make, noise: Noise
) -> None:
    frames = {n: noise(21, 35, channels, dtype, n) for n in range(4)}
    carry(make_sequence("f.%04d.png", frames), tmp_path / "o.mkv")
    pix_fmt = {1: "gray", 3: "rgb24", 4: "rgba"}[channels]
    if dtype == np.uint16:
        pix_fmt = {"gray": "gray16le", "rgb24": "rgb48le", "rgba": "rgba64le"}[pix_fmt]
    for number, frame in enumerate(decoded(tmp_path / "o.mkv")):
        assert np.array_equal(frame.to_ndarray(format=pix_fmt).reshape(frames[number].shape), frames[number])


TAGS = [(1, 1, 1, 1), (1, 9, 16, 9), (1, 6, 6, 6), (2, 1, 13, 1)]  # range, primaries, transfer, matrix


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_tags_rate_aspect_and_timecode_are_copied(
    suffix: str, tags: tuple[int, int, int, int], tmp_path: Path, make_video: Make
) -> None:
    source = make_video(
        tmp_path / "s.mov",
        tags=tags,
        aspect=Fraction(4, 3),
        timecode="01:00:00;00",
        rate=Fraction(30000, 1001),
        pix_fmt="yuv420p10le",
        bits=10,
    )
    out = tmp_path / f"o{suffix}"
    notes = carry(source, out, 5, 20)
    info = probe(out)
    assert (info.count, info.rate) == (16, Fraction(30000, 1001))
    if suffix == ".mkv":
        assert any("pixel aspect 4:3 is not written" in note for note in notes)
    else:
        assert info.pixel_aspect == Fraction(4, 3)
    assert info.timecode == "01:00:00;05"
    frame = decoded(out)[0]
    expected = (1, *tags[1:]) if suffix == ".mov" else tags  # ProRes is always of limited range
    assert (frame.color_range, frame.color_primaries, frame.color_trc, frame.colorspace) == expected
    bits = frame.format.components[0].bits
    assert (frame.format.name[:7], bits) == {".mov": ("yuv444p", 12)}.get(suffix, ("yuv420p", 10))
    # The colours mean the same as the source's.
    with open_source(probe(source)) as a, open_source(info) as b:
        assert np.abs(a.read(9).rgb() - b.read(4).rgb()).max() < 0.02


def test_prores_and_ffv1_keep_alpha_h264_notes_loss(tmp_path: Path, make_sequence: Make, noise: Noise) -> None:
    frames = {n: noise(32, 48, 4, np.uint16, n) for n in range(2)}
    folder = make_sequence("f.%04d.png", frames)
    carry(folder, tmp_path / "o.mov")
    alpha = plane_array(decoded(tmp_path / "o.mov")[1], 3).astype(float) / 4095
    assert np.abs(alpha - frames[1][..., 3] / 65535).max() < 2e-3
    notes = carry(folder, tmp_path / "o.mp4")
    assert any("no alpha" in note for note in notes)


def test_a_variable_rate_keeps_every_time(tmp_path: Path, make_video: Make) -> None:
    times = [0, 40, 80, 200, 240, 300, 460, 500, 540, 580]
    source = make_video(tmp_path / "v.mkv", count=10, times=times, time_base=Fraction(1, 1000))
    for suffix in (".mp4", ".mov", ".mkv"):
        carry(source, tmp_path / f"o{suffix}", 2, 8)
        seconds = [frame.time for frame in decoded(tmp_path / f"o{suffix}")]
        assert seconds == pytest.approx([(t - 80) / 1000 for t in times[2:9]], abs=0.0011)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_a_turned_video_stays_turned(suffix: str, rotation: int, tmp_path: Path, make_video: Make) -> None:
    source = make_video(tmp_path / "r.mp4", rotation=rotation, count=3)
    carry(source, tmp_path / f"o{suffix}")
    assert Orientation.of(decoded(tmp_path / f"o{suffix}")[0]) == Orientation.of(decoded(source)[0])
    with open_source(probe(source)) as a, open_source(probe(tmp_path / f"o{suffix}")) as b:
        assert np.abs(a.read(1).rgb() - b.read(1).rgb()).max() < 0.02
    carry(source, tmp_path / "png")
    pixels, _ = read(tmp_path / "png" / "r.00001.png")
    with open_source(probe(source)) as a:
        assert np.array_equal(pixels, a.read(1).display())


def sound(path: Path) -> np.ndarray:
    """Mono samples as a player hears them, from time 0 on, at 48 kHz."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48000)
        heard = np.zeros(48000 * 10, np.float32)
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                begin = round(part.pts * part.time_base * 48000)
                samples = part.to_ndarray()[0]
                samples, begin = samples[max(0, -begin) :], max(0, begin)
                heard[begin : begin + len(samples)] = samples
    return heard


@pytest.mark.parametrize(
    ("name", "audio"),
    [("s.mov", "pcm_s16le"), ("s.mp4", "aac"), ("s.mkv", "libopus"), ("s.mkv", "flac"), ("s.avi", "pcm_s16le")],
)
@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_sound_is_cut_to_the_range_and_stays_in_step(
    suffix: str, name: str, audio: str, tmp_path: Path, make_video: Make
) -> None:
    source = make_video(tmp_path / name, count=100, audio=audio)
    carry(source, tmp_path / f"o{suffix}", 30, 79)
    before, after = sound(source), sound(tmp_path / f"o{suffix}")
    expected = before[48000 * 30 // 25 : 48000 * 80 // 25]
    loud = lambda x: np.convolve(np.abs(x), np.ones(960) / 960, "same") > 0.05  # noqa: E731
    length = len(expected)
    assert np.mean(loud(expected)[2000 : length - 2000] == loud(after)[2000 : length - 2000]) > 0.97
    assert not after[length + 2500 :].any(), "sound goes on behind the last frame"
    with av.open(str(tmp_path / f"o{suffix}")) as container:
        assert container.streams.video[0].start_time in (0, None)


def test_sound_is_copied_where_the_container_takes_it(tmp_path: Path, make_video: Make) -> None:
    source = make_video(tmp_path / "s.mp4", count=25, audio="aac")
    notes = carry(source, tmp_path / "o.mov")
    assert not any("sound" in note for note in notes)
    with av.open(str(source)) as a, av.open(str(tmp_path / "o.mov")) as b:
        first = [bytes(p) for p in a.demux(audio=0) if p.size]
        second = [bytes(p) for p in b.demux(audio=0) if p.size]
    assert second == first[: len(second)]
    notes = carry(make_video(tmp_path / "s.mkv", count=25, audio="libopus"), tmp_path / "p.mov")
    assert any("encoded anew" in note for note in notes)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (65, 49), (16, 1), (1, 16), (2, 2)])
@pytest.mark.parametrize("out", ["o.mov", "o.mp4", "o.mkv", "o.####.exr", "o.####.dpx", "o"])
def test_odd_sizes_are_written(
    out: str, size: tuple[int, int], tmp_path: Path, make_sequence: Make, noise: Noise
) -> None:
    folder = make_sequence("f.%04d.png", {n: noise(size[1], size[0], 3, np.uint8, n) for n in range(3)})
    carry(folder, tmp_path / out)
    back = probe(tmp_path / out)
    assert (back.width, back.height, back.count) == (*size, 3)


@pytest.mark.parametrize("size", [(65, 49), (33, 48)])
@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_odd_subsampled_videos_are_written(
    suffix: str, size: tuple[int, int], tmp_path: Path, make_video: Make
) -> None:
    source = make_video(tmp_path / "s.mkv", "ffv1", count=3, size=size)
    carry(source, tmp_path / f"o{suffix}")
    back = probe(tmp_path / f"o{suffix}")
    assert (back.width, back.height, back.count) == (*size, 3)


# ---------------------------------------------------------------- bad outputs


def test_impossible_outputs_are_refused_at_once(
    tmp_path: Path, make_sequence: Make, make_video: Make, noise: Noise
) -> None:
    folder = make_sequence("f.%04d.png", {n: noise(4, 4, 3, np.uint8) for n in range(3)})
    clip = make_video(tmp_path / "clip.mov", count=3)

    def refused(out: Path | str, source: Path, overwrite: bool = False) -> PaintoverError:
        with pytest.raises(PaintoverError) as caught:
            check_output(out, probe(source), overwrite)
        return caught.value

    assert "--overwrite" in refused(clip, folder).message
    check_output(clip, probe(folder), overwrite=True)
    assert "source itself" in refused(clip, clip, True).message
    os.symlink(clip, tmp_path / "link.mov")
    assert "source itself" in refused(tmp_path / "link.mov", clip, True).message
    assert "source itself" in refused(folder, folder, True).message
    assert "source itself" in refused(folder, folder / "f.####.png", True).message
    assert "source itself" in refused(folder / "f.%04d.png", folder, True).message
    check_output(folder / "f_painted.%04d.png", probe(folder))
    assert refused(tmp_path / "no" / "o.mov", folder).code is Code.NOT_FOUND
    assert "'.avi' is not one of" in refused(tmp_path / "o.avi", folder).message
    assert "'.jpg' is not one of" in refused(tmp_path / "o.####.jpg", folder).message
    assert "pattern" in refused(tmp_path / "o.png", folder).message
    other = make_sequence("g.%04d.png", {1: noise(4, 4, 3, np.uint8)}, folder="other")
    assert "exists" in refused(other, folder).message
    assert "exists" in refused(other / "g.####.png", folder).message
    (tmp_path / "new").mkdir()
    check_output(tmp_path / "new", probe(folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, make_video: Make) -> None:
    info = probe(make_video(tmp_path / "s.mov", count=3))
    (tmp_path / "ro").mkdir(mode=0o555)
    with pytest.raises(PaintoverError) as caught:
        check_output(tmp_path / "ro" / "o.mov", info)
    assert caught.value.code is Code.PERMISSION_DENIED


@pytest.mark.parametrize("out", ["o.mov", "o.mp4", "o.mkv", "o", "o.####.tif"])
def test_an_abort_leaves_nothing(out: str, tmp_path: Path, make_video: Make) -> None:
    source = make_video(tmp_path / "s.mp4", count=6)
    before = sorted(os.listdir(tmp_path))
    info = probe(source)
    with pytest.raises(KeyboardInterrupt), open_source(info) as frames, open_sink(tmp_path / out, info) as sink:
        sink.write(frames.read(0))
        sink.write(frames.read(1))
        raise KeyboardInterrupt
    assert sorted(os.listdir(tmp_path)) == before


def test_overwriting_replaces_only_when_whole(tmp_path: Path, make_video: Make) -> None:
    source = make_video(tmp_path / "s.mp4", count=6)
    out = tmp_path / "o.mov"
    out.write_text("precious")
    info = probe(source)
    with pytest.raises(RuntimeError), open_source(info) as frames, open_sink(out, info, overwrite=True) as sink:
        sink.write(frames.read(0))
        raise RuntimeError
    assert out.read_text() == "precious"
    with open_source(info) as frames, open_sink(out, info, overwrite=True) as sink:
        for number in range(6):
            sink.write(frames.read(number))
        sink.commit()
    assert probe(out).count == 6


@pytest.mark.parametrize("out", ["o.mov", "o.mp4", "o.mkv", "png", "o.####.exr", "o.####.tif", "o.####.dpx"])
def test_full_disk_is_one_sentence_and_no_file(out: str, tmp_path: Path, make_sequence: Make, noise: Noise) -> None:
    """A limit on file sizes stands in for a full disk: writes fail in the same calls."""
    folder = make_sequence("f.%04d.png", {n: noise(300, 400, 3, np.uint8, n) for n in range(4)})
    program = (
        "import resource, signal, sys\n"
        "from paintover_engine.errors import PaintoverError\n"
        "from paintover_engine.media.source import open_source, probe\n"
        "from paintover_engine.media.output import open_sink\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "info = probe(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        "    with open_source(info) as frames, open_sink(sys.argv[2], info) as sink:\n"
        "        for n in range(4): sink.write(frames.read(n))\n"
        "        sink.commit()\n"
        "except PaintoverError as error:\n"
        "    print(error.message)\n"
    )
    before = sorted(os.listdir(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(tmp_path / out)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout or "is full" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == before


def test_only_abandoned_staging_is_removed(tmp_path: Path, make_sequence: Make, noise: Noise) -> None:
    source = make_sequence("%03d.png", {number: noise(8, 8, 3, np.uint8) for number in range(3)})
    out = tmp_path / "out[1].mov"
    script = (
        "import os, sys; from paintover_engine.media.output import open_sink; "
        "from paintover_engine.media.source import probe; "
        "sink = open_sink(sys.argv[2], probe(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(source), str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout and writer.stdout.readline() == b"open\n"
        (staged,) = tmp_path.glob(".*.partial")
        with open_sink(out, probe(source)) as sink:
            assert staged.exists(), "it is being written"
            sink.abort()
        writer.kill()
        writer.wait()
    assert staged.exists()
    with open_sink(out, probe(source)) as sink:
        assert not staged.exists()
        sink.abort()
    assert not list(tmp_path.glob(".*.partial"))
