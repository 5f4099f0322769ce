from __future__ import annotations

import os
from pathlib import Path

import pytest

SLOW = Path(__file__).parents[1] / "slow"


@pytest.fixture
def slow_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons that start from here on have the methods of tests/slow."""
    paths = [str(SLOW), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
