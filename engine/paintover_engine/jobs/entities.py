"""Shots, keyframes and jobs: what the queue stores and the rest of the engine passes around."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from paintover_engine.compose.reason import Reason
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe_kind import DragPoint, KeyframeKind


class JobState(enum.Enum):
    """The state of a job; the value is the word for people."""

    QUEUED = "queued"
    PREPARING = "preparing"
    WAITING_FOR_KEYFRAME = "waiting for a keyframe"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


UNFINISHED = tuple(state for state in JobState if not state.finished)


@dataclass(frozen=True)
class Shot:
    """A shot as a client described it.

    info: what its source was found to be; None of an uploaded shot whose frames have not come yet.
    uploaded: its frames come from a client into the data folder; `source` is that client's key for them.
    """

    id: str
    source: str
    first: int | None
    last: int | None
    colorspace: str
    uploaded: bool
    info: SourceInfo | None


@dataclass(frozen=True)
class StoredKeyframe:
    """A keyframe of a shot, or a correction of a frame.

    id: "<shot>/<frame>-<first 12 digits of the digest>"; current: no later save of the same frame replaced it.
    files: the paths that its picture and its matte were read from; those sent as bytes have none.
    drag: the points of a drag.
    """

    id: str
    shot: str
    frame: int
    digest: str
    has_matte: bool
    notes: list[str]
    current: bool
    files: list[str] = field(default_factory=list)
    kind: KeyframeKind = KeyframeKind.PAINT
    drag: list[DragPoint] = field(default_factory=list)


@dataclass(frozen=True)
class JobSpec:
    """All that a job's result depends on, and where it is written.

    keyframes: ids, in the order of their frames; empty for a job that waits for the shot's first one.
    corrections: ids likewise, of frames that are no keyframes.
    versioned: the output path that the client gave, of which `output` is this job's numbered version; "" without
        versions.
    owner: the client's own text for whose job it is; "" for the shot's.
    kept: runs of frames that are taken from an earlier job's result: the stage's key, first and last frame.
    """

    method: str
    parameters: Mapping[str, str]
    model: str
    keyframes: Sequence[str]
    output: str
    overwrite: bool
    mattes: str
    prepare_only: bool
    await_keyframe: bool = False
    versioned: str = ""
    owner: str = ""
    kept: Sequence[tuple[str, int, int]] = field(default_factory=list)
    corrections: Sequence[str] = field(default_factory=list)

    @property
    def pictures(self) -> list[str]:
        """The ids of all that the artist gave: keyframes, then corrections."""
        return [*self.keyframes, *self.corrections]


@dataclass
class JobProgress:
    """How far a job is.

    stages_found: stages whose output was in the store already; fraction: 0 to 1; seconds_left: negative while unknown.
    stage: label of the one that runs; prepared: the finished stages that need no keyframe, as a share of the whole
        propagation's cost, 0 to 1.
    phases: the stages by their function.
    """

    stages_total: int = 0
    stages_done: int = 0
    stages_found: int = 0
    frames_total: int = 0
    fraction: float = 0.0
    seconds_left: float = -1.0
    stage: str = ""
    prepared: float = 0.0
    phases: list[Phase] = field(default_factory=list)


class Phase(TypedDict):
    """All stages of one function. seconds: what this job spent on them so far; left: estimate of the seconds that the
    others take, negative while unknown."""

    function: str
    total: int
    done: int
    seconds: float
    left: float


@dataclass(frozen=True)
class JobFrame:
    """A result frame of a job. key: of the stage that published it; confidence: 0 to 1; reason: why it is low."""

    number: int
    key: str
    confidence: float
    reason: Reason = Reason.NONE


@dataclass
class Job:
    """A job in the queue.

    message: a sentence for the user; error: the `Code` of a failed job, "" otherwise.
    created, started, ended: seconds since 1970; sequence: the number of its last change.
    position: its place among jobs of its priority, ascending; frames_done: how many result frames it has.
    """

    id: int
    shot: str
    spec: JobSpec
    state: JobState
    priority: int
    message: str
    error: str
    progress: JobProgress
    created: float
    started: float | None
    ended: float | None
    sequence: int
    position: float = 0.0
    frames_done: int = 0


@dataclass(frozen=True)
class WaitingJob:
    """What decides when and where a job runs. background: it runs only stages that need no keyframe, for nobody who
    waits."""

    id: int
    method: str
    background: bool
    priority: int
