"""The sidecar: one JSON file beside an output that says what it was made of, for pipelines that read it.

It is published with the output's files, as the last of them: where it stands, the output is whole. Its schema is
docs/sidecar.schema.json, which tools/sidecar_schema.py writes from `Sidecar`.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from paintover_engine import __version__
from paintover_engine.jobs.kept import Kept
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.unsure import ResultFrame, unsure_ranges
from paintover_engine.media import colour
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe_kind import KeyframeKind
from paintover_engine.methods.registry import MethodSpec, find_model, licence_of
from paintover_engine.methods.stage import KeyframeRef, corrections_of, keyframes_of

LIBRARIES = ("av", "numpy", "opencolorio", "opencv-python-headless", "OpenImageIO")
MODEL_LIBRARIES = ("diffusers", "torch", "transformers")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """The shot's source."""

    path: str = Field(description="A video file, a folder of numbered images, or a pattern; absolute.")
    kind: str = Field(description="`video`, `sequence`, or `frames`, which a host uploaded.")
    fingerprint: str = Field(description="64 hex digits of what the plate's pixels depend on.")
    format: str = Field(description="Codec and samples, such as `h264 yuv420p` or `exr half`.")
    width: int
    height: int
    rate: str | None = Field(description="Frames per second as a fraction; null where nothing says.")
    timecode: str = Field(description="Of the first frame; empty where there is none.")
    stream: int | None = Field(description="Number of the video's stream in its file; null for images.")
    layer: str = Field(description="Of an EXR file with several layers; else empty.")


class FrameRange(_Part):
    """Frame numbers of the source, inclusive."""

    first: int
    last: int


class Keyframe(_Part):
    """An edited picture that was propagated."""

    frame: int
    digest: str = Field(description="64 hex digits of the picture and its matte.")


class Correction(_Part):
    """What corrected where the edit was propagated to."""

    frame: int
    kind: KeyframeKind = Field(
        description="`holdout`: the edit does not belong where the matte is white; `roto`: it belongs exactly there; "
        "`drag`: parts of it were moved."
    )
    digest: str = Field(description="64 hex digits of the matte, or of the points.")


class Model(_Part):
    """The weights that the method computed with."""

    name: str = Field(description="As the job named it, or the method's default.")
    digest: str = Field(description="16 hex digits of the files that are read of it.")
    licence: str = Field(description="Name of its licence; `unknown` where its folder names none.")


class Colour(_Part):
    """How the source's colours were read."""

    colorspace: str = Field(description="An OpenColorIO name; empty for display-encoded pixels taken as they are.")
    working_space: str = Field(description="The OpenColorIO name of the space that was computed in.")
    ocio_config: str = Field(description="The OpenColorIO config that the names are of.")


class Files(_Part):
    """Where the result is."""

    path: str = Field(description="The video, folder or pattern; absolute.")
    mattes: str = Field(description="Of the mattes, likewise; empty where none were asked for.")


class Unsure(FrameRange):
    """Frames whose confidence is low."""

    cause: str = Field(description="Why, in words.")


class Sidecar(_Part):
    """What an output of Paintover was made of, and how far each frame is to be trusted."""

    format: Literal["paintover-sidecar"] = "paintover-sidecar"
    version: Literal[1] = 1
    created: datetime = Field(description="When the output was published, UTC.")
    wall_seconds: float = Field(description="From the job's start to then, pauses included.")
    output: Files
    source: Source
    frames: FrameRange
    kept: list[FrameRange] = Field(description="Frames that were taken as they are from an earlier version.")
    keyframes: list[Keyframe]
    corrections: list[Correction] = Field(description="Of other frames, by which the artist corrected the draft.")
    method: str
    parameters: dict[str, JsonValue] = Field(description="All of the method's, defaults included.")
    model: Model | None = Field(description="null for methods that take none.")
    colour: Colour
    confidence: dict[int, float] = Field(
        description="By frame number, 0 to 1: how far the frame is to be trusted. A keyframe's own is 1."
    )
    unsure: list[Unsure]
    notes: list[str] = Field(description="What the job tells at its end: sentences for the user.")
    versions: dict[str, str] = Field(description="Of Paintover, Python and the libraries that pixels depend on.")


def describe(
    info: SourceInfo,
    output: Output,
    keyframes: Sequence[KeyframeRef],
    spec: MethodSpec,
    parameters: BaseModel,
    model: str,
    *,
    kept: Sequence[Kept],
    frames: Sequence[ResultFrame],
    notes: Sequence[str],
    wall_seconds: float,
) -> str:
    """The sidecar's text. keyframes: with the corrections. model: the name; "" for methods that take none. kept: runs
    of frames of an earlier job. frames: ascending."""
    described = Sidecar(
        created=datetime.now(timezone.utc),
        wall_seconds=round(wall_seconds, 3),
        output=Files(path=output.path, mattes=output.mattes),
        source=Source(
            path=info.path,
            kind=info.kind,
            fingerprint=info.fingerprint,
            format=info.format,
            width=info.width,
            height=info.height,
            rate=str(info.rate) if info.rate else None,
            timecode=info.timecode,
            stream=info.stream,
            layer=info.layer,
        ),
        frames=FrameRange(first=info.first, last=info.last),
        kept=[FrameRange(first=first, last=last) for _, first, last in kept],
        keyframes=[Keyframe(frame=key.frame, digest=key.digest) for key in keyframes_of(keyframes)],
        corrections=[
            Correction(frame=each.frame, kind=each.kind, digest=each.digest) for each in corrections_of(keyframes)
        ],
        method=spec.name,
        parameters=parameters.model_dump(mode="json"),
        model=_model(spec, model) if spec.takes_model else None,
        colour=Colour(colorspace=info.colorspace, working_space=colour.WORKING, ocio_config=colour.CONFIG),
        confidence={frame.number: frame.confidence for frame in frames},
        unsure=[
            Unsure(first=each.first, last=each.last, cause=each.cause)
            for each in unsure_ranges(frames, (info.first, info.last))
        ],
        notes=list(notes),
        versions=_versions(spec),
    )
    return described.model_dump_json(indent=2) + "\n"


def _model(spec: MethodSpec, name: str) -> Model:
    found = find_model(spec, name)
    return Model(name=name, digest=found.digest, licence=licence_of(found))


def _versions(spec: MethodSpec) -> dict[str, str]:
    libraries = [*LIBRARIES, *(MODEL_LIBRARIES if spec.takes_model else ())]
    return {
        "paintover": __version__,
        "python": platform.python_version(),
        **{library: metadata.version(library) for library in libraries},
    }
