"""What many tests share: a real daemon on a data folder of its own, and small shots on disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_bridge.client import Client, connect

NEEDS_OF_FOLDERS = {Path("journeys"): "daemon", Path("plugin_ofx"): "host", Path("bridge/hosts"): "host"}
NEEDS_OF_FIXTURES = {
    **dict.fromkeys(("client", "data_dir", "engine", "p", "paintover"), "daemon"),
    "browser": "browser",
    "tiny_svd": "model",
}
"""What `make quick` leaves out: the markers of pyproject.toml, by a test's folder and by the fixtures that it uses."""


def pytest_configure() -> None:
    """Lets Ctrl-C reach the commands that tests start: under nohup, cron or `make test &` it is inherited ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by what they need, and lets those run once more that are marked so."""
    for item in items:
        needs = {NEEDS_OF_FOLDERS.get(folder) for folder in item.path.relative_to(Path(__file__).parent).parents}
        needs |= {NEEDS_OF_FIXTURES.get(name) for name in getattr(item, "fixturenames", ())}
        if hasattr(getattr(item, "module", None), "torch"):
            needs.add("model")
        for need in filter(None, needs):
            item.add_marker(need)
        retry = item.get_closest_marker("retry")
        if retry:
            assert retry.args, f"{item.nodeid}: say beside the mark why a loaded machine can make it late"
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, which the command line uses too."""
    folder = tmp_path / "data"
    monkeypatch.setenv("PAINTOVER_DATA", str(folder))
    return folder


@pytest.fixture
def slow_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons that start from here on have the methods of tests/slow."""
    paths = [str(Path(__file__).with_name("slow")), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.fixture
def client(data_dir: Path) -> Iterator[Client]:
    """A client of a real daemon, which is gone when the test ends."""
    with connect(data_dir, ephemeral=False) as connected:
        yield connected
        connected.stop_engine(when_idle=False)


@dataclass(frozen=True)
class SmallShot:
    """A textured picture that slides by two pixels a frame, with a disc painted on it in the keyframe.

    source: a folder of PNGs from 00000; keyframe: the painted picture of frame `key`.
    """

    source: Path
    keyframe: Path
    key: int
    count: int

    def plate(self, number: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, BGR."""
        return cv2.imread(str(self.source / f"{number:05d}.png"))


SHIFT = 2


def slide(texture: NDArray[np.uint8], number: int, width: int) -> NDArray[np.uint8]:
    """The part of a wide texture that frame `number` shows."""
    return texture[:, SHIFT * number : SHIFT * number + width]


def make_small_shot(folder: Path, count: int = 12, key: int = 4, width: int = 96, height: int = 64) -> SmallShot:
    """Writes a small shot and its painted keyframe."""
    noise = np.random.default_rng(7).random((height, width + SHIFT * count, 3), np.float32)
    texture = (cv2.GaussianBlur(noise, (0, 0), 2.5) - 0.5) * 900 + 128
    texture = np.clip(texture, 0, 255).astype(np.uint8)
    painted = texture.copy()
    centre = (width // 2 + SHIFT * key, height // 2)
    cv2.circle(painted, centre, 12, (40, 40, 230), -1, cv2.LINE_AA)
    source = folder / "plate"
    source.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(source / f"{number:05d}.png"), slide(texture, number, width))
    keyframe = folder / "keyframe.png"
    cv2.imwrite(str(keyframe), slide(painted, key, width))
    return SmallShot(source, keyframe, key, count)


@pytest.fixture
def small_shot(tmp_path: Path) -> SmallShot:
    return make_small_shot(tmp_path)
