"""Writes an Open Job Description bundle: a job that Deadline Cloud, or whatever runs OpenJD, takes as it is.

The specification is https://github.com/OpenJobDescription/openjd-specifications (jobtemplate-2023-09, with the
extension TASK_CHUNKING). A chunk is a range of windows of our own grid; stages' keys do not depend on it, so whatever
sizes a farm chooses, and changes between two runs, every finished stage is found.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.farm import job_file, render
from paintover_engine.farm.job_file import FarmJob
from paintover_engine.jobs.entities import JobFrame
from paintover_engine.jobs.kept import Kept, kept_frames, keys_by_frame
from paintover_engine.jobs.protocol import KeyframeRequest
from paintover_engine.jobs.runner import needed_for
from paintover_engine.jobs.stored_keyframes import store_keyframe
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.inputs import source_files
from paintover_engine.media.keyframe_kind import DragPoint, KeyframeKind, check_corrected_frames
from paintover_engine.media.mattes import check_mattes
from paintover_engine.media.output import check_output, check_sidecar
from paintover_engine.media.source import Source, content_digest, open_source, probe
from paintover_engine.methods.planning import Span
from paintover_engine.methods.registry import (
    MethodSpec,
    find_method,
    find_model,
    gpu_memory,
    plan_stages,
    read_parameters,
)
from paintover_engine.methods.stage import KeyframeRef, keyframes_of

WINDOWS_PER_TASK = 4
CANCEL_SECONDS = 30  # a stage looks at every frame, or every step of a model, whether it is to end
MIB = 2**20


class PaintedFrame(BaseModel):
    """A keyframe as files, or a correction, whose picture is its matte. picture, matte: "" for none. drag: the
    points of a drag, which has no picture."""

    frame: int
    picture: str = ""
    matte: str = ""
    kind: KeyframeKind = KeyframeKind.PAINT
    drag: list[DragPoint] = []


class BundleRequest(BaseModel):
    """What to make a bundle of. folder: the bundle's, which is made; result: "" for a folder in the bundle.

    redone, earlier: the frames to make anew of an earlier bundle's, and its job file; None and "": all frames."""

    model_config = ConfigDict(extra="forbid")

    source: str
    frames: Span | None
    colorspace: str
    stream: int | None
    layer: str
    keyframes: list[PaintedFrame]
    method: str
    parameters: dict[str, str]
    model: str
    result: str
    mattes: str
    overwrite: bool
    folder: str
    redone: Span | None = None
    earlier: str = ""


class BundleReply(BaseModel):
    """notes: sentences for the user about source and keyframes; windows, stages: how many the job has."""

    folder: str
    result: str
    windows: int
    stages: int
    notes: list[str]


def write_bundle(request: BundleRequest) -> BundleReply:
    """Checks all that can be checked before any work, and writes the bundle's folder: whole or not at all.

    Raises PaintoverError."""
    bundle = Path(request.folder).absolute()
    if bundle.exists():
        raise PaintoverError(Code.ALREADY_EXISTS, f"'{bundle}' exists; name a new folder for the bundle.")
    if not bundle.parent.is_dir():
        raise PaintoverError(
            Code.NOT_FOUND, f"There is no folder '{bundle.parent}' to write the bundle to; make it first."
        )
    partial = bundle.with_name(f".{bundle.name}.{os.getpid()}.partial")
    (partial / job_file.KEYFRAMES).mkdir(parents=True)
    try:
        job, stages, notes = _describe(request, bundle, partial / job_file.KEYFRAMES)
        job_file.write(job, partial / job_file.NAME)
        for name, described in (
            ("template.yaml", template(job)),
            ("parameter_values.yaml", {"parameterValues": _values(request)}),
            ("asset_references.yaml", asset_references(job, bundle)),
        ):
            (partial / name).write_text(yaml.safe_dump(described, sort_keys=False, width=120), encoding="utf-8")
        partial.rename(bundle)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    result = job_file.located(job.result, bundle, lambda path: path)
    return BundleReply(folder=str(bundle), result=result, windows=job.windows, stages=stages, notes=notes)


