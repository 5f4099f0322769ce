"""The gRPC services: each call converts its request, calls the engine, and converts the result."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from paintover.v1 import (
    engine_pb2,
    engine_pb2_grpc,
    frame_pb2,
    frame_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    keyframe_pb2,
    keyframe_pb2_grpc,
    shot_pb2,
    shot_pb2_grpc,
)

from paintover_engine import __version__
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.entities import Job, JobFrame, JobSpec, JobState
from paintover_engine.jobs.store import StoredFrame
from paintover_engine.media.keyframe_kind import KeyframeKind
from paintover_engine.methods.registry import METHODS, found_models
from paintover_engine.service import messages
from paintover_engine.service.guard import PROTOCOL
from paintover_engine.service.support import export_job
from paintover_engine.service.workers.listener import WorkerListener

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

CHUNK = 64 * 1024  # bytes of pixels a message: what gRPC moves best
LARGEST_SIDE = 32768
LARGEST_FRAME = 2**31  # bytes: 16384x8192 in float with alpha
PREPARE_PRIORITY = -10  # behind every job that somebody waits for

SAMPLES = {  # wire type: (safetensors' name, bytes a sample)
    shot_pb2.SAMPLE_TYPE_UINT8: ("U8", 1),
    shot_pb2.SAMPLE_TYPE_UINT16: ("U16", 2),
    shot_pb2.SAMPLE_TYPE_HALF: ("F16", 2),
    shot_pb2.SAMPLE_TYPE_FLOAT: ("F32", 4),
}


class EngineServicer(engine_pb2_grpc.EngineServiceServicer):
    """EngineService: what this engine is and has; stopping it."""

    def __init__(
        self,
        engine: Engine,
        stop: Callable[[bool], None],
        open_monitor: Callable[[], Awaitable[str]],
        workers: WorkerListener,
    ) -> None:
        self._engine = engine
        self._workers = workers
        self._stop = stop
        self._open_monitor = open_monitor

    async def GetEngine(self, request: engine_pb2.GetEngineRequest, context: Context) -> engine_pb2.GetEngineResponse:
        count = self._engine.queue.count
        found = found_models()
        return engine_pb2.GetEngineResponse(
            engine=engine_pb2.Engine(
                version=__version__,
                protocol=PROTOCOL,
                pid=os.getpid(),
                data_folder=str(self._engine.folder.root),
                data_folder_free_bytes=shutil.disk_usage(self._engine.folder.root).free,
                devices=messages.device_messages(self._engine.workers),
                workers_address=self._workers.address,
                workers_fingerprint=self._workers.fingerprint,
                models=[model.name for model in found],
                found_models=[messages.model_message(model, self._engine.finals.memory(model)) for model in found],
                final=messages.final_message(self._engine.finals.known()),
                jobs_running=count(JobState.RUNNING, JobState.PREPARING),
                jobs_waiting=count(JobState.QUEUED, JobState.WAITING_FOR_KEYFRAME),
                notes=self._engine.notes,
            )
        )

    async def ListMethods(
        self, request: engine_pb2.ListMethodsRequest, context: Context
    ) -> engine_pb2.ListMethodsResponse:
        return engine_pb2.ListMethodsResponse(methods=[messages.method_message(spec) for spec in METHODS.values()])

    async def PlanMethod(
        self, request: engine_pb2.PlanMethodRequest, context: Context
    ) -> engine_pb2.PlanMethodResponse:
        shot = messages.shot_id(request.shot)
        plan = await self._engine.jobs.plan_method(shot, request.method, dict(request.parameters), request.model)
        return engine_pb2.PlanMethodResponse(plan=messages.plan_message(plan))

    async def StopEngine(
        self, request: engine_pb2.StopEngineRequest, context: Context
    ) -> engine_pb2.StopEngineResponse:
        self._stop(request.when_idle)
        return engine_pb2.StopEngineResponse()

    async def OpenMonitor(
        self, request: engine_pb2.OpenMonitorRequest, context: Context
    ) -> engine_pb2.OpenMonitorResponse:
        return engine_pb2.OpenMonitorResponse(url=await self._open_monitor())

    async def GetCache(self, request: engine_pb2.GetCacheRequest, context: Context) -> engine_pb2.GetCacheResponse:
        return engine_pb2.GetCacheResponse(cache=messages.cache_message(self._engine.storage.usage()))

    async def PruneCache(
        self, request: engine_pb2.PruneCacheRequest, context: Context
    ) -> engine_pb2.PruneCacheResponse:
        freed = await self._engine.storage.prune(request.keep_bytes)
        return engine_pb2.PruneCacheResponse(
            freed_bytes=freed, cache=messages.cache_message(self._engine.storage.usage())
        )


class ShotServicer(shot_pb2_grpc.ShotServiceServicer):
    """ShotService."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def CreateShot(self, request: shot_pb2.CreateShotRequest, context: Context) -> shot_pb2.CreateShotResponse:
        if request.WhichOneof("from") == "frames_follow":
            follow = request.frames_follow
            shot = self._engine.shots.create_uploaded(
                follow.key,
                follow.range.first,
                follow.range.last,
                (follow.rate_numerator, follow.rate_denominator),
                request.colorspace,
            )
        else:
            given = request.HasField("range")
            shot = await self._engine.shots.create(
                request.path,
                request.range.first if given else None,
                request.range.last if given else None,
                request.colorspace,
                request.stream if request.HasField("stream") else None,
                request.layer,
            )
        return shot_pb2.CreateShotResponse(shot=messages.shot_message(shot))

    async def UploadFrames(
        self, request_iterator: AsyncIterator[shot_pb2.UploadFramesRequest], context: Context
    ) -> shot_pb2.UploadFramesResponse:
        stored, header, data, expected = 0, None, bytearray(), 0
        async for request in request_iterator:
            if request.WhichOneof("part") == "frame":
                if header:
                    raise _wrong_size(header, len(data), expected)
                header, expected = request.frame, _byte_size(request.frame)
                data = bytearray()
            elif header is None:
                raise PaintoverError(Code.INVALID_ARGUMENT, "Upload data came before a frame's header.")
            else:
                data += request.data
            if header and len(data) > expected:
                raise _wrong_size(header, len(data), expected)
            if header and len(data) == expected:
                self._engine.shots.store_frame(
                    messages.shot_id(header.shot),
                    header.number,
                    (header.height, header.width, header.channels),
                    SAMPLES[header.type][0],
                    bytes(data),
                )
                stored, header = stored + 1, None
        if header:
            raise _wrong_size(header, len(data), expected)
        return shot_pb2.UploadFramesResponse(frames_stored=stored)

    async def GetShot(self, request: shot_pb2.GetShotRequest, context: Context) -> shot_pb2.GetShotResponse:
        shot = self._engine.queue.shot(messages.shot_id(request.name))
        return shot_pb2.GetShotResponse(shot=messages.shot_message(shot))

    async def ListShots(self, request: shot_pb2.ListShotsRequest, context: Context) -> shot_pb2.ListShotsResponse:
        return shot_pb2.ListShotsResponse(shots=[messages.shot_message(shot) for shot in self._engine.queue.shots()])

    async def PrepareShot(self, request: shot_pb2.PrepareShotRequest, context: Context) -> shot_pb2.PrepareShotResponse:
        spec = JobSpec(
            method=request.method or "draft",
            parameters=dict(request.parameters),
            model=request.model,
            keyframes=[],
            output="",
            overwrite=False,
            mattes="",
            prepare_only=True,
        )
        job = await self._engine.jobs.create(messages.shot_id(request.name), spec, priority=PREPARE_PRIORITY)
        return shot_pb2.PrepareShotResponse(job=messages.job_name(job.id))

    async def DeleteShot(self, request: shot_pb2.DeleteShotRequest, context: Context) -> shot_pb2.DeleteShotResponse:
        self._engine.shots.delete(messages.shot_id(request.name))
        return shot_pb2.DeleteShotResponse()


