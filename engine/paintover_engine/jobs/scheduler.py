"""Decides which stage runs next on each device, and stores in the queue what came of it.

A device that is free gets the first stage, in its plan's order, of the most urgent job that has one whose inputs are
stored; so one job runs on as many devices as it has stages that need not wait for each other. Between two stages the
most urgent job is chosen again, so an urgent job never waits for more than one stage.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.cache import Cache
from paintover_engine.jobs.claims import Claims
from paintover_engine.jobs.database import QueueDamaged, QueueUnwritable
from paintover_engine.jobs.device_loops import DeviceLoops
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.entities import Job, JobFrame, JobState, StoredKeyframe, WaitingJob
from paintover_engine.jobs.idle_devices import IdleDevices
from paintover_engine.jobs.job_plan import JobPlan, by_key, missing_stages, remove_damaged
from paintover_engine.jobs.kept import frames_made
from paintover_engine.jobs.placement import Placement, urgency
from paintover_engine.jobs.plan_request import plan_request
from paintover_engine.jobs.progress import DeliveryEstimate, update_progress
from paintover_engine.jobs.protocol import PlannedStage, ReplyT, Request
from paintover_engine.jobs.queue import Queue
from paintover_engine.jobs.retry import MAX_WORKER_CRASHES, RetryPolicy
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.worker_client import WorkerDied, WorkerLeft
from paintover_engine.methods.stage import AHEAD

log = logging.getLogger(__name__)

ACTIVE = (JobState.RUNNING, JobState.PREPARING, JobState.QUEUED)
UNWRITABLE_PAUSE = 2.0  # seconds until a queue that could not be written is tried again


@dataclass(frozen=True)
class _Task:
    """What a device does next for a job. stage: to run; None: the job is planned, or finished, or, where `joins`, the
    device gets its plan without holding a stage meanwhile: another machine may have to fetch the plate first."""

    job: int
    stage: PlannedStage | None
    joins: bool = False

    @property
    def words(self) -> str:
        return f"job {self.job}: {self.stage.label}" if self.stage else f"job {self.job}"


class Scheduler:
    """Runs the queue's jobs, one stage at a time on each device. With a stage the worker gets the keys of those that
    follow, and may start them.

    A job is planned by one device, which also writes its output; others get the plan when they first run a stage of it.

    changed: called after each change of the queue, to wake watchers.
    """

    def __init__(
        self, queue: Queue, store: Store, cache: Cache, workers: Sequence[DeviceWorker], changed: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._store = store
        self._cache = cache
        self._loops = DeviceLoops(workers, self._serve)
        self._placement = Placement(self._loops.workers)
        self._idle = IdleDevices(self._special_devices)
        self._changed = changed
        self._plans: dict[int, JobPlan] = {}
        self._retries = RetryPolicy()
        self._alone: set[int] = set()  # jobs that one device plans or finishes right now: none other may touch them
        self._claims = Claims()
        self._at_work: Counter[int] = Counter()  # how many devices work on a job
        self._calls: dict[int, set[asyncio.Task[Any]]] = {}
        self._halted: Counter[int] = Counter()  # jobs that are being cancelled or paused, and by how many clients
        self._background: set[asyncio.Task[None]] = set()

    @property
    def workers(self) -> Sequence[DeviceWorker]:
        """All devices that compute."""
        return self._loops.workers

    def add(self, worker: DeviceWorker) -> None:
        """Has another device compute, too."""
        self._loops.add(worker)
        self.wake()

    def remove(self, worker: DeviceWorker) -> None:
        """A device is gone, and its calls have failed."""
        self._loops.remove(worker)
        self._placement.forget_worker(worker)
        self._claims.forget(worker)
        self.wake()

    def wake(self) -> None:
        """Has every device look at the queue again."""
        self._idle.changed()
        self._loops.wake()

    def _special_devices(self) -> set[DeviceWorker]:
        """Those that write a job's output, hold stages that they began, or are passed over for a job."""
        writers = {plan.worker for plan in self._plans.values()}
        return writers | self._claims.holders() | self._placement.excluded()

    async def run(self) -> None:
        """Runs jobs until cancelled. Jobs that a killed daemon left running are queued again."""
        for job in self._queue.jobs(JobState.RUNNING, JobState.PREPARING):
            self._set_state(job, JobState.QUEUED)
        await self._loops.run()

    @contextlib.asynccontextmanager
    async def halted(self, job_id: int) -> AsyncIterator[None]:
        """Ends what runs for a job now, and starts nothing for it within. On entry its files are closed."""
        self._halted[job_id] += 1
        try:
            if tasks := self._cancel_calls(job_id):
                await asyncio.wait(tasks)
            yield
        finally:
            self._halted[job_id] -= 1
            self._halted += Counter()  # drops those at 0
            self.forget(job_id)

    def _cancel_calls(self, job_id: int) -> list[asyncio.Task[Any]]:
        tasks = list(self._calls.get(job_id, ()))
        for task in tasks:
            task.cancel()
        return tasks

    def forget(self, job_id: int) -> None:
        """Drops a job's plan and retries, so that it is planned anew; what runs for it now goes on."""
        self._retries.reset(job_id)
        self._placement.forget_job(job_id)
        if plan := self._plans.pop(job_id, None):
            self._spawn(self._close(plan, job_id))
        self.wake()

    def needed(self) -> set[str]:
        """Keys of outputs that a planned job is still going to read or write."""
        return {
            key
            for plan in self._plans.values()
            for stage in plan.missing.values()
            for key in (stage.key, *stage.inputs)
        }

    # Which job is next.

    async def _serve(self, worker: DeviceWorker) -> float | None:
        """One step of the most urgent job, as `_serve_one`; a queue that cannot be written waits."""
        try:
            return await self._serve_one(worker)
        except QueueUnwritable as error:
            log.error("the queue waits: %s", error.message)
            worker.wake.clear()
            return UNWRITABLE_PAUSE

    async def _serve_one(self, worker: DeviceWorker) -> float | None:
        """One step of the most urgent job; returns the seconds to wait before the next, None: until woken."""
        task, pause = self._choose(worker)
        if task is None:
            return pause
        worker.running = task.words
        self._at_work[task.job] += not task.joins
        if task.stage:
            self._claims.take(worker, task.stage.key)
        elif not task.joins:
            self._alone.add(task.job)
        try:
            await self._step(worker, self._queue.job(task.job), task)
        except QueueUnwritable:
            self._plans.pop(task.job, None)  # what was computed meanwhile is found in the store
            raise
        finally:
            worker.running = ""
            self._at_work[task.job] -= not task.joins
            if task.stage:
                self._claims.end(task.stage.key)
            elif not task.joins:
                self._alone.discard(task.job)
            self.wake()
        return 0.0

    def _choose(self, worker: DeviceWorker) -> tuple[_Task | None, float | None]:
        """What a device does for the most urgent job that has work for it; without any, the seconds after which to look
        again. Of jobs that are equally urgent, those that no other device works on come first, in the list's order:
        while there are more jobs than devices each has one of its own, and none waits for another's chain of windows.
        A device that is left over helps where the fewest are and the most is left."""
        if self._idle.is_idle(worker):
            return None, self._idle.pause(worker)
        pause = None
        runs, plans = self._placement.runs, self._placement.plans
        waiting = [job for job in self._queue.waiting(*ACTIVE) if runs(worker, job) or plans(worker, job)]
        for _, equals in itertools.groupby(sorted(waiting, key=urgency), urgency):
            due = []
            for job in equals:
                left = self._retries.seconds_left(job.id)
                if left <= 0:
                    due.append(job)
                else:
                    pause = left if pause is None else min(pause, left)
            tasks = (self._task(worker, job) for job in sorted(due, key=self._crowd))
            if task := next(filter(None, tasks), None):
                return task, None
        self._idle.found_nothing(worker, pause)
        return None, pause

    def _crowd(self, job: WaitingJob) -> tuple[int, float]:
        """Orders jobs by the devices that work on them; those with any, by the cost that is left, the most first."""
        devices, plan = self._at_work[job.id], self._plans.get(job.id)
        return devices, -plan.left if devices and plan else 0.0

    def _task(self, worker: DeviceWorker, job: WaitingJob) -> _Task | None:
        """What a device can do for a job now: plan it, run a stage, or finish it."""
        if job.id in self._alone or job.id in self._halted:
            return None
        plan = self._plans.get(job.id)
        if plan is None or not plan.is_held:
            return _Task(job.id, None) if self._placement.plans(worker, job) else None
        stage = plan.next_stage(functools.partial(self._claims.is_free_for, worker))
        if stage and self._placement.runs(worker, job):
            joins = worker.is_remote and not plan.is_held_by(worker)
            return _Task(job.id, None, joins) if joins else _Task(job.id, stage)
        return _Task(job.id, None) if not plan.missing and worker is plan.worker else None

    # What a job does next.

    async def _step(self, worker: DeviceWorker, job: Job, task: _Task) -> None:
        """Runs a stage of the job; without one plans it, or ends it where nothing is left to run."""
        plan, stage = self._plans.get(job.id), task.stage
        try:
            if plan is None or not plan.is_held:
                if not worker.is_remote:  # else whoever plans it wakes this one
                    await self._plan(worker, job, plan)
                return
            job.progress = plan.progress
            if task.joins:
                await self._share_plan(worker, job, plan)
            elif stage:
                await self._advance(worker, job, plan, stage)
            else:
                await self._finish(job, plan)
        except (QueueUnwritable, QueueDamaged):
            raise
        except PaintoverError as error:
            if worker.is_remote:
                log.warning("%s cannot compute it: %s", worker.machine, error.message, extra={"job": job.id})
                self._placement.exclude(worker, job.id)
            elif plan is self._plans.get(job.id):  # else another device has met it already, and the job is planned anew
                self._handle_error(job, error)
        except WorkerDied as death:
            label = stage.label if stage else "write" if plan and not plan.missing else "planning"
            self._handle_worker_crash(worker, job, plan, label, death)
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

        None when the job was cancelled or paused meanwhile, or failed on another device."""
        if job.id in self._halted or self._queue.job(job.id).state not in ACTIVE:
            return None
        generation = plan.holders[worker] if plan else None
        task = asyncio.ensure_future(worker.client.call(request, generation=generation, progress=progress))
        self._calls.setdefault(job.id, set()).add(task)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # the daemon stops: the worker is killed, the job resumes with the next daemon
            task.cancel()
            raise
        finally:
            self._calls[job.id].discard(task)
        return None if task.cancelled() else task.result()

    def _plan_request(self, job: Job, writes: bool) -> protocol.PlanJobRequest:
        info = self._queue.shot(job.shot).info
        assert info  # a job is created after its source was probed
        return plan_request(job, info, self._keyframes(job), writes)

    def _keyframes(self, job: Job) -> list[StoredKeyframe]:
        return [] if job.spec.prepare_only else [self._queue.keyframe(name) for name in job.spec.keyframes]

    async def _plan(self, worker: DeviceWorker, job: Job, previous: JobPlan | None) -> None:
        keyframes = self._keyframes(job)
        self._set_state(job, JobState.RUNNING if keyframes else JobState.PREPARING)
        reply = await self._call(worker, job, self._plan_request(job, writes=True))
        if reply is None:
            return
        stages = reply.stages
        await remove_damaged(stages, self._store)
        missing = by_key(missing_stages(stages, self._store))
        if previous:  # other devices may still run stages of it
            job.progress = previous.progress
        self._claims.forget(worker)
        plan = JobPlan(worker, worker.client.generation, stages, missing, reply.whole, job.progress)
        self._plans[job.id] = plan
        found = [stage for stage in stages if stage.key not in missing]
        info = self._queue.shot(job.shot).info
        assert info
        job.progress.stages_total = len(stages)
        job.progress.stages_found = max(job.progress.stages_found, len(found)) if previous else len(found)
        job.progress.frames_total = info.count if keyframes else 0
        update_progress(job, plan)
        frames = [frame for stage in found for frame in self._published(job, stage)]
        self._queue.add_frames(job, frames)
        log.info("planned: %d stages, %d found", len(stages), len(found), extra={"job": job.id})
        self._changed()

    def _published(self, job: Job, stage: PlannedStage) -> list[JobFrame]:
        """The frames of a job that a finished stage published."""
        return frames_made(job, stage, self._store.frames(stage.key)) if stage.publishes else []

    async def _advance(self, worker: DeviceWorker, job: Job, plan: JobPlan, stage: PlannedStage) -> None:
        """Runs a stage, unless another job has computed it meanwhile."""
        if not self._claims.may_have(worker, stage.key) and self._store.has(stage.key, stage.publishes):
            plan.found(stage)
            job.progress.stages_found += 1
            update_progress(job, plan)
            self._queue.add_frames(job, self._published(job, stage))
            self._changed()
        elif not all(self._store.has(key, plan.publishes(key)) for key in stage.inputs):
            log.warning("an input of %s is gone; it is computed again", stage.label, extra={"job": job.id})
            plan.look_again(self._store)
        elif plan.is_held_by(worker) or await self._share_plan(worker, job, plan):
            plan.start(stage)
            try:
                await self._run_stage(worker, job, plan, stage)
            finally:
                plan.stop(stage)

    async def _share_plan(self, worker: DeviceWorker, job: Job, plan: JobPlan) -> bool:
        """Gives a device the plan of a job that another planned; False when the job was cancelled or paused
        meanwhile."""
        plan.holders.pop(worker, None)
        self._claims.forget(worker)
        reply = await self._call(worker, job, self._plan_request(job, writes=False))
        if reply is None:
            return False
        if worker.is_remote and [stage.key for stage in reply.stages] != [stage.key for stage in plan.stages]:
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                "It would compute other stages; install one version of Paintover, and of the model, on all machines.",
            )
        plan.holders[worker] = worker.client.generation
        return True

    async def _run_stage(self, worker: DeviceWorker, job: Job, plan: JobPlan, stage: PlannedStage) -> None:
        self._queue.update_progress(job)
        self._changed()
        where = {"job": job.id, "stage": stage.key, **({"machine": worker.machine} if worker.is_remote else {})}
        log.info("stage %s starts", stage.label, extra=where)
        most = 0 if worker.is_remote else 1 if self._placement.is_shared(job.spec.method) else AHEAD
        following = self._claims.begin_beside(worker, self._absent(worker, plan), most)
        request = protocol.RunStageRequest(
            job=job.id, key=stage.key, following=following, inputs=stage.inputs, publishes=stage.publishes
        )
        reply = await self._call(worker, job, request, plan)
        if reply is None:
            return
        log.info("stage %s took %.2f s", stage.label, reply.seconds, extra={"job": job.id, "stage": stage.key})
        plan.finish(stage, reply.seconds)
        self._retries.reset(job.id)
        update_progress(job, plan)
        # What another machine says of its frames is not taken on trust.
        frames = self._published(job, stage) if worker.is_remote else frames_made(job, stage, reply.frames)
        self._queue.add_frames(job, frames)
        self._evict_to_budget(stage)
        self._changed()

    def _absent(self, worker: DeviceWorker, plan: JobPlan) -> Iterator[str]:
        """Keys of missing stages that no other job has stored meanwhile; what the device has begun may be stored."""
        for key, stage in plan.missing.items():
            if self._claims.may_have(worker, key) or not self._store.has(key, stage.publishes):
                yield key

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

    def _handle_worker_crash(
        self, worker: DeviceWorker, job: Job, plan: JobPlan | None, stage: str, death: WorkerDied
    ) -> None:
        """The job goes on with a new worker, unless the stage crashes every one. stage: its label."""
        if plan and plan.holders.get(worker, worker.client.generation) != worker.client.generation:
            return  # it ended before the call: it gets the plan anew
        self._claims.forget(worker)
        if isinstance(death, WorkerLeft):
            return
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
        self._cancel_calls(job.id)
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
        """Has the workers close what the job held open, those whose process still runs."""
        for worker, generation in plan.holders.items():
            if plan.is_held_by(worker):
                with contextlib.suppress(WorkerDied):
                    await worker.client.call(protocol.ForgetJobRequest(job=job_id), generation=generation)
