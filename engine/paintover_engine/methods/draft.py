"""The draft: a keyframe's edit propagated through the shot without weights and without a GPU.

The stages of `methods.tracking` find where the edit goes; `result` paints it: each frame's own pixels through the
edit's colour map, plus the residual that the map does not explain, inside the matte at the plate's size. Of several
keyframes the two nearest count, by their confidence and distance.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paintover_engine.compose.blend import blended
from paintover_engine.compose.dragging import DragPoints
from paintover_engine.compose.flow import flow_size
from paintover_engine.compose.layer import PaintOptions, PlateRegion
from paintover_engine.compose.matte import feathered
from paintover_engine.compose.prefetch import prefetched
from paintover_engine.compose.tracker import from_bytes
from paintover_engine.media.bounds import union
from paintover_engine.media.correction import Drag
from paintover_engine.methods import disturbances
from paintover_engine.methods.between import PairPlanner, calibrate, colour_pair, load_calibrations, reconcile
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.planning import Span, StageList, intervals, length, outward, overlapping
from paintover_engine.methods.publishing import publish
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, keyframes_of, stage
from paintover_engine.methods.tracking import (
    KeyframeStages,
    TrackingPlanner,
    corrections,
    load_layer,
    matte,
    propagate,
)

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo


@dataclass(frozen=True)
class DraftResultParameters:
    """softness: pixels over which the matte's edge is feathered inwards. fill, motion_blur, grain: `PaintOptions`."""

    softness: float
    fill: bool
    motion_blur: bool
    grain: bool


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: DraftParameters) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    planner, painted = TrackingPlanner(info, parameters.mode, keyframes), keyframes_of(keyframes)
    if not painted:
        return planner.prepared
    stages, look = (
        StageList(),
        DraftResultParameters(
            parameters.softness, parameters.fill == "on", parameters.motion_blur == "on", parameters.grain == "on"
        ),
    )
    keys = [planner.keyframe(key) for key in painted]
    for key in keys:
        stages.add(key.result_at_key)
    for results in _results(planner, keys, (info.first, info.last), look):
        stages.add(results)
    return stages.stages


def _results(
    planner: TrackingPlanner, keys: Sequence[KeyframeStages], shot: Span, look: DraftResultParameters
) -> Iterator[Stage]:
    """The stages that paint the frames beside keyframes. Beyond the outermost keyframe the two nearest count, if there
    are frames between them: what is propagated past a keyframe is calibrated by it."""
    apart = [(first, second) for first, second in itertools.pairwise(keys) if second.frame - first.frame > 1]
    pairs = [PairPlanner(planner, first, second) for first, second in apart]
    for before, after, span in intervals(keys, shot):
        beside = [key for key in (before, after) if key]
        pair = next((each for each in pairs if all(key in each.keys for key in beside)), None)
        for part, inputs in pair.on(span) if pair else _alone(planner, beside[0], span):
            yield _result(part, inputs, look)


def _alone(planner: TrackingPlanner, key: KeyframeStages, span: Span) -> Iterator[tuple[Span, tuple[Stage, ...]]]:
    """The parts of a span beside a keyframe, and of each the inputs that describe its layer there."""
    end = span[1] if span[0] > key.frame else span[0]
    propagated = list(planner.propagated(key, end))
    for part in outward(key.frame, end):
        yield part, key.layer_inputs(overlapping(propagated, part))


def _result(span: Span, inputs: tuple[Stage, ...], parameters: DraftResultParameters) -> Stage:
    """The painted frames of a span, from the layers of one or two keyframes."""
    roots = tuple(dict.fromkeys(root for needed in inputs for root in needed.roots))
    return Stage(result, parameters, inputs, roots, span, needs_keyframe=True, cost=float(length(span)))


def notes(context: Context, stages: Sequence[Stage]) -> list[str]:
    """Sentences for a finished job: what happened to the plate's frames while the edit was tracked through them, and
    which drags moved nothing."""
    return [*disturbances.sentences(context, stages), *_idle_drags(context, stages)]


def _idle_drags(context: Context, stages: Sequence[Stage]) -> Iterator[str]:
    plate = (context.info.width, context.info.height)
    size = flow_size(*plate)
    drags: dict[int, Drag] = {}
    held: set[int] = set()
    for propagated in (each for each in stages if each.function is propagate):
        for drag in corrections(context, [propagated]):
            first, last = propagated.frames  # its corrections are those of the frames around, too
            if isinstance(drag, Drag) and first <= drag.frame <= last:
                drags[drag.frame] = drag
                edit = from_bytes(context.load(propagated).matte[drag.frame - propagated.frames[0]])
                if DragPoints.of(drag, plate, size).is_beside(edit):
                    held.add(drag.frame)
    for frame in sorted(drags.keys() - held):
        x, y = drags[frame].points[0, :2]
        yield f"The drag of frame {frame} from {x:g},{y:g} is on no paint and moves none; begin it on the edit."


@stage(publishes=True)
def result(context: Context, stage: Stage[DraftResultParameters, Iterator[ResultFrame]]) -> Iterator[ResultFrame]:
    """The painted frames of one chunk, from one keyframe or two. The inputs are one after the other those of each
    keyframe's layer; then, of two, their colours, how they compare and the mattes that reconcile them."""
    of_layers = [needed for needed in stage.inputs if needed.function not in (colour_pair, calibrate, reconcile)]
    starts = [index for index, needed in enumerate(of_layers) if needed.function is matte]
    ends = [*starts[1:], len(of_layers)]
    look = stage.parameters
    options = PaintOptions(look.fill, look.motion_blur, look.grain)
    table = next((context.load(needed).table for needed in stage.inputs_of(colour_pair)), None)
    parts = [of_layers[start:end] for start, end in zip(starts, ends, strict=True)]
    layers = [load_layer(context, part, options, table) for part in parts]
    if len(layers) > 1:
        calibrations = load_calibrations(context, stage)
        layers = [layer.calibrated(each) for layer, each in zip(layers, calibrations, strict=True)]
    shares = None
    for between in stage.inputs_of(reconcile):
        found = context.load(between)
        shares = found.share
        if found.matte is not None:
            seen = not all(layer.mapped for layer in layers)  # an edge that either keyframe shows counts for both
            layers = [layer.with_mattes(stage.frames, found.matte, float(seen)) for layer in layers]

    def frame(number: int) -> ResultFrame:
        context.check()
        bounds = union([layer.bounds(number) for layer in layers if layer.confidence(number) > 0])
        share = None if shares is None else from_bytes(shares[number - stage.frames[0]])
        painted, alpha = blended(layers, number, PlateRegion(context.plate(number), bounds), share)
        surest = max(layers, key=lambda layer: layer.weight(number))
        return publish(context, number, bounds, painted, feathered(alpha, look.softness), surest)

    yield from prefetched(frame, range(stage.frames[0], stage.frames[1] + 1))
