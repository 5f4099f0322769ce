"""Frames: results as they are stored, plates, and small pictures of both."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.recovery import drop_results
from paintover_engine.jobs.resources.jobs import Jobs
from paintover_engine.jobs.resources.shots import Shots
from paintover_engine.jobs.resources.state import EngineState
from paintover_engine.jobs.store import PICTURE, StoredFrame
from paintover_engine.media.info import SourceInfo

MOST_EXPORTED = 8
"""Frames in one Photoshop file; each takes two layers of the shot's size."""


class Frames:
    """Reads frames, and has the media worker make those that do not exist yet."""

    def __init__(self, state: EngineState, shots: Shots, jobs: Jobs) -> None:
        self._state = state
        self._queue = state.queue
        self._shots = shots
        self._jobs = jobs

    async def result(self, job_id: int, number: int) -> StoredFrame | None:
        """A result frame of a job, None while it is not computed.

        Raises PaintoverError for one that is gone or damaged; the job, if it was done, has then failed."""
        frame = self._queue.frame(job_id, number)
        if frame is None:
            return None
        try:
            stored = self._state.store.frame(frame.key, number)
            if await asyncio.to_thread(self._state.store.is_undamaged, stored):
                return stored
            problem = "damaged on disk"
        except (ValueError, KeyError):  # its header
            problem = "damaged on disk"
        except FileNotFoundError:
            problem = "gone from disk"
        drop_results(self._queue, self._state.store, [frame.key])
        if not self._queue.job(job_id).state.finished:
            self._state.scheduler.forget(job_id)  # planned anew, it computes the result again
        self._state.changes.announce()
        raise PaintoverError(Code.DATA_LOSS, f"The result of frame {number} is {problem}; retry the job.")

    async def stream(self, job_id: int, from_number: int | None) -> AsyncIterator[StoredFrame]:
        """A job's result frames in ascending order, each as soon as it and all before it are computed.

        Raises PaintoverError when the job ends without all of them."""
        info = self._queue.shot(self._queue.job(job_id).shot).info
        assert info  # a job is created after its source was probed
        number = info.first if from_number is None else from_number
        async for job, _ in self._jobs.watch(job_id, 0):
            while number <= info.last and (frame := await self.result(job_id, number)):
                yield frame
                number += 1
            if job.state.finished and number <= info.last:
                reason = job.message or f"it was {job.state.value}"
                raise PaintoverError(Code.FAILED_PRECONDITION, f"Job {job_id} ended before frame {number}: {reason}")

    async def plate(self, shot_id: str, number: int) -> StoredFrame:
        """The plate's frame as RGBA half floats."""
        _, info = await self._shots.probed(shot_id)
        if not info.first <= number <= info.last:
            raise PaintoverError(Code.NOT_FOUND, f"The shot has no frame {number}.")
        key = (await self._state.media.call(protocol.PlateRequest(info=info, frame=number))).key
        self._mark_used(key)
        return self._state.views.frame(key, number)

    async def picture(self, job_id: int, number: int, view: str, side: int, name: str = PICTURE) -> Path:
        """A picture file of a job's frame, `side` pixels at its longer side. view: "plate", "result", "matte".

        name: the file's, whose ending says how it is encoded; a matte is always WebP, because JPEG has no alpha.
        Raises PaintoverError where the frame is not computed yet."""
        name = PICTURE if view == "matte" else name
        shot = self._queue.job(job_id).shot
        if view == "plate":
            return await self.plate_picture(shot, number, side, name)
        _, info = await self._shots.probed(shot)
        source = self._queue.frame(job_id, number)
        if source is None or not info.first <= number <= info.last:
            raise PaintoverError(Code.NOT_FOUND, f"Job {job_id} has no {view} of frame {number} yet.")
        try:
            return await self._picture(info, number, view, side, name, source.key)
        except PaintoverError as error:
            if self._queue.frame(job_id, number) != source:  # removed or computed again meanwhile
                raise PaintoverError(
                    Code.NOT_FOUND, f"Job {job_id} has no {view} of frame {number} any more."
                ) from error
            raise

    async def export(self, job_id: int, numbers: Sequence[int], path: str) -> None:
        """Writes frames of a job's result as groups of a Photoshop file, the first on top; replaces what is there.

        Raises PaintoverError where one of them is not computed yet."""
        self._state.roots.check(path, "The picture")
        _, info = await self._shots.probed(self._queue.job(job_id).shot)
        if not 0 < len(numbers) <= MOST_EXPORTED:
            raise PaintoverError(Code.INVALID_ARGUMENT, f"One to {MOST_EXPORTED} frames go into a Photoshop file.")
        groups = []
        for number in numbers:
            stored = self._queue.frame(job_id, number)
            if stored is None:
                raise PaintoverError(Code.NOT_FOUND, f"Job {job_id} has no result of frame {number} yet.")
            groups.append((f"Frame {number}, {stored.confidence:.0%} sure", number, stored.key))
        await self._state.media.call(protocol.ExportResultsRequest(info=info, path=path, frames=groups))

    async def plate_picture(self, shot_id: str, number: int, side: int, name: str = PICTURE) -> Path:
        """A picture file of a shot's untouched frame. Parameters as for `picture`."""
        _, info = await self._shots.probed(shot_id)
        if not info.first <= number <= info.last:
            raise PaintoverError(Code.NOT_FOUND, f"The shot has no frame {number}.")
        return await self._picture(info, number, "plate", side, name, "")

    async def _picture(self, info: SourceInfo, number: int, view: str, side: int, name: str, result: str) -> Path:
        described = ["picture", info.fingerprint, number, view, side, result, *([] if name == PICTURE else [name])]
        key = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        if not self._state.views.has(key, publishes=True):
            request = protocol.PictureRequest(
                key=key, info=info, frame=number, view=view, side=side, result=result, name=name
            )
            await self._state.media.call(request)
        self._mark_used(key)
        return self._state.views.path(key, publishes=True) / name

    def _mark_used(self, key: str) -> None:
        """Counts a view as just used, and makes room where the cache is too large."""
        cache = self._state.cache
        cache.used(self._state.views.path(key, publishes=True))
        if cache.over_budget:
            cache.evict(cache.budget, self._state.scheduler.needed() | {key}, self._queue.shown_keys)
