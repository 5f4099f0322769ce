"""The Python client of the engine, for pipelines and host scripts.

    from paintover_bridge.client import connect

    with connect() as client:
        shot = client.create_shot("plates/shot.%04d.exr")
        keyframe = client.put_keyframe(shot.name, 1012, "painted.png")
        job = client.create_job(shot.name, [keyframe.name], output="out/shot.%04d.exr")
        for event in client.watch(job.name):
            print(event.job.progress.fraction)
        for frame in client.stream_frames(job.name):
            print(frame.number, frame.bounds, frame.confidence)

Everything that goes wrong raises `ClientError` with one sentence for the user.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

import grpc
from paintover.v1 import engine_pb2, frame_pb2, job_pb2, keyframe_pb2, shot_pb2

from paintover_bridge import daemon
from paintover_bridge.channel import PROTOCOL, is_lost, to_client_error
from paintover_bridge.connection import Connection, CrashCounter, open_connection
from paintover_bridge.daemon import Endpoint
from paintover_bridge.errors import ClientError, unavailable
from paintover_bridge.frames import Frame, MappedRegion, UploadFrame, assemble, upload_messages
from paintover_bridge.messages import (
    DragPoint,
    ParameterValue,
    PathLike,
    PictureFile,
    absolute,
    drag_messages,
    frame_range,
    message,
    parameter_texts,
    picture_message,
)

__all__ = ["Client", "ClientError", "Frame", "MappedRegion", "UploadFrame", "connect", "is_finished"]

SECONDS = 20.0
PROBE_SECONDS = 120.0  # CreateShot and PutKeyframe read files, which may lie on a slow disk

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_FINISHED = frozenset((job_pb2.JOB_STATE_DONE, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED))


def is_finished(job: job_pb2.Job) -> bool:
    """Whether nothing more will happen to the job by itself."""
    return job.state in _FINISHED


def connect(data_dir: PathLike | None = None, *, start: bool = True, ephemeral: bool = True) -> Client:
    """The engine of a data folder; one is started if none runs (unless `start` is False).

    ephemeral: a started one ends a few seconds after its last client and job are gone.
    Raises ClientError when there is no engine, or it speaks another protocol."""
    folder = daemon.data_folder(data_dir)
    found = daemon.find_or_start(folder, ephemeral=ephemeral) if start else daemon.find(folder)
    if found is None:
        raise unavailable(f"No engine is running on {folder}; start one with `paintover serve`.")
    restart = (lambda: daemon.find_or_start(folder, ephemeral=ephemeral)) if start else None
    client = Client(found, restart)
    try:
        client.check_protocol()
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """The calls of an engine. Created by `connect`; thread-safe.

    When the engine dies, calls and streams continue with another one, if the client may start it: every call is
    idempotent, and jobs resume. All calls raise ClientError."""

    def __init__(self, endpoint: Endpoint, restart: Callable[[], Endpoint] | None = None) -> None:
        self._connection = open_connection(endpoint)
        self._restart = restart
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> Endpoint:
        return self._connection.endpoint

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.channel.close()

    # Engine

    def check_protocol(self) -> engine_pb2.Engine:
        """The engine's description. Raises ClientError when it speaks another protocol than this client."""
        engine = self.get_engine()
        if engine.protocol != PROTOCOL:
            older = "engine" if engine.protocol < PROTOCOL else "client"
            raise ClientError(
                "FAILED_PRECONDITION",
                f"The running engine {engine.version} speaks protocol {engine.protocol} and this client {PROTOCOL}; "
                f"update the {older}, or stop the engine with `paintover stop`.",
            )
        return engine

    def get_engine(self) -> engine_pb2.Engine:
        return self._call(lambda connection: connection.engine.GetEngine, engine_pb2.GetEngineRequest()).engine

    def list_methods(self) -> Sequence[engine_pb2.Method]:
        return self._call(lambda connection: connection.engine.ListMethods, engine_pb2.ListMethodsRequest()).methods

    def plan_method(
        self, shot: str, method: str, parameters: Mapping[str, ParameterValue], model: str
    ) -> engine_pb2.MethodPlan:
        """The memory and disk space that a method would need for a shot ("shots/…")."""
        request = message(
            engine_pb2.PlanMethodRequest, shot=shot, method=method, parameters=parameter_texts(parameters), model=model
        )
        return self._call(lambda connection: connection.engine.PlanMethod, request, PROBE_SECONDS).plan

    def stop_engine(self, *, when_idle: bool) -> None:
        """Stops the engine: at once (running jobs resume with the next one), or when no job and no client is left."""
        with self._lock:
            self._restart = None  # a stopped engine must not be started again
        self._call(
            lambda connection: connection.engine.StopEngine, message(engine_pb2.StopEngineRequest, when_idle=when_idle)
        )

    def get_cache(self) -> engine_pb2.Cache:
        """The sizes of what the engine stores."""
        return self._call(lambda connection: connection.engine.GetCache, engine_pb2.GetCacheRequest()).cache

    def prune_cache(self, keep_bytes: int = 0) -> engine_pb2.PruneCacheResponse:
        """Evicts cached data, least recently used first, until at most `keep_bytes` are left."""
        request = message(engine_pb2.PruneCacheRequest, keep_bytes=keep_bytes)
        return self._call(lambda connection: connection.engine.PruneCache, request, PROBE_SECONDS)

    def open_monitor(self) -> str:
        """A URL of the queue's page that can be opened once."""
        return self._call(lambda connection: connection.engine.OpenMonitor, engine_pb2.OpenMonitorRequest()).url

    # Shots

    def create_shot(
        self,
        path: PathLike,
        *,
        frames: tuple[int, int] | None = None,
        colorspace: str = "",
        stream: int | None = None,
        layer: str = "",
    ) -> shot_pb2.Shot:
        """The shot of a video file, a folder of numbered images, or a pattern.

        frames: first and last frame number, inclusive. stream: the number of a video's stream in its file, None for
        the default one. layer: of an EXR file, "" for its beauty. The same source, range, colour space, stream and
        layer give the same shot."""
        request = message(
            shot_pb2.CreateShotRequest,
            path=absolute(path),
            range=frame_range(frames),
            colorspace=colorspace,
            stream=stream,
            layer=layer,
        )
        return self._call(lambda connection: connection.shots.CreateShot, request, PROBE_SECONDS).shot

    def create_uploaded_shot(
        self, key: str, frames: tuple[int, int], rate: tuple[int, int] = (0, 1), *, colorspace: str = ""
    ) -> shot_pb2.Shot:
        """A shot whose frames this client sends with `upload_frames`. rate: frames a second, as a fraction."""
        follow = message(
            shot_pb2.FramesFollow, key=key, range=frame_range(frames), rate_numerator=rate[0], rate_denominator=rate[1]
        )
        request = message(shot_pb2.CreateShotRequest, frames_follow=follow, colorspace=colorspace)
        return self._call(lambda connection: connection.shots.CreateShot, request).shot

    def upload_frames(self, shot: str, frames: Iterable[UploadFrame]) -> int:
        """Sends frames one after the other; returns how many the engine stored. Not repeated with another engine."""
        connection = self._connection
        try:
            answer = connection.shots.UploadFrames(upload_messages(shot, frames), metadata=connection.metadata)
        except grpc.RpcError as error:
            raise to_client_error(error, connection.endpoint.address) from error
        return answer.frames_stored

    def get_shot(self, name: str) -> shot_pb2.Shot:
        return self._call(lambda connection: connection.shots.GetShot, message(shot_pb2.GetShotRequest, name=name)).shot

    def list_shots(self) -> Sequence[shot_pb2.Shot]:
        return self._call(lambda connection: connection.shots.ListShots, shot_pb2.ListShotsRequest()).shots

    def prepare_shot(
        self, name: str, method: str = "draft", *,
        parameters: Mapping[str, ParameterValue] | None = None, model: str = "",
    ) -> str:  # fmt: skip
        """Starts what needs no keyframe; returns the name of the job that does it."""
        request = message(
            shot_pb2.PrepareShotRequest, name=name, method=method, parameters=parameter_texts(parameters), model=model
        )
        return self._call(lambda connection: connection.shots.PrepareShot, request, PROBE_SECONDS).job

    def delete_shot(self, name: str) -> None:
        self._call(lambda connection: connection.shots.DeleteShot, message(shot_pb2.DeleteShotRequest, name=name))

    # Keyframes

    def put_keyframe(
        self, shot: str, frame: int, picture: PictureFile | None, matte: PictureFile | None = None, kind: str = "paint",
        drag: Iterable[DragPoint] = (),
    ) -> keyframe_pb2.Keyframe:  # fmt: skip
        """Gives the shot an edited picture of one frame: a path on the engine's machine, or a whole image file's bytes.

        matte: white where the edit applies; without it, where picture and plate differ. kind: "paint"; or of a matte
        that corrects the frame, "holdout" (white where the edit is wrong) or "roto" (white just where it belongs); or
        "drag", which has no picture: by its points a part of the edit is moved, by two turned and scaled."""
        given, drawn = (None if each is None else picture_message(each) for each in (picture, matte))
        value, points = f"KEYFRAME_KIND_{str(kind).upper()}", drag_messages(drag)
        request = message(
            keyframe_pb2.PutKeyframeRequest, shot=shot, frame=frame, picture=given, matte=drawn, kind=value, drag=points
        )
        return self._call(lambda connection: connection.keyframes.PutKeyframe, request, PROBE_SECONDS).keyframe

    def export_frame(
        self, shot: str, frame: int, path: PathLike, *, overwrite: bool = False, job: str = ""
    ) -> Sequence[str]:
        """Writes the plate's frame as a file to paint on (.psd, .png, .tif, .exr); returns notes for the artist.

        overwrite: replaces an existing file, and its paint. job: one of the shot's whose result is to be corrected."""
        request = message(
            keyframe_pb2.ExportFrameRequest, shot=shot, frame=frame, path=absolute(path), overwrite=overwrite, job=job
        )
        return self._call(lambda connection: connection.keyframes.ExportFrame, request, PROBE_SECONDS).notes

    def list_keyframes(self, shot: str, corrections: bool = False) -> Sequence[keyframe_pb2.Keyframe]:
        """The shot's current keyframes; with `corrections`, those after them."""
        request = message(keyframe_pb2.ListKeyframesRequest, shot=shot)
        found = self._call(lambda connection: connection.keyframes.ListKeyframes, request)
        return [*found.keyframes, *found.corrections] if corrections else found.keyframes

    def delete_keyframe(self, name: str) -> None:
        request = message(keyframe_pb2.DeleteKeyframeRequest, name=name)
        self._call(lambda connection: connection.keyframes.DeleteKeyframe, request)

    # Jobs

    def create_job(
        self,
        shot: str,
        keyframes: Iterable[str] = (),
        corrections: Iterable[str] = (),
        *,
        method: str = "draft",
        parameters: Mapping[str, ParameterValue] | None = None,
        model: str = "",
        output: PathLike | None = None,
        overwrite: bool = False,
        mattes: PathLike | None = None,
        versioned: bool = False,
        await_keyframe: bool = False,
        priority: int = 0,
        validate_only: bool = False,
    ) -> job_pb2.Job:
        """Puts a propagation into the queue. keyframes: names; none: the shot's, as they stand now. corrections: names
        of other frames' holdouts and roto mattes; none, without keyframes: the shot's.
        output, mattes: files, patterns or folders to write; none: the result is only kept in the engine.
        versioned: writes the next free version of them (v001, v002, …), which the answer names.
        await_keyframe: of a shot without a keyframe, does what needs none and waits for the first.
        validate_only: queues nothing, but raises what would be wrong with such a job, keyframes apart."""
        written = message(
            job_pb2.Output,
            path="" if output is None else absolute(output),
            overwrite=overwrite,
            mattes_path="" if mattes is None else absolute(mattes),
            versioned=versioned,
        )
        spec = message(
            job_pb2.JobSpec,
            shot=shot,
            keyframes=keyframes,
            corrections=corrections,
            method=method,
            parameters=parameter_texts(parameters),
            model=model,
            output=None if output is None and mattes is None else written,
            await_keyframe=await_keyframe,
        )
        request = message(job_pb2.CreateJobRequest, spec=spec, priority=priority, validate_only=validate_only)
        return self._call(lambda connection: connection.jobs.CreateJob, request, PROBE_SECONDS).job

    def get_job(self, name: str) -> job_pb2.Job:
        return self._call(lambda connection: connection.jobs.GetJob, message(job_pb2.GetJobRequest, name=name)).job

    def list_jobs(self) -> Sequence[job_pb2.Job]:
        return self._call(lambda connection: connection.jobs.ListJobs, job_pb2.ListJobsRequest()).jobs

    def update_job(
        self, name: str, *, priority: int | None = None, paused: bool | None = None, before: str | None = None
    ) -> job_pb2.Job:
        """before: a job's name, to run just before it at its priority; "" for behind all of its own."""
        request = message(job_pb2.UpdateJobRequest, name=name, priority=priority, paused=paused, before=before)
        return self._call(lambda connection: connection.jobs.UpdateJob, request).job

    def cancel_job(self, name: str) -> job_pb2.Job:
        request = message(job_pb2.CancelJobRequest, name=name)
        return self._call(lambda connection: connection.jobs.CancelJob, request).job

    def retry_job(self, name: str) -> job_pb2.Job:
        return self._call(lambda connection: connection.jobs.RetryJob, message(job_pb2.RetryJobRequest, name=name)).job

    def redo_frames(
        self,
        name: str,
        frames: tuple[int, int],
        *,
        parameters: Mapping[str, ParameterValue] | None = None,
        output: PathLike | None = None,
        overwrite: bool = False,
    ) -> job_pb2.Job:
        """Creates a job that makes some frames of a finished one anew, first to last, with the shot's keyframes as they
        are now, and keeps the others.

        parameters: those that are to be others. output: where the whole goes; None: the next version of where the
        finished job's went."""
        request = message(
            job_pb2.RetryJobRequest,
            name=name,
            frames=shot_pb2.FrameRange(first=frames[0], last=frames[1]),
            parameters=parameter_texts(parameters),
            output=message(job_pb2.Output, path="" if output is None else absolute(output), overwrite=overwrite),
        )
        return self._call(lambda connection: connection.jobs.RetryJob, request, PROBE_SECONDS).job

    def delete_job(self, name: str) -> None:
        self._call(lambda connection: connection.jobs.DeleteJob, message(job_pb2.DeleteJobRequest, name=name))

    def export_job(self, name: str) -> str:
        """A job's settings, frames, log and machine as one JSON text, for support."""
        return self._call(
            lambda connection: connection.jobs.ExportJob, message(job_pb2.ExportJobRequest, name=name)
        ).json

    def wait_until_finished(self, name: str, seconds: float) -> bool:
        """Waits for a job to end; returns whether it did, with whatever result, within `seconds`."""
        deadline = time.monotonic() + seconds
        while not is_finished(self.get_job(name)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def watch(self, job: str = "", from_sequence: int = 0) -> Iterator[job_pb2.WatchJobsResponse]:
        """Yields a job's events (all jobs' for an empty name) as they happen; the first describes the present state.

        Ends after the event of the job's end. Continues with another engine, see `Client`.
        from_sequence: the number of the first event wanted."""
        crashes = CrashCounter()
        while True:
            connection = self._connection
            request = message(job_pb2.WatchJobsRequest, job=job, from_sequence=from_sequence)
            call = connection.jobs.WatchJobs(request, metadata=connection.metadata)
            try:
                for event in call:
                    from_sequence = event.sequence + 1
                    crashes.progressed(event.job.progress.fraction)
                    yield event
                    if job and is_finished(event.job):
                        return
                if job and is_finished(self.get_job(job)):
                    return
            except grpc.RpcError as error:
                crashes.count(error, connection.endpoint)
                self._reconnect(connection, error)
            finally:
                call.cancel()

    # Frames

    def get_frame(
        self,
        parent: str,
        number: int,
        *,
        view: frame_pb2.View.ValueType = frame_pb2.VIEW_RESULT,
        mapped: bool = False,
        final_only: bool = False,
    ) -> Frame:
        """One frame, the best that exists. parent: a job's name; for the plate, also a shot's.

        mapped: sends the file region that holds the pixels instead of the pixels; for clients on the engine's machine.
        final_only: fails rather than send a preliminary frame."""
        request = message(
            frame_pb2.GetFrameRequest,
            parent=parent,
            number=number,
            view=view,
            transport=_transport(mapped),
            final_only=final_only,
        )

        def read(connection: Connection) -> Frame | None:
            answers = connection.frames.GetFrame(request, metadata=connection.metadata, timeout=PROBE_SECONDS)
            return next(assemble(answer.chunk for answer in answers), None)

        frame = self._retry_once(read)
        if frame is None:
            raise ClientError("NOT_FOUND", f"The engine sent no frame {number} of {parent}.")
        return frame

    def export_frames(self, job: str, numbers: Sequence[int], path: PathLike) -> None:
        """Writes up to eight frames of a job's result as groups of a .psd, the first on top; replaces what is there."""
        request = message(frame_pb2.ExportFramesRequest, job=job, numbers=numbers, path=absolute(path))
        self._call(lambda connection: connection.frames.ExportFrames, request, PROBE_SECONDS)

    def stream_frames(
        self,
        job: str,
        *,
        view: frame_pb2.View.ValueType = frame_pb2.VIEW_RESULT,
        mapped: bool = False,
        from_number: int | None = None,
    ) -> Iterator[Frame]:
        """Yields the job's frames in ascending order, each as soon as it and all before it exist; ends with the job.
        Continues with another engine, see `Client`."""
        crashes = CrashCounter()
        while True:
            connection = self._connection
            request = message(
                frame_pb2.StreamFramesRequest, job=job, view=view, transport=_transport(mapped), from_number=from_number
            )
            call = connection.frames.StreamFrames(request, metadata=connection.metadata)
            try:
                for frame in assemble(answer.chunk for answer in call):
                    from_number = frame.number + 1
                    crashes.progressed(frame.number)
                    yield frame
                return
            except grpc.RpcError as error:
                crashes.count(error, connection.endpoint)
                self._reconnect(connection, error)
            finally:
                call.cancel()

    # The connection, renewed when the engine is lost

    def _call(
        self,
        method: Callable[[Connection], grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]],
        request: RequestT,
        seconds: float = SECONDS,
    ) -> ResponseT:
        return self._retry_once(
            lambda connection: method(connection)(request, metadata=connection.metadata, timeout=seconds)
        )

    def _retry_once(self, call: Callable[[Connection], ResponseT]) -> ResponseT:
        """Makes a call; repeats it once with another engine if this one is lost."""
        connection = self._connection
        try:
            return call(connection)
        except grpc.RpcError as error:
            connection = self._reconnect(connection, error)
        try:
            return call(connection)
        except grpc.RpcError as error:
            raise to_client_error(error, connection.endpoint.address) from error

    def _reconnect(self, lost: Connection, error: grpc.RpcError) -> Connection:
        """The connection to use after `lost` failed: another thread's new one, or one to a restarted engine.

        Raises ClientError for an error other than a lost engine, and where no engine may be started."""
        with self._lock:
            if self._connection is lost:
                if self._restart is None or not is_lost(error):
                    raise to_client_error(error, lost.endpoint.address) from error
                self._connection = open_connection(self._restart())
                lost.channel.close()
            return self._connection


def _transport(mapped: bool) -> frame_pb2.Transport.ValueType:
    return frame_pb2.TRANSPORT_MAPPED if mapped else frame_pb2.TRANSPORT_INLINE
