"""Two threads that work on the same cached frames, as stages and the writing of a result do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from paintover_engine.compose.composite import composite
from paintover_engine.media.plate import ImagePlate, Orientation, Plate, VideoPlate
from paintover_engine.media.source import open_source, probe
from paintover_engine.media.video import picture_of
from paintover_engine.media.video_picture import frame_of
from safetensors.numpy import save_file

COUNT, WIDTH, HEIGHT = 6, 160, 90
PIXEL_FORMATS = [
    "yuv420p", "nv12", "yuyv422", "uyvy422", "rgb24", "bgra", "gray",
    "yuv420p10le", "yuv422p10le", "yuva444p10le", "gbrp10le", "gray10le",
    "yuv420p12le", "yuv422p12le", "yuv444p12le", "yuva444p12le", "gbrp12le", "xyz12le",
    "yuv420p16le", "rgb48le", "rgba64le", "rgb48be", "gbrpf32le",
]  # fmt: skip
SEQUENCES = {
    "png": ("f.%04d.png", np.uint8, 3),
    "grey png": ("f.%04d.png", np.uint8, 1),
    "16-bit png": ("f.%04d.png", np.uint16, 4),
    "tiff": ("f.%04d.tif", np.uint16, 3),
    "half exr": ("f.%04d.exr", np.float16, 4),
    "float exr": ("f.%04d.exr", np.float32, 3),
}


def raw_video(path: Path, pix_fmt: str) -> Path:
    """Noise in any pixel format, as uncompressed video."""
    generator = np.random.default_rng(2)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("rawvideo", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for number in range(COUNT):
            noise = generator.integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(noise, "rgb48le").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def uses(plate: Plate) -> str:
    """A digest of all that stages and sinks make of a plate."""
    painted = np.full((20, 30, 4), 0.5, np.float16)
    over = composite(plate, painted, (11, 7, 30, 20))
    digest = hashlib.sha256()
    for made in (plate.display(), plate.working(), plate.native_rgb(), over.rgb(), plate.alpha()):
        digest.update(b"" if made is None else np.ascontiguousarray(made).data)
    if isinstance(plate, VideoPlate):
        frame = frame_of(plate.picture)
        digest.update(repr((plate.picture.tags, frame.colorspace, frame.color_trc, frame.color_primaries)).encode())
    return digest.hexdigest()


def check_shared(path: Path, rounds: int = 4) -> None:
    """Uses each frame in two threads at once, and compares with what one thread alone makes of it."""
    info = probe(path)
    numbers = range(info.first, info.last + 1)
    with open_source(info) as source:
        expected = [uses(source.read(number)) for number in numbers]
    for _ in range(rounds):
        with open_source(info) as source, ThreadPoolExecutor(2) as pool:
            together = threading.Barrier(2)

            def use(number: int, together: threading.Barrier = together, source: Any = source) -> str:
                together.wait(30)
                return uses(source.read(number))

            for number, digest in zip(numbers, expected, strict=True):
                both = [pool.submit(use, number), pool.submit(use, number)]
                assert [one.result() for one in both] == [digest, digest]


@pytest.mark.parametrize("pix_fmt", PIXEL_FORMATS)
def test_threads_share_video_frames(pix_fmt: str, tmp_path: Path) -> None:
    check_shared(raw_video(tmp_path / "a.nut", pix_fmt))


@pytest.mark.parametrize("pix_fmt", ["yuvj422p", "nv16", "p010le", "p012le", "p210le", "x2rgb10le"])
def test_threads_share_what_hardware_decoders_give(pix_fmt: str) -> None:
    noise = np.random.default_rng(2).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(noise, "rgb48le").reformat(format=pix_fmt)
    plate = VideoPlate(0, picture_of(frame), Orientation(), "")
    expected = uses(plate)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            both = [pool.submit(uses, plate), pool.submit(uses, plate)]
            assert [one.result() for one in both] == [expected, expected]


@pytest.mark.parametrize("codec", [("libx264", "yuv420p10le", "a.mp4"), ("prores_ks", "yuv422p10le", "a.mov")])
def test_threads_share_decoded_frames(
    codec: tuple[str, str, str], tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    name, pix_fmt, file = codec
    check_shared(make_video(tmp_path / file, codec=name, pix_fmt=pix_fmt, bits=10, count=8, size=(320, 180)))


@pytest.mark.parametrize("kind", SEQUENCES)
def test_threads_share_images(
    kind: str, tmp_path: Path, make_sequence: Callable[..., Path], noise: Callable[..., Any]
) -> None:
    pattern, dtype, channels = SEQUENCES[kind]
    frames = {number: noise(HEIGHT, WIDTH, channels, dtype, number) for number in range(COUNT)}
    check_shared(make_sequence(pattern, frames))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_threads_share_uploaded_frames(dtype: Any, tmp_path: Path, noise: Callable[..., Any]) -> None:
    for number in range(COUNT):
        save_file({"frame": noise(HEIGHT, WIDTH, 4, dtype, number)}, tmp_path / f"{number:08d}.safetensors")
    check_shared(tmp_path)


@pytest.mark.parametrize("colorspace", ["S-Log3 S-Gamut3.Cine", "ACEScct"])
def test_threads_share_colour_conversions(colorspace: str, tmp_path: Path) -> None:
    path = raw_video(tmp_path / "a.nut", "yuv422p10le")
    infos = probe(path, colorspace=colorspace), probe(path)
    assert infos[0].colorspace
    with open_source(infos[0]) as source, ThreadPoolExecutor(2) as pool:
        for number in range(COUNT):
            first, second = (pool.submit(lambda n=number: source.read(n).working()) for _ in range(2))
            assert np.array_equal(first.result(), second.result())


def test_nothing_writes_to_a_plate(tmp_path: Path, noise: Callable[..., Any]) -> None:
    with open_source(probe(raw_video(tmp_path / "a.nut", "yuv420p10le"))) as source:
        plate = source.read(0)
    assert isinstance(plate, VideoPlate)
    image = ImagePlate(0, noise(8, 8, 3, np.uint8), (0, 1, 2), None, "")
    for samples in (*plate.picture.planes, image.pixels, image.native_rgb(), image.display()):
        with pytest.raises(ValueError, match="read-only"):
            samples[...] = 0
