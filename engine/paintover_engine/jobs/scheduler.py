"""Decides what runs next, one stage at a time, and keeps the queue true to it.

Between two stages the most urgent job is chosen anew, so an urgent job never waits for more than one stage.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.queue import Job, JobFrame, JobState, Queue
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.worker_client import WorkerClient, WorkerDied

log = logging.getLogger(__name__)

ACTIVE = (JobState.RUNNING, JobState.PREPARING, JobState.QUEUED)
ATTEMPTS = 3  # how often a stage may take its worker down before its job fails
DELIVERY_COST = 0.4  # of writing one frame, in the unit of the stages' costs (a draft's work on a frame is about 1)


@dataclass(frozen=True)
class PlannedStage:
    """A stage as the scheduler sees it; what it computes is the worker's affair."""

    key: str
    label: str
    function: str
    cost: float
    publishes: bool
    needs_keyframe: bool
    inputs: tuple[str, ...]


@dataclass
class Plan:
    """A job's stages still to run, in order, and what was found finished."""

    generation: int  # of the worker process that holds it
    stages: list[PlannedStage]
    missing: list[PlannedStage]
    deaths: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # measured so far, by function
    costs: dict[str, float] = field(default_factory=dict)


class Scheduler:
    """Runs the queue's jobs on one worker.

    changed: called after each change of the queue, to wake watchers.
    """

    def __init__(self, queue: Queue, store: Store, worker: WorkerClient, changed: Callable[[], None]) -> None:
        self._queue = queue
        self._store = store
        self._worker = worker
        self._changed = changed
        self._plans: dict[int, Plan] = {}
        self._wake = asyncio.Event()
        self._current: tuple[int, asyncio.Task[Any]] | None = None

    def wake(self) -> None:
        """Looks at the queue again."""
        self._wake.set()

    async def run(self) -> None:
        """Runs jobs until cancelled. Jobs that a dead daemon left running are queued again."""
        for job in self._queue.jobs(JobState.RUNNING, JobState.PREPARING):
            self._set(job, JobState.QUEUED)
        while True:
            self._wake.clear()
            if jobs := self._queue.jobs(*ACTIVE):
                await self._step(jobs[0])
            else:
                await self._wake.wait()

    async def interrupt(self, job_id: int) -> None:
        """Ends what runs for a job now; the caller has set its state. Returns when its files are let go."""
        if self._current and self._current[0] == job_id:
            task = self._current[1]
            task.cancel()
            await asyncio.wait([task])
        self._plans.pop(job_id, None)

    async def _step(self, job: Job) -> None:
        """Plans the job, runs its next stage, or ends it."""
        try:
            plan = self._plans.get(job.id)
            if plan is None or plan.generation != self._worker.generation:
                await self._plan(job, plan)
            elif plan.missing:
                await self._run_stage(job, plan)
            else:
                await self._finish(job, plan)
        except PaintoverError as error:
            log.warning("job %d failed: %s", job.id, error.message)
            self._end(job, JobState.FAILED, error.message, error.code)
        except WorkerDied as death:
            self._survive(job, death)
        except Exception as error:  # a programming error ends its job, never the queue
            log.exception("job %d", job.id)
            self._end(
                job, JobState.FAILED, f"Internal error in the engine: {error}; its log has the details.", Code.INTERNAL
            )

    async def _call(self, job: Job, call: str, progress: Callable[[Any], None] | None = None, **arguments: Any) -> Any:
        """Calls the worker about a job; None when the job was cancelled or paused meanwhile."""
        task = asyncio.ensure_future(self._worker.call(call, progress=progress, job=job.id, **arguments))
        self._current = (job.id, task)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # the daemon stops: the worker is killed, the job resumes with the next daemon
            task.cancel()
            raise
        finally:
            self._current = None
        return None if task.cancelled() else task.result()

    async def _plan(self, job: Job, previous: Plan | None) -> None:
        self._set(job, JobState.PREPARING if job.spec.prepare_only else JobState.RUNNING)
        keyframes = [self._queue.keyframe(name) for name in job.spec.keyframes]
        info = self._queue.shot(job.shot).info
        assert info  # a job is made of a known shot
        described = await self._call(
            job,
            "plan",
            info=info.to_json(),
            method=job.spec.method,
            parameters=dict(job.spec.parameters),
            keyframes=[] if job.spec.prepare_only else [(k.frame, k.digest) for k in keyframes],
        )
        if described is None:
            return
        stages = [PlannedStage(**{**stage, "inputs": tuple(stage["inputs"])}) for stage in described]
        plan = Plan(self._worker.generation, stages, missing(stages, self._store))
        if previous:
            plan.deaths = previous.deaths
        self._plans[job.id] = plan
        to_run = {stage.key for stage in plan.missing}
        found = [stage for stage in stages if stage.key not in to_run]
        job.progress.stages_total = len(stages)
        job.progress.stages_found = max(job.progress.stages_found, len(found)) if previous else len(found)
        job.progress.frames_total = 0 if job.spec.prepare_only else info.count
        frames = [
            JobFrame(frame.number, stage.key, frame.confidence)
            for stage in found
            if stage.publishes
            for frame in self._store.frames(stage.key)
        ]
        self._measure(job, plan)
        self._queue.add_frames(job, frames)
        self._changed()

    async def _run_stage(self, job: Job, plan: Plan) -> None:
        stage = plan.missing[0]
        job.progress.stage = stage.label
        self._queue.update_progress(job)
        self._changed()
        report = await self._call(job, "run", generation=plan.generation, key=stage.key)
        if report is None:
            return
        plan.missing.pop(0)
        plan.deaths = 0
        plan.seconds[stage.function] = plan.seconds.get(stage.function, 0.0) + report["seconds"]
        plan.costs[stage.function] = plan.costs.get(stage.function, 0.0) + stage.cost
        self._measure(job, plan)
        frames = [JobFrame(number, stage.key, confidence) for number, confidence in report["frames"]]
        self._queue.add_frames(job, frames)
        self._changed()

    async def _finish(self, job: Job, plan: Plan) -> None:
        notes: list[str] = []
        if job.spec.output:
            total, started, share = job.progress.frames_total, time.monotonic(), job.progress.fraction

            def delivered(frames: int) -> None:
                job.progress.fraction = share + (1 - share) * frames / total
                job.progress.seconds_left = (time.monotonic() - started) / frames * (total - frames)
                self._queue.update_progress(job)
                self._changed()

            job.progress.stage = "write"
            answer = await self._call(
                job,
                "deliver",
                delivered,
                generation=plan.generation,
                path=job.spec.output,
                overwrite=job.spec.overwrite,
                mattes_path=job.spec.mattes,
            )
            if answer is None:
                return
            notes = answer
        job.progress.fraction, job.progress.seconds_left, job.progress.stage = 1.0, 0.0, ""
        self._end(job, JobState.DONE, " ".join(notes))
        await self._worker.call("forget", job=job.id)

    def _survive(self, job: Job, death: WorkerDied) -> None:
        """A worker died in this job's stage: try again with a new one, unless the stage keeps killing them."""
        plan = self._plans.get(job.id) or self._plans.setdefault(job.id, Plan(-1, [], []))
        plan.deaths += 1
        what = job.progress.stage or "planning"
        log.warning("job %d: the worker died in %s: %s", job.id, what, death)
        if plan.deaths >= ATTEMPTS:
            reason = f"The worker died {plan.deaths} times in '{what}' ({death}); the log says more. Retry when mended."
            self._end(job, JobState.FAILED, reason, Code.INTERNAL)

    def _measure(self, job: Job, plan: Plan) -> None:
        """Share done and time left, by the cost of stages and what a unit of it took so far."""
        progress = job.progress
        delivery = DELIVERY_COST * progress.frames_total if job.spec.output else 0.0
        left = sum(stage.cost for stage in plan.missing) + delivery
        total = sum(stage.cost for stage in plan.stages) + delivery
        progress.stages_done = len(plan.stages) - len(plan.missing)
        progress.fraction = 1 - left / total if total else 1.0
        if measured := sum(plan.costs.values()):
            overall = sum(plan.seconds.values()) / measured
            seconds = overall * delivery
            for stage in plan.missing:
                known = plan.costs.get(stage.function)
                seconds += stage.cost * (plan.seconds[stage.function] / known if known else overall)
            progress.seconds_left = seconds

    def _set(self, job: Job, state: JobState) -> None:
        job.state = state
        if state in ACTIVE and job.started is None and state is not JobState.QUEUED:
            job.started = time.time()
        self._queue.update_job(job)
        self._changed()

    def _end(self, job: Job, state: JobState, message: str, error: Code | None = None) -> None:
        self._plans.pop(job.id, None)
        self._queue.update_progress(job)
        job = self._queue.job(job.id)
        if job.state in ACTIVE:  # else a client cancelled or paused it while its last call ended
            job.ended, job.message, job.error = time.time(), message, error.value if error else ""
            self._set(job, state)


def missing(stages: list[PlannedStage], store: Store) -> list[PlannedStage]:
    """The stages still to run, in the plan's order: those whose output is wanted and absent.

    Wanted are the stages nobody reads (what the job is for) and, of those absent, their inputs: an input whose
    readers are all finished is not made again after the cache dropped it."""
    read = {key for stage in stages for key in stage.inputs}
    wanted = {stage.key for stage in stages if stage.key not in read}
    absent = set()
    for stage in reversed(stages):  # a plan lists inputs before their readers
        if stage.key in wanted and not store.has(stage.key, stage.publishes):
            absent.add(stage.key)
            wanted.update(stage.inputs)
    return [stage for stage in stages if stage.key in absent]
