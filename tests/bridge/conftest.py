"""What the bridge's tests share: a data folder of their own, the command as a process, real engines."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paintover_bridge import daemon
from paintover_bridge.client import Client, connect

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that the commands under test use by themselves; an engine left on it is ended."""
    data = tmp_path / "data"
    monkeypatch.setenv("PAINTOVER_DATA", str(data))
    monkeypatch.delenv("PAINTOVER_ENGINE", raising=False)
    yield data
    endpoint = daemon.read_endpoint(data)
    if endpoint:
        daemon.terminate(endpoint)
        assert daemon.wait_until_gone(endpoint, 10.0)


@pytest.fixture
def paintover(folder: Path, tmp_path: Path) -> Run:
    """Runs the command as a user's shell would, in the test's folder."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "paintover_bridge", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **environment}, timeout=100
        )

    return run


@pytest.fixture
def engine(folder: Path) -> daemon.Endpoint:
    """A real engine that runs on the data folder."""
    if importlib.util.find_spec("paintover_engine") is None:
        pytest.skip("the engine is not installed in this Python")
    return daemon.start(folder, ephemeral=False)


@pytest.fixture
def client(engine: daemon.Endpoint) -> Iterator[Client]:
    with connect(engine.folder, start=False) as connected:
        yield connected


@pytest.fixture
def engine_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a few lines of Python stand for the engine's command, for engines that fail to start."""

    def install(code: str) -> None:
        script = tmp_path / "engine_that.py"
        script.write_text(code)
        monkeypatch.setenv("PAINTOVER_ENGINE", f'"{sys.executable}" "{script}"')

    return install
