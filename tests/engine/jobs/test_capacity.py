"""How many stages run at a time."""

from __future__ import annotations

import pytest
from paintover_engine.jobs import capacity


@pytest.mark.parametrize(
    ("width", "height", "cores", "gigabytes", "stages"),
    [(1920, 1080, 16, 64, 16), (7680, 4320, 16, 64, 7), (7680, 4320, 16, 4, 2), (854, 480, 1, 64, 2)],
)
def test_cores_and_memory_bound_stages(
    width: int, height: int, cores: int, gigabytes: int, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "cores", lambda: cores)
    monkeypatch.setattr(capacity, "machine_memory", lambda: gigabytes * 2**30)
    assert capacity.stages_at_a_time(width, height) == stages
