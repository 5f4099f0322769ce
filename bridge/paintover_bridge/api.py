"""Paintover from Python, for notebooks and pipelines.

    from paintover_bridge import Paintover

    with Paintover() as p:
        job = p.propagate("shot.mov", {12: "painted.png"}, output="edited.mov")
        for frame in job.frames():
            print(frame)

Pictures are paths or NumPy arrays, both ways; docs/python.md has the rest. Everything that goes wrong raises
`ClientError` with one sentence. `paintover_bridge.client` is the same engine call by call.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union

from paintover.v1 import engine_pb2, frame_pb2, job_pb2

from paintover_bridge import arrays
from paintover_bridge.client import Client, connect, is_finished
from paintover_bridge.errors import ClientError, bad_input
from paintover_bridge.frames import Frame
from paintover_bridge.messages import DragPoint, ParameterValue, PathLike
from paintover_bridge.records import word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ClientError", "Job", "JobStatus", "Method", "Paintover", "Parameter", "Picture", "ResultFrame"]

Picture = Union[str, "os.PathLike[str]", bytes, "NDArray[Any]"]
"""A path on this machine, a whole image file's bytes, or an array: (H, W), (H, W, 3) or (H, W, 4); uint8 and uint16
over their whole range, float16 and float32 in the shot's own encoding."""

