"""Stages: what a method is made of, each a pure function of its inputs' hashes.

A method declares stages (`plan`); one runner executes them. A stage holds the function that computes it, which
`@stage` makes of a plain function. Its key hashes that function's module, name and version, its parameters and its
inputs' keys, so resume, re-edits that cost only what changed, progress and streaming need no code of their own. An
output equal to an earlier one ends a change there: its readers are found by its content (as in build systems: Mokhov,
Mitchell, Peyton Jones: Build systems à la carte, 2018, "early cutoff").

At a job's end a method may report what it decided, in `notes(context, stages)`: sentences read from its stages' output.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, overload

from typing_extensions import TypeVar

from paintover_engine.compose.reason import Reason
from paintover_engine.media.keyframe_kind import KeyframeKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from paintover_engine.media.correction import Correction, Drag
    from paintover_engine.media.info import SourceInfo
    from paintover_engine.media.keyframe import Keyframe
    from paintover_engine.media.plate import Plate

Tensors = dict[str, "NDArray[Any]"]
Parameters = TypeVar("Parameters", default=Any)
"""A stage's parameters: a frozen dataclass of JSON values."""
Output = TypeVar("Output", default=Any)
"""A stage's output: a frozen dataclass of arrays and numbers (`methods.tensors`)."""
Out = TypeVar("Out")

AHEAD = 64
"""How many of the stages beyond the requested one a worker looks through for such as it can start beside it: of sixteen
cores' worth, several wait for each other."""


class StageFunction(Generic[Parameters, Output]):
    """A function that computes stages of one kind: `function(context, stage)`.

    compute: returns an `output`; where `publishes`, yields `ResultFrame`s, which the job streams.
    output: the dataclass of what it returns; dict: tensors by name.
    version: hashed into the stages' keys; raised when the output changes for the same inputs.
    """

    def __init__(
        self, compute: Callable[[Context, Stage], Any], output: type[Any], version: int, publishes: bool
    ) -> None:
        functools.update_wrapper(self, compute)
        self.compute = compute
        self.output: type[Output] = output
        self.name: str = compute.__name__
        self.path = f"{compute.__module__}.{compute.__qualname__}"
        self.version = version
        self.publishes = publishes

    def __call__(self, context: Context, stage: Stage[Parameters, Output]) -> Output:
        output: Output = self.compute(context, stage)
        return output


@overload
def stage(
    *, output: type[Out], version: int = 1
) -> Callable[[Callable[[Context, Stage[Parameters, Out]], Out]], StageFunction[Parameters, Out]]: ...


@overload
def stage(
    *, publishes: Literal[True], version: int = 1
) -> Callable[
    [Callable[[Context, Stage[Parameters, Iterator[ResultFrame]]], Iterator[ResultFrame]]],
    StageFunction[Parameters, Iterator[ResultFrame]],
]: ...


@overload
def stage(
    *, version: int = 1
) -> Callable[[Callable[[Context, Stage[Parameters, Tensors]], Tensors]], StageFunction[Parameters, Tensors]]: ...


def stage(
    *, output: type[Any] = dict, publishes: bool = False, version: int = 1
) -> Callable[[Callable[[Context, Stage], Any]], StageFunction]:
    """Decorates a module's function as a stage's: `@stage(output=Flow, version=2)`, `@stage(publishes=True)`."""
    return lambda compute: StageFunction(compute, output, version, publishes)


@dataclass(frozen=True)
class NoParameters:
    """The parameters of a stage that depends on its inputs and roots alone."""


