from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from paintover_engine.diffusion.memory import Tiered  # noqa: E402
from paintover_engine.methods import repaint  # noqa: E402
from paintover_engine.methods.stage import Stage  # noqa: E402


def test_stages_of_two_jobs_use_a_model_one_after_the_other() -> None:
    model, inside, most = Tiered(torch.device("cpu"), {}), [], []

    @repaint.with_model(lambda stage: model)
    def work(context: Any, stage: Stage, model: Tiered) -> dict[str, Any]:
        inside.append(stage)
        most.append(len(inside))
        time.sleep(0.05)
        inside.remove(stage)
        return {}

    stages = [Stage("work", {}, (), (), (number, number)) for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda stage: work(None, stage), stages))
    assert most == [1] * 4
