"""What the daemon can do, free of any wire: shots, keyframes, jobs and frames over the queue, the store and workers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.queue import Job, JobFrame, JobSpec, JobState, Queue, Shot, StoredKeyframe
from paintover_engine.jobs.scheduler import Scheduler
from paintover_engine.jobs.store import Store, StoredFrame, write_tensor
from paintover_engine.jobs.worker_client import WorkerClient, WorkerDied
from paintover_engine.media.info import SourceInfo
from paintover_engine.methods.registry import find_method, read_parameters

log = logging.getLogger(__name__)

LOW_CONFIDENCE = 0.5  # below it a frame is suggested as the next keyframe


class Engine:
    """The daemon's core. One per data folder: the caller holds the folder's lock.

    roots: when given, only sources, keyframes and outputs below these folders are touched.
    """

    def __init__(self, folder: DataFolder, roots: Sequence[Path] = ()) -> None:
        folder.create()
        self.folder = folder
        self.store = Store(folder)
        self.store.clear_temporary()
        self.queue = Queue(folder.database)
        self._roots = [root.resolve() for root in roots]
        self._changed = asyncio.Condition()
        # Looking at sources must not wait for a job's stage, so it has a worker of its own.
        self._looker = WorkerClient("media", folder)
        self._runner = WorkerClient("job", folder)
        self._scheduler = Scheduler(self.queue, self.store, self._runner, self._announce)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to run the queue."""
        self._spawn(self._scheduler.run())

    async def stop(self) -> None:
        """Stops at once; unfinished jobs go on with the next daemon."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._looker.stop(), self._runner.stop())
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.queue.close()

    @property
    def busy(self) -> bool:
        """A job runs or waits to run."""
        return bool(self.queue.jobs(JobState.QUEUED, JobState.PREPARING, JobState.RUNNING))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()):
                log.critical("a task of the daemon ended", exc_info=error)

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

    async def create_shot(self, path: str, first: int | None, last: int | None, colorspace: str) -> Shot:
        """The shot of a source on disk, probed anew; the same source, range and colour space give the same shot."""
        self._allowed(path, "The source")
        probed = await self._look("probe", path=path, first=first, last=last, colorspace=colorspace)
        info = SourceInfo.from_json(probed)
        shot = Shot(_shot_id(path, first, last, colorspace), path, first, last, colorspace, False, info)
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
        with contextlib.ExitStack() as stack:
            paths = [stack.enter_context(self._as_file(given, what)) for given, what in (
                (picture, "The keyframe"), (matte, "The matte"))]  # fmt: skip
            read = await self._look("keyframe", info=info.to_json(), frame=frame, path=paths[0], matte_path=paths[1])
        keyframe = StoredKeyframe(
            id=f"{shot.id}/{frame}-{read['digest'][:12]}",
            shot=shot.id,
            frame=frame,
            digest=read["digest"],
            has_matte=read["has_matte"],
            notes=read["notes"],
            current=True,
        )
        self.queue.put_keyframe(keyframe)
        return keyframe

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

    # Jobs.

    async def create_job(self, shot_id: str, spec: JobSpec, priority: int) -> Job:
        """Queues a job after checking all that can be checked before any work."""
        shot, info = await self._known(shot_id)
        method = find_method(spec.method)
        read_parameters(method, spec.parameters)
        if spec.model and not method.takes_model:
            raise PaintoverError(Code.INVALID_ARGUMENT, f"The method {method.name} uses no model; leave out 'model'.")
        keyframes = [self.queue.keyframe(name) for name in spec.keyframes] or self.queue.keyframes(shot.id)
        if any(keyframe.shot != shot.id for keyframe in keyframes):
            raise PaintoverError(Code.INVALID_ARGUMENT, "A keyframe of another shot was named; name this shot's own.")
        if not keyframes and not spec.prepare_only:
            raise PaintoverError(Code.FAILED_PRECONDITION, "The shot has no keyframe yet; put one first.")
        await self._check_outputs(spec, info.path)
        names = [keyframe.id for keyframe in sorted(keyframes, key=lambda k: k.frame)]
        complete = dataclasses.replace(spec, keyframes=[] if spec.prepare_only else names)
        job = self.queue.add_job(shot.id, complete, priority)
        self._announce()
        self._scheduler.wake()
        return job

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
        self._scheduler.wake()
        return job

    def set_priority(self, job_id: int, priority: int) -> Job:
        job = self.queue.job(job_id)
        job.priority = priority
        self.queue.update_job(job)
        self._announce()
        return job

    def delete_job(self, job_id: int) -> None:
        """Forgets a finished job and the results that no other job shows; files written for the user stay."""
        job = self.queue.job(job_id)
        if not job.state.finished:
            raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} is {job.state.value}; cancel it first.")
        for key in self.queue.delete_job(job_id):
            self.store.remove(key, publishes=True)

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
        return self.store.frame(key, number)

    def suggested_keyframes(self, job_id: int) -> list[int]:
        """Where to paint next: the least trusted frame of each run of frames that are not to be trusted."""
        suggested: list[JobFrame] = []
        run: list[JobFrame] = []
        for frame in [*self.queue.frames(job_id), JobFrame(-1, "", 1.0)]:
            if frame.confidence < LOW_CONFIDENCE:
                run.append(frame)
            elif run:
                suggested.append(min(run, key=lambda f: f.confidence))
                run = []
        return [frame.number for frame in suggested]


def _shot_id(source: str, first: int | None, last: int | None, colorspace: str) -> str:
    return hashlib.sha256(json.dumps([source, first, last, colorspace]).encode()).hexdigest()[:12]
