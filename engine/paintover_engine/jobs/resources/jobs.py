"""Jobs: created after every check that needs no work, ordered, paused, cancelled, retried, deleted and watched."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol, publication, records
from paintover_engine.jobs.entities import UNFINISHED, Job, JobFrame, JobSpec, JobState, StoredKeyframe
from paintover_engine.jobs.finals import Finals
from paintover_engine.jobs.kept import kept_frames
from paintover_engine.jobs.resources.shots import Shots
from paintover_engine.jobs.resources.state import EngineState
from paintover_engine.jobs.unsure import LOW_CONFIDENCE, UnsureRange, unsure_ranges
from paintover_engine.jobs.versions import next_version, remove_empty_folders, unversioned_path, version_path
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe_kind import KeyframeKind, check_corrected_frames
from paintover_engine.methods.registry import BEST, find_method, read_parameters

log = logging.getLogger(__name__)


class Jobs:
    """The jobs of the queue."""

    def __init__(self, state: EngineState, shots: Shots, finals: Finals) -> None:
        self._state = state
        self._finals = finals
        self._queue = state.queue
        self._shots = shots
        self._numbering = asyncio.Lock()  # from choosing a version's number until its job is queued

    # Creating.

    async def create(self, shot_id: str, spec: JobSpec, priority: int) -> Job:
        """Queues a job after checking all that can be checked before any work."""
        shot, info = await self._shots.probed(shot_id)
        spec = await self._with_method(spec)
        await self._check_method(spec)
        keyframes = [self._queue.keyframe(name) for name in spec.keyframes] or self._queue.keyframes(shot.id)
        if any(keyframe.kind is not KeyframeKind.PAINT for keyframe in keyframes):
            raise PaintoverError(
                Code.INVALID_ARGUMENT, "A correction was named among the keyframes; name it among the corrections."
            )
        if any(keyframe.shot != shot.id for keyframe in keyframes):
            raise PaintoverError(Code.INVALID_ARGUMENT, "A keyframe of another shot was named; name this shot's own.")
        if not keyframes and not (spec.prepare_only or spec.await_keyframe):
            raise PaintoverError(Code.FAILED_PRECONDITION, "The shot has no keyframe yet; put one first.")
        corrections = self._corrections(shot.id, spec, keyframes)
        names = [keyframe.id for keyframe in sorted(keyframes, key=lambda k: k.frame)]
        complete = dataclasses.replace(
            spec,
            keyframes=[] if spec.prepare_only else names,
            corrections=[correction.id for correction in corrections] if names and not spec.prepare_only else [],
        )
        async with self._numbering:
            if twin := self._queue.twin(shot.id, complete):
                return twin
            if complete.versioned:
                complete = self._next_version(complete)
            paintings = [path for given in (*keyframes, *corrections) for path in given.files]
            await self._check_outputs(complete, info, paintings)
            job = self._queue.add_job(shot.id, complete, priority)
        log.info("queued: %s", complete.output or "no output", extra={"job": job.id})
        self._state.changes.announce()
        self._state.scheduler.wake()
        return job

    def _corrections(self, shot_id: str, spec: JobSpec, keyframes: Sequence[StoredKeyframe]) -> list[StoredKeyframe]:
        """The corrections of a job, by frame: those that its spec names; of a spec that names no keyframe either, the
        shot's as they stand, where no keyframe is.

        Raises PaintoverError for one of another shot, on a keyframe's own frame, or beside another on one frame."""
        if not spec.corrections and not spec.keyframes:
            return self._current_corrections(shot_id, keyframes)
        named = sorted((self._queue.keyframe(name) for name in spec.corrections), key=lambda each: each.frame)
        for each in named:
            if each.shot != shot_id or each.kind is KeyframeKind.PAINT:
                raise PaintoverError(
                    Code.INVALID_ARGUMENT, f"'{each.id}' is no correction of this shot; name this shot's own."
                )
        check_corrected_frames([each.frame for each in keyframes], [each.frame for each in named])
        return named

    def _current_corrections(self, shot_id: str, keyframes: Sequence[StoredKeyframe]) -> list[StoredKeyframe]:
        """The shot's corrections as they stand, apart from those on the frames of keyframes."""
        painted = {keyframe.frame for keyframe in keyframes}
        return [each for each in self._queue.corrections(shot_id) if each.frame not in painted]

    async def redo(
        self, job_id: int, first: int, last: int, parameters: Mapping[str, str], output: str, overwrite: bool
    ) -> Job:
        """Queues a job that makes some frames of a finished one anew and keeps the others.

        It has the shot's keyframes as they are now. parameters: those that are to be others. output: where the whole
        goes; "": the next version of where the finished job's went."""
        job = self._queue.job(job_id)
        _, info = await self._shots.probed(job.shot)
        frames = self._queue.frames(job_id)
        if job.state is not JobState.DONE or len(frames) != info.count:
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"Job {job_id} is {job.state.value} with {len(frames)} of {info.count} frames; only a finished one has "
                "frames to keep: leave out --frames.",
            )
        if not info.first <= first <= last <= info.last:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"The frames {first}-{last} are not in the shot, which has frames {info.first} to {info.last}.",
            )
        keyframes = self._queue.keyframes(job.shot)
        changed = dataclasses.replace(
            job.spec,
            parameters={**job.spec.parameters, **parameters},
            keyframes=[keyframe.id for keyframe in keyframes],
            corrections=[each.id for each in self._current_corrections(job.shot, keyframes)],
        )
        if changed == job.spec:
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"The frames would come out as they are: give another keyframe (-k {first}=IMAGE), a correction "
                f"(--hold {first}=IMAGE) or another parameter (-p seed=2).",
            )
        spec = dataclasses.replace(
            _to_next_version(changed), overwrite=overwrite, kept=kept_frames(frames, first, last)
        )
        if output:
            spec = dataclasses.replace(spec, output=output, versioned="", mattes="")
        made = await self.create(job.shot, spec, job.priority)
        kept = [frame for frame in frames if not first <= frame.number <= last]
        self._queue.add_frames(made, kept)  # so they stay when the finished job is removed
        return self._queue.job(made.id)

    async def correct(self, job_id: int, correction: StoredKeyframe) -> Job:
        """Queues a job like another one with one more correction, which replaces that of its frame. It is written to
        the next version of where the other's result went."""
        job = self._queue.job(job_id)
        others = [each for each in map(self._queue.keyframe, job.spec.corrections) if each.frame != correction.frame]
        names = [each.id for each in sorted([*others, correction], key=lambda each: each.frame)]
        spec = dataclasses.replace(_to_next_version(job.spec), corrections=names, overwrite=False, kept=[])
        return await self.create(job.shot, spec, job.priority)

    async def check(self, shot_id: str, spec: JobSpec) -> None:
        """Raises PaintoverError as `create` would for a job like this once its keyframes are there."""
        _, info = await self._shots.probed(shot_id)
        spec = await self._with_method(spec)
        await self._check_method(spec)
        async with self._numbering:
            complete = self._next_version(spec) if spec.versioned else spec
            try:
                await self._check_outputs(complete, info, [])
            finally:
                if spec.versioned:
                    remove_empty_folders(complete.output, complete.mattes)

    async def plan_method(
        self, shot_id: str, method: str, parameters: dict[str, str], model: str
    ) -> protocol.MethodRequirements:
        """What a method would take in memory and on disk for a shot."""
        _, info = await self._shots.probed(shot_id)
        spec = find_method(method)
        read_parameters(spec, parameters)
        requirements = None
        if spec.takes_model:
            self._state.roots.check_model(model)
            request = protocol.PlanMethodRequest(info=info, method=method, parameters=parameters, model=model)
            requirements = (await self._state.media.call(request)).requirements
        if requirements is None:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"The method {method} has no plan to print: it chooses what fits when it starts."
            )
        return requirements

    async def _with_method(self, spec: JobSpec) -> JobSpec:
        """The spec with the best method that this machine can run, and its model, where it names `BEST`.

        Raises PaintoverError where it names a model or parameters beside that: they are one method's."""
        if spec.method != BEST:
            return spec
        if spec.model or spec.parameters:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, "A model or parameters are for one method; name that instead of 'best'."
            )
        final = await self._finals.choose()
        return dataclasses.replace(spec, method=final.method, model=final.model)

    async def _check_method(self, spec: JobSpec) -> None:
        """Raises PaintoverError for an unknown method, or for parameters or a model that it cannot use."""
        method = find_method(spec.method)
        read_parameters(method, spec.parameters)
        if spec.model and not method.takes_model:
            raise PaintoverError(Code.INVALID_ARGUMENT, f"The method {method.name} uses no model; leave out 'model'.")
        if method.takes_model:
            self._state.roots.check_model(spec.model)
            await self._state.media.call(protocol.CheckModelRequest(method=spec.method, model=spec.model))

    def _next_version(self, spec: JobSpec) -> JobSpec:
        """The spec with output paths of a version that is not taken; creates the folders that are to hold them."""
        self._state.roots.check(spec.versioned, "The output")
        others = [job.spec.output for job in self._queue.jobs(*UNFINISHED) if job.spec.versioned == spec.versioned]
        number = next_version(spec.versioned, others)
        outputs = [version_path(path, number) if path else "" for path in (spec.versioned, spec.mattes)]
        for path in map(Path, filter(None, outputs)):
            if path.parent.parent.is_dir():
                path.parent.mkdir(exist_ok=True)
        return dataclasses.replace(spec, output=outputs[0], mattes=outputs[1])

    async def _check_outputs(self, spec: JobSpec, info: SourceInfo, paintings: list[str]) -> None:
        if spec.output:
            self._state.roots.check(spec.output, "The output")
        if spec.mattes:
            self._state.roots.check(spec.mattes, "The matte output")
            if not spec.output or Path(spec.mattes) == Path(spec.output):
                raise PaintoverError(
                    Code.INVALID_ARGUMENT, "Mattes are written beside an output: give both, and different places."
                )
        request = protocol.CheckOutputsRequest(
            info=info,
            path=spec.output,
            mattes_path=spec.mattes,
            overwrite=spec.overwrite,
            paintings=paintings,
        )
        await self._state.media.call(request)

    # Changing.

    async def cancel(self, job_id: int) -> Job:
        """Ends a job. One whose output is being published comes out done: its files are there."""
        return await self._halt(job_id, JobState.CANCELLED)

    async def pause(self, job_id: int) -> Job:
        """Stops a job until it is resumed; it may come out done, as with `cancel`."""
        return await self._halt(job_id, JobState.PAUSED)

    async def _halt(self, job_id: int, state: JobState) -> Job:
        job = self._queue.job(job_id)
        if job.state.finished:
            if job.state is state:
                return job
            raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} is {job.state.value} already.")
        async with self._state.scheduler.halted(job_id):
            notes = await asyncio.to_thread(self._published, job)
            job = self._queue.job(job_id)
            if not job.state.finished:  # else it ended by itself meanwhile
                job.state = state
                if notes is not None:
                    job.state, job.message = JobState.DONE, " ".join(notes)
                    job.progress.fraction, job.progress.seconds_left, job.progress.stage = 1.0, 0.0, ""
                    self._queue.update_progress(job)
                if job.state.finished:
                    job.ended = time.time()
                self._queue.update_job(job)
        self._state.changes.announce()
        return self._queue.job(job_id)

    def _published(self, job: Job) -> tuple[str, ...] | None:
        """Finishes a publication of the job's output that has begun; its notes. None where none has."""
        if not job.spec.output:
            return None
        try:
            return publication.resume(self._state.folder.publication(job.id))
        except (PaintoverError, OSError) as error:
            log.warning("its output is not published: %s", error, extra={"job": job.id})
            return None

    def resume(self, job_id: int) -> Job:
        """A paused job goes on."""
        job = self._queue.job(job_id)
        if job.state is not JobState.PAUSED:
            raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} is not paused but {job.state.value}.")
        return self._requeue(job)

    def retry(self, job_id: int) -> Job:
        """A failed or cancelled job starts again; its finished stages are found."""
        job = self._queue.job(job_id)
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"Job {job_id} is {job.state.value}; only failed or cancelled ones are retried.",
            )
        return self._requeue(job)

    def _requeue(self, job: Job) -> Job:
        job.state, job.message, job.error, job.ended = JobState.QUEUED, "", "", None
        self._queue.update_job(job)
        self._state.changes.announce()
        self._state.scheduler.forget(job.id)
        return job

    def use_keyframes(self, shot_id: str) -> None:
        """Gives the shot's current keyframes to its jobs that wait for the first one, and queues those again."""
        keyframes = self._queue.keyframes(shot_id)
        names = [keyframe.id for keyframe in keyframes]
        corrections = [correction.id for correction in self._current_corrections(shot_id, keyframes)]
        for job in self._queue.jobs(*UNFINISHED):
            if job.shot == shot_id and job.spec.await_keyframe and not job.spec.keyframes:
                self._queue.set_keyframes(job, names, corrections)
                if job.state is not JobState.PAUSED:
                    job.state, job.message = JobState.QUEUED, ""
                self._queue.update_job(job)
                self._state.scheduler.forget(job.id)
                self._state.changes.announce()

    def set_priority(self, job_id: int, priority: int) -> Job:
        """The higher, the sooner."""
        job = self._queue.job(job_id)
        job.priority = priority
        self._queue.update_job(job)
        self._state.changes.announce()
        self._state.scheduler.wake()
        return job

    def place(self, job_id: int, before: int | None) -> Job:
        """Moves a job to just before another one, at that one's priority; behind all of its own when None."""
        job = self._queue.job(job_id)
        if before is None:
            self._queue.place_last(job)
        elif before != job_id:
            self._queue.place_before(job, self._queue.job(before))
        self._state.changes.announce()
        self._state.scheduler.wake()
        return self._queue.job(job_id)

    def delete(self, job_id: int) -> None:
        """Deletes a finished job and the results that no other job shows; files written for the user stay."""
        job = self._queue.job(job_id)
        if not job.state.finished:
            raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} is {job.state.value}; cancel it first.")
        records.remove(self._state.folder.records, job_id)  # first: a record without a job would bring it back
        for key in self._queue.delete_job(job_id):
            self._state.store.remove(key, publishes=True)
        self._state.folder.publication(job_id).unlink(missing_ok=True)
        self._state.changes.announce()

    # Reading.

    async def watch(self, job_id: int | None, from_sequence: int) -> AsyncIterator[tuple[Job, list[JobFrame]]]:
        """Each change of a job (of all when None) from a sequence number on, with the frames that it added.

        Several changes of a job between two reads are yielded as one. From 0: every job as it is, then its changes. A
        single job's watch ends when the job does."""
        since = from_sequence
        while True:
            changed = self._state.changes.next
            jobs = self._queue.changed_jobs(since, job_id)
            if not jobs:
                await changed.wait()
                continue
            for job in jobs:
                yield job, self._queue.frames(job.id, since)
                since = max(since, job.sequence + 1)
                if job_id is not None and job.state.finished:
                    return

    def unsure_ranges(self, job: Job) -> list[UnsureRange]:
        """The frames of a job that is done whose result is not to be trusted."""
        info = self._queue.shot(job.shot).info
        if job.state is not JobState.DONE or info is None:
            return []
        return unsure_ranges(self._queue.frames(job.id, below=LOW_CONFIDENCE), (info.first, info.last))


def _to_next_version(spec: JobSpec) -> JobSpec:
    """A job's description with its output, if any, going to the next version of where it went."""
    versioned = unversioned_path(spec.output) if spec.output else ""
    mattes = unversioned_path(spec.mattes) if versioned and spec.mattes else ""
    return dataclasses.replace(spec, output="", versioned=versioned, mattes=mattes)
