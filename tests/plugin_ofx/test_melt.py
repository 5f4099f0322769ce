"""The effect in real `melt`: what comes out is what the engine made.

PAINTOVER_MELT_HOST is a script that sets melt up in a folder and runs it with the bundles of another:
`SCRIPT setup FOLDER`, `SCRIPT run FOLDER BUNDLES ARGUMENTS…`. The folder is kept from run to run ($PAINTOVER_MELT_DIR).
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import filelock
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_bridge import daemon
from paintover_bridge.client import Client

from tests.conftest import SmallShot, make_small_shot
from tests.plugin_ofx.conftest import ROOT

COUNT, WIDTH, HEIGHT = 24, 96, 64
Frames = list[NDArray[np.uint8]]
Process = subprocess.Popen[str]
Melt = Callable[..., Process]


pytestmark = pytest.mark.timeout(900)  # setting melt up takes a minute or more


@pytest.fixture(scope="session")
def melt_host() -> tuple[Path, Path]:
    """The script, and the folder in which melt is."""
    script = Path(os.environ.get("PAINTOVER_MELT_HOST", ROOT.parent / "shared" / "hosts" / "melt-host"))
    if not script.is_file():
        pytest.skip("SKIPPED: NO MELT; PAINTOVER_MELT_HOST NAMES THE SCRIPT THAT SETS IT UP")
    folder = Path(os.environ.get("PAINTOVER_MELT_DIR", Path(tempfile.gettempdir()) / "paintover-melt-host"))
    with filelock.FileLock(folder.with_suffix(".lock")):  # tests run in several processes
        if not (folder / "modules").is_dir():
            made = subprocess.run([script, "setup", folder], capture_output=True, text=True, timeout=600)
            if made.returncode:
                pytest.skip(f"SKIPPED: MELT CANNOT BE SET UP: {made.stderr.strip()[-300:]}")
    return script, folder


@dataclass(frozen=True)
class Clip:
    """A shot in a lossless video, propagated by a real engine. composed: what the engine wrote, BGR."""

    video: Path
    shot: SmallShot
    composed: Frames
    job: str
    client: Client


@pytest.fixture
def clip(client: Client, tmp_path: Path) -> Clip:
    shot = make_small_shot(tmp_path, COUNT, width=WIDTH, height=HEIGHT)
    video, out = tmp_path / "plate.mkv", tmp_path / "out"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for number in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shot.plate(number), format="bgr24")))
        container.mux(stream.encode())
    out.mkdir()
    made = client.create_shot(video)
    client.put_keyframe(made.name, shot.key, shot.keyframe)
    job = client.create_job(made.name, output=out / "%05d.png")
    assert client.wait_until_finished(job.name, 100)
    return Clip(video, shot, [cv2.imread(str(out / f"{number:05d}.png")) for number in range(COUNT)], job.name, client)


@pytest.fixture
def melt(melt_host: tuple[Path, Path], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Melt:
    """Starts melt on a video through the effect; frames are written to a folder."""
    script, folder = melt_host
    monkeypatch.delenv("PAINTOVER_ENGINE", raising=False)
    profile = tmp_path / "profile"
    profile.write_text(
        f"description=test\nframe_rate_num=24\nframe_rate_den=1\nwidth={WIDTH}\nheight={HEIGHT}\nprogressive=1\n"
        "sample_aspect_num=1\nsample_aspect_den=1\ndisplay_aspect_num=3\ndisplay_aspect_den=2\ncolorspace=709\n"
    )

    def start(video: Path, into: Path, real_time: int = -1, effect: bool = True, **values: object) -> Process:
        into.mkdir()
        filters = ["-filter", "openfx.org.paintover.Paintover", *(f"{name}={value}" for name, value in values.items())]
        encoding = ["vcodec=png", "f=image2", "an=1", "pix_fmt=rgba", "mlt_image_format=rgba"]
        command = [script, "run", folder, bundle.parent, "-profile", profile, video, f"out={COUNT - 1}"]
        command += filters if effect else []
        command += ["-consumer", f"avformat:{into}/%04d.png", *encoding, f"real_time={real_time}"]
        return subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


def frames(process: Process, into: Path) -> Frames:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    return [cv2.imread(str(path)) for path in sorted(into.glob("*.png"))][:COUNT]


def rendered(start: Callable[[Path], Process], into: Path) -> Frames:
    """All frames of a run. One that ends with code 0 and without its frames is started again, four times at most.

    melt asks whether its consumer runs before the consumer's thread has marked itself as running, and then leaves: 14
    of 320 runs without any effect did."""
    for attempt in range(4):
        folder = into.with_name(f"{into.name}-{attempt}")
        found = frames(start(folder), folder)
        if len(found) == COUNT:
            return found
    raise AssertionError(f"melt wrote {len(found)} of {COUNT} frames, four times")


def off(got: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> int:
    return int(np.abs(got.astype(np.int32) - wanted).max())


def check(got: Frames, without: Frames, clip: Clip, numbers: range | list[int]) -> None:
    """That frames are the engine's as exactly as melt alone gives the plate back (it converts through YUV),
    and its own to the bit away from the paint."""
    for number in numbers:
        plate, composed = clip.shot.plate(number), clip.composed[number]
        assert off(got[number], composed) <= off(without[number], plate) + 1, number
        changed = (composed != plate).any(axis=2).astype(np.uint8)
        away = cv2.dilate(changed, np.ones((9, 9), np.uint8)) == 0
        assert away.any() and changed.any()
        assert np.array_equal(got[number][away], without[number][away]), number


@pytest.mark.parametrize("real_time", [-1, -4])
def test_what_comes_out_of_melt_is_what_the_engine_made(melt: Melt, clip: Clip, tmp_path: Path, real_time: int) -> None:
    without = rendered(lambda into: melt(clip.video, into, effect=False), tmp_path / "without")
    for name, values in {"path": {"sourcePath": clip.video}, "job": {"job": clip.job}}.items():
        got = rendered(lambda into, values=values: melt(clip.video, into, real_time, **values), tmp_path / name)
        check(got, without, clip, range(COUNT))


def test_melt_without_an_engine_shows_the_plate(melt: Melt, clip: Clip, tmp_path: Path) -> None:
    without = rendered(lambda into: melt(clip.video, into, effect=False), tmp_path / "without")
    endpoint = clip.client.endpoint
    os.kill(endpoint.pid, signal.SIGKILL)
    got = rendered(lambda into: melt(clip.video, into, sourcePath=clip.video), tmp_path / "absent")
    assert all(np.array_equal(*pair) for pair in zip(got, without, strict=True))
    assert "not installed" in (endpoint.folder / "logs" / "openfx.log").read_text()


@pytest.mark.parametrize("real_time", [-1, -4])
def test_an_engine_that_dies_and_comes_back_while_melt_renders(
    melt: Melt, clip: Clip, tmp_path: Path, real_time: int
) -> None:
    without = rendered(lambda into: melt(clip.video, into, effect=False), tmp_path / "without")
    deadline = time.monotonic() + 60
    for attempt in range(4):  # see `rendered`
        into = tmp_path / f"got-{attempt}"
        process = melt(clip.video, into, real_time, sourcePath=clip.video, missing="Wait", waitSeconds=30)
        while len(list(into.glob("*.png"))) < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if process.poll() is None:
            break
    endpoint = clip.client.endpoint
    os.kill(endpoint.pid, signal.SIGSTOP)  # from now on melt waits, so that it cannot be done before the engine dies
    time.sleep(1)
    assert process.poll() is None
    os.kill(endpoint.pid, signal.SIGKILL)
    time.sleep(0.5)
    daemon.start(endpoint.folder, ephemeral=False)
    got = frames(process, into)
    assert len(got) == COUNT
    check(got, without, clip, range(COUNT))
