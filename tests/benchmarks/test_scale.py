"""The real scheduler against simulated devices, on a clock that jumps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from paintover_engine.jobs.protocol import PlannedStage

from benchmarks import scale

SHOTS = 5


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[PlannedStage]:
    return scale.planned("videoshop", scale.large_model(tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture(autouse=True)
def short_night(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(scale, "SHOTS", SHOTS)
    yield


def test_devices_are_used_until_chains_bound_them(stages: list[PlannedStage]) -> None:
    few, many = (scale.simulate(stages, "videoshop", devices, fails=False) for devices in (3, 32))
    assert few.efficiency > 0.9
    assert many.efficiency > 0.6 * many.bound  # more devices than stages that are ready
    assert many.first < 5  # frames come soon, however many jobs there are


def test_failures_cost_their_stages_alone(stages: list[PlannedStage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MTBF", 300.0)
    run = scale.simulate(stages, "videoshop", 4, fails=True)  # fails where a stage was run twice
    assert run.failures > 5
    lost = run.failures * (scale.RESTART_SECONDS + scale.PLAN_SECONDS + max(map(scale.seconds_of, stages)))
    least = SHOTS * sum(map(scale.seconds_of, stages)) / 4
    assert run.makespan < 1.1 * least + lost


def test_chain_bounds_one_shot(stages: list[PlannedStage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "SHOTS", 1)
    run = scale.simulate(stages, "videoshop", 16, fails=False)
    assert scale.longest_chain(stages) <= run.makespan < 1.2 * scale.longest_chain(stages)


def test_figure_and_table_have_every_run() -> None:
    runs = {name: [scale.Run(4, 3600.0, 0.97, 1.0, 2.0, 0.001, 2e6, 1)] for name in scale.METHODS}
    assert scale.figure(runs).count("<polyline") == 4
    assert [row.split(" | ")[1] for row in scale.table(runs)][2:] == ["4", "4"]
