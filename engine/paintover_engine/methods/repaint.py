"""What methods share that repaint frames with a model: how stages follow from keyframes in a plan, and how the model's
change of a picture becomes a frame of the result."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.detail import Framing, Picture
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods.pictures import ModelView, ViewParameters
from paintover_engine.methods.planning import Span, StageList, intervals, length
from paintover_engine.methods.stage import (
    Context,
    KeyframeRef,
    ResultFrame,
    Stage,
    StageFunction,
    keyframes_of,
    stage,
)
from paintover_engine.methods.tracked_matte import MatteMode, Repainted, TrackedStages, composite
from paintover_engine.methods.tracking import load_layer

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo


@dataclass(frozen=True, kw_only=True)
class CompositeParameters:
    """How a change is composited over the plate. matte: where it applies. softness: pixels that the matte's edge is
    feathered by."""

    matte: MatteMode
    softness: float


@dataclass(frozen=True, kw_only=True)
class ResultParameters(ViewParameters):
    """sides: for each keyframe, how many of the stage's inputs hold its repainted frames, and how many its matte."""

    composite: CompositeParameters
    sides: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class DecodeParameters(ViewParameters):
    """written: the first and the last frame whose change is returned."""

    written: tuple[int, int]


@dataclass(frozen=True)
class ChangedPictures:
    """change: (frames, h, w, 3) float16, edited less unedited picture of the model, by ascending frame number."""

    change: NDArray[np.float16]


@dataclass(frozen=True)
class RepaintedSpan:
    """What one keyframe gives of a span of frames: the stages with the repainted frames."""

    key: KeyframeRef
    span: Span
    stages: tuple[Stage, ...]


class Planner(abc.ABC):
    """Declares a job's stages, outward from its keyframes; `stages` collects them, each once, after its inputs.

    result: the function that publishes a span's frames, by `ResultParameters`."""

    def __init__(
        self,
        info: SourceInfo,
        keyframes: Sequence[KeyframeRef],
        model: ModelFolder,
        view: ModelView,
        composite: CompositeParameters,
        result: StageFunction,
    ) -> None:
        self.info, self.view, self.composite = info, view, composite
        self.keyframes = keyframes_of(keyframes)
        self.roots = (info.fingerprint, model.digest)
        self.tracked = TrackedStages(info, keyframes)
        self.stages = StageList()
        self._result = result

    @abc.abstractmethod
    def prepare(self) -> None:
        """Adds the method's stages that need no keyframe."""

    @abc.abstractmethod
    def walk(self, key: KeyframeRef, end: int) -> Iterator[RepaintedSpan]:
        """Adds the stages that repaint the frames from beside a keyframe to the frame `end`, span by span."""

    def plan(self) -> list[Stage]:
        """The stages in the order that streams results soonest; without keyframes, those to prepare."""
        if not self.keyframes:
            self.prepare()
            for prepared in self.tracked.prepared:
                self.stages.add(prepared)
            return self.stages.stages
        for key in self.keyframes:
            self.stages.add(self.tracked.at_key(key.frame))
        for before, after, span in intervals(self.keyframes, (self.info.first, self.info.last)):
            self._add_interval(before, after, span)
        return self.stages.stages

    def _add_interval(self, before: KeyframeRef | None, after: KeyframeRef | None, span: Span) -> None:
        """The frames between two neighbouring keyframes, or from the outermost one to the shot's end."""
        if before and after:
            self._add_between(before, after, span)
        elif before:
            self._add_results(self.walk(before, span[1]))
        elif after:
            self._add_results(self.walk(after, span[0]))

    def _add_results(self, spans: Iterable[RepaintedSpan]) -> None:
        for repainted in spans:
            self._add_result(repainted.span, [repainted])

    def _add_between(self, before: KeyframeRef, after: KeyframeRef, span: Span) -> None:
        """The frames between two keyframes, each repainted from both."""
        ahead = list(self.walk(before, span[1]))
        for behind in self.walk(after, span[0]):
            for repainted in reversed(ahead):
                both = (max(repainted.span[0], behind.span[0]), min(repainted.span[1], behind.span[1]))
                if both[0] <= both[1]:
                    self._add_result(both, [repainted, behind])

    def _add_result(self, span: Span, sides: Sequence[RepaintedSpan]) -> None:
        """The stage that publishes a span, of one or two keyframes' repainted frames."""
        tracked = [self.tracked.of(side.key.frame, span) for side in sides]
        counts = tuple((len(side.stages), len(stages)) for side, stages in zip(sides, tracked, strict=True))
        self.stages.add(
            Stage(
                self._result,
                ResultParameters(view=self.view, composite=self.composite, sides=counts),
                tuple(s for side, stages in zip(sides, tracked, strict=True) for s in (*side.stages, *stages)),
                (*self.roots, *(side.key.digest for side in sides)),
                span,
                needs_keyframe=True,
                cost=0.05 * length(span),
            )
        )


@dataclass(frozen=True)
class Change:
    """What an edit changed in the model's pictures (frames, h, w, 3) of some frames; a frame's change at the plate's
    size is `change(number)`, (H, W, 3) float32."""

    framing: Framing
    numbers: Sequence[int]
    pictures: NDArray[Any]

    def __call__(self, number: int) -> Picture:
        return self.framing.to_plate(self.pictures[self.numbers.index(number)].astype(np.float32))


@stage(publishes=True)
def result(context: Context, stage: Stage[ResultParameters]) -> Iterator[ResultFrame]:
    """The frames of a span from `ChangedPictures`. The inputs are (decode, those of its layer) of each keyframe."""

    def change(decoded: Sequence[Stage]) -> Change:
        (only,) = decoded
        first, last = only.parameters.written
        framing = stage.parameters.view.framing(context.info)
        return Change(framing, range(first, last + 1), context.load(only).change)

    return result_frames(context, stage, change)


def result_frames(context: Context, stage: Stage, change: Callable[[Sequence[Stage]], Change]) -> Iterator[ResultFrame]:
    """The frames of a span. change: what the edit changed, by the stages that hold a keyframe's repainted frames."""
    parameters: ResultParameters = stage.parameters
    sides, rest = [], list(stage.inputs)
    for repainted, tracked in parameters.sides:
        changed = change(rest[:repainted])
        sides.append(Repainted(load_layer(context, rest[repainted : repainted + tracked]), changed))
        rest = rest[repainted + tracked :]
    yield from composite(context, stage.frames, sides, parameters.composite.matte, parameters.composite.softness)
