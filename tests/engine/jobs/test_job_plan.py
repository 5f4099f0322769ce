"""Which stage a free device gets, of a plan that several devices work on."""

from __future__ import annotations

from pathlib import Path

import pytest
from paintover_engine.jobs.claims import Claims
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import find_cpu
from paintover_engine.jobs.entities import JobProgress
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.job_plan import JobPlan, by_key
from paintover_engine.jobs.protocol import PlannedStage
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.worker_client import WorkerClient


def stage(key: str, *inputs: str, publishes: bool = False) -> PlannedStage:
    return PlannedStage(key, key, key[:-1], 1.0, publishes, False, inputs)


STAGES = [
    stage("flow0"), stage("flow1"), stage("left0", "flow0"), stage("out0", "left0", publishes=True),
    stage("left1", "flow1", "left0"), stage("out1", "left1", publishes=True),
    stage("right0", "flow0"), stage("out2", "right0", publishes=True),
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = DataFolder(tmp_path)
    folder.create()
    return Store(folder)


@pytest.fixture
def workers(store: Store) -> list[DeviceWorker]:
    return [DeviceWorker(find_cpu(), WorkerClient(name, store.folder)) for name in "abc"]


def new_plan(workers: list[DeviceWorker]) -> JobPlan:
    return JobPlan(workers[0], 1, STAGES, by_key(STAGES), 8.0, JobProgress())


def taken(plan: JobPlan, claims: Claims, worker: DeviceWorker) -> str:
    """The stage that a device starts next; "" while it has to wait."""
    found = plan.next_stage(lambda key: claims.is_free_for(worker, key))
    if found:
        claims.take(worker, found.key)
        plan.start(found)
    return found.key if found else ""


def end(plan: JobPlan, claims: Claims, key: str) -> None:
    claims.end(key)
    plan.stop(plan.missing[key])
    plan.finish(plan.missing[key], 1.0)


def test_each_device_gets_the_first_stage_that_is_ready(workers: list[DeviceWorker]) -> None:
    plan, claims = new_plan(workers), Claims()
    assert [taken(plan, claims, worker) for worker in workers] == ["flow0", "flow1", ""]
    end(plan, claims, "flow0")
    both_sides = [taken(plan, claims, workers[0]), taken(plan, claims, workers[2])]
    assert both_sides == ["left0", "right0"]
    end(plan, claims, "flow1")
    assert taken(plan, claims, workers[1]) == ""
    end(plan, claims, "left0")
    soonest = [taken(plan, claims, workers[0]), taken(plan, claims, workers[1])]
    assert soonest == ["out0", "left1"]


def test_two_jobs_of_one_shot_share_a_stage(workers: list[DeviceWorker]) -> None:
    plans, claims = [new_plan(workers), new_plan(workers)], Claims()
    assert taken(plans[0], claims, workers[0]) == "flow0"
    assert taken(plans[1], claims, workers[1]) == "flow1"
    assert taken(plans[0], claims, workers[2]) == ""


def test_stage_begun_beside_another_is_left_to_its_device(workers: list[DeviceWorker]) -> None:
    plan, claims = new_plan(workers), Claims()
    assert taken(plan, claims, workers[0]) == "flow0"
    assert claims.begin_beside(workers[0], plan.missing, 1) == ["flow1"]
    assert taken(plan, claims, workers[1]) == ""
    assert claims.may_have(workers[0], "flow1") and not claims.may_have(workers[1], "flow1")
    end(plan, claims, "flow0")
    assert taken(plan, claims, workers[1]) == "flow1"  # the first device is idle


def test_what_a_dead_process_had_begun_is_free(workers: list[DeviceWorker]) -> None:
    plan, claims = new_plan(workers), Claims()
    assert taken(plan, claims, workers[0]) == "flow0"
    claims.begin_beside(workers[0], plan.missing, 1)
    claims.forget(workers[0])
    assert taken(plan, claims, workers[1]) == "flow1"


def test_removed_output_is_made_again(workers: list[DeviceWorker], store: Store) -> None:
    plan, claims = new_plan(workers), Claims()
    assert [taken(plan, claims, worker) for worker in workers[:2]] == ["flow0", "flow1"]
    end(plan, claims, "flow0")
    assert taken(plan, claims, workers[0]) == "left0"
    plan.look_again(store)  # nothing is stored any more
    assert list(plan.missing) == [each.key for each in STAGES]
    end(plan, claims, "left0")
    assert "left0" not in plan.missing
    assert taken(plan, claims, workers[0]) == "flow0"


def test_time_with_several_devices_is_counted_once(
    workers: list[DeviceWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    plan, claims = new_plan(workers), Claims()
    taken(plan, claims, workers[0])
    now = 102.0
    taken(plan, claims, workers[1])
    now = 105.0
    end(plan, claims, "flow0")
    now = 106.0
    end(plan, claims, "flow1")
    now = 200.0
    taken(plan, claims, workers[0])
    assert plan.waited == 6.0