@dataclass(frozen=True, eq=False)
class Stage(Generic[Parameters, Output]):
    """One cacheable step of a job.

    function: computes it.
    parameters: a frozen dataclass of JSON values; with the inputs, all that its output depends on.
    inputs: the stages whose output it reads.
    roots: digests of what it reads that no stage computes: the plate's fingerprint, a keyframe's digest.
    frames: first and last frame number that it works on (inclusive), for progress and its label.
    needs_keyframe: False for what can be prepared while the artist paints.
    by_content: its readers' keys depend on its output rather than on its key: where another edit gave an equal output,
        theirs is found again.
    cost: expected work relative to the job's other stages; only ratios matter.
    """

    function: StageFunction[Parameters, Output]
    parameters: Parameters
    inputs: tuple[Stage, ...]
    roots: tuple[str, ...]
    frames: tuple[int, int]
    needs_keyframe: bool = False
    by_content: bool = False
    cost: float = 1.0

    @property
    def name(self) -> str:
        """The function's name: the kind of stage, as progress and labels show it."""
        return self.function.name

    @property
    def publishes(self) -> bool:
        """Whether it yields frames of the result rather than tensors."""
        return self.function.publishes

    def inputs_of(self, function: StageFunction[Any, Out]) -> list[Stage[Any, Out]]:
        """Those of its inputs that a function computes."""
        return [needed for needed in self.inputs if needed.function is function]

    @functools.cached_property
    def key(self) -> str:
        """64 hex digits that name this stage's output in the cache."""
        return self.named([stage.key for stage in self.inputs])

    def named(self, inputs: Sequence[str]) -> str:
        """64 hex digits for this stage's output from inputs that are named so."""
        described = {
            "function": self.function.path,
            "version": self.function.version,
            "parameters": _json(self.parameters),
            "inputs": list(inputs),
            "roots": self.roots,
            "frames": self.frames,
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    @property
    def label(self) -> str:
        """ "flow 24-31": what progress shows."""
        first, last = self.frames
        return f"{self.name} {first}" if first == last else f"{self.name} {first}-{last}"


def _json(parameters: Any) -> dict[str, Any]:
    return dict(parameters) if isinstance(parameters, Mapping) else dataclasses.asdict(parameters)


@dataclass(frozen=True)
class ResultFrame:
    """One painted frame. Outside its bounds the matte is 0.

    number: the frame's number in the shot.
    bounds: x, y, width, height in the plate's pixels from the top left; width = height = 0: nothing is painted.
    painted: (height, width, 4) float16; RGB in the shot's own encoding (as `Plate.rgb`), A the matte 0..1.
    confidence: 0 (do not trust it) to 1; reason: why it is low.
    """

    number: int
    bounds: tuple[int, int, int, int]
    painted: NDArray[np.float16]
    confidence: float
    reason: Reason = Reason.NONE


class Context(Protocol):
    """What a stage's function may read."""

    info: SourceInfo

    def __hash__(self) -> int:
        """By identity: frames may be cached by context."""

    def plate(self, number: int) -> Plate:
        """The untouched frame; ascending runs are quickest."""

    def keyframe(self, digest: str) -> Keyframe:
        """The keyframe whose digest stands in the stage's roots."""

    def correction(self, digest: str) -> Correction | Drag:
        """The correction whose digest stands in the stage's roots."""

    def load(self, stage: Stage[Any, Out]) -> Out:
        """The output of an input stage; its arrays are read-only."""

    def checkpoint(self, stage: Stage) -> Mapping[str, NDArray[Any]] | None:
        """The last state that an interrupted run of this stage saved; None where there is none."""

    def keep_checkpoint(self, stage: Stage, tensors: Tensors) -> None:
        """Saves the state of a long stage in place of the one before. It is removed when the stage ends."""

    def check(self) -> None:
        """Raises when the job was cancelled or paused; call it at least once a frame."""


@dataclass(frozen=True)
class KeyframeRef:
    """A keyframe or a correction as a plan sees it: where it stands, and the digest of its picture and matte."""

    frame: int
    digest: str
    kind: KeyframeKind = KeyframeKind.PAINT


def keyframes_of(given: Sequence[KeyframeRef]) -> list[KeyframeRef]:
    """The painted ones, by frame."""
    return sorted((each for each in given if each.kind is KeyframeKind.PAINT), key=lambda each: each.frame)


def corrections_of(given: Sequence[KeyframeRef]) -> list[KeyframeRef]:
    """The others, by frame."""
    return sorted((each for each in given if each.kind is not KeyframeKind.PAINT), key=lambda each: each.frame)