_POLL_SECONDS = 0.1
_FINISHED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Parameter:
    """One of a method's parameters.

    kind: "float", "int", "bool", "choice" or "string". default: as text. minimum, maximum: None where there is none.
    choices: of a "choice". unit: "px", "frames", … or ""."""

    name: str
    kind: str
    default: str
    help: str = field(repr=False)
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Method:
    """A way to propagate. needs: what it needs beyond the engine, one phrase each. parameters: by name."""

    name: str
    summary: str = field(repr=False)
    needs: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class JobStatus:
    """How a job stood at one moment.

    state: "queued", "preparing", "waiting_for_keyframe", "running", "paused", "done", "failed" or "cancelled".
    fraction: 0 to 1. seconds_left: None while that is not known. stage: what it does now ("flow 24-31").
    message: why it failed, or what to know. confidence: 0 (do not trust it) to 1, by frame number.
    suggested_keyframes: where to paint next, if anywhere."""

    state: str
    fraction: float
    frames_done: int
    frames_total: int
    seconds_left: float | None
    stage: str = ""
    message: str = ""
    confidence: Mapping[int, float] = field(default_factory=dict, repr=False)
    suggested_keyframes: tuple[int, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return self.state in _FINISHED


@dataclass(frozen=True)
class ResultFrame:
    """One frame of a job's result. Its pixels cross when they are asked for.

    confidence: 0 (do not trust it) to 1. final: no later stage will better it."""

    number: int
    width: int
    height: int
    confidence: float
    final: bool
    _client: Client = field(repr=False, compare=False)
    _job: str = field(repr=False)
    _frame: Frame = field(repr=False, compare=False)

    def edit(self) -> NDArray[np.float32]:
        """The painted colour and its matte: (H, W, 4) float32, RGB and the matte (0 to 1), in the shot's own encoding;
        0 where nothing is painted."""
        arrays.need_numpy()
        return arrays.whole_frame(self._frame)

    def matte(self) -> NDArray[np.float32]:
        """Where the edit applies: (H, W) float32, 0 to 1."""
        matte: NDArray[np.float32] = self.edit()[..., 3]
        return matte

    def plate(self) -> NDArray[np.float32]:
        """The shot's untouched frame: (H, W, 3) float32, in its own encoding, rounded to half floats."""
        return _plate(self._client, self._job, self.number)

    def image(self) -> NDArray[np.float32]:
        """The finished frame, the paint over the plate: (H, W, 3) float32, in the shot's own encoding. Files that the
        engine writes are made from the plate itself, which this rounds to half floats."""
        return arrays.over(self.plate(), self.edit())


class Job:
    """One propagation in the engine's queue. `status` asks the engine; `frames` follows it."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        try:
            job = self._client.get_job(self.name)
        except ClientError as error:
            return f"<Job {self.id}: {error.message}>"
        where = f" → {job.spec.output.path}" if job.spec.output.path else ""
        return f"<Job {self.id} {_state(job)} {job.progress.fraction:.0%} {job.spec.method}{where}>"

    @property
    def id(self) -> int:
        """Its number, as `paintover jobs` lists it."""
        return int(self.name.rpartition("/")[2])

    @property
    def status(self) -> JobStatus:
        return _status(self._client.get_job(self.name))

    @property
    def state(self) -> str:
        """As in `JobStatus`."""
        return self.status.state

    @property
    def output(self) -> str:
        """The path that it writes; "" where the result stays in the engine."""
        return self._client.get_job(self.name).spec.output.path

    def watch(self) -> Iterator[JobStatus]:
        """Yields the job's status at each change, until it has ended."""
        for event in self._client.watch(self.name):
            yield _status(event.job)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Waits for the job to be done; returns its status then.

        timeout: seconds; None: no limit. Raises ClientError where it failed, was cancelled or took longer."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_finished(job := self._client.get_job(self.name)):
            if deadline is not None and time.monotonic() > deadline:
                raise ClientError("DEADLINE_EXCEEDED", f"{self.name} is not done after {timeout:g} s; it goes on.")
            time.sleep(_POLL_SECONDS)
        if job.state == job_pb2.JOB_STATE_FAILED:
            raise ClientError(job.error_code or "INTERNAL", job.message or f"{self.name} failed.")
        if job.state == job_pb2.JOB_STATE_CANCELLED:
            raise ClientError("CANCELLED", f"{self.name} was cancelled; `retry` goes on from where it was.")
        return _status(job)

    def frames(self, start: int | None = None) -> Iterator[ResultFrame]:
        """Yields the result's frames in ascending order, each as soon as it and all before it are made.

        start: the first frame number wanted; None: the shot's first. Raises ClientError where the job fails."""
        for frame in self._client.stream_frames(self.name, mapped=True, from_number=start):
            yield _result_frame(self._client, self.name, frame)

    def frame(self, number: int) -> ResultFrame:
        """One frame of the result, the best that exists. Raises ClientError where there is none yet."""
        return _result_frame(self._client, self.name, self._client.get_frame(self.name, number, mapped=True))

    def cancel(self) -> None:
        """Cancels the job; what it computed is found again."""
        self._client.cancel_job(self.name)

    def pause(self) -> None:
        """Lets the job wait until `resume`."""
        self._client.update_job(self.name, paused=True)

    def resume(self) -> None:
        """Lets a paused job go on."""
        self._client.update_job(self.name, paused=False)

    def retry(self) -> None:
        """Runs a failed or cancelled job again, from where it was."""
        self._client.retry_job(self.name)

    def remove(self) -> None:
        """Forgets a finished job and its results; the files that it wrote stay."""
        self._client.delete_job(self.name)


class Paintover:
    """An engine on this machine: the one that runs on the data folder, else one that is started and ends with its last
    client and job.

    data_dir: the engine's data folder; None: $PAINTOVER_DATA, else the user's. start: whether one may be started.
    Raises ClientError where there is none. `client` has every call of the engine."""

    def __init__(self, data_dir: PathLike | None = None, *, start: bool = True) -> None:
        self.client = connect(data_dir, start=start)

    def __repr__(self) -> str:
        return f"<Paintover at {self.client.endpoint.address}>"

    def __enter__(self) -> Paintover:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. Jobs go on in the engine."""
        self.client.close()

    def methods(self) -> dict[str, Method]:
        """The methods by name, with their parameters."""
        return {method.name: _method(method) for method in self.client.list_methods()}

    def jobs(self) -> list[Job]:
        """All jobs of the engine, in its order."""
        return [Job(self.client, job.name) for job in self.client.list_jobs()]

    def job(self, id: int) -> Job:
        """A job by its number. Raises ClientError where there is none."""
        return Job(self.client, self.client.get_job(f"jobs/{id}").name)

    def plate(
        self, source: PathLike, frame: int, *, frames: tuple[int, int] | None = None, colorspace: str = ""
    ) -> NDArray[np.float32]:
        """An untouched frame of a source, to paint on: (H, W, 3) float32, in the shot's own encoding (0 to 1 where it
        is display-encoded). Parameters as for `propagate`."""
        shot = self.client.create_shot(source, frames=frames, colorspace=colorspace)
        return _plate(self.client, shot.name, frame)

    def propagate(
        self,
        source: PathLike | NDArray[Any],
        keyframes: Mapping[int, Picture],
        *,
        mattes: Mapping[int, Picture] | None = None,
        holdouts: Mapping[int, Picture] | None = None,
        rotos: Mapping[int, Picture] | None = None,
        drags: Mapping[int, Sequence[DragPoint]] | None = None,
        output: PathLike | None = None,
        write_mattes: PathLike | None = None,
        method: str = "draft",
        parameters: Mapping[str, ParameterValue] | None = None,
        model: str = "",
        frames: tuple[int, int] | None = None,
        colorspace: str = "",
        rate: tuple[int, int] = (0, 1),
        overwrite: bool = False,
        versioned: bool = False,
        priority: int = 0,
    ) -> Job:
        """Carries painted keyframes through a shot; returns at once with the job that does it.

        source: a video file, a folder of numbered images, a pattern, or the frames as one array (N, H, W, 3), numbered
            from 0 (from frames[0] where frames is given).
        keyframes, mattes: the edited picture, and where the edit applies (white), by frame number.
        holdouts, rotos: mattes that correct where the edit was carried to, by the number of any other frame: white
            where it does not belong, or exactly where it belongs.
        drags: points by which a part of the edit is moved in any other frame, each (x, y, to_x, to_y) in pixels.
        output, write_mattes: a video file, a pattern or a folder; None: the result is kept in the engine only.
        frames: first and last number, inclusive; None: all. rate: of an array, frames a second as a fraction.
        Raises ClientError for what cannot be used."""
        if not isinstance(keyframes, Mapping) or not keyframes:
            raise bad_input(f"keyframes is {_short(keyframes)}; give pictures by frame, such as {{12: 'painted.png'}}.")
        for number in (mattes or {}).keys() - keyframes.keys():
            raise bad_input(
                f"mattes has frame {number}, which keyframes has not; keyframes are at {sorted(keyframes)}."
            )
        if arrays.is_array(source):
            shot = self._uploaded(source, frames, rate, colorspace)
        else:
            shot = self.client.create_shot(os.fspath(_path(source)), frames=frames, colorspace=colorspace).name
        names = self._put_keyframes(shot, keyframes, mattes or {})
        corrections = self._put_corrections(shot, {"holdout": holdouts, "roto": rotos}, drags)
        job = self.client.create_job(
            shot,
            names,
            corrections,
            method=method,
            parameters=parameters,
            model=model,
            output=output,
            overwrite=overwrite,
            mattes=write_mattes,
            versioned=versioned,
            priority=priority,
        )
        return Job(self.client, job.name)

    def _put_keyframes(self, shot: str, keyframes: Mapping[int, Picture], mattes: Mapping[int, Picture]) -> list[str]:
        """The names of a shot's new keyframes."""
        return [
            self.client.put_keyframe(
                shot, number, _picture(picture, f"The keyframe {number}"), _matte(mattes.get(number), number)
            ).name
            for number, picture in sorted(keyframes.items())
        ]

    def _put_corrections(
        self,
        shot: str,
        mattes: Mapping[str, Mapping[int, Picture] | None],
        drags: Mapping[int, Sequence[DragPoint]] | None,
    ) -> list[str]:
        """The names of a shot's new corrections. mattes: by their kind."""
        put = [
            self.client.put_keyframe(shot, number, _picture(matte, f"The {kind} matte {number}"), kind=kind)
            for kind, given in mattes.items()
            for number, matte in sorted((given or {}).items())
        ]
        put += [
            self.client.put_keyframe(shot, number, None, kind="drag", drag=points)
            for number, points in sorted((drags or {}).items())
        ]
        return [correction.name for correction in put]

    def _uploaded(self, frames: object, numbers: tuple[int, int] | None, rate: tuple[int, int], colorspace: str) -> str:
        """The name of a shot of an array's frames, sent to the engine."""
        first = numbers[0] if numbers else 0
        count, messages = arrays.upload_frames(frames, first)
        if numbers and numbers[1] - first + 1 != count:
            raise bad_input(f"The array has {count} frames, and frames={numbers} is {numbers[1] - first + 1}.")
        key = f"python-{uuid.uuid4().hex}"
        shot = self.client.create_uploaded_shot(key, (first, first + count - 1), rate, colorspace=colorspace)
        self.client.upload_frames(shot.name, messages)
        return shot.name