class KeyframeServicer(keyframe_pb2_grpc.KeyframeServiceServicer):
    """KeyframeService."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def PutKeyframe(
        self, request: keyframe_pb2.PutKeyframeRequest, context: Context
    ) -> keyframe_pb2.PutKeyframeResponse:
        shot, kind = messages.shot_id(request.shot), messages.keyframe_kind(request.kind)
        picture = _picture(request.picture)
        if request.drag and kind is not KeyframeKind.DRAG:
            raise PaintoverError(Code.INVALID_ARGUMENT, "Only a drag has points; leave 'drag' out, or set its 'kind'.")
        if kind is KeyframeKind.DRAG and picture is None:
            drag = await self._engine.keyframes.put_drag(shot, request.frame, messages.drag_points(request.drag))
            return keyframe_pb2.PutKeyframeResponse(keyframe=messages.keyframe_message(drag))
        if picture is None:
            raise PaintoverError(Code.INVALID_ARGUMENT, "The keyframe has no picture; give a path or a file's bytes.")
        keyframe = await self._engine.keyframes.put(shot, request.frame, picture, _picture(request.matte), kind)
        return keyframe_pb2.PutKeyframeResponse(keyframe=messages.keyframe_message(keyframe))

    async def ListKeyframes(
        self, request: keyframe_pb2.ListKeyframesRequest, context: Context
    ) -> keyframe_pb2.ListKeyframesResponse:
        shot = self._engine.queue.shot(messages.shot_id(request.shot))
        keyframes, corrections = self._engine.queue.keyframes(shot.id), self._engine.queue.corrections(shot.id)
        return keyframe_pb2.ListKeyframesResponse(
            keyframes=[messages.keyframe_message(k) for k in keyframes],
            corrections=[messages.keyframe_message(k) for k in corrections],
        )

    async def DeleteKeyframe(
        self, request: keyframe_pb2.DeleteKeyframeRequest, context: Context
    ) -> keyframe_pb2.DeleteKeyframeResponse:
        self._engine.queue.delete_keyframe(messages.keyframe_id(request.name))
        return keyframe_pb2.DeleteKeyframeResponse()

    async def ExportFrame(
        self, request: keyframe_pb2.ExportFrameRequest, context: Context
    ) -> keyframe_pb2.ExportFrameResponse:
        shot = messages.shot_id(request.shot)
        job = messages.job_id(request.job) if request.job else None
        notes = await self._engine.keyframes.export_frame(shot, request.frame, request.path, request.overwrite, job)
        return keyframe_pb2.ExportFrameResponse(notes=notes)


class JobServicer(job_pb2_grpc.JobServiceServicer):
    """JobService."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _message(self, job: Job, frames: list[JobFrame] | None = None) -> job_pb2.Job:
        shown = self._engine.queue.frames(job.id) if frames is None else frames
        return messages.job_message(job, shown, self._engine.jobs.unsure_ranges(job))

    async def CreateJob(self, request: job_pb2.CreateJobRequest, context: Context) -> job_pb2.CreateJobResponse:
        shot = messages.shot_id(request.spec.shot)
        if request.validate_only:
            await self._engine.jobs.check(shot, messages.spec_from(request.spec))
            return job_pb2.CreateJobResponse()
        job = await self._engine.jobs.create(shot, messages.spec_from(request.spec), request.priority)
        return job_pb2.CreateJobResponse(job=self._message(job))

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Context) -> job_pb2.GetJobResponse:
        return job_pb2.GetJobResponse(job=self._message(self._engine.queue.job(messages.job_id(request.name))))

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Context) -> job_pb2.ListJobsResponse:
        return job_pb2.ListJobsResponse(jobs=[self._message(job, []) for job in self._engine.queue.jobs()])

    async def WatchJobs(
        self, request: job_pb2.WatchJobsRequest, context: Context
    ) -> AsyncIterator[job_pb2.WatchJobsResponse]:
        only = messages.job_id(request.job) if request.job else None
        if only is not None:
            self._engine.queue.job(only)
        async for job, frames in self._engine.jobs.watch(only, request.from_sequence):
            yield job_pb2.WatchJobsResponse(sequence=job.sequence, job=self._message(job, frames))

    async def UpdateJob(self, request: job_pb2.UpdateJobRequest, context: Context) -> job_pb2.UpdateJobResponse:
        number = messages.job_id(request.name)
        job = self._engine.queue.job(number)
        if request.HasField("priority"):
            job = self._engine.jobs.set_priority(number, request.priority)
        if request.HasField("before"):
            job = self._engine.jobs.place(number, messages.job_id(request.before) if request.before else None)
        if request.HasField("paused"):
            job = await self._engine.jobs.pause(number) if request.paused else self._engine.jobs.resume(number)
        return job_pb2.UpdateJobResponse(job=self._message(job))

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Context) -> job_pb2.CancelJobResponse:
        job = await self._engine.jobs.cancel(messages.job_id(request.name))
        return job_pb2.CancelJobResponse(job=self._message(job))

    async def RetryJob(self, request: job_pb2.RetryJobRequest, context: Context) -> job_pb2.RetryJobResponse:
        number = messages.job_id(request.name)
        if not request.HasField("frames"):
            return job_pb2.RetryJobResponse(job=self._message(self._engine.jobs.retry(number)))
        output = request.output
        job = await self._engine.jobs.redo(
            number, request.frames.first, request.frames.last, request.parameters, output.path, output.overwrite
        )
        return job_pb2.RetryJobResponse(job=self._message(job))

    async def ExportJob(self, request: job_pb2.ExportJobRequest, context: Context) -> job_pb2.ExportJobResponse:
        return job_pb2.ExportJobResponse(json=export_job(self._engine, messages.job_id(request.name)))

    async def DeleteJob(self, request: job_pb2.DeleteJobRequest, context: Context) -> job_pb2.DeleteJobResponse:
        self._engine.jobs.delete(messages.job_id(request.name))
        return job_pb2.DeleteJobResponse()


