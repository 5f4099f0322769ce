"""Time left, from the costs and times of stages."""

from __future__ import annotations

from typing import cast

import pytest
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.entities import Job, JobProgress, JobSpec, JobState
from paintover_engine.jobs.job_plan import JobPlan, by_key
from paintover_engine.jobs.progress import update_progress
from paintover_engine.jobs.protocol import PlannedStage

SECONDS = {"flow": 4.0, "sample": 90.0, "merge": 30.0}
"""What a stage of each function takes, far from what their costs say."""

COSTS = {"flow": 16.0, "sample": 400.0, "merge": 4.0}


@pytest.mark.parametrize("costs", [COSTS, {"flow": 400.0, "sample": 16.0, "merge": 4.0}], ids=["low", "high"])
def test_time_left_is_right_within_a_factor_of_two(costs: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a tenth of the time, and never a wild figure before: declared costs may be wrong by a hundred."""
    order = ["flow", *["sample", "flow"] * 9, "merge", "merge"]
    stages = [PlannedStage(f"{at}", name, name, costs[name], False, False, ()) for at, name in enumerate(order)]
    passed = 0.0
    monkeypatch.setattr("time.monotonic", lambda: passed)
    whole_cost = sum(stage.cost for stage in stages)
    plan = JobPlan(cast(DeviceWorker, None), 1, stages, by_key(stages), whole_cost, JobProgress())
    job = Job(
        1,
        "s",
        JobSpec("draft", {}, "", (), "", False, "", False),
        JobState.RUNNING,
        0,
        "",
        "",
        JobProgress(),
        0,
        0,
        None,
        1,
    )
    whole = sum(SECONDS[name] for name in order)
    for stage in stages[:-1]:
        plan.start(stage)
        passed += SECONDS[stage.function]
        plan.finish(stage, SECONDS[stage.function])  # the scheduler's order: the device is free a moment later
        update_progress(job, plan)
        plan.stop(stage)
        told, left = job.progress.seconds_left, whole - passed
        if passed < 0.9 * whole and (told >= 0 or passed > 0.1 * whole):
            assert left / 2 <= told <= left * 2, stage.key
