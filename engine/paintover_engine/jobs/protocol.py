"""The messages between the daemon and a worker process: one JSON object a line, in both directions.

    request    {"version": 1, "id": 7, "call": "probe", "arguments": {…}}
    reply      {"version": 1, "id": 7, "reply": {…}}
    error      {"version": 1, "id": 7, "error": {"code": "NOT_FOUND", "message": "…", "traceback": ""}}
    progress   {"version": 1, "id": 7, "progress": {"frames": 12}}, any number of them before the reply
    cancel     {"version": 1, "cancel": 7}, which ends that call with an error of code CANCELLED

`CALLS` names every call with the types of its arguments and of its reply. Raise `VERSION` when a message changes so
that the other side would misread it. This module is light: both sides import it, the daemon loads no numpy for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from paintover_engine.compose.reason import Reason
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe_kind import DragPoint, KeyframeKind
from paintover_engine.methods.stage import KeyframeRef

VERSION = 1


class ProtocolError(PaintoverError):
    """A line that is no message of this version."""


class Message(BaseModel):
    """Immutable; unknown fields are errors, so that a misunderstanding is seen where it happens."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


ReplyT = TypeVar("ReplyT", bound=Message)


class Request(Message, Generic[ReplyT]):
    """The arguments of a call that is answered with a `ReplyT`."""


# Values that several messages carry.


@dataclass(frozen=True)
class PlannedStage:
    """A stage as the daemon sees it; what it computes is known to the worker alone.

    key: names its output in the store; function: the kind of work, by which progress is shown and time is estimated.
    cost: expected work relative to the job's other stages. publishes: its output is result frames.
    needs_keyframe: False for what is prepared while the artist paints. inputs: keys of the stages that it reads.
    """

    key: str
    label: str
    function: str
    cost: float
    publishes: bool
    needs_keyframe: bool
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Output:
    """Where a job's result is written.

    path: the file or files; mattes: those of the mattes, "" for none; paintings: the files that the job's keyframes
    and mattes were read from, which are never overwritten."""

    path: str
    overwrite: bool = False
    mattes: str = ""
    paintings: tuple[str, ...] = ()


class Empty(Message):
    """The reply of a call that only succeeds or fails."""


class Notes(Message):
    """Sentences for the user."""

    notes: list[str]


# Calls about sources and keyframes, for the media worker.


class ProbeReply(Message):
    """What was found about a source."""

    info: SourceInfo


class ProbeRequest(Request[ProbeReply]):
    """Inspects a source. path: a video file, a folder, a pattern, or a folder of uploaded frames.

    first, last: the range of frames, inclusive; None: from the first, to the last that there is.
    colorspace: an OpenColorIO name; "": as the file says. stream: the number of a video's stream in its file; None:
    the default one. layer: of an EXR file; "": its beauty."""

    path: str
    first: int | None
    last: int | None
    colorspace: str
    stream: int | None = None
    layer: str = ""


class CheckOutputsRequest(Request[Empty]):
    """Fails where a job's outputs cannot be written. path, mattes_path: "" for none; paintings: as `Output`'s."""

    info: SourceInfo
    path: str
    mattes_path: str
    overwrite: bool
    paintings: list[str]


class ModelMemoryReply(Message):
    """memory: bytes on a GPU in the smallest tier; 0: not counted."""

    memory: int


class ModelMemoryRequest(Request[ModelMemoryReply]):
    """Counts what a model takes on a shot of the size that it was trained on."""

    model: str


class CheckModelRequest(Request[Empty]):
    """Fails where a method cannot compute with a model on this machine. model: "" for the method's default."""

    method: str
    model: str


class MethodRequirements(Message):
    """What a job of a method with a model takes.

    windows: runs of frames that the model processes; frames: of each; size: width and height in pixels that it works
    at. tiers: peak GPU memory in bytes by placement; files: bytes on disk by kind, of one window; checkpoint: bytes."""

    model_config = ConfigDict(from_attributes=True)

    windows: int
    frames: int
    size: tuple[int, int]
    tiers: dict[str, int]
    files: dict[str, int]
    checkpoint: int


class PlanMethodReply(Message):
    """None for a method that has no figures before it starts."""

    requirements: MethodRequirements | None


class PlanMethodRequest(Request[PlanMethodReply]):
    """Counts what a method with a model would take in memory and on disk for a shot."""

    info: SourceInfo
    method: str
    parameters: dict[str, str]
    model: str


class KeyframeReply(Message):
    """digest: of the picture and its matte, 64 hex digits; has_matte: the picture's alpha or a matte file gave one."""

    digest: str
    notes: list[str]
    has_matte: bool