class FrameServicer(frame_pb2_grpc.FrameServiceServicer):
    """FrameService."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetFrame(
        self, request: frame_pb2.GetFrameRequest, context: Context
    ) -> AsyncIterator[frame_pb2.GetFrameResponse]:
        frame = await self._plate(request) if request.view == frame_pb2.VIEW_PLATE else await self._result(request)
        async for chunk in _chunks(frame, request.view, request.transport):
            yield frame_pb2.GetFrameResponse(chunk=chunk)

    async def StreamFrames(
        self, request: frame_pb2.StreamFramesRequest, context: Context
    ) -> AsyncIterator[frame_pb2.StreamFramesResponse]:
        number = request.from_number if request.HasField("from_number") else None
        async for frame in self._engine.frames.stream(messages.job_id(request.job), number):
            async for chunk in _chunks(frame, request.view, request.transport):
                yield frame_pb2.StreamFramesResponse(chunk=chunk)

    async def ExportFrames(
        self, request: frame_pb2.ExportFramesRequest, context: Context
    ) -> frame_pb2.ExportFramesResponse:
        await self._engine.frames.export(messages.job_id(request.job), request.numbers, request.path)
        return frame_pb2.ExportFramesResponse()

    async def _plate(self, request: frame_pb2.GetFrameRequest) -> StoredFrame:
        if request.parent.startswith("jobs/"):
            shot = self._engine.queue.job(messages.job_id(request.parent)).shot
        else:
            shot = messages.shot_id(request.parent)
        return await self._engine.frames.plate(shot, request.number)

    async def _result(self, request: frame_pb2.GetFrameRequest) -> StoredFrame:
        job = self._engine.queue.job(messages.job_id(request.parent))
        frame = await self._engine.frames.result(job.id, request.number)
        if frame is None:
            raise PaintoverError(Code.NOT_FOUND, f"Job {job.id} has not made frame {request.number} yet.")
        return frame


async def _chunks(frame: StoredFrame, view: int, transport: int) -> AsyncIterator[frame_pb2.FrameChunk]:
    """The messages of a stored frame: its header, then its pixels unless the client maps the file."""
    x, y, width, height = frame.bounds
    matte_only = view == frame_pb2.VIEW_MATTE
    length = frame.length // 4 if matte_only else frame.length
    header = frame_pb2.Frame(
        number=frame.number,
        width=frame.size[0],
        height=frame.size[1],
        data_window=frame_pb2.DataWindow(x=x, y=y, width=width, height=height),
        channels=1 if matte_only else 4,
        revision=frame.path.parent.name[:16],
        final=True,
        confidence=frame.confidence,
        byte_size=length,
    )
    if transport == frame_pb2.TRANSPORT_MAPPED and not matte_only:
        header.mapped.path, header.mapped.offset, header.mapped.length = str(frame.path), frame.offset, frame.length
        yield frame_pb2.FrameChunk(frame=header)
        return
    yield frame_pb2.FrameChunk(frame=header)
    with open(frame.path, "rb") as file:
        file.seek(frame.offset)
        while pixels := await asyncio.to_thread(file.read, 4 * CHUNK if matte_only else CHUNK):
            yield frame_pb2.FrameChunk(data=_every_fourth_half(pixels) if matte_only else pixels)


def _every_fourth_half(pixels: bytes) -> bytes:
    """The alpha channel of RGBA half floats: the matte."""
    return memoryview(pixels).cast("H")[3::4].tobytes()


def _picture(picture: keyframe_pb2.Picture) -> str | bytes | None:
    given = picture.WhichOneof("from")
    return getattr(picture, given) if given else None


def _byte_size(header: shot_pb2.FrameHeader) -> int:
    """The number of bytes that a frame's header announces. Raises PaintoverError for impossible sizes."""
    sides = (header.width, header.height)
    if (
        not all(0 < side <= LARGEST_SIDE for side in sides)
        or header.channels not in (1, 3, 4)
        or header.type not in SAMPLES
    ):
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"Frame {header.number} is announced as {header.width}x{header.height} with {header.channels} channels; "
            f"frames have sides of 1 to {LARGEST_SIDE}, 1, 3 or 4 channels and a known sample type.",
        )
    size = header.width * header.height * header.channels * SAMPLES[header.type][1]
    if size > LARGEST_FRAME:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"Frame {header.number} is announced with {size / 1e9:.1f} GB; the most is {LARGEST_FRAME / 1e9:.1f}. "
            "Send it smaller or in half float.",
        )
    return size


def _wrong_size(header: shot_pb2.FrameHeader, received: int, expected: int) -> PaintoverError:
    return PaintoverError(
        Code.INVALID_ARGUMENT,
        f"Frame {header.number} has {received} bytes where its header announces {expected}; send it again.",
    )
