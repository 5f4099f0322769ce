"""A job's progress figures: the share that is done and the seconds left, from the costs and times of its stages."""

from __future__ import annotations

import time

from paintover_engine.jobs.entities import Job, JobProgress, Phase
from paintover_engine.jobs.job_plan import JobPlan

DELIVERY_COST = 0.4  # of writing one frame, in the unit of the stages' costs (a draft's work on a frame is about 1)
KNOWN_SHARE = 0.6  # of a plan: with less of it by functions that have run, no time left is told
DELIVERY_PERIOD = 0.25  # seconds between two updates while the result is written


def update_progress(job: Job, plan: JobPlan) -> None:
    """Sets the figures that follow from the stages that are done, and from what a unit of cost took so far."""
    progress = job.progress
    delivery = DELIVERY_COST * progress.frames_total if job.spec.output else 0.0
    left = sum(stage.cost for stage in plan.missing.values()) + delivery
    total = sum(stage.cost for stage in plan.stages) + delivery
    progress.stages_done = len(plan.stages) - len(plan.missing)
    progress.fraction = 1 - left / total if total else 1.0
    prepared = sum(stage.cost for stage in plan.stages if not stage.needs_keyframe and stage.key not in plan.missing)
    progress.prepared = prepared / plan.whole if plan.whole else 0.0
    progress.phases = [_phase(function, plan) for function in dict.fromkeys(s.function for s in plan.stages)]
    if measured := sum(plan.costs.values()):
        overlap = plan.waited / max(sum(plan.seconds.values()), 1e-3)
        lefts = [phase["left"] for phase in progress.phases]
        seconds = plan.waited / measured * delivery + overlap * sum(lefts)
        progress.seconds_left = seconds if _known_share(plan) >= KNOWN_SHARE else -1.0


def _known_share(plan: JobPlan) -> float:
    """How much of the plan, by cost and by stages, is of functions whose pace was measured or that are done, 0 to 1.

    What one function takes says little of another: a model's pass over a frame may cost a hundred times as much, for
    its declared cost, as optical flow."""
    unknown = [stage for stage in plan.missing.values() if not plan.costs.get(stage.function)]
    by_cost = sum(stage.cost for stage in unknown) / sum(stage.cost for stage in plan.stages)
    return 1 - max(by_cost, len(unknown) / len(plan.stages))


def _phase(function: str, plan: JobPlan) -> Phase:
    """The figures of one function's stages. The time left follows from the seconds per cost of those that ran; from
    all functions' where none of this one did."""
    stages = [stage for stage in plan.stages if stage.function == function]
    missing = [stage for stage in plan.missing.values() if stage.function == function]
    left = sum(stage.cost for stage in missing)
    measured = {function} if plan.costs.get(function) else set(plan.costs)
    cost = sum(plan.costs[name] for name in measured)
    pace = sum(plan.seconds[name] for name in measured) / cost if cost else -1.0
    return Phase(
        function=function,
        total=len(stages),
        done=len(stages) - len(missing),
        seconds=plan.seconds.get(function, 0.0),
        left=left * pace if cost or not left else -1.0,
    )


class DeliveryEstimate:
    """The figures while a job's result is written, which is what then remains of the job."""

    def __init__(self, progress: JobProgress) -> None:
        self._progress = progress
        self._share = progress.fraction
        self._started = self._updated = time.monotonic()
        self._ahead = -1  # frames that were written beside the stages, before this started

    def update(self, frames: int) -> bool:
        """Sets the figures for that many written frames; False where it is too early to do so."""
        now = time.monotonic()
        if self._ahead < 0:
            self._ahead = frames
        if now - self._updated < DELIVERY_PERIOD or frames == self._ahead:
            return False
        self._updated = now
        total = self._progress.frames_total
        self._progress.fraction = self._share + (1 - self._share) * frames / total
        self._progress.seconds_left = (now - self._started) / (frames - self._ahead) * (total - frames)
        return True