def _path(source: object) -> PathLike:
    if not isinstance(source, (str, os.PathLike)):
        raise bad_input(f"source is {_short(source)}; give a path, or an array (frames, height, width, 3).")
    return source


def _picture(picture: object, what: str) -> PathLike | bytes:
    if arrays.is_array(picture):
        return arrays.picture_bytes(picture, what)
    if not isinstance(picture, (str, os.PathLike, bytes)):
        raise bad_input(f"{what} is {_short(picture)}; give a path, an image file's bytes, or an array.")
    return picture


def _matte(matte: object, number: int) -> PathLike | bytes | None:
    return None if matte is None else _picture(matte, f"The matte {number}")


def _short(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _plate(client: Client, parent: str, number: int) -> NDArray[np.float32]:
    arrays.need_numpy()
    frame = client.get_frame(parent, number, view=frame_pb2.VIEW_PLATE)
    plate: NDArray[np.float32] = arrays.whole_frame(frame)[..., :3]
    return plate


def _result_frame(client: Client, job: str, frame: Frame) -> ResultFrame:
    confidence = round(frame.confidence, 3)
    return ResultFrame(frame.number, frame.width, frame.height, confidence, frame.final, client, job, frame)


def _state(job: job_pb2.Job) -> str:
    return word(job_pb2.JobState.DESCRIPTOR, job.state)


def _status(job: job_pb2.Job) -> JobStatus:
    progress = job.progress
    return JobStatus(
        state=_state(job),
        fraction=round(progress.fraction, 4),
        frames_done=progress.frames_done,
        frames_total=progress.frames_total,
        seconds_left=progress.seconds_left if progress.seconds_left >= 0 else None,
        stage=progress.stage,
        message=job.message,
        confidence={frame.number: round(frame.confidence, 3) for frame in job.frames},
        suggested_keyframes=tuple(job.suggested_keyframes),
    )


def _method(method: engine_pb2.Method) -> Method:
    return Method(method.name, method.summary, tuple(method.needs), _parameters(method.parameters))


def _parameters(parameters: Sequence[engine_pb2.Parameter]) -> dict[str, Parameter]:
    return {
        each.name: Parameter(
            each.name,
            word(engine_pb2.ParameterKind.DESCRIPTOR, each.kind),
            each.default_value,
            each.help,
            each.minimum if each.HasField("minimum") else None,
            each.maximum if each.HasField("maximum") else None,
            tuple(each.choices),
            each.unit,
        )
        for each in parameters
    }
