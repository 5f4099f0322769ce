"""What the proof model's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def on_the_path() -> Iterator[None]:
    """The modules of training/ and benchmarks/, computing in one thread."""
    import torch

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("training", "benchmarks"):
            patch.syspath_prepend(str(ROOT / folder))
        yield
