"""Decides what is asked for next, one stage at a time on each device, and keeps the queue true to it.

Between two stages the most urgent job is chosen anew, so an urgent job never waits for more than one stage.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.cache import Cache
from paintover_engine.jobs.database import QueueDamaged, QueueUnwritable
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.queue import Job, JobFrame, JobSpec, JobState, Phase, Queue, StoredKeyframe, WaitingJob
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.worker_client import WorkerClient, WorkerDied
from paintover_engine.methods.registry import METHODS
from paintover_engine.methods.stage import AHEAD

log = logging.getLogger(__name__)

ACTIVE = (JobState.RUNNING, JobState.PREPARING, JobState.QUEUED)
DEATHS = 5  # how often one stage may take its worker down before its job fails
PAUSES = (1.0, 3.0, 9.0)  # seconds before a job is tried again after what may pass
PASSING = (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)  # memory, disks and servers come back; a wrong file does not
UNWRITABLE_PAUSE = 2.0  # seconds until a queue that could not be written is tried again
DELIVERY_COST = 0.4  # of writing one frame, in the unit of the stages' costs (a draft's work on a frame is about 1)
DELIVERY_PERIOD = 0.25  # seconds between two notes of how many frames are written


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
    """A job's stages still to run, in order, and what was found finished.

    whole: cost of all stages; of a plan without keyframes, of what they would be with one. waited: seconds for stages;
    less than they took where two ran at a time. begun: keys of stages that the worker may have begun ahead, or ended.
    """

    lane: Lane  # whose worker holds it,
    generation: int  # as this process
    stages: list[PlannedStage]
    missing: list[PlannedStage]
    whole: float = 0.0
    waited: float = 0.0
    begun: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)  # measured so far, by function
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def is_held(self) -> bool:
        """Whether the worker that holds it still lives."""
        return self.lane.worker.alive and self.lane.worker.generation == self.generation


@dataclass(eq=False)
class Lane:
    """A device and the worker that computes on it."""

    device: Device
    worker: WorkerClient
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Trouble:
    """What went wrong with a job since a stage of it ended well.

    deaths: of workers, by what they did; until: when it is tried again, by the monotonic clock, which no change of the
    time moves."""

    failures: int = 0
    deaths: dict[str, int] = field(default_factory=dict)
    until: float = 0.0


class Scheduler:
    """Runs the queue's jobs, one stage at a time on each lane; the worker is told which follow, and may begin those.

    lanes: may be added to before `run`; changed: called after each change of the queue, to wake watchers.
    """

    def __init__(
        self, queue: Queue, store: Store, cache: Cache, lanes: Sequence[Lane], changed: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._store = store
        self._cache = cache
        self._lanes = lanes
        self._changed = changed
        self._plans: dict[int, Plan] = {}
        self._troubles: dict[int, Trouble] = {}
        self._taken: set[int] = set()  # jobs that a lane works on right now
        self._made: dict[str, asyncio.Event] = {}  # keys of stages that run right now
        self._calls: dict[int, asyncio.Task[Any]] = {}
        self._background: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Looks at the queue again."""
        for lane in self._lanes:
            lane.wake.set()

    async def run(self) -> None:
        """Runs jobs until cancelled. Jobs that a dead daemon left running are queued again."""
        for job in self._queue.jobs(JobState.RUNNING, JobState.PREPARING):
            self._set(job, JobState.QUEUED)
        lanes = [asyncio.ensure_future(self._serve(lane)) for lane in self._lanes]
        try:
            await asyncio.gather(*lanes)
        finally:
            for task in lanes:
                task.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def interrupt(self, job_id: int) -> None:
        """Ends what runs for a job now; the caller has set its state. Returns when its files are let go."""
        if task := self._calls.get(job_id):
            task.cancel()
            await asyncio.wait([task])
        self.forget(job_id)

    def forget(self, job_id: int) -> None:
        """Drops what is known of a job, so that it is planned anew; what runs for it now goes on."""
        self._troubles.pop(job_id, None)
        if plan := self._plans.pop(job_id, None):
            self._spawn(self._close(plan, job_id))
        self.wake()

    def remaining(self, job_id: int) -> Plan | None:
        """What a job's plan is, None while it has none."""
        return self._plans.get(job_id)

    def needed(self) -> set[str]:
        """Keys of outputs that a job under way is still going to read."""
        return {key for plan in self._plans.values() for stage in plan.missing for key in (stage.key, *stage.inputs)}

    # Which job next.

    async def _serve(self, lane: Lane) -> None:
        while True:
            lane.wake.clear()
            try:
                pause = await self._serve_one(lane)
            except QueueUnwritable as error:
                log.error("the queue waits: %s", error.message)
                pause = UNWRITABLE_PAUSE
                lane.wake.clear()
            if pause != 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(lane.wake.wait(), pause)

    async def _serve_one(self, lane: Lane) -> float | None:
        """One step of the most urgent job; returns the seconds to wait before the next, None: until woken."""
        chosen, pause = self._choose(lane)
        if chosen is None:
            return pause
        self._taken.add(chosen)
        try:
            await self._step(lane, self._queue.job(chosen))
        except QueueUnwritable:
            self._plans.pop(chosen, None)  # what was done meanwhile is found in the store
            raise
        finally:
            self._taken.discard(chosen)
            self.wake()
        return 0.0

    def _choose(self, lane: Lane) -> tuple[int | None, float | None]:
        """The most urgent job for a lane; without one, the seconds after which to look again."""
        now, pause = time.monotonic(), None
        waiting = [job for job in self._queue.waiting(*ACTIVE) if self._fits(lane, job)]
        for job in sorted(waiting, key=_rank):
            if job.id in self._taken:
                continue
            left = self._troubles[job.id].until - now if job.id in self._troubles else 0.0
            if left <= 0:
                return job.id, None
            pause = left if pause is None else min(pause, left)
        return None, pause

    def _fits(self, lane: Lane, job: WaitingJob) -> bool:
        """Models compute on a GPU where there is one; all else leaves the GPUs to them."""
        accelerated = any(other.device.kind != "cpu" for other in self._lanes)
        return (lane.device.kind != "cpu") == (accelerated and _takes_model(job.method))

    # What a job does next.

    async def _step(self, lane: Lane, job: Job) -> None:
        """Plans the job, runs its next stage, or ends it."""
        try:
            plan = self._plans.get(job.id)
            if plan is None or plan.lane is not lane or not plan.is_held:
                await self._plan(lane, job, plan)
            elif plan.missing:
                await self._advance(job, plan)
            else:
                await self._finish(job, plan)
        except (QueueUnwritable, QueueDamaged):
            raise
        except PaintoverError as error:
            self._fail(job, error)
        except WorkerDied as death:
            self._survive(job, death)
        except Exception as error:  # a programming error ends its job, never the queue
            log.exception("failed", extra={"job": job.id})
            self._end(
                job, JobState.FAILED, f"Internal error in the engine: {error}; its log has the details.", Code.INTERNAL
            )

    async def _call(
        self, lane: Lane, job: Job, call: str, progress: Callable[[Any], None] | None = None, **arguments: Any
    ) -> Any:
        """Calls the lane's worker about a job; None when the job was cancelled or paused meanwhile."""
        task = asyncio.ensure_future(lane.worker.call(call, progress=progress, job=job.id, **arguments))
        self._calls[job.id] = task
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # the daemon stops: the worker is killed, the job resumes with the next daemon
            task.cancel()
            raise
        finally:
            del self._calls[job.id]
        return None if task.cancelled() else task.result()

    async def _plan(self, lane: Lane, job: Job, previous: Plan | None) -> None:
        keyframes = [self._queue.keyframe(name) for name in job.spec.keyframes]
        if job.spec.prepare_only:
            keyframes = []
        self._set(job, JobState.RUNNING if keyframes else JobState.PREPARING)
        info = self._queue.shot(job.shot).info
        assert info  # a job is made of a known shot
        described = await self._call(
            lane,
            job,
            "plan",
            info=info.to_json(),
            method=job.spec.method,
            parameters=dict(job.spec.parameters),
            keyframes=[(k.frame, k.digest) for k in keyframes],
            model=job.spec.model,
            output=_output(job.spec, keyframes) if job.spec.output else None,
        )
        if described is None:
            return
        stages = [PlannedStage(**{**stage, "inputs": tuple(stage["inputs"])}) for stage in described["stages"]]
        plan = Plan(lane, lane.worker.generation, stages, missing(stages, self._store), described["whole"])
        self._plans[job.id] = plan
        to_run = {stage.key for stage in plan.missing}
        found = [stage for stage in stages if stage.key not in to_run]
        job.progress.stages_total = len(stages)
        job.progress.stages_found = max(job.progress.stages_found, len(found)) if previous else len(found)
        job.progress.frames_total = info.count if keyframes else 0
        self._measure(job, plan)
        self._queue.add_frames(job, [frame for stage in found for frame in self._published(stage)])
        log.info("planned: %d stages, %d found", len(stages), len(found), extra={"job": job.id})
        self._changed()

    def _published(self, stage: PlannedStage) -> list[JobFrame]:
        """The frames that a finished stage made."""
        if not stage.publishes:
            return []
        return [JobFrame(frame.number, stage.key, frame.confidence) for frame in self._store.frames(stage.key)]

    async def _advance(self, job: Job, plan: Plan) -> None:
        """Runs the next stage, unless another job made it meanwhile or is just making it."""
        stage = plan.missing[0]
        if stage.key not in plan.begun and self._store.has(stage.key, stage.publishes):
            plan.missing.pop(0)
            job.progress.stages_found += 1
            self._measure(job, plan)
            self._queue.add_frames(job, self._published(stage))
            self._changed()
        elif made := self._made.get(stage.key):
            await made.wait()
        elif not all(self._is_there(plan, key) for key in stage.inputs):
            log.warning("an input of %s is gone; it is made again", stage.label, extra={"job": job.id})
            plan.missing = missing(plan.stages, self._store)
        else:
            made = self._made[stage.key] = asyncio.Event()
            try:
                await self._run_stage(job, plan, stage)
            finally:
                del self._made[stage.key]
                made.set()

    def _is_there(self, plan: Plan, key: str) -> bool:
        publishes = next(stage.publishes for stage in plan.stages if stage.key == key)
        return self._store.has(key, publishes)

    async def _run_stage(self, job: Job, plan: Plan, stage: PlannedStage) -> None:
        job.progress.stage = stage.label
        self._queue.update_progress(job)
        self._changed()
        log.info("stage %s starts", stage.label, extra={"job": job.id, "stage": stage.key})
        started = time.monotonic()
        then = [later.key for later in plan.missing[1 : 1 + AHEAD]]
        plan.begun.update(then)
        report = await self._call(plan.lane, job, "run", generation=plan.generation, key=stage.key, then=then)
        if report is None:
            return
        plan.waited += time.monotonic() - started
        seconds = report["seconds"]
        log.info("stage %s took %.2f s", stage.label, seconds, extra={"job": job.id, "stage": stage.key})
        plan.missing.pop(0)
        self._troubles.pop(job.id, None)
        plan.seconds[stage.function] = plan.seconds.get(stage.function, 0.0) + seconds
        plan.costs[stage.function] = plan.costs.get(stage.function, 0.0) + stage.cost
        self._measure(job, plan)
        self._queue.add_frames(job, [JobFrame(number, stage.key, trust) for number, trust in report["frames"]])
        self._keep_to_budget(plan, stage)
        self._changed()

    def _keep_to_budget(self, plan: Plan, stage: PlannedStage) -> None:
        for key, publishes in [(stage.key, stage.publishes), *((key, False) for key in stage.inputs)]:
            path: Path = self._store.path(key, publishes)
            if path.exists():
                self._cache.used(path)
        if self._cache.over_budget:
            self._cache.evict(self._cache.budget, self.needed(), self._queue.result_keys)

    async def _finish(self, job: Job, plan: Plan) -> None:
        notes = await self._call(plan.lane, job, "notes", generation=plan.generation)
        if notes is None:
            return
        if job.spec.output:
            answer = await self._deliver(job, plan)
            if answer is None:
                return
            notes += answer
        job.progress.fraction, job.progress.seconds_left, job.progress.stage = 1.0, 0.0, ""
        if not job.spec.prepare_only and not job.spec.keyframes:
            if self._queue.job(job.id).spec.keyframes:  # one was put while the last stage ran
                self.forget(job.id)
            else:
                self._end(job, JobState.WAITING_FOR_KEYFRAME, "Prepared; put a keyframe and it goes on.")
            return
        self._end(job, JobState.DONE, " ".join(notes))

    async def _deliver(self, job: Job, plan: Plan) -> list[str] | None:
        total, started, share = job.progress.frames_total, time.monotonic(), job.progress.fraction
        told, ahead = started, -1  # frames that were written beside the stages

        def delivered(frames: int) -> None:
            nonlocal told, ahead
            now = time.monotonic()
            ahead = frames if ahead < 0 else ahead
            if now - told < DELIVERY_PERIOD or frames == ahead:
                return
            told = now
            job.progress.fraction = share + (1 - share) * frames / total
            job.progress.seconds_left = (now - started) / (frames - ahead) * (total - frames)
            with contextlib.suppress(QueueUnwritable):  # the next note may be kept; the end is waited for
                self._queue.update_progress(job)
            self._changed()

        job.progress.stage = "write"
        answer = await self._call(plan.lane, job, "deliver", delivered, generation=plan.generation)
        return None if answer is None else list(answer)

    # What may go wrong.

    def _fail(self, job: Job, error: PaintoverError) -> None:
        """What may pass is tried again after a pause, a longer one each time; what will not ends the job."""
        trouble = self._troubles.setdefault(job.id, Trouble())
        if error.code in PASSING and trouble.failures < len(PAUSES):
            pause = PAUSES[trouble.failures]
            trouble.failures += 1
            trouble.until = time.monotonic() + pause
            log.warning("tried again in %.0f s: %s", pause, error.message, extra={"job": job.id})
            self._wait_again(job, f"{error.message} It is tried again by itself.")
            return
        log.warning("failed: %s", error.message, extra={"job": job.id})
        self._end(job, JobState.FAILED, error.message, error.code)

    def _survive(self, job: Job, death: WorkerDied) -> None:
        """A worker died in this job's stage: try again with a new one, unless the stage keeps killing them."""
        plan = self._plans.get(job.id)
        if plan and plan.generation != plan.lane.worker.generation:
            return  # it died before it was asked: planned anew
        what = (job.progress.stage if plan else "") or "planning"
        trouble = self._troubles.setdefault(job.id, Trouble())
        deaths = trouble.deaths[what] = trouble.deaths.get(what, 0) + 1
        log.warning("the worker died in %s: %s", what, death, extra={"job": job.id})
        if deaths >= DEATHS:
            reason = f"The worker died {deaths} times in '{what}' ({death}); the log says more. Retry when mended."
            self._end(job, JobState.FAILED, reason, Code.INTERNAL)
        elif deaths > 1:
            trouble.until = time.monotonic() + PAUSES[min(deaths - 2, len(PAUSES) - 1)]

    def _wait_again(self, job: Job, message: str) -> None:
        job = self._queue.job(job.id)
        if job.state in ACTIVE:  # else a client cancelled or paused it while its last call ended
            self._plans.pop(job.id, None)
            job.message = message
            self._set(job, JobState.QUEUED)

    def _measure(self, job: Job, plan: Plan) -> None:
        """Share done and time left, by the cost of stages and what a unit of it took so far."""
        progress = job.progress
        delivery = DELIVERY_COST * progress.frames_total if job.spec.output else 0.0
        left = sum(stage.cost for stage in plan.missing) + delivery
        total = sum(stage.cost for stage in plan.stages) + delivery
        progress.stages_done = len(plan.stages) - len(plan.missing)
        progress.fraction = 1 - left / total if total else 1.0
        absent = {stage.key for stage in plan.missing}
        prepared = sum(stage.cost for stage in plan.stages if not stage.needs_keyframe and stage.key not in absent)
        progress.prepared = prepared / plan.whole if plan.whole else 0.0
        progress.phases = [_phase(function, plan) for function in dict.fromkeys(s.function for s in plan.stages)]
        if measured := sum(plan.costs.values()):
            overlap = plan.waited / max(sum(plan.seconds.values()), 1e-3)
            lefts = [phase["left"] for phase in progress.phases]
            progress.seconds_left = plan.waited / measured * delivery + overlap * sum(lefts)

    def _set(self, job: Job, state: JobState) -> None:
        job.state = state
        if state in ACTIVE and state is not JobState.QUEUED:
            job.message = ""
            job.started = job.started or time.time()
        self._queue.update_job(job)
        self._changed()

    def _end(self, job: Job, state: JobState, message: str, error: Code | None = None) -> None:
        self._queue.update_progress(job)
        self.forget(job.id)
        job = self._queue.job(job.id)
        if job.state in ACTIVE:  # else a client cancelled or paused it while its last call ended
            job.ended = time.time() if state.finished else None
            job.message, job.error = message, error.value if error else ""
            log.info("%s", state.value, extra={"job": job.id})
            self._set(job, state)

    # Small change.

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @staticmethod
    async def _close(plan: Plan, job_id: int) -> None:
        """Lets the worker close what the job held open, if that worker still lives."""
        if plan.is_held:
            with contextlib.suppress(WorkerDied):
                await plan.lane.worker.call("forget", generation=plan.generation, job=job_id)


def _phase(function: str, plan: Plan) -> Phase:
    """How far the stages of one function are; the time left by what a unit of their cost took so far, or of all."""
    stages = [stage for stage in plan.stages if stage.function == function]
    missing = [stage for stage in plan.missing if stage.function == function]
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


def _output(spec: JobSpec, keyframes: Sequence[StoredKeyframe]) -> dict[str, Any]:
    """As `delivery.Output` holds it."""
    paintings = [path for keyframe in keyframes for path in keyframe.files]
    return {"path": spec.output, "overwrite": spec.overwrite, "mattes": spec.mattes, "paintings": paintings}


def _takes_model(method: str) -> bool:
    return method in METHODS and METHODS[method].takes_model


def _rank(job: WaitingJob) -> int:
    """What somebody looks at comes first, whatever the priorities: a draft never waits for a final. What is done
    ahead of a keyframe comes last."""
    return 2 if job.background else int(_takes_model(job.method))


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
