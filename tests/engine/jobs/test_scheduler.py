from __future__ import annotations

from pathlib import Path

import pytest
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.job_plan import missing_stages
from paintover_engine.jobs.protocol import PlannedStage
from paintover_engine.jobs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = DataFolder(tmp_path)
    folder.create()
    return Store(folder)


def stage(key: str, *inputs: str, publishes: bool = False) -> PlannedStage:
    return PlannedStage(key, key, key, 1.0, publishes, False, inputs)


PLAN = [stage("flow0"), stage("flow1"), stage("carry0", "flow0"), stage("out0", "carry0", publishes=True),
        stage("carry1", "flow1", "carry0"), stage("out1", "carry1", publishes=True)]  # fmt: skip


def keys(stages: list[PlannedStage]) -> list[str]:
    return [planned.key for planned in stages]


def test_all_stages_of_a_new_plan_are_missing(store: Store) -> None:
    assert keys(missing_stages(PLAN, store)) == keys(PLAN)


def test_finished_stages_are_not_run_again(store: Store) -> None:
    for key, publishes in (("flow0", False), ("carry0", False), ("out0", True)):
        with store.writing(key, publishes):
            pass
    assert keys(missing_stages(PLAN, store)) == ["flow1", "carry1", "out1"]


def test_evicted_input_of_a_finished_stage_is_not_missing(store: Store) -> None:
    for key, publishes in (("out0", True), ("out1", True)):
        with store.writing(key, publishes):
            pass
    assert missing_stages(PLAN, store) == []


def test_evicted_input_of_a_missing_stage_is_missing(store: Store) -> None:
    with store.writing("out0", True):
        pass
    assert keys(missing_stages(PLAN, store)) == ["flow0", "flow1", "carry0", "carry1", "out1"]
