"""The draft: a keyframe's edit propagated through the shot without weights and without a GPU.

The stages of `methods.tracking` find where the edit goes; `result` paints it: each frame's own pixels through the
edit's colour map, plus the residual that the map does not explain, inside the matte at the plate's size. Between two
keyframes both count, by their confidence and distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paintover_engine.compose.blend import blended
from paintover_engine.compose.layer import PlateRegion
from paintover_engine.compose.matte import feathered
from paintover_engine.compose.prefetch import prefetched
from paintover_engine.media.bounds import union
from paintover_engine.methods.between import reconcile, reconciled
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.planning import Span, StageList, intervals, length
from paintover_engine.methods.publishing import publish
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, stage
from paintover_engine.methods.tracking import TrackingPlanner, load_layer, matte

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo


@dataclass(frozen=True)
class DraftResultParameters:
    """softness: pixels over which the matte's edge is feathered inwards. fill: paint on a surface that goes on is
    continued over what comes into view of it."""

    softness: float
    fill: bool


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: DraftParameters) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    planner = TrackingPlanner(info, parameters.mode)
    if not keyframes:
        return planner.prepared
    stages, softness = StageList(), DraftResultParameters(parameters.softness, parameters.fill == "on")
    keys = [planner.keyframe(key) for key in sorted(keyframes, key=lambda key: key.frame)]
    for key in keys:
        stages.add(key.result_at_key)
    for before, after, (first, last) in intervals(keys, (info.first, info.last)):
        ahead: dict[Span, Stage] = {}
        for propagated in planner.propagated(before, last) if before else ():
            ahead[propagated.frames] = stages.add(propagated)
            if before and after is None:
                stages.add(_result(propagated.frames, before.layer_inputs([propagated]), softness))
        for propagated in planner.propagated(after, first) if after else ():
            stages.add(propagated)
            inputs = after.layer_inputs([propagated]) if after else ()
            if before and after:
                sides = (ahead[propagated.frames], propagated)
                inputs = (*before.layer_inputs(sides[:1]), *inputs, reconciled(planner, before, after, sides))
            stages.add(_result(propagated.frames, inputs, softness))
    return stages.stages


def _result(span: Span, inputs: tuple[Stage, ...], parameters: DraftResultParameters) -> Stage:
    """The painted frames of a span, from the layers of one or two keyframes."""
    roots = tuple(dict.fromkeys(root for needed in inputs for root in needed.roots))
    return Stage(result, parameters, inputs, roots, span, needs_keyframe=True, cost=float(length(span)))


@stage(publishes=True)
def result(context: Context, stage: Stage[DraftResultParameters, Iterator[ResultFrame]]) -> Iterator[ResultFrame]:
    """The painted frames of one chunk, from the keyframe on either side. The inputs are one after the other those of
    each keyframe's layer; then, of two, the mattes that reconcile them."""
    of_layers = [needed for needed in stage.inputs if needed.function is not reconcile]
    starts = [index for index, needed in enumerate(of_layers) if needed.function is matte]
    ends = [*starts[1:], len(of_layers)]
    layers = [
        load_layer(context, of_layers[start:end], stage.parameters.fill)
        for start, end in zip(starts, ends, strict=True)
    ]
    for between in stage.inputs_of(reconcile):
        mattes = context.load(between).matte
        layers = layers if mattes is None else [layer.with_mattes(stage.frames, mattes) for layer in layers]
    softness = stage.parameters.softness

    def frame(number: int) -> ResultFrame:
        context.check()
        bounds = union([layer.bounds(number) for layer in layers if layer.confidence(number) > 0])
        painted, alpha = blended(layers, number, PlateRegion(context.plate(number), bounds))
        surest = max(layers, key=lambda layer: layer.confidence(number))
        return publish(context, number, bounds, painted, feathered(alpha, softness), surest)

    yield from prefetched(frame, range(stage.frames[0], stage.frames[1] + 1))
