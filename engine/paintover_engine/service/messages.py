"""Conversions between the engine's types and the protobuf messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from paintover.v1 import engine_pb2, job_pb2, keyframe_pb2, shot_pb2

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.cache import Usage
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.entities import Job, JobFrame, JobSpec, JobState, Shot, StoredKeyframe
from paintover_engine.jobs.finals import Final
from paintover_engine.jobs.protocol import MethodRequirements
from paintover_engine.jobs.unsure import UnsureRange, suggested_keyframes
from paintover_engine.media.keyframe_kind import DragPoint, KeyframeKind
from paintover_engine.methods.registry import (
    Kind,
    MethodSpec,
    ModelSpec,
    ParameterSpec,
    describe_parameters,
    why_unavailable,
)

STATES = {state: getattr(job_pb2, f"JOB_STATE_{state.name}") for state in JobState}
KEYFRAME_KINDS = {kind: getattr(keyframe_pb2, f"KEYFRAME_KIND_{kind.name}") for kind in KeyframeKind}
KINDS = {kind: getattr(engine_pb2, f"PARAMETER_KIND_{kind.name}") for kind in Kind}


def shot_name(shot_id: str) -> str:
    """ "shots/<id>"."""
    return f"shots/{shot_id}"


def job_name(job_id: int) -> str:
    """ "jobs/<number>"."""
    return f"jobs/{job_id}"


def keyframe_name(key: str) -> str:
    """ "shots/<id>/keyframes/<frame>-<digest>"."""
    shot, rest = key.split("/")
    return f"{shot_name(shot)}/keyframes/{rest}"


def shot_id(name: str) -> str:
    """The id in "shots/<id>"."""
    return _match(r"shots/([0-9a-f]{12})", name, "shot", "shots/0123456789ab")


def job_id(name: str) -> int:
    """The number in "jobs/<number>"."""
    return int(_match(r"jobs/(\d{1,15})", name, "job", "jobs/42"))


def keyframe_id(name: str) -> str:
    """The id in "shots/<id>/keyframes/<frame>-<digest>"."""
    shot, rest = _match(
        r"shots/([0-9a-f]{12}/keyframes/-?\d{1,12}-[0-9a-f]{12})", name, "keyframe", "shots/…/keyframes/…"
    ).split("/keyframes/")
    return f"{shot}/{rest}"


def _match(pattern: str, name: str, what: str, example: str) -> str:
    found = re.fullmatch(pattern, name)
    if not found:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{name}' is not a {what}'s name; they look like '{example}'.")
    return found[1]


def device_messages(workers: Iterable[DeviceWorker]) -> list[engine_pb2.Device]:
    """Every device once, with all that is computed on it."""
    found: dict[tuple[str, Device], engine_pb2.Device] = {}
    for worker in workers:
        device = worker.device
        message = found.setdefault(
            (worker.machine, device),
            engine_pb2.Device(
                name=device.name,
                kind=device.kind,
                memory_bytes=device.memory,
                driver=device.driver,
                tried=device.tried,
                problem=device.problem,
                remedy=device.remedy,
                machine=worker.machine,
                memory_used_bytes=worker.memory_used,
            ),
        )
        message.running.extend(filter(None, [worker.running]))
    return list(found.values())


def shot_message(shot: Shot) -> shot_pb2.Shot:
    """The message of a shot; of an uploaded one without frames, only its name and range."""
    message = shot_pb2.Shot(name=shot_name(shot.id), source=shot.source, colorspace=shot.colorspace)
    if shot.info is None:
        assert shot.first is not None and shot.last is not None
        message.range.first, message.range.last = shot.first, shot.last
        return message
    info = shot.info
    message.range.first, message.range.last = info.first, info.last
    message.width, message.height = info.width, info.height
    message.rate_numerator, message.rate_denominator = info.rate.as_integer_ratio() if info.rate else (0, 1)
    message.variable_frame_rate = info.variable_rate
    message.format = info.format
    message.colorspace = info.colorspace
    message.pixel_aspect = float(info.pixel_aspect)
    message.timecode = info.timecode
    message.has_audio = info.has_audio
    message.notes.extend(info.notes)
    if info.stream is not None:
        message.stream = info.stream
    message.layer = info.layer
    return message


def keyframe_message(keyframe: StoredKeyframe) -> keyframe_pb2.Keyframe:
    """The message of a keyframe."""
    return keyframe_pb2.Keyframe(
        name=keyframe_name(keyframe.id),
        frame=keyframe.frame,
        has_matte=keyframe.has_matte,
        notes=keyframe.notes,
        files=keyframe.files,
        kind=KEYFRAME_KINDS[keyframe.kind],
        drag=[keyframe_pb2.DragPoint(x=x, y=y, to_x=to_x, to_y=to_y) for x, y, to_x, to_y in keyframe.drag],
    )


def drag_points(points: Iterable[keyframe_pb2.DragPoint]) -> list[DragPoint]:
    """The points of a drag that a client puts."""
    return [(point.x, point.y, point.to_x, point.to_y) for point in points]


def keyframe_kind(kind: keyframe_pb2.KeyframeKind.ValueType) -> KeyframeKind:
    """The kind of a picture that a client puts; paint where it says nothing."""
    for known, number in KEYFRAME_KINDS.items():
        if kind == number:
            return known
    if kind != keyframe_pb2.KEYFRAME_KIND_UNSPECIFIED:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"There is no kind of keyframe {kind}; update the engine, or leave out 'kind'."
        )
    return KeyframeKind.PAINT


def spec_from(message: job_pb2.JobSpec) -> JobSpec:
    """The spec of a job as a client sent it."""
    return JobSpec(
        method=message.method or "draft",
        parameters=dict(message.parameters),
        model=message.model,
        keyframes=[keyframe_id(name) for name in message.keyframes],
        corrections=[keyframe_id(name) for name in message.corrections],
        output=message.output.path,
        overwrite=message.output.overwrite,
        mattes=message.output.mattes_path,
        prepare_only=message.prepare_only,
        await_keyframe=message.await_keyframe,
        versioned=message.output.path if message.output.versioned else "",
        owner=message.owner,
    )


def job_message(job: Job, frames: list[JobFrame], unsure: list[UnsureRange]) -> job_pb2.Job:
    """The message of a job. frames: those to include."""
    spec = job.spec
    return job_pb2.Job(
        name=job_name(job.id),
        state=STATES[job.state],
        spec=job_pb2.JobSpec(
            shot=shot_name(job.shot),
            keyframes=[keyframe_name(key) for key in spec.keyframes],
            corrections=[keyframe_name(key) for key in spec.corrections],
            method=spec.method,
            parameters=dict(spec.parameters),
            model=spec.model,
            output=job_pb2.Output(
                path=spec.output, overwrite=spec.overwrite, mattes_path=spec.mattes, versioned=bool(spec.versioned)
            ),
            prepare_only=spec.prepare_only,
            await_keyframe=spec.await_keyframe,
            owner=spec.owner,
        ),
        progress=job_pb2.Progress(
            stages_total=job.progress.stages_total,
            stages_done=job.progress.stages_done,
            stages_found=job.progress.stages_found,
            frames_total=job.progress.frames_total,
            frames_done=job.frames_done,
            fraction=job.progress.fraction,
            seconds_left=job.progress.seconds_left,
            stage=job.progress.stage,
            prepared=job.progress.prepared,
        ),
        message=job.message,
        error_code=job.error,
        create_time=job.created,
        start_time=job.started or 0.0,
        end_time=job.ended or 0.0,
        priority=job.priority,
        frames=[job_pb2.FrameSummary(number=frame.number, confidence=frame.confidence) for frame in frames],
        suggested_keyframes=suggested_keyframes(unsure),
        unsure=[
            job_pb2.UnsureRange(
                first=each.first,
                last=each.last,
                reason=job_pb2.UnsureReason.ValueType(each.reason),
                cause=each.cause,
                confidence=each.confidence,
                worst=each.worst,
            )
            for each in unsure
        ],
        position=job.position,
    )


def cache_message(usage: Usage) -> engine_pb2.Cache:
    """The message of the space that the data folder takes."""
    return engine_pb2.Cache(
        stages_bytes=usage.cache,
        views_bytes=usage.views,
        orphans_bytes=usage.orphans,
        results_bytes=usage.results,
        budget_bytes=usage.budget,
    )


def plan_message(requirements: MethodRequirements) -> engine_pb2.MethodPlan:
    """The message of what a method takes in memory and on disk."""
    return engine_pb2.MethodPlan(
        windows=requirements.windows,
        frames_per_window=requirements.frames,
        width=requirements.size[0],
        height=requirements.size[1],
        tiers=[engine_pb2.TierPlan(name=name, memory_bytes=size) for name, size in requirements.tiers.items()],
        files=[engine_pb2.FilePlan(name=name, bytes=size) for name, size in requirements.files.items()],
        checkpoint_bytes=requirements.checkpoint,
    )


def method_message(spec: MethodSpec) -> engine_pb2.Method:
    """The message of a method with its parameters."""
    return engine_pb2.Method(
        name=spec.name,
        title=spec.title,
        summary=spec.summary,
        needs=spec.needs,
        parameters=[_parameter_message(parameter) for parameter in describe_parameters(spec)],
        unavailable=why_unavailable(spec),
    )


def model_message(model: ModelSpec, memory: int) -> engine_pb2.Model:
    """The message of a model on this machine. memory: bytes on a GPU at least, 0 where not counted."""
    return engine_pb2.Model(
        name=model.name, methods=model.methods, licence=model.licence, size_bytes=model.size, memory_bytes=memory
    )


def final_message(final: Final) -> engine_pb2.Final:
    """The message of the method for a final that was not chosen."""
    return engine_pb2.Final(method=final.method, model=final.model, why=final.why, sure=final.sure)


def _parameter_message(parameter: ParameterSpec) -> engine_pb2.Parameter:
    return engine_pb2.Parameter(
        name=parameter.name,
        title=parameter.title,
        help=parameter.help,
        kind=KINDS[parameter.kind],
        default_value=parameter.default,
        minimum=parameter.minimum,
        maximum=parameter.maximum,
        choices=parameter.choices,
        unit=parameter.unit,
        basic=parameter.basic,
    )
