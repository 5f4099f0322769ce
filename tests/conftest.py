"""What many tests share: a real daemon on a data folder of its own, and small shots on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_bridge.client import Client, connect


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, which the command line uses too."""
    folder = tmp_path / "data"
    monkeypatch.setenv("PAINTOVER_DATA", str(folder))
    return folder


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
