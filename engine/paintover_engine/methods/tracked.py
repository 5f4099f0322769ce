"""The matte of every frame for methods whose models repaint whole pictures: the draft's own stages, found again where a
draft of the same shot was made; and what such a method publishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.layer import View
from paintover_engine.compose.matte import Plane, feathered
from paintover_engine.methods import draft
from paintover_engine.methods.draft import Side, publish, union
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo

MatteMode = Literal["tracked", "difference", "whole"]
Picture = NDArray[np.float32]  # (H, W, 3)

_SEEN = (4 / 255, 12 / 255)
"""Changes of a picture below the first are none, above the second plainly seen."""


class TrackedStages:
    """The draft's stages of a job, less those that publish."""

    def __init__(self, info: SourceInfo, keyframes: Sequence[KeyframeRef]) -> None:
        planned = draft.plan(info, keyframes, DraftParameters())
        self._carries = [stage for stage in planned if stage.function is draft.carry]
        self._at_key = {stage.frames[0]: stage for stage in planned if stage.function is draft.result_at_key}
        self.prepared = [] if keyframes else planned

    def at_key(self, keyframe: int) -> Stage:
        """The stage that publishes a keyframe's own frame: the paint as it is."""
        return self._at_key[keyframe]

    def of(self, keyframe: int, span: tuple[int, int]) -> tuple[Stage, ...]:
        """(matte, colour, learn, carry …): what tells the matte of a keyframe on a span of frames beside it."""
        carries = [
            stage
            for stage in self._carries
            if stage.inputs[0].frames[0] == keyframe and stage.frames[0] <= span[1] and stage.frames[1] >= span[0]
        ]
        return (*draft.describing(carries[0].inputs[0]), *carries)


class Plan:
    """Collects a job's stages, each once, after all that it needs."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self._keys: set[str] = set()

    def add(self, stage: Stage) -> Stage:
        """Puts a stage last, its inputs before it."""
        for needed in stage.inputs:
            self.add(needed)
        if stage.key not in self._keys:
            self._keys.add(stage.key)
            self.stages.append(stage)
        return stage


@dataclass(frozen=True)
class Repainted:
    """What a model made of a span of frames from one keyframe. matte: where it counts. change: the picture's change
    (H, W, 3) at a frame, in the plate's size and working encoding."""

    matte: Side
    change: Callable[[int], Picture]


def lay(
    context: Context, span: tuple[int, int], sides: Sequence[Repainted], mode: MatteMode, softness: float
) -> Iterator[ResultFrame]:
    """The painted frames of a span: the plate plus each keyframe's change, by its confidence and nearness, in the
    matte. sides: one keyframe, or those before and after."""
    for number in range(span[0], span[1] + 1):
        context.check()
        weights = [side.matte.confidence(number) / abs(number - side.matte.frame) for side in sides]
        shown = [(side, weight / sum(weights)) for side, weight in zip(sides, weights, strict=True) if weight > 0]
        whole = (0, 0, context.info.width, context.info.height)
        windows = [side.matte.window(number) if mode == "tracked" else whole for side, _ in shown]
        window = union(windows)
        view = View(context.plate(number), window)
        x, y, width, height = window
        change = np.zeros_like(view.working)
        alpha = np.zeros((height, width), np.float32)
        for side, share in shown if width and height else ():
            part = side.change(number)[y : y + height, x : x + width]
            inside = _alpha(mode, side.matte, number, view, part) * np.float32(share)
            change += part * inside[..., None]
            alpha += inside
        change /= np.maximum(alpha, np.float32(1e-4))[..., None]
        painted = view.working + change
        confidence = max(side.matte.confidence(number) for side in sides)
        yield publish(context, number, window, painted, feathered(alpha, softness), confidence)


def _alpha(mode: MatteMode, matte: Side, number: int, view: View, change: Picture) -> Plane:
    if mode == "tracked":
        return matte.lay(number, view)[1]
    if mode == "whole":
        return np.ones(change.shape[:2], np.float32)
    low, high = _SEEN
    return np.asarray(np.clip((np.abs(change).max(-1) - low) / (high - low), 0, 1), np.float32)
