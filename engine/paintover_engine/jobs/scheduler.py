"""Decides which stage runs next on each device, and stores in the queue what came of it.

Between two stages the most urgent job is chosen again, so an urgent job never waits for more than one stage.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.cache import Cache
from paintover_engine.jobs.database import QueueDamaged, QueueUnwritable
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.entities import Job, JobFrame, JobSpec, JobState, StoredKeyframe, WaitingJob
from paintover_engine.jobs.job_plan import JobPlan, missing_stages
from paintover_engine.jobs.kept import keys_by_frame
from paintover_engine.jobs.progress import DeliveryEstimate, update_progress
from paintover_engine.jobs.protocol import PlannedStage, ReplyT, Request
from paintover_engine.jobs.queue import Queue
from paintover_engine.jobs.retry import MAX_WORKER_CRASHES, RetryPolicy
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.unsure import ResultFrame
from paintover_engine.jobs.worker_client import WorkerDied
from paintover_engine.methods.registry import METHODS
from paintover_engine.methods.stage import AHEAD, KeyframeRef

log = logging.getLogger(__name__)

ACTIVE = (JobState.RUNNING, JobState.PREPARING, JobState.QUEUED)
UNWRITABLE_PAUSE = 2.0  # seconds until a queue that could not be written is tried again


class Scheduler:
    """Runs the queue's jobs, one stage at a time on each device. With a stage the worker gets the keys of those that
    follow, and may start them.

    workers: may be added to before `run`; changed: called after each change of the queue, to wake watchers.
    """

    def __init__(
        self, queue: Queue, store: Store, cache: Cache, workers: Sequence[DeviceWorker], changed: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._store = store
        self._cache = cache
        self._workers = workers
        self._changed = changed
        self._plans: dict[int, JobPlan] = {}
        self._retries = RetryPolicy()
        self._assigned: set[int] = set()  # jobs that a device works on right now
        self._running: dict[str, asyncio.Event] = {}  # by the key of a stage that runs right now; set at its end
        self._calls: dict[int, asyncio.Task[Any]] = {}
        self._halted: Counter[int] = Counter()  # jobs that are being cancelled or paused, and by how many clients
        self._background: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Has every device look at the queue again."""
        for worker in self._workers:
            worker.wake.set()

    async def run(self) -> None:
        """Runs jobs until cancelled. Jobs that a killed daemon left running are queued again."""
        for job in self._queue.jobs(JobState.RUNNING, JobState.PREPARING):
            self._set_state(job, JobState.QUEUED)
        tasks = [asyncio.ensure_future(self._serve(worker)) for worker in self._workers]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def halted(self, job_id: int) -> AsyncIterator[None]:
        """Ends what runs for a job now, and starts nothing for it within. On entry its files are closed."""
        self._halted[job_id] += 1
        try:
            if task := self._calls.get(job_id):
                task.cancel()
                await asyncio.wait([task])
            yield
        finally:
            self._halted[job_id] -= 1
            self._halted += Counter()  # drops those at 0
            self.forget(job_id)

    def forget(self, job_id: int) -> None:
        """Drops a job's plan and retries, so that it is planned anew; what runs for it now goes on."""
        self._retries.reset(job_id)
        if plan := self._plans.pop(job_id, None):
            self._spawn(self._close(plan, job_id))
        self.wake()

    def needed(self) -> set[str]:
        """Keys of outputs that a planned job is still going to read or write."""
        return {key for plan in self._plans.values() for stage in plan.missing for key in (stage.key, *stage.inputs)}

    # Which job is next.

    async def _serve(self, worker: DeviceWorker) -> None:
        while True:
            worker.wake.clear()
            try:
                pause = await self._serve_one(worker)
            except QueueUnwritable as error:
                log.error("the queue waits: %s", error.message)
                pause = UNWRITABLE_PAUSE
                worker.wake.clear()
            if pause != 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(worker.wake.wait(), pause)

    async def _serve_one(self, worker: DeviceWorker) -> float | None:
        """One step of the most urgent job; returns the seconds to wait before the next, None: until woken."""
        chosen, pause = self._choose(worker)
        if chosen is None:
            return pause
        self._assigned.add(chosen)
        try:
            await self._step(worker, self._queue.job(chosen))
        except QueueUnwritable:
            self._plans.pop(chosen, None)  # what was computed meanwhile is found in the store
            raise
        finally:
            self._assigned.discard(chosen)
            self.wake()
        return 0.0

    def _choose(self, worker: DeviceWorker) -> tuple[int | None, float | None]:
        """The most urgent job for a device; without one, the seconds after which to look again."""
        pause = None
        waiting = [job for job in self._queue.waiting(*ACTIVE) if self._runs_on(worker, job)]
        for job in sorted(waiting, key=_rank):
            if job.id in self._assigned or job.id in self._halted:
                continue
            left = self._retries.seconds_left(job.id)
            if left <= 0:
                return job.id, None
            pause = left if pause is None else min(pause, left)
        return None, pause

    def _runs_on(self, worker: DeviceWorker, job: WaitingJob) -> bool:
        """Models compute on a GPU where there is one; everything else leaves the GPUs to them."""
        accelerated = any(other.device.kind != "cpu" for other in self._workers)
        return (worker.device.kind != "cpu") == (accelerated and _takes_model(job.method))

    # What a job does next.

    async def _step(self, worker: DeviceWorker, job: Job) -> None:
        """Plans the job, runs its next stage, or ends it."""
        try:
            plan = self._plans.get(job.id)
            if plan is None or plan.worker is not worker or not plan.is_held:
                await self._plan(worker, job, plan)
            elif plan.missing:
                await self._advance(job, plan)
            else:
                await self._finish(job, plan)
        except (QueueUnwritable, QueueDamaged):
            raise
        except PaintoverError as error:
            self._handle_error(job, error)
        except WorkerDied as death:
            self._handle_worker_crash(job, death)
        except Exception as error:  # a programming error ends its job, never the queue
            log.exception("failed", extra={"job": job.id})
            self._end(
                job, JobState.FAILED, f"Internal error in the engine: {error}; its log has the details.", Code.INTERNAL
            )

    async def _call(
        self,
        worker: DeviceWorker,
        job: Job,
        request: Request[ReplyT],
        plan: JobPlan | None = None,
        progress: Callable[[protocol.DeliveryProgress], None] | None = None,
    ) -> ReplyT | None:
        """Calls a device's worker about a job. plan: the call is for the process that holds it.

        None when the job was cancelled or paused meanwhile."""
        if job.id in self._halted or self._queue.job(job.id).state not in ACTIVE:
            return None
        generation = plan.generation if plan else None
        task = asyncio.ensure_future(worker.client.call(request, generation=generation, progress=progress))
        self._calls[job.id] = task
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # the daemon stops: the worker is killed, the job resumes with the next daemon
            task.cancel()
            raise
        finally:
            del self._calls[job.id]
        return None if task.cancelled() else task.result()

    async def _plan(self, worker: DeviceWorker, job: Job, previous: JobPlan | None) -> None:
        keyframes = [] if job.spec.prepare_only else [self._queue.keyframe(name) for name in job.spec.keyframes]
        self._set_state(job, JobState.RUNNING if keyframes else JobState.PREPARING)
        info = self._queue.shot(job.shot).info
        assert info  # a job is created after its source was probed
        request = protocol.PlanJobRequest(
            job=job.id,
            info=info,
            method=job.spec.method,
            parameters=dict(job.spec.parameters),
            keyframes=[KeyframeRef(keyframe.frame, keyframe.digest) for keyframe in keyframes],
            model=job.spec.model,
            output=_output(job.spec, keyframes),
            kept=list(job.spec.kept),
        )
        reply = await self._call(worker, job, request)
        if reply is None:
            return
        stages = reply.stages
        await self._remove_damaged(stages)
        missing = missing_stages(stages, self._store)
        plan = JobPlan(worker, worker.client.generation, stages, missing, reply.whole)
        self._plans[job.id] = plan
        to_run = {stage.key for stage in missing}
        found = [stage for stage in stages if stage.key not in to_run]
        job.progress.stages_total = len(stages)
        job.progress.stages_found = max(job.progress.stages_found, len(found)) if previous else len(found)
        job.progress.frames_total = info.count if keyframes else 0
        update_progress(job, plan)
        frames = [frame for stage in found for frame in self._published(job, stage)]
        self._queue.add_frames(job, frames)
        log.info("planned: %d stages, %d found", len(stages), len(found), extra={"job": job.id})
        self._changed()

    async def _remove_damaged(self, stages: Sequence[PlannedStage]) -> None:
        """Removes results that are in the store but damaged, so that they are computed again."""
        for stage in stages:
            stored = stage.publishes and self._store.has(stage.key, publishes=True)
            if stored and not await asyncio.to_thread(self._store.is_whole, stage.key, True):
                log.warning("the result of %s was damaged on disk; it is computed again", stage.label)
                self._store.remove(stage.key, publishes=True)

    def _published(self, job: Job, stage: PlannedStage) -> list[JobFrame]:
        """The frames of a job that a finished stage published."""
        if not stage.publishes:
            return []
        return _made_for(job, stage, self._store.frames(stage.key))

    async def _advance(self, job: Job, plan: JobPlan) -> None:
        """Runs the next stage, unless another job has computed it meanwhile or is computing it right now."""
        stage = plan.missing[0]
        if stage.key not in plan.requested and self._store.has(stage.key, stage.publishes):
            plan.missing.pop(0)
            job.progress.stages_found += 1
            update_progress(job, plan)
            self._queue.add_frames(job, self._published(job, stage))
            self._changed()
        elif ended := self._running.get(stage.key):
            await ended.wait()
        elif not all(self._store.has(key, plan.publishes(key)) for key in stage.inputs):
            log.warning("an input of %s is gone; it is computed again", stage.label, extra={"job": job.id})
            plan.missing = missing_stages(plan.stages, self._store)
        else:
            ended = self._running[stage.key] = asyncio.Event()
            try:
                await self._run_stage(job, plan, stage)
            finally:
                del self._running[stage.key]
                ended.set()

    async def _run_stage(self, job: Job, plan: JobPlan, stage: PlannedStage) -> None:
        job.progress.stage = stage.label
        self._queue.update_progress(job)
        self._changed()
        log.info("stage %s starts", stage.label, extra={"job": job.id, "stage": stage.key})
        started = time.monotonic()
        following = [later.key for later in plan.missing[1 : 1 + AHEAD]]
        plan.requested.update(following)
        request = protocol.RunStageRequest(job=job.id, key=stage.key, following=following)
        reply = await self._call(plan.worker, job, request, plan)
        if reply is None:
            return
        log.info("stage %s took %.2f s", stage.label, reply.seconds, extra={"job": job.id, "stage": stage.key})
        plan.finish(stage, reply.seconds, time.monotonic() - started)
        self._retries.reset(job.id)
        update_progress(job, plan)
        self._queue.add_frames(job, _made_for(job, stage, reply.frames))
        self._evict_to_budget(stage)
        self._changed()

    def _evict_to_budget(self, stage: PlannedStage) -> None:
        """Counts a stage's output and inputs as just used, and makes room where the cache is too large."""
        for key, publishes in [(stage.key, stage.publishes), *((key, False) for key in stage.inputs)]:
            path = self._store.path(key, publishes)
            if path.exists():
                self._cache.used(path)
        if self._cache.over_budget:
            self._cache.evict(self._cache.budget, self.needed(), self._queue.shown_keys)

    async def _finish(self, job: Job, plan: JobPlan) -> None:
        reply = await self._call(plan.worker, job, protocol.JobNotesRequest(job=job.id), plan)
        if reply is None:
            return
        notes = list(reply.notes)
        if job.spec.output:
            delivered = await self._deliver(job, plan, notes)
            if delivered is None:
                return
            notes += delivered.notes
        job.progress.fraction, job.progress.seconds_left, job.progress.stage = 1.0, 0.0, ""
        if not job.spec.prepare_only and not job.spec.keyframes:
            if self._queue.job(job.id).spec.keyframes:  # one was put while the last stage ran
                self.forget(job.id)
            else:
                self._end(job, JobState.WAITING_FOR_KEYFRAME, "Prepared; put a keyframe and it goes on.")
            return
        self._end(job, JobState.DONE, " ".join(notes))

    async def _deliver(self, job: Job, plan: JobPlan, notes: Sequence[str]) -> protocol.Notes | None:
        estimate = DeliveryEstimate(job.progress)

        def on_progress(delivered: protocol.DeliveryProgress) -> None:
            if estimate.update(delivered.frames):
                with contextlib.suppress(QueueUnwritable):  # a later update may be stored; the end has to be
                    self._queue.update_progress(job)
                self._changed()

        job.progress.stage = "write"
        request = protocol.DeliverRequest(job=job.id, notes=list(notes), started=job.started or job.created)
        return await self._call(plan.worker, job, request, plan, on_progress)

    # Failures.

    def _handle_error(self, job: Job, error: PaintoverError) -> None:
        """A transient error is retried after a pause, longer each time; any other ends the job."""
        pause = self._retries.after_error(job.id, error.code)
        if pause is None:
            log.warning("failed: %s", error.message, extra={"job": job.id})
            self._end(job, JobState.FAILED, error.message, error.code)
            return
        log.warning("tried again in %.0f s: %s", pause, error.message, extra={"job": job.id})
        job = self._queue.job(job.id)
        if job.state in ACTIVE:  # else a client cancelled or paused it while its last call ended
            self._plans.pop(job.id, None)
            job.message = f"{error.message} It is tried again by itself."
            self._set_state(job, JobState.QUEUED)

    def _handle_worker_crash(self, job: Job, death: WorkerDied) -> None:
        """The job goes on with a new worker, unless the stage crashes every one."""
        plan = self._plans.get(job.id)
        if plan and plan.generation != plan.worker.client.generation:
            return  # it ended before the call: the job is planned anew
        stage = (job.progress.stage if plan else "") or "planning"
        crashes = self._retries.after_crash(job.id, stage)
        log.warning("the worker died in %s: %s", stage, death, extra={"job": job.id})
        if crashes >= MAX_WORKER_CRASHES:
            reason = f"The worker died {crashes} times in '{stage}' ({death}); the log says more. Retry when mended."
            self._end(job, JobState.FAILED, reason, Code.INTERNAL)

    def _set_state(self, job: Job, state: JobState) -> None:
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
            self._set_state(job, state)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @staticmethod
    async def _close(plan: JobPlan, job_id: int) -> None:
        """Has the worker close what the job held open, if the process that holds the plan still runs."""
        if plan.is_held:
            with contextlib.suppress(WorkerDied):
                await plan.worker.client.call(protocol.ForgetJobRequest(job=job_id), generation=plan.generation)


def _output(spec: JobSpec, keyframes: Sequence[StoredKeyframe]) -> protocol.Output | None:
    if not spec.output:
        return None
    paintings = tuple(path for keyframe in keyframes for path in keyframe.files)
    return protocol.Output(spec.output, spec.overwrite, spec.mattes, paintings)


def _made_for(job: Job, stage: PlannedStage, frames: Sequence[ResultFrame]) -> list[JobFrame]:
    """The frames of a job among those that a stage published: not those that it kept."""
    kept = keys_by_frame(job.spec.kept)
    return [
        JobFrame(each.number, stage.key, each.confidence, each.reason) for each in frames if each.number not in kept
    ]


def _takes_model(method: str) -> bool:
    return method in METHODS and METHODS[method].takes_model


def _rank(job: WaitingJob) -> int:
    """Interactive jobs come first whatever the priorities, so that a draft never waits for a final; work ahead of a
    keyframe comes last."""
    return 2 if job.background else int(_takes_model(job.method))