class KeyframeRequest(Request[KeyframeReply]):
    """Reads an edited picture, checks it against the plate and stores it by its digest. matte_path: "" for none.

    kind: of a correction by a matte, the picture is that; of a drag there is none, but its points."""

    info: SourceInfo
    frame: int
    path: str
    matte_path: str
    kind: KeyframeKind = KeyframeKind.PAINT
    drag: list[DragPoint] = []


class ExportFrameRequest(Request[Notes]):
    """Writes a frame of the plate as a file to paint on.

    result: the key of the stage that published the frame's result, where that is to be corrected; else empty."""

    info: SourceInfo
    frame: int
    path: str
    overwrite: bool
    result: str = ""


class ExportResultsRequest(Request[Empty]):
    """Writes frames of a job's result as groups of a Photoshop file, which replaces what is there.

    frames: the group's name, the frame's number, and the key of the stage that published it, from the top down."""

    info: SourceInfo
    path: str
    frames: list[tuple[str, int, str]]


class PlateReply(Message):
    """key: of the stored frame among the views."""

    key: str


class PlateRequest(Request[PlateReply]):
    """Stores a frame of the plate as RGBA half floats, alpha 1, where a client can read or map it."""

    info: SourceInfo
    frame: int


class PictureRequest(Request[Empty]):
    """Stores a small picture of a frame among the views, for people to look at.

    key: where to; view: "plate", "result" or "matte"; side: pixels at the longer side at most.
    result: key of the stage that published the frame, "" for the plate.
    name: the file's, whose ending says its format."""

    key: str
    info: SourceInfo
    frame: int
    view: str
    side: int
    result: str
    name: str


# Calls by which a machine that joins finds a job's source.


class SourceContentReply(Message):
    """content: digest of the source's content, wherever it lies; files: what a copy of it is made of."""

    content: str
    files: list[str]


class SourceContentRequest(Request[SourceContentReply]):
    """Describes an unchanged source for another machine."""

    info: SourceInfo


class LocateSourceRequest(Request[ProbeReply]):
    """Finds a source of another machine on this one. content: as in `SourceContentReply`; "": only its own path will
    do. copied: the path is a folder that was filled with `SourceContentReply.files`."""

    info: SourceInfo
    path: str
    content: str
    copied: bool = False


# Calls about jobs, for the worker of a device.


class PlanJobReply(Message):
    """stages: in the order to run them; whole: cost of all stages, including those that a keyframe would add."""

    stages: list[PlannedStage]
    whole: float


class PlanJobRequest(Request[PlanJobReply]):
    """Declares a job's stages, and prepares to run them. keyframes: with the corrections. output: None where nothing is
    written. kept: runs of frames that are in the store already: the stage's key, first and last frame. source: the
    source as it lies on the worker's machine, None where `info` was found there."""

    job: int
    info: SourceInfo
    method: str
    parameters: dict[str, str]
    keyframes: list[KeyframeRef]
    model: str
    output: Output | None
    kept: list[tuple[str, int, int]] = []
    source: SourceInfo | None = None


class PublishedFrame(Message):
    """A frame that a stage published. confidence: 0 to 1; reason: why it is low."""

    number: int
    confidence: float
    reason: Reason


class RunStageReply(Message):
    """seconds: what the stage took."""

    seconds: float
    frames: list[PublishedFrame]


class RunStageRequest(Request[RunStageReply]):
    """Runs a stage of a planned job. following: keys of the stages that will be requested next, in order; the worker
    may begin those. inputs: keys of what it reads; publishes: its output is result frames."""

    job: int
    key: str
    following: list[str]
    inputs: tuple[str, ...]
    publishes: bool


class DeliverRequest(Request[Notes]):
    """Finishes writing a job's result, whose frames are all there; reports progress.

    notes: what the job tells at its end, for the sidecar; started: when it did, in seconds since 1970."""

    job: int
    notes: list[str]
    started: float


class JobNotesRequest(Request[Notes]):
    """What the method has to say about a finished job, such as the preset that it chose. Fails where the source changed
    while the job ran."""

    job: int


class ForgetJobRequest(Request[Empty]):
    """Closes what a job held open."""

    job: int


@dataclass(frozen=True)
class CallTypes(Generic[ReplyT]):
    """The arguments and the reply of one call."""

    request: type[Request[ReplyT]]
    reply: type[ReplyT]


