"""Videos as cameras and editors write them, through the real command."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

COUNT, KEY, WIDTH, HEIGHT = 12, 4, 192, 108


def paintover(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paintover_bridge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def sliding(number: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, RGB: a texture that moves by two pixels a frame."""
    noise = np.random.default_rng(5).random((HEIGHT, WIDTH + 2 * COUNT, 3), np.float32)
    texture = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 0.5) * 900 + 128, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(texture[:, 2 * number : 2 * number + WIDTH])


def make_clip(path: Path, codec: str, pix_fmt: str, options: dict[str, str] | None = None, timecode: str = "") -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(24), options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        if timecode:
            stream.metadata["timecode"] = timecode
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(sliding(number), "rgb24").reformat(format=pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def paint(clip: Path, picture: Path, number: int = KEY) -> Path:
    """Exports a frame as an artist does, and paints a red disc on it."""
    with av.open(str(clip)) as container:
        frames = list(container.decode(video=0))
    pixels = frames[number].to_ndarray(format="rgb24")
    cv2.circle(pixels, (WIDTH // 2, HEIGHT // 2), 18, (230, 30, 30), -1, cv2.LINE_AA)
    cv2.imwrite(str(picture), pixels[..., ::-1])
    return picture


CLIPS = {
    "h264, 10 bits": ("a.mp4", "libx264", "yuv420p10le", {"crf": "8"}),
    "ffv1, 12 bits": ("a.mkv", "ffv1", "yuv444p12le", {}),
}


@pytest.mark.parametrize("kind", CLIPS)
def test_a_deep_video_kills_no_worker(kind: str, data_dir: Path, tmp_path: Path) -> None:
    name, codec, pix_fmt, options = CLIPS[kind]
    clip = make_clip(tmp_path / name, codec, pix_fmt, options)
    picture = paint(clip, tmp_path / "painted.png")
    run = paintover("propagate", clip, "--keyframe", f"{KEY}={picture}", "-o", tmp_path / "out.mkv")
    assert run.returncode == 0, run.stderr
    logs = "".join(path.read_text() for path in (data_dir / "logs").iterdir())
    assert "planned" in logs
    assert "died" not in logs
    with av.open(str(tmp_path / "out.mkv")) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(frames) == COUNT
    for number, frame in enumerate(frames):
        red = (frame[..., 0] > 180) & (frame[..., 1] < 90) & (frame[..., 2] < 90)
        column = np.nonzero(red)[1].mean()
        assert red.sum() > 600
        assert abs(column - (WIDTH // 2 + 2 * (KEY - number))) < 4


def test_a_clip_is_found_by_its_timecode(data_dir: Path, tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    clip = make_clip(tmp_path / "a.mov", "prores_ks", "yuv422p10le", timecode="01:00:00:00")
    picture = paint(clip, tmp_path / "painted.png")
    time = otio.opentime.RationalTime
    shown = otio.opentime.TimeRange(time.from_timecode("01:00:00:02", 24), time(8, 24))
    media = otio.schema.ExternalReference(target_url=clip.as_uri())  # says nothing of where its time begins
    track = otio.schema.Track(children=[otio.schema.Clip("sh010", media, shown)])
    otio.adapters.write_to_file(otio.schema.Timeline("edit", tracks=[track]), str(tmp_path / "edit.otio"))
    run = paintover(
        "propagate", f"{tmp_path / 'edit.otio'}#sh010", "--keyframe", f"{KEY}={picture}", "-o", tmp_path / "out.mkv"
    )
    assert run.returncode == 0, run.stderr
    assert "these are its frames 2 to 9" in run.stdout + run.stderr
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert len(list(container.decode(video=0))) == 8
