"""The job file: all that a machine needs to know of a job that it has no queue for, in one JSON file.

It lies in a bundle beside its keyframes. Paths in it are relative to it where they lie in the bundle, so that a bundle
can be moved; all others are mapped by the farm's rules (`jobs.path_mapping`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paintover_engine import __version__
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.kept import Kept
from paintover_engine.jobs.path_mapping import PathMap, is_of_windows
from paintover_engine.media.copies import find_copy
from paintover_engine.media.info import SourceInfo
from paintover_engine.methods.stage import KeyframeRef, Stage

NAME = "job.json"
KEYFRAMES = "keyframes"
STORE = "store"


class FarmJob(BaseModel):
    """One propagation, to be rendered anywhere.

    info: of the source where the bundle was made; its fingerprint names the plate in stages' keys.
    keyframes: with the corrections of other frames.
    content: digest of the source's content, by which a copy of it is known.
    plan: digest of all stages' keys, so that a machine that would compute something else is noticed.
    kept: runs of frames that an earlier bundle made in the same store: the stage's key, first and last frame.
    windows: how many windows the shot has; model_digest: of the weights, "" for methods without.
    result, mattes: where the output goes; "" for no mattes. paintings: files that are never overwritten.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["paintover-farm-job"] = "paintover-farm-job"
    version: Literal[1] = 1
    paintover: str = __version__
    info: SourceInfo
    content: str
    keyframes: list[KeyframeRef] = Field(min_length=1)
    method: str
    parameters: dict[str, str]
    model: str
    model_digest: str
    result: str
    mattes: str
    overwrite: bool
    paintings: list[str]
    kept: list[Kept] = []
    windows: int
    plan: str


def write(job: FarmJob, path: Path) -> None:
    """Writes a job file."""
    path.write_text(job.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[FarmJob, str]:
    """A job file, and the digest that names it. Raises PaintoverError where it is none, or of another version."""
    try:
        text = path.read_bytes()
        job = FarmJob.model_validate_json(text)
    except OSError as error:
        raise PaintoverError(
            Code.NOT_FOUND, f"The job file '{path}' cannot be read ({error.strerror}); give the job.json of a bundle."
        ) from error
    except ValidationError as error:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"'{path}' is no job file of this version of Paintover; make its bundle anew with `paintover farm bundle`.",
        ) from error
    if job.paintover != __version__:
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The bundle was made by Paintover {job.paintover} and this machine has {__version__}; install one version "
            "on all machines.",
        )
    return job, hashlib.sha256(text).hexdigest()


def plan_digest(stages: Sequence[Stage]) -> str:
    """64 hex digits of what a plan computes."""
    return hashlib.sha256("".join(sorted(stage.key for stage in stages)).encode()).hexdigest()


def stored_path(path: str, bundle: Path) -> str:
    """A path as a job file holds it: relative in the bundle's folder, else absolute. A trailing slash stays."""
    if not path:
        return ""
    slash = "/" if path.endswith(("/", "\\")) else ""
    absolute = Path(path).expanduser().absolute()
    inside = absolute.is_relative_to(bundle.absolute())
    return (absolute.relative_to(bundle.absolute()).as_posix() if inside else str(absolute)) + slash


def located(path: str, bundle: Path, mapped: PathMap) -> str:
    """Where a job file's path is on this machine."""
    found = mapped(path)
    if not path or found != path or (is_of_windows(path) and os.sep == "/"):
        return found
    return str(bundle / path) + ("/" if path.endswith("/") else "")


def find_source(job: FarmJob, bundle: Path, mapped: PathMap) -> SourceInfo:
    """The job's source as it lies on this machine.

    Raises PaintoverError where it is missing, or is not what the bundle was made of."""
    path = located(job.info.path, bundle, mapped)
    return find_copy(job.info, path, "" if path == job.info.path else job.content)