def _describe(request: BundleRequest, bundle: Path, keyframes: Path) -> tuple[FarmJob, int, list[str]]:
    """The job of a request, the number of its stages, and notes. keyframes: the folder to store them in."""
    painted = [given.frame for given in request.keyframes if given.kind is KeyframeKind.PAINT]
    if not painted:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, "A bundle needs a painted frame: give one with --keyframe FRAME=IMAGE."
        )
    check_corrected_frames(
        painted, [given.frame for given in request.keyframes if given.kind is not KeyframeKind.PAINT]
    )
    spec = find_method(request.method)
    parameters = read_parameters(spec, request.parameters)
    model = str(Path(request.model).absolute()) if Path(request.model).is_dir() and request.model else request.model
    digest = find_model(spec, model).digest if spec.takes_model else ""
    first, last = request.frames or (None, None)
    info = probe(request.source, first, last, request.colorspace, request.stream, request.layer)
    paintings = [path for key in request.keyframes for path in (key.picture, key.matte) if path]
    result = request.result or f"{bundle}/result/"
    if request.result:
        files = check_output(result, info, request.overwrite, paintings)
        check_sidecar(result, info, request.overwrite)
        if request.mattes:
            check_mattes(request.mattes, info, request.overwrite, paintings, files)
    notes = list(info.notes)
    with open_source(info) as source:
        given = sorted(request.keyframes, key=lambda key: key.frame)
        refs = [_stored(each, source, info, keyframes, notes) for each in given]
    kept = kept_of(request, info)
    stages = needed_for(
        plan_stages(spec, info, refs, parameters, model),
        set(range(info.first, info.last + 1)) - keys_by_frame(kept).keys(),
    )
    job = FarmJob(
        info=info,
        content=content_digest(info),
        keyframes=refs,
        method=spec.name,
        parameters=request.parameters,
        model=model,
        model_digest=digest,
        result=job_file.stored_path(result, bundle),
        mattes=job_file.stored_path(request.mattes, bundle),
        overwrite=request.overwrite,
        paintings=[str(Path(path).absolute()) for path in paintings],
        kept=kept,
        windows=render.window_count(info.first, info.last),
        plan=job_file.plan_digest(stages),
    )
    return job, len(stages), notes


def _stored(given: PaintedFrame, source: Source, info: SourceInfo, folder: Path, notes: list[str]) -> KeyframeRef:
    """Reads a keyframe or a correction and stores it in a folder; adds to the notes."""
    request = KeyframeRequest(
        info=info, frame=given.frame, path=given.picture, matte_path=given.matte, kind=given.kind, drag=given.drag
    )
    reply = store_keyframe(request, source, folder)
    notes += reply.notes
    return KeyframeRef(given.frame, reply.digest, given.kind)


def kept_of(request: BundleRequest, info: SourceInfo) -> list[Kept]:
    """The runs of frames that an earlier bundle makes and that are not to be made anew.

    Raises PaintoverError where that bundle is of another shot, or does not have the frames that are to be redone."""
    if not request.earlier or request.redone is None:
        return []
    job, _ = job_file.read(Path(request.earlier))
    if job.info.fingerprint != info.fingerprint:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The bundle of '{request.earlier}' is of another source or range; name one of this shot.",
        )
    first, last = request.redone
    if not info.first <= first <= last <= info.last:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The frames {first}-{last} are not in the shot, which has frames {info.first} to {info.last}.",
        )
    spec = find_method(job.method)
    stages = plan_stages(spec, job.info, job.keyframes, read_parameters(spec, job.parameters), job.model)
    keys = {n: stage.key for stage in stages if stage.publishes for n in range(stage.frames[0], stage.frames[1] + 1)}
    keys.update(keys_by_frame(job.kept))
    return kept_frames([JobFrame(number, keys[number], 1.0) for number in sorted(keys)], first, last)


def _values(request: BundleRequest) -> list[dict[str, str]]:
    """Values of the template's parameters that are not their defaults."""
    store = Path(request.earlier).absolute().parent / job_file.STORE
    return [{"name": "Store", "value": str(store)}] if request.earlier else []


