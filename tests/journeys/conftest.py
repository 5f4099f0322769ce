from __future__ import annotations

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
