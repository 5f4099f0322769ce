"""What the daemon can do, free of any wire: shots, keyframes, jobs and frames over the queue, the store and workers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import records
from paintover_engine.jobs.cache import DEFAULT_BUDGET, Cache, Usage
from paintover_engine.jobs.database import QueueDamaged, QueueUnwritable
from paintover_engine.jobs.devices import find_cpu, find_gpus
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.queue import Job, JobFrame, JobSpec, JobState, Queue, Shot, StoredKeyframe
from paintover_engine.jobs.scheduler import Lane, Scheduler
from paintover_engine.jobs.store import PICTURE, Store, StoredFrame, write_tensor
from paintover_engine.jobs.versions import next_version, version_path
from paintover_engine.jobs.worker_client import WorkerClient, WorkerDied
from paintover_engine.media.info import SourceInfo
from paintover_engine.methods.registry import find_method, read_parameters

log = logging.getLogger(__name__)

UNFINISHED = tuple(state for state in JobState if not state.finished)
LOW_CONFIDENCE = 0.5  # below it a frame is suggested as the next keyframe


class Engine:
    """The daemon's core. One per data folder: the caller holds the folder's lock.

    roots: when given, only sources, keyframes and outputs below these folders are touched.
    """

    def __init__(
        self,
        folder: DataFolder,
        roots: Sequence[Path] = (),
        cache_budget: int = DEFAULT_BUDGET,
        gpu_memory: int = 0,
    ) -> None:
        folder.create()
        self.folder = folder
        self.notes: list[str] = []
        self.store = Store(folder)
        self.store.clear_temporary()
        self.views = Store(folder, results=folder.views)
        self.cache = Cache(folder, cache_budget)
        self.queue = self._open_queue()
        self._unclean_since = self._begin_session()
        self.devices = [find_cpu()]
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gpu_memory = gpu_memory
        self._roots = [root.resolve() for root in roots]
        self._changed = asyncio.Condition()
        # Looking at sources must not wait for a job's stage, so it has a worker of its own.
        self._looker = WorkerClient("media", folder)
        self._lanes = [Lane(self.devices[0], WorkerClient("job", folder))]
        self._scheduler = Scheduler(self.queue, self.store, self.cache, self._lanes, self._announce)
        self._numbering = asyncio.Lock()
        self._keyframing = asyncio.Lock()  # a keyframe's file is there before the queue knows it
        self._tasks: set[asyncio.Task[None]] = set()

    def _open_queue(self) -> Queue:
        """The queue; a damaged one is kept aside, and a new one put together from the jobs' records."""
        try:
            queue, damaged = Queue(self.folder.database), None
        except QueueDamaged as damage:
            damaged = records.set_aside(self.folder.database)
            log.error("%s", damage.message)
            queue = Queue(self.folder.database)
        if damaged:
            restored, unread = records.restore(queue, self.store, self.folder.records)
            lost = f"; {unread} could not be read" if unread else ""
            self.notes.append(
                f"The queue's file was damaged and is kept as {damaged}: {restored} jobs were put back{lost}, "
                "with the frames they had; shots and keyframes that no job used are to be given again."
            )
            log.error("%s", self.notes[-1])
        queue.changed = lambda job: records.keep(queue, self.folder.records, job)
        for number in queue.ids() - records.numbers(self.folder.records):  # of a version that kept none
            queue.changed(queue.job(number))
        return queue

    def _begin_session(self) -> int | None:
        """From which change on the results are to be checked. A full disk does not keep the daemon from starting: it
        is needed to make room."""
        try:
            return self.queue.begin_session()
        except QueueUnwritable as error:
            if error.code is not Code.RESOURCE_EXHAUSTED:
                raise
            self.notes.append(error.message)
            return 0

    async def start(self) -> None:
        """Begins to run the queue.

        `failure` gets the error that ends it, should one."""
        self._spawn(self._run())

    async def _run(self) -> None:
        if self._unclean_since is not None:
            await self._check_results(self._unclean_since)
        self.cache.take(await asyncio.to_thread(self.cache.scan))
        for gpu in await find_gpus():
            arguments = ["--gpu", str(gpu.index), "--gpu-memory", str(self._gpu_memory)]
            self.devices.append(gpu)
            self._lanes.append(Lane(gpu, WorkerClient(gpu.id, self.folder, arguments)))
        await self._scheduler.run()

    async def _check_results(self, since: int) -> None:
        """Looks at the results that the last daemon made, which did not end well; damaged ones are made again."""
        keys = self.queue.result_keys(since=since)
        for job in self.queue.jobs(*UNFINISHED):
            keys |= self.queue.result_keys(job.id)
        damaged = [key for key in keys if not await asyncio.to_thread(self.store.is_whole, key, True)]
        for key in damaged:
            self.store.remove(key, publishes=True)
        for number, frames in self.queue.drop_frames(damaged).items():
            job = self.queue.job(number)
            log.warning("frames %s were damaged on disk", frames, extra={"job": number})
            if job.state is JobState.DONE:
                job.state, job.error = JobState.FAILED, Code.DATA_LOSS.value
                job.message = f"{len(frames)} of its frames were damaged on disk; retry it, the others are kept."
                self.queue.update_job(job)

    async def stop(self) -> None:
        """Stops at once; unfinished jobs go on with the next daemon."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(self._looker.stop(), *(lane.worker.stop() for lane in self._lanes))
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(PaintoverError):
            self.queue.end_session()
        self.queue.close()

    @property
    def busy(self) -> bool:
        """A job runs or waits to run."""
        return self.queue.count(JobState.QUEUED, JobState.PREPARING, JobState.RUNNING) > 0

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()):
                sentence = isinstance(error, PaintoverError)
                log.critical("a task of the daemon ended: %s", error, exc_info=None if sentence else error)
                if not self.failure.done():
                    self.failure.set_exception(error)

        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(done)

    def _announce(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        self._spawn(notify())

    async def _look(self, call: str, **arguments: Any) -> Any:
        """Calls the media worker; a file that kills it is reported, not retried."""
        try:
            return await self._looker.call(call, **arguments)
        except WorkerDied as death:
            what = arguments.get("path") or arguments.get("source") or "the source"
            raise PaintoverError(
                Code.INTERNAL, f"Reading {what} crashed the media worker ({death}); the file may be damaged."
            ) from death

    def _allowed(self, path: str, what: str) -> str:
        """The path, absolute; refused when it is relative or outside the roots."""
        if not Path(path).is_absolute():
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"{what} '{path}' is not an absolute path; give the whole path."
            )
        # A pattern's file part names no file: only its folder can be resolved.
        real = Path(path).parent.resolve() / Path(path).name
        real = real.resolve() if real.exists() else real
        if self._roots and not any(real.is_relative_to(root) for root in self._roots):
            raise PaintoverError(
                Code.PERMISSION_DENIED, f"{what} '{path}' lies outside the folders that this engine may touch (--root)."
            )
        return path

    # Shots.

    async def create_shot(
        self, path: str, first: int | None, last: int | None, colorspace: str, layer: str = ""
    ) -> Shot:
        """The shot of a source on disk, probed anew; the same source, range, colour space and layer give the same."""
        self._allowed(path, "The source")
        probed = await self._look("probe", path=path, first=first, last=last, colorspace=colorspace, layer=layer)
        info = SourceInfo.from_json(probed)
        shot = Shot(_shot_id(path, first, last, colorspace, layer), path, first, last, colorspace, False, info)
        self.queue.put_shot(shot)
        return shot

    def create_uploaded_shot(self, key: str, first: int, last: int, rate: tuple[int, int], colorspace: str) -> Shot:
        """A shot whose frames a client sends; the same key gives the same shot."""
        if not key or last < first:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, "Frames to follow need a key and a range of at least one frame."
            )
        shot = Shot(_shot_id(f"upload:{key}", first, last, colorspace), key, first, last, colorspace, True, None)
        folder = self.folder.uploads / shot.id
        folder.mkdir(exist_ok=True)
        (folder / "shot.json").write_text(json.dumps({"rate": rate if rate[0] and rate[1] else None}))
        self.queue.put_shot(shot)
        return shot

    def store_uploaded_frame(
        self, shot_id: str, number: int, shape: tuple[int, int, int], dtype: str, data: bytes
    ) -> None:
        """Keeps one frame that a client sent. shape: height, width, channels; dtype: safetensors' name."""
        shot = self.queue.shot(shot_id)
        if not shot.uploaded:
            raise PaintoverError(Code.FAILED_PRECONDITION, f"The shot '{shot_id}' reads a file; it takes no frames.")
        assert shot.first is not None and shot.last is not None
        if not shot.first <= number <= shot.last:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"Frame {number} is outside the shot's range {shot.first}-{shot.last}."
            )
        final = self.folder.uploads / shot.id / f"{number:08d}.safetensors"
        partial = self.folder.temporary / f"{shot.id}-{number}.safetensors"
        write_tensor(partial, "frame", dtype, shape, data)
        partial.replace(final)
        if shot.info is not None:  # what was known of the frames may be no longer true
            self.queue.put_shot(dataclasses.replace(shot, info=None))

    async def _known(self, shot_id: str) -> tuple[Shot, SourceInfo]:
        """A shot and its source's facts; those of an uploaded one are read once its frames are here."""
        shot = self.queue.shot(shot_id)
        if shot.info is None:
            folder = str(self.folder.uploads / shot.id)
            probed = await self._look(
                "probe", path=folder, first=shot.first, last=shot.last, colorspace=shot.colorspace
            )
            shot = dataclasses.replace(shot, info=SourceInfo.from_json(probed))
            self.queue.put_shot(shot)
        assert shot.info
        return shot, shot.info

    def delete_shot(self, shot_id: str) -> None:
        self.queue.delete_shot(shot_id)
        shutil.rmtree(self.folder.uploads / shot_id, ignore_errors=True)

    # Keyframes.

    async def put_keyframe(
        self, shot_id: str, frame: int, picture: str | bytes, matte: str | bytes | None
    ) -> StoredKeyframe:
        """Checks a keyframe's picture (a path, or a file's bytes) against the plate and keeps it."""
        shot, info = await self._known(shot_id)
        if not info.first <= frame <= info.last:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"The keyframe's frame {frame} does not exist: the shot has frames {info.first} to {info.last}.",
            )
        async with self._keyframing:
            keyframe = await self._read_keyframe(shot, info, frame, picture, matte)
            self.queue.put_keyframe(keyframe)
        self._go_on_with_keyframes(shot.id)
        return keyframe

    async def _read_keyframe(
        self, shot: Shot, info: SourceInfo, frame: int, picture: str | bytes, matte: str | bytes | None
    ) -> StoredKeyframe:
        with contextlib.ExitStack() as stack:
            paths = [stack.enter_context(self._as_file(given, what)) for given, what in (
                (picture, "The keyframe"), (matte, "The matte"))]  # fmt: skip
            read = await self._look("keyframe", info=info.to_json(), frame=frame, path=paths[0], matte_path=paths[1])
        return StoredKeyframe(
            id=f"{shot.id}/{frame}-{read['digest'][:12]}",
            shot=shot.id,
            frame=frame,
            digest=read["digest"],
            has_matte=read["has_matte"],
            notes=read["notes"],
            current=True,
        )

    async def export_frame(self, shot_id: str, frame: int, path: str, overwrite: bool) -> list[str]:
        """Writes a frame of the plate as a file to paint on; returns notes for the artist."""
        self._allowed(path, "The picture")
        _, info = await self._known(shot_id)
        if not info.first <= frame <= info.last:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"Frame {frame} does not exist: the shot has frames {info.first} to {info.last}.",
            )
        notes: list[str] = await self._look(
            "export_frame", info=info.to_json(), frame=frame, path=path, overwrite=overwrite
        )
        return notes

    def _go_on_with_keyframes(self, shot_id: str) -> None:
        """The shot's jobs that waited for a keyframe take those that it has now."""
        names = [keyframe.id for keyframe in self.queue.keyframes(shot_id)]
        for job in self.queue.jobs(*UNFINISHED):
            if job.shot == shot_id and job.spec.await_keyframe and not job.spec.keyframes:
                self.queue.set_keyframes(job, names)
                if job.state is not JobState.PAUSED:
                    job.state, job.message = JobState.QUEUED, ""
                self.queue.update_job(job)
                self._scheduler.forget(job.id)
                self._announce()

    @contextlib.contextmanager
    def _as_file(self, given: str | bytes | None, what: str) -> Iterator[str]:
        """A path for a picture given as a path or as bytes; "" for none."""
        if isinstance(given, bytes):
            path = self.folder.temporary / f"picture-{hashlib.sha256(given).hexdigest()[:16]}"
            path.write_bytes(given)
            try:
                yield str(path)
            finally:
                path.unlink(missing_ok=True)
        else:
            yield self._allowed(given, what) if given else ""

    async def plan_method(self, shot_id: str, method: str, parameters: dict[str, str], model: str) -> dict[str, Any]:
        """What a method would take in memory and on disk for a shot: `diffusion.plan`'s figures."""
        _, info = await self._known(shot_id)
        spec = find_method(method)
        read_parameters(spec, parameters)
        found = None
        if spec.takes_model:
            if Path(model).is_absolute():
                self._allowed(model, "The model")
            found = await self._look(
                "plan_method", info=info.to_json(), method=method, parameters=parameters, model=model
            )
        if found is None:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"The method {method} has no plan to print: it chooses what fits when it starts."
            )
        return dict(found)

    # Jobs.

    async def create_job(self, shot_id: str, spec: JobSpec, priority: int) -> Job:
        """Queues a job after checking all that can be checked before any work."""
        shot, info = await self._known(shot_id)
        await self._check_method(spec)
        keyframes = [self.queue.keyframe(name) for name in spec.keyframes] or self.queue.keyframes(shot.id)
        if any(keyframe.shot != shot.id for keyframe in keyframes):
            raise PaintoverError(Code.INVALID_ARGUMENT, "A keyframe of another shot was named; name this shot's own.")
        if not keyframes and not (spec.prepare_only or spec.await_keyframe):
            raise PaintoverError(Code.FAILED_PRECONDITION, "The shot has no keyframe yet; put one first.")
        names = [keyframe.id for keyframe in sorted(keyframes, key=lambda k: k.frame)]
        complete = dataclasses.replace(spec, keyframes=[] if spec.prepare_only else names)
        async with self._numbering:  # between choosing a version's number and queueing it, nobody else chooses one
            if twin := self.queue.twin(shot.id, complete):
                return twin
            if complete.versioned:
                complete = self._next_version(complete)
            await self._check_outputs(complete, info.path)
            job = self.queue.add_job(shot.id, complete, priority)
        log.info("queued: %s", complete.output or "no output", extra={"job": job.id})
        self._announce()
        self._scheduler.wake()
        return job

    async def check_job(self, shot_id: str, spec: JobSpec) -> None:
        """Raises PaintoverError as `create_job` would for a job like this once its keyframes are there."""
        _, info = await self._known(shot_id)
        await self._check_method(spec)
        async with self._numbering:
            asked = self._next_version(spec) if spec.versioned else spec
            try:
                await self._check_outputs(asked, info.path)
            finally:
                if spec.versioned:
                    _give_back(asked)

    async def _check_method(self, spec: JobSpec) -> None:
        """Raises PaintoverError for a method that there is not, or parameters or a model that it cannot use."""
        method = find_method(spec.method)
        read_parameters(method, spec.parameters)
        if spec.model and not method.takes_model:
            raise PaintoverError(Code.INVALID_ARGUMENT, f"The method {method.name} uses no model; leave out 'model'.")
        if method.takes_model:
            if Path(spec.model).is_absolute():
                self._allowed(spec.model, "The model")
            await self._look("check_model", method=spec.method, model=spec.model)

    def _next_version(self, spec: JobSpec) -> JobSpec:
        """The spec with outputs that no other version has; makes the folder that is to hold them."""
        self._allowed(spec.versioned, "The output")
        others = [job.spec.output for job in self.queue.jobs(*UNFINISHED) if job.spec.versioned == spec.versioned]
        number = next_version(spec.versioned, others)
        outputs = [version_path(path, number) if path else "" for path in (spec.versioned, spec.mattes)]
        for path in map(Path, filter(None, outputs)):
            if path.parent.parent.is_dir():
                path.parent.mkdir(exist_ok=True)
        return dataclasses.replace(spec, output=outputs[0], mattes=outputs[1])

    async def _check_outputs(self, spec: JobSpec, source: str) -> None:
        if spec.output:
            self._allowed(spec.output, "The output")
        if spec.mattes:
            self._allowed(spec.mattes, "The matte output")
            if not spec.output or Path(spec.mattes) == Path(spec.output):
                raise PaintoverError(
                    Code.INVALID_ARGUMENT, "Mattes are written beside an output: give both, and different places."
                )
        await self._look(
            "check_outputs", path=spec.output, mattes_path=spec.mattes, source=source, overwrite=spec.overwrite
        )

    async def cancel_job(self, job_id: int) -> Job:
        return await self._halt(job_id, JobState.CANCELLED)

    async def pause_job(self, job_id: int) -> Job:
        return await self._halt(job_id, JobState.PAUSED)

    async def _halt(self, job_id: int, state: JobState) -> Job:
        job = self.queue.job(job_id)
        if job.state.finished:
            if job.state is state:
                return job
            raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} is {job.state.value} already.")
        job.state = state
        if state.finished:
            job.ended = time.time()
        self.queue.update_job(job)
        await self._scheduler.interrupt(job_id)
        self._announce()
        return self.queue.job(job_id)

    def resume_job(self, job_id: int) -> Job:
        """A paused job goes on."""
        job = self.queue.job(job_id)
        if job.state is not JobState.PAUSED:
            raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} is not paused but {job.state.value}.")
        return self._queue_again(job)

    def retry_job(self, job_id: int) -> Job:
        """A failed or cancelled job starts again; its finished stages are found."""
        job = self.queue.job(job_id)
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"Job {job_id} is {job.state.value}; only failed or cancelled ones are retried.",
            )
        return self._queue_again(job)

    def _queue_again(self, job: Job) -> Job:
        job.state, job.message, job.error, job.ended = JobState.QUEUED, "", "", None
        self.queue.update_job(job)
        self._announce()
        self._scheduler.forget(job.id)
        return job

    def set_priority(self, job_id: int, priority: int) -> Job:
        job = self.queue.job(job_id)
        job.priority = priority
        self.queue.update_job(job)
        self._announce()
        self._scheduler.wake()
        return job

    def place_job(self, job_id: int, before: int | None) -> Job:
        """Moves a job to just before another one, at that one's priority; behind all of its own when None."""
        job = self.queue.job(job_id)
        if before is None:
            self.queue.place_last(job)
        elif before != job_id:
            self.queue.place_before(job, self.queue.job(before))
        self._announce()
        self._scheduler.wake()
        return self.queue.job(job_id)

    def delete_job(self, job_id: int) -> None:
        """Forgets a finished job and the results that no other job shows; files written for the user stay."""
        job = self.queue.job(job_id)
        if not job.state.finished:
            raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} is {job.state.value}; cancel it first.")
        for key in self.queue.delete_job(job_id):
            self.store.remove(key, publishes=True)
        records.forget(self.folder.records, job_id)
        self._announce()

    async def watch(self, job_id: int | None, from_sequence: int) -> AsyncIterator[tuple[Job, list[JobFrame]]]:
        """Each change of a job (of all when None) from a sequence number on, with the frames it added.

        Changes that came together are told as one: what counts is that nothing is missed. 0: how things stand, first.
        A single job's watch ends when the job does."""
        since = from_sequence
        while True:
            async with self._changed:
                jobs = self.queue.changed_jobs(since, job_id)
                while not jobs:
                    await self._changed.wait()
                    jobs = self.queue.changed_jobs(since, job_id)
            for job in jobs:
                yield job, self.queue.frames(job.id, since)
                since = max(since, job.sequence + 1)
                if job_id is not None and job.state.finished:
                    return

    # Frames.

    def stored_frame(self, job_id: int, number: int) -> StoredFrame | None:
        """A result frame of a job, None while it is not made."""
        frame = self.queue.frame(job_id, number)
        return self._stored(frame) if frame else None

    def _stored(self, frame: JobFrame) -> StoredFrame:
        try:
            return self.store.frame(frame.key, frame.number)
        except FileNotFoundError as error:
            raise PaintoverError(
                Code.DATA_LOSS, f"The result of frame {frame.number} is gone from disk; retry the job."
            ) from error

    async def stream(self, job_id: int, from_number: int | None) -> AsyncIterator[StoredFrame]:
        """A job's frames in ascending order, each as soon as it and all before it are made.

        Raises PaintoverError when the job ends without all of them."""
        info = self.queue.shot(self.queue.job(job_id).shot).info
        assert info  # a job is made of a known shot
        number = info.first if from_number is None else from_number
        async for job, _ in self.watch(job_id, 0):
            while number <= info.last and (frame := self.stored_frame(job_id, number)):
                yield frame
                number += 1
            if job.state.finished and number <= info.last:
                reason = job.message or f"it was {job.state.value}"
                raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} ended before frame {number}: {reason}")

    async def plate_frame(self, shot_id: str, number: int) -> StoredFrame:
        """The plate's frame as RGBA half floats."""
        _, info = await self._known(shot_id)
        if not info.first <= number <= info.last:
            raise PaintoverError(Code.NOT_FOUND, f"The shot has no frame {number}.")
        key = await self._look("plate", info=info.to_json(), frame=number)
        self._viewed(key)
        return self.views.frame(key, number)

    async def picture(self, job_id: int, number: int, view: str, side: int, name: str = PICTURE) -> Path:
        """A file of a job's frame to look at, `side` pixels at its longer side. view: "plate", "result", "matte".

        name: the file's, whose ending says how it is encoded; a matte is WebP always, for JPEG has no alpha.
        Raises PaintoverError where the frame is not made yet."""
        name = PICTURE if view == "matte" else name
        _, info = await self._known(self.queue.job(job_id).shot)
        made = self.queue.frame(job_id, number) if view != "plate" else None
        if (view != "plate" and made is None) or not info.first <= number <= info.last:
            raise PaintoverError(Code.NOT_FOUND, f"Job {job_id} has no {view} of frame {number} yet.")
        result = made.key if made else ""
        described = ["picture", info.fingerprint, number, view, side, result, *([] if name == PICTURE else [name])]
        key = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        if not self.views.has(key, publishes=True):
            try:
                await self._look(
                    "picture",
                    key=key,
                    info=info.to_json(),
                    frame=number,
                    view=view,
                    side=side,
                    result=result,
                    name=name,
                )
            except PaintoverError as error:
                if made and self.queue.frame(job_id, number) != made:  # removed or made anew meanwhile
                    raise PaintoverError(
                        Code.NOT_FOUND, f"Job {job_id} has no {view} of frame {number} any more."
                    ) from error
                raise
        self._viewed(key)
        return self.views.path(key, publishes=True) / name

    def _viewed(self, key: str) -> None:
        self.cache.used(self.views.path(key, publishes=True))
        if self.cache.over_budget:
            self.cache.evict(self.cache.budget, self._scheduler.needed() | {key}, self.queue.result_keys)

    # Room.

    def usage(self) -> Usage:
        """What lies on disk."""
        return self.cache.usage(self.queue.result_keys())

    def cache_usage(self) -> dict[str, int]:
        """Bytes of what may be evicted, and its budget; quick, for gauges."""
        return {"used": self.cache.used_bytes, "budget": self.cache.budget}

    async def prune(self, budget: int) -> int:
        """Removes what can be made again, least recently used first, until the rest takes no more than `budget` bytes,
        and keyframes that no job was made with any more; returns the bytes that this gave back."""
        self.cache.take(await asyncio.to_thread(self.cache.scan))
        freed = self.cache.evict(budget, self._scheduler.needed(), self.queue.result_keys)
        async with self._keyframing:
            unused = self.queue.unused_keyframes()
            self.queue.forget_keyframes(unused)
            known = self.queue.keyframe_digests()
            for path in self.folder.keyframes.glob("*.safetensors"):
                if path.stem not in known:
                    with contextlib.suppress(OSError):
                        freed += path.stat().st_size
                        path.unlink()
        return freed

    def suggested_keyframes(self, job_id: int) -> list[int]:
        """Where to paint next: the least trusted frame of each run of frames that are not to be trusted."""
        suggested: list[JobFrame] = []
        last = None
        for frame in self.queue.frames(job_id, below=LOW_CONFIDENCE):
            if last is None or frame.number != last + 1:
                suggested.append(frame)
            elif frame.confidence < suggested[-1].confidence:
                suggested[-1] = frame
            last = frame.number
        return [frame.number for frame in suggested]


def _give_back(spec: JobSpec) -> None:
    """Takes away the version's folders that were made for a look: left empty, they would count as a version."""
    for path in map(Path, filter(None, (spec.output, spec.mattes))):
        if re.fullmatch(r"v\d{3,}", path.parent.name):
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()


def _shot_id(source: str, first: int | None, last: int | None, colorspace: str, layer: str = "") -> str:
    named = [source, first, last, colorspace, *filter(None, [layer])]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:12]
