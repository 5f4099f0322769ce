"""The effect's library, and a painted shot that a real engine has propagated."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_bridge import daemon
from paintover_bridge.client import Client, connect
from paintover_engine.compose.composite import composite
from paintover_engine.media.plate import ImagePlate

from tests.conftest import SmallShot, make_small_shot
from tests.plugin_ofx.ofx_host import DEPTHS, Host, Quirks

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = Path(os.environ.get("PAINTOVER_OFX_BUNDLE", ROOT / "plugin_ofx" / "build" / "Paintover.ofx.bundle"))
WHITE = {"byte": 255, "short": 65535, "half": 1.0, "float": 1.0}

Pixels = NDArray[np.generic]
MakeHost = Callable[..., Host]


def grey(_time: float) -> np.ndarray:
    return np.full((8, 10, 4), 77, np.uint8)


def wait_for(condition: object, seconds: float = 20.0) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def seconds(work: object) -> float:
    started = time.monotonic()
    work()  # type: ignore[operator]
    return time.monotonic() - started


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The built bundle."""
    if not BUNDLE.is_dir():
        pytest.skip("SKIPPED: THE OPENFX EFFECT IS NOT BUILT; RUN make plugin, WHICH NEEDS cargo")
    return BUNDLE


@pytest.fixture(scope="session")
def library(bundle: Path) -> Path:
    """The library in it, for this machine."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("SKIPPED: THE SMALL OPENFX HOST RUNS ON x86-64 LINUX ONLY")
    return bundle / "Contents" / "Linux-x86-64" / "Paintover.ofx"


@pytest.fixture
def make_host(library: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    """Loads the effect into a host, each time a copy of its own: one library has one connection to an engine."""
    monkeypatch.delenv("PAINTOVER_ENGINE", raising=False)

    def make(**quirks: object) -> Host:
        copy = tmp_path / f"{len(list(tmp_path.glob('*.ofx')))}.ofx"
        shutil.copyfile(library, copy)
        return Host(copy, Quirks(**quirks))  # type: ignore[arg-type]

    return make


@pytest.fixture
def client(data_dir: Path) -> Iterator[Client]:
    """A client of a real daemon, which tests may stop, kill and start again."""
    daemon.start(data_dir, ephemeral=False)
    with connect(data_dir, start=False) as connected:
        yield connected
    endpoint = daemon.read_endpoint(data_dir)
    if endpoint:
        os.kill(endpoint.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Painted:
    """A shot whose keyframe a real engine has carried through it. job: its name."""

    shot: SmallShot
    job: str
    name: str
    client: Client

    def plate(self, depth: str) -> Callable[[float], Pixels | None]:
        """The plate as a host of a depth has it: (H, W, 4), with an alpha that is no use."""

        def frame(time: float) -> Pixels | None:
            if not 0 <= time < self.shot.count:
                return None
            rgb = cv2.cvtColor(self.shot.plate(round(time)), cv2.COLOR_BGR2RGB)
            alpha = np.arange(rgb.shape[0] * rgb.shape[1], dtype=np.uint8).reshape(*rgb.shape[:2], 1)
            unit = np.concatenate([rgb, alpha], axis=2).astype(np.float64) / 255
            whole = isinstance(WHITE[depth], int)
            return (np.rint(unit * WHITE[depth]) if whole else unit).astype(DEPTHS[depth][1])

        return frame

    def result(self, depth: str, number: int, mix: float = 1.0) -> Pixels:
        """The engine's own composite over that plate."""
        frame = self.client.get_frame(self.job, number)
        _, _, width, height = frame.bounds
        painted = np.frombuffer(frame.pixels(), "<f2").reshape(height, width, 4).copy()
        painted[..., 3] *= np.float16(mix)
        plate = self.plate(depth)(number)
        assert plate is not None
        image = ImagePlate(number, plate, (0, 1, 2), 3, "")
        composed = composite(image, painted, frame.bounds)
        assert isinstance(composed, ImagePlate)
        assert not np.array_equal(composed.pixels, plate)
        return composed.pixels


@dataclass(frozen=True)
class Propagated:
    """A data folder that no engine runs on, in which the shot's job is done."""

    folder: Path
    shot: SmallShot
    job: str
    name: str


@pytest.fixture(scope="session")
def propagated(tmp_path_factory: pytest.TempPathFactory) -> Propagated:
    """Made once: the propagation takes longer than what is tested on it."""
    made = tmp_path_factory.mktemp("propagated")
    folder, small_shot = made / "data", make_small_shot(made)
    daemon.start(folder, ephemeral=False)
    with connect(folder, start=False) as client:
        shot = client.create_shot(small_shot.source)
        client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
        job = client.create_job(shot.name)
        assert client.wait_until_finished(job.name, 100)
        client.stop_engine(when_idle=False)
        assert daemon.wait_until_gone(client.endpoint, 20)
    return Propagated(folder, small_shot, job.name, shot.name)


@pytest.fixture
def painted(propagated: Propagated, data_dir: Path, request: pytest.FixtureRequest) -> Painted:
    """A copy of it on which an engine runs."""
    shutil.copytree(propagated.folder, data_dir)
    return Painted(propagated.shot, propagated.job, propagated.name, request.getfixturevalue("client"))