CALLS: Mapping[str, CallTypes[Any]] = {
    "probe": CallTypes(ProbeRequest, ProbeReply),
    "check_outputs": CallTypes(CheckOutputsRequest, Empty),
    "check_model": CallTypes(CheckModelRequest, Empty),
    "model_memory": CallTypes(ModelMemoryRequest, ModelMemoryReply),
    "plan_method": CallTypes(PlanMethodRequest, PlanMethodReply),
    "keyframe": CallTypes(KeyframeRequest, KeyframeReply),
    "export_frame": CallTypes(ExportFrameRequest, Notes),
    "export_results": CallTypes(ExportResultsRequest, Empty),
    "plate": CallTypes(PlateRequest, PlateReply),
    "picture": CallTypes(PictureRequest, Empty),
    "source_content": CallTypes(SourceContentRequest, SourceContentReply),
    "locate_source": CallTypes(LocateSourceRequest, ProbeReply),
    "plan_job": CallTypes(PlanJobRequest, PlanJobReply),
    "run_stage": CallTypes(RunStageRequest, RunStageReply),
    "deliver": CallTypes(DeliverRequest, Notes),
    "job_notes": CallTypes(JobNotesRequest, Notes),
    "forget_job": CallTypes(ForgetJobRequest, Empty),
}
"""Every call by its name on the wire."""

CALL_NAMES: Mapping[type[Request[Any]], str] = {types.request: name for name, types in CALLS.items()}


# Lines.


class DeliveryProgress(Message):
    """frames: how many of the result are written so far."""

    frames: int


class CallError(Message):
    """code: a `Code`; message: one sentence for the user; traceback: of a programming error, for the log."""

    code: Code
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, error: PaintoverError) -> CallError:
        """The error as it is sent."""
        return cls(code=error.code, message=error.message)

    def exception(self) -> PaintoverError:
        """The error as the caller gets it."""
        return PaintoverError(self.code, self.message)


class CallLine(Message):
    """A call, whose arguments are still JSON values."""

    version: int = VERSION
    id: int
    call: str
    arguments: dict[str, Any]

    def request(self) -> Request[Any]:
        """The typed arguments. Raises ProtocolError for an unknown call or for arguments that it does not take."""
        try:
            return CALLS[self.call].request.model_validate(self.arguments)
        except (KeyError, ValidationError) as error:
            raise _unreadable(f"the call '{self.call}'", error) from error


class CancelLine(Message):
    """Ends the call of that id."""

    version: int = VERSION
    cancel: int


NO_CALL = 0
"""The id of an error that concerns the connection: a line that the worker could not read."""


class AnswerLine(Message):
    """What a worker sends about a call: exactly one of the three."""

    version: int = VERSION
    id: int
    reply: dict[str, Any] | None = None
    error: CallError | None = None
    progress: DeliveryProgress | None = None


def call_line(number: int, request: Request[Any]) -> CallLine:
    """The line that makes a call."""
    return CallLine(id=number, call=CALL_NAMES[type(request)], arguments=request.model_dump(mode="json"))


def encode(line: CallLine | CancelLine | AnswerLine) -> bytes:
    """The line as it is sent, with its newline."""
    return line.model_dump_json(exclude_none=True).encode() + b"\n"


def decode_request(line: bytes) -> CallLine | CancelLine:
    """What the daemon sent. Raises ProtocolError."""
    values = _values(line)
    return _validated(CancelLine, values) if "cancel" in values else _validated(CallLine, values)


def decode_answer(line: bytes) -> AnswerLine:
    """What a worker sent. Raises ProtocolError."""
    return _validated(AnswerLine, _values(line))


def decode_reply(types: CallTypes[ReplyT], values: dict[str, Any]) -> ReplyT:
    """A call's typed reply. Raises ProtocolError."""
    return _validated(types.reply, values)


LineT = TypeVar("LineT", bound=Message)


def _validated(kind: type[LineT], values: dict[str, Any]) -> LineT:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _unreadable(f"a {kind.__name__}", error) from error


def _values(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise _unreadable("a line", error) from error
    if not isinstance(values, dict):
        raise _unreadable("a line", TypeError("it is no JSON object"))
    if (version := values.get("version")) != VERSION:
        raise ProtocolError(
            Code.FAILED_PRECONDITION,
            f"The engine and its worker are of different versions (protocol {VERSION} and {version}): Paintover was "
            "updated while the engine ran; run `paintover stop`, then try again.",
        )
    return values


def _unreadable(what: str, error: Exception) -> ProtocolError:
    return ProtocolError(
        Code.INTERNAL, f"The engine and its worker misunderstand each other: {what} cannot be read ({error})."
    )
