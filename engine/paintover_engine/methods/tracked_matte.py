"""The matte of every frame for methods whose models repaint whole pictures: the draft's own stages, found again where a
draft of the same shot was made; and what such a method publishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.keyframe_layer import KeyframeLayer
from paintover_engine.compose.layer import PlateRegion
from paintover_engine.compose.matte import Plane, feathered
from paintover_engine.media.bounds import union
from paintover_engine.methods.planning import Span, intervals, overlapping
from paintover_engine.methods.publishing import publish
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, keyframes_of
from paintover_engine.methods.tracking import TrackingPlanner

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo

MatteMode = Literal["tracked", "difference", "whole"]
Picture = NDArray[np.float32]  # (H, W, 3)

_VISIBLE = (4 / 255, 12 / 255)
"""The matte of a change by its size: 0 at the first and below, 1 at the second and above."""


class TrackedStages:
    """The stages of `methods.tracking` for a job's keyframes and corrections; the kind of edit is found."""

    def __init__(self, info: SourceInfo, keyframes: Sequence[KeyframeRef]) -> None:
        planner = TrackingPlanner(info, "auto", keyframes)
        keys = [planner.keyframe(key) for key in keyframes_of(keyframes)]
        self.prepared = planner.prepared if not keys else []
        self._keys = {key.frame: key for key in keys}
        self._propagated: dict[int, list[Stage]] = {key.frame: [] for key in keys}
        for before, after, (first, last) in intervals(keys, (info.first, info.last)) if keys else ():
            if before:
                self._propagated[before.frame] += planner.propagated(before, last)
            if after:
                self._propagated[after.frame] += planner.propagated(after, first)

    def at_key(self, keyframe: int) -> Stage:
        """The stage that publishes a keyframe's own frame: the paint as it is."""
        return self._keys[keyframe].result_at_key

    def of(self, keyframe: int, span: Span) -> tuple[Stage, ...]:
        """The inputs of a stage that reads the layer of a keyframe on a span of frames beside it
        (`tracking.load_layer`)."""
        return self._keys[keyframe].layer_inputs(overlapping(self._propagated[keyframe], span))


@dataclass(frozen=True)
class Repainted:
    """A model's result for a span of frames, from one keyframe.

    layer: the keyframe's, for the matte. change: the picture's change (H, W, 3) in a frame, at the plate's size in the
    working encoding."""

    layer: KeyframeLayer
    change: Callable[[int], Picture]


def composite(
    context: Context, span: Span, sides: Sequence[Repainted], mode: MatteMode, softness: float
) -> Iterator[ResultFrame]:
    """The painted frames of a span: the plate plus each keyframe's change, weighted by its confidence over its distance
    in frames, in the matte.

    sides: one keyframe, or those before and after. mode: the tracked matte, where the change is visible, or the whole
    frame. softness: pixels over which the matte's edge is feathered inwards."""
    whole = (0, 0, context.info.width, context.info.height)
    for number in range(span[0], span[1] + 1):
        context.check()
        weights = [side.layer.confidence(number) / abs(number - side.layer.frame) for side in sides]
        shown = [(side, weight / sum(weights)) for side, weight in zip(sides, weights, strict=True) if weight > 0]
        bounds = union([side.layer.bounds(number) if mode == "tracked" else whole for side, _ in shown])
        view = PlateRegion(context.plate(number), bounds)
        x, y, width, height = bounds
        change = np.zeros_like(view.working)
        alpha = np.zeros((height, width), np.float32)
        for side, share in shown if width and height else ():
            part = side.change(number)[y : y + height, x : x + width]
            weighted = _alpha(mode, side.layer, number, view, part) * np.float32(share)
            change += part * weighted[..., None]
            alpha += weighted
        change /= np.maximum(alpha, np.float32(1e-4))[..., None]
        painted = view.working + change
        surest = max((side.layer for side in sides), key=lambda layer: layer.confidence(number))
        yield publish(context, number, bounds, painted, feathered(alpha, softness), surest)


def _alpha(mode: MatteMode, layer: KeyframeLayer, number: int, view: PlateRegion, change: Picture) -> Plane:
    """The matte (h, w) of a view of a frame."""
    if mode == "tracked":
        return layer.composite(number, view)[1]
    if mode == "whole":
        return np.ones(change.shape[:2], np.float32)
    low, high = _VISIBLE
    return np.asarray(np.clip((np.abs(change).max(-1) - low) / (high - low), 0, 1), np.float32)