def template(job: FarmJob) -> dict[str, Any]:
    """The job template: prepare in chunks of windows, propagate a side of a keyframe at a time, deliver."""
    spec = find_method(job.method)
    needs = requirements(job, spec)
    sides = [f"{first}-{last}" for first, last in side_windows(job)]
    return {
        "specificationVersion": "jobtemplate-2023-09",
        "extensions": ["TASK_CHUNKING"],
        "name": f"Paintover {Path(job.info.path).stem}"[:128],
        "description": f"{spec.title}: frames {job.info.first} to {job.info.last} of {job.info.path}",
        "parameterDefinitions": [
            _path("JobFile", "FILE", "IN", job_file.NAME, "The job; it lies in the bundle."),
            _path("Keyframes", "DIRECTORY", "IN", job_file.KEYFRAMES, "The painted frames, in the bundle."),
            _path("Store", "DIRECTORY", "INOUT", job_file.STORE, "Where all tasks keep their stages: a shared folder."),
            {
                "name": "WindowsPerTask",
                "type": "INT",
                "default": min(WINDOWS_PER_TASK, job.windows),
                "minValue": 1,
                "description": "Windows of 8 frames that one task prepares.",
            },
            {"name": "Command", "type": "STRING", "default": "paintover", "description": "The paintover command."},
        ],
        "steps": [
            _step("Prepare", "prepare", needs, (), {
                "name": "Windows",
                "type": "CHUNK[INT]",
                "range": f"1-{job.windows}",
                "chunks": {"defaultTaskCount": "{{Param.WindowsPerTask}}", "rangeConstraint": "CONTIGUOUS"},
            }),
            _step("Propagate", "propagate", needs, ("Prepare",), {"name": "Windows", "type": "STRING", "range": sides}),
            _step("Deliver", "deliver", {}, ("Propagate",), None),
        ],
    }  # fmt: skip


def _path(name: str, kind: str, flow: str, default: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "PATH",
        "objectType": kind,
        "dataFlow": flow,
        "default": default,
        "description": description,
    }


def _step(
    name: str, stage: str, needs: Mapping[str, Any], after: Sequence[str], parameter: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A step whose task is one `paintover render`. parameter: the definition of the windows that a task works on."""
    arguments = ["render", "{{Param.JobFile}}", "--store", "{{Param.Store}}", "--stage", stage]
    arguments += ["--windows", "{{Task.Param.Windows}}"] if parameter else []
    arguments += ["--path-mapping", "{{Session.PathMappingRulesFile}}"]
    action = {
        "command": "{{Param.Command}}",
        "args": arguments,
        "cancelation": {"mode": "NOTIFY_THEN_TERMINATE", "notifyPeriodInSeconds": CANCEL_SECONDS},
    }
    return {
        "name": name,
        **({"parameterSpace": {"taskParameterDefinitions": [dict(parameter)]}} if parameter else {}),
        **({"hostRequirements": dict(needs)} if needs else {}),
        **({"dependencies": [{"dependsOn": step} for step in after]} if after else {}),
        "script": {"actions": {"onRun": action}},
    }


def requirements(job: FarmJob, spec: MethodSpec) -> dict[str, Any]:
    """What a machine needs, from what the method counts; nothing for methods without a model."""
    if not spec.takes_model:
        return {}
    amounts: list[dict[str, Any]] = [{"name": "amount.worker.gpu", "min": 1}]
    counted = gpu_memory(spec, job.info, read_parameters(spec, job.parameters), job.model)
    if counted:
        amounts.append({"name": "amount.worker.gpu.memory", "min": -(-counted // MIB)})
    return {"amounts": amounts}


def side_windows(job: FarmJob) -> list[Span]:
    """First and last window of each stretch between neighbouring keyframes and the shot's ends: within one, a window
    follows from another."""
    first = job.info.first
    ends = sorted({*(render.window_of(key.frame, first) for key in keyframes_of(job.keyframes)), job.windows})
    starts = [1, *(end + 1 for end in ends[:-1])]
    return list(zip(starts, ends, strict=True))


def asset_references(job: FarmJob, bundle: Path) -> dict[str, Any]:
    """The files that the job reads and the folders that it writes to, outside of the bundle."""
    outside = [path for path in (job.result, job.mattes) if path and not is_inside(path)]
    files = [str(path) for path in source_files(job.info)]
    folders = [path if path.endswith("/") else str(Path(path).parent) for path in outside]
    return {
        "assetReferences": {
            "inputs": {"filenames": sorted(files), "directories": []},
            "outputs": {"directories": sorted({folder.rstrip("/") for folder in folders})},
            "referencedPaths": [],
        }
    }


def is_inside(path: str) -> bool:
    """Whether a job file's path lies in its bundle."""
    return not Path(path).is_absolute()
