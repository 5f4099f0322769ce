"""The stages that bring together what was propagated to a frame from the keyframes on either side.

learn_pair     the network of `tracking.learn`, trained on both keyframes
reconcile      the matte where those propagated from either keyframe differ; edits that are registered to their surface
               have none
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose import matte_net, motion, tracker
from paintover_engine.compose import reconcile as reconciling
from paintover_engine.compose.blend import weight
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.matte_net import MatteNet, Shown, TrainedNet
from paintover_engine.compose.motion import Motion
from paintover_engine.compose.tracker import Propagated
from paintover_engine.methods.planning import length
from paintover_engine.methods.stage import Context, NoParameters, Stage, stage
from paintover_engine.methods.tracking import (
    KeyframeStages,
    TrackingPlanner,
    analysis_frame,
    flow_chunks,
    learn,
    propagate,
)


@dataclass(frozen=True)
class LearnedPair:
    """net: the network of both keyframes; None where not both are edits of an object that is seen in the plate."""

    net: TrainedNet | None


@dataclass(frozen=True)
class Reconciled:
    """matte: (frames, h, w) uint8, ascending; None where either keyframe's own counts."""

    matte: NDArray[np.uint8] | None


def reconciled(
    planner: TrackingPlanner,
    before: KeyframeStages,
    after: KeyframeStages,
    propagated: tuple[Stage, Stage],
) -> Stage[NoParameters, Reconciled]:
    """The stage that reconciles a span to which both keyframes were propagated."""
    none, root, (first, last) = NoParameters(), before.learn.roots, propagated[0].frames
    inputs = (before.learn, after.learn, *dict.fromkeys((*before.flow_beside(), *after.flow_beside())))
    pair = Stage(learn_pair, none, inputs, root, (before.frame, after.frame), needs_keyframe=True, cost=6.0)
    flows = planner.flows_of(first - 1, last - 1)
    cost = 0.5 * length((first, last))
    return Stage(reconcile, none, (pair, *propagated, *flows), root, (first, last), needs_keyframe=True, cost=cost)


@stage(output=LearnedPair)
def learn_pair(context: Context, stage: Stage[NoParameters, LearnedPair]) -> LearnedPair:
    """The network of two keyframes."""
    keys = stage.inputs_of(learn)
    edits = [context.load(key).edit for key in keys]
    shown = []
    for key, edit in zip(keys, edits, strict=True):
        if edit is None or edit.mapped:
            return LearnedPair(None)
        frame, beside = key.frames[0], motion.beside(flow_chunks(context, stage), key.frames[0])
        shown.append(Shown(analysis_frame(context, frame).lab, tracker.from_bytes(edit.region), beside))
    return LearnedPair(matte_net.train(*shown))


@stage(output=Reconciled)
def reconcile(context: Context, stage: Stage[NoParameters, Reconciled]) -> Reconciled:
    """The mattes of the stage's frames."""
    (pair,) = stage.inputs_of(learn_pair)
    trained = context.load(pair).net
    if trained is None:
        return Reconciled(None)
    net, moved = MatteNet(trained), Motion(flow_chunks(context, stage), 1)
    sides = [(context.load(side), key) for side, key in zip(stage.inputs_of(propagate), pair.frames, strict=True)]
    mattes = []
    for index, number in enumerate(range(stage.frames[0], stage.frames[1] + 1)):
        context.check()
        weighted = [_weighted(side, index, number - key) for side, key in sides]
        motion_before = moved.to_keyframe_side(number)
        if motion_before.cut or not all(counts for _, counts in weighted):
            mattes.append(max(weighted, key=lambda side: side[1])[0])
            continue
        frames = (analysis_frame(context, number), analysis_frame(context, number - 1))
        mattes.append(reconciling.reconciled(net, weighted, *frames, motion_before.backward))
    return Reconciled(np.stack([tracker.to_bytes(matte) for matte in mattes]))


def _weighted(propagated: Propagated, index: int, distance: int) -> tuple[Plane, float]:
    """The matte of a frame, and its weight."""
    assert propagated.matte is not None
    return tracker.from_bytes(propagated.matte[index]), weight(float(propagated.confidence[index]), distance)
