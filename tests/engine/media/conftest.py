"""Makers of real files for the media tests: each frame's brightness tells its number."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import OpenImageIO as oiio
import pytest
from paintover_engine.jobs import outputs
from paintover_engine.jobs.delivery import Output
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.runner import Runner
from paintover_engine.jobs.store import Store
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.source import SourceInfo, open_source, probe
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef


def level(number: int) -> int:
    """Luma (8-bit, limited range) of frame `number`."""
    return 30 + 4 * (number % 48)


@pytest.fixture
def make_video() -> Callable[..., Path]:
    """make_video(path, codec="libx264", count=…, …): encodes frames whose luma is `level(number)`."""

    def make(
        path: Path,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        count: int = 48,
        size: tuple[int, int] = (64, 48),
        rate: Fraction = Fraction(25),
        options: dict[str, str] | None = None,
        times: list[int] | None = None,
        time_base: Fraction | None = None,
        format: str | None = None,
        rotation: int = 0,
        aspect: Fraction | None = None,
        tags: tuple[int, int, int, int] | None = None,
        timecode: str = "",
        audio: str = "",
        container_options: dict[str, str] | None = None,
        bits: int = 8,
    ) -> Path:
        with av.open(str(path), "w", format=format, options=container_options or {}) as container:
            stream: Any = container.add_stream(codec, rate=rate, options=options or {})
            stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
            if time_base is not None:
                stream.codec_context.time_base = time_base
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = aspect
            if tags is not None:
                context = stream.codec_context
                context.color_range, context.color_primaries, context.color_trc, context.colorspace = tags
            if rotation:
                stream.set_display_rotation(rotation)
            if timecode:
                stream.metadata["timecode"] = timecode
            sound: Any = None
            if audio:
                sound = container.add_stream(audio, rate=48000)
                sound.codec_context.layout = "stereo"
            for number in range(count):
                frame = av.VideoFrame(*size, pix_fmt)
                _fill(frame, number, bits)
                if tags is not None:
                    frame.color_range, frame.color_primaries, frame.color_trc, frame.colorspace = tags
                if times is not None:
                    frame.pts = times[number]
                    frame.time_base = time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound is not None:
                _write_tone(container, sound, float(count / rate))
        return path

    return make


def _fill(frame: av.VideoFrame, number: int, bits: int) -> None:
    for index, plane in enumerate(frame.planes):
        value = (level(number) if index == 0 else 128) << (bits - 8)
        samples = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)
        samples[:] = value
        if index == 0:  # a brighter top left quarter tells which way is up
            stride = plane.line_size // samples.itemsize
            rows = samples[: stride * frame.height].reshape(frame.height, stride)
            rows[: frame.height // 2, : frame.width // 2] = value + (20 << (bits - 8))


def _write_tone(container: Any, sound: Any, seconds: float) -> None:
    """A ramp of one-second beeps: sample values tell the time."""
    total = int(48000 * seconds)
    name = sound.codec_context.format.name if sound.codec_context.format else "s16"
    signal = (8000 * np.sin(2 * np.pi * 440 * np.arange(total) / 48000)).astype(np.int16)
    signal[(np.arange(total) // 24000) % 2 == 1] = 0
    resampler = av.AudioResampler(format=name, layout="stereo", rate=48000)
    for begin in range(0, total, 1024):
        part = signal[begin : begin + 1024]
        frame = av.AudioFrame.from_ndarray(np.repeat(part, 2)[None], "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, begin, Fraction(1, 48000)
        for resampled in resampler.resample(frame):
            container.mux(sound.encode(resampled))
    container.mux(sound.encode(None))


@pytest.fixture
def make_image() -> Callable[..., Path]:
    """make_image(path, pixels, sample=None, **attributes): writes one image with OpenImageIO, alpha straight."""

    def make(path: Path, pixels: np.ndarray, **attributes: Any) -> Path:
        kind = {"uint8": "uint8", "uint16": "uint16", "float16": "half", "float32": "float"}[pixels.dtype.name]
        spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
        if pixels.shape[2] == 4 and path.suffix != ".exr":
            spec["oiio:UnassociatedAlpha"] = 1
        for name, value in attributes.items():
            if isinstance(value, tuple) and name == "channelnames":
                spec.channelnames = value
            else:
                spec[name.replace("__", ":")] = value
        image = oiio.ImageOutput.create(str(path))
        assert image.open(str(path), spec), image.geterror()
        assert image.write_image(np.ascontiguousarray(pixels)), image.geterror()
        image.close()
        return path

    return make


@pytest.fixture
def make_sequence(tmp_path: Path, make_image: Callable[..., Path]) -> Callable[..., Path]:
    """make_sequence(pattern, frames): writes arrays as pattern % number, and gives their folder."""

    def make(pattern: str, frames: dict[int, np.ndarray], folder: str = "plate", **attributes: Any) -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        for number, pixels in frames.items():
            make_image(tmp_path / folder / (pattern % number), pixels, **attributes)
        return tmp_path / folder

    return make


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """noise(height, width, channels, dtype): any samples that the type holds; float ones reach above 1."""

    def make(height: int, width: int, channels: int, dtype: Any, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng(seed)
        if np.issubdtype(dtype, np.integer):
            return generator.integers(0, np.iinfo(dtype).max + 1, (height, width, channels)).astype(dtype)
        return generator.uniform(-0.1, 8.0, (height, width, channels)).astype(dtype)

    return make


@pytest.fixture
def propagate(tmp_path: Path) -> Callable[..., tuple[SourceInfo, list[str]]]:
    """propagate(source, {frame: picture}, out, layer=""): a draft, written; gives the shot and all notes."""

    def run(source: Path, keys: dict[int, Path], out: Path, layer: str = "") -> tuple[SourceInfo, list[str]]:
        folder = DataFolder(tmp_path / "data")
        folder.create()
        info = probe(source, layer=layer)
        notes, refs = list(info.notes), []
        with open_source(info) as frames:
            for number, picture in keys.items():
                keyframe = load_keyframe(picture, number, frames.read(number), info)
                outputs.save_keyframe(folder.keyframes / f"{keyframe.digest}.safetensors", keyframe)
                notes += keyframe.notes
                refs.append(KeyframeRef(number, keyframe.digest))
        with Runner(Store(folder), info, "draft", DraftParameters(), refs, output=Output(str(out), True)) as runner:
            runner.run_all()
            return info, notes + list(runner.deliver())

    return run


@pytest.fixture
def scene() -> Callable[..., np.ndarray]:
    """scene(number, width, height): (H, W, 3) float32 0..1, a soft texture that moves 2 pixels a frame."""

    def make(number: int, width: int = 96, height: int = 64) -> np.ndarray:
        coarse = np.random.default_rng(4).uniform(0.1, 0.8, (height // 6 + 9, width // 6 + 20, 3)).astype(np.float32)
        whole = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC).clip(0.05, 0.95)
        return np.ascontiguousarray(whole[8 : 8 + height, 16 + 2 * number : 16 + 2 * number + width])

    return make
