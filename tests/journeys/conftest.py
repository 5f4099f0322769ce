from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover_bridge.client import Client, connect

from tests.conftest import SmallShot


@pytest.fixture
def cpu_workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Daemons that start from here on compute in so many processes: the parameter."""
    monkeypatch.setenv("PAINTOVER_CPU_WORKERS", str(request.param))
    return int(request.param)


@pytest.fixture
def display() -> Iterator[dict[str, str]]:
    """The variable that names an X display of the test's own, for programs with windows."""
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no Xvfb: apt-get install xvfb")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with open(read) as number:
        yield {"DISPLAY": f":{number.readline().strip()}"}
    server.terminate()
    server.wait(30)


@pytest.fixture
def slow(slow_methods: None, data_dir: Path) -> Iterator[Client]:
    """A client of a daemon with the methods of tests/slow."""
    with connect(data_dir, ephemeral=False) as connected:
        yield connected
        connected.stop_engine(when_idle=False)


@pytest.fixture
def shot(slow: Client, small_shot: SmallShot) -> str:
    """The name of a shot with a keyframe in that daemon."""
    name = slow.create_shot(small_shot.source).name
    slow.put_keyframe(name, small_shot.key, small_shot.keyframe)
    return name
