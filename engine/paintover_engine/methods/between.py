"""The stages that bring together what was propagated to a frame from two keyframes: those on either side or, beyond the
outermost keyframe, the two nearest.

colour_pair    the colour map of both keyframes, where they are the same recolour
learn_pair     the network of `tracking.learn`, trained on both keyframes
calibrate      how well what was propagated from either agrees with the other's painting
reconcile      the matte where those propagated from either keyframe differ, and whose colours it has; paint that must
               stick to its surface has no such matte
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose import matte_net, motion, tracker
from paintover_engine.compose import reconcile as reconciling
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.calibration import Calibration
from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte_net import MatteNet, Shown, TrainedNet
from paintover_engine.compose.motion import Motion
from paintover_engine.compose.paint import shared_colour
from paintover_engine.compose.tracker import Propagated
from paintover_engine.methods.planning import Span, length, outward, overlapping
from paintover_engine.methods.stage import Context, NoParameters, Stage, stage
from paintover_engine.methods.tracking import (
    KeyframeStages,
    TrackingPlanner,
    analysis_frame,
    colour,
    flow_chunks,
    learn,
    load_paint,
    matte,
    propagate,
)

_BESIDE = 4  # frames beside a keyframe in which another's edit is compared with it


@dataclass(frozen=True)
class SharedColour:
    """table: of the colour map of both keyframes (`ColourMap.table`); None where either is drawn or a grade, or where
    they are not the same edit."""

    table: NDArray[np.float32] | None


@dataclass(frozen=True)
class LearnedPair:
    """net: the network of both keyframes; None where either is a grade or must stick to its surface."""

    net: TrainedNet | None


@dataclass(frozen=True)
class Reconciled:
    """matte, share: (frames, h, w) uint8, ascending, each a `Reconciliation`; the matte is None where either keyframe's
    own counts, the share where neither has one."""

    matte: NDArray[np.uint8] | None = None
    share: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Calibrated:
    """Of the first and the second keyframe, in order; None of a grade, which is everywhere the same."""

    first: Calibration | None
    second: Calibration | None


class PairPlanner:
    """Declares the stages of two keyframes between which there are frames.

    first, second: the keyframes, ascending."""

    def __init__(self, planner: TrackingPlanner, first: KeyframeStages, second: KeyframeStages) -> None:
        self.keys = (first, second)
        self._planner = planner
        self._root = first.learn.roots
        none, frames = NoParameters(), (first.frame, second.frame)
        flows: list[Stage] = [each for key in self.keys for each in planner.flows_of(key.frame - 1, key.frame)]
        shown = (first.learn, second.learn, *dict.fromkeys(flows))
        self._learned = Stage(learn_pair, none, shown, self._root, frames, needs_keyframe=True, cost=6.0)
        painted = (first.matte, second.matte, first.colour, second.colour)
        roots = (*first.matte.roots, *second.matte.roots[1:])
        self._coloured = Stage(colour_pair, none, painted, roots, frames, needs_keyframe=True, cost=2.0)
        between, numbers = (first.frame + 1, second.frame - 1), [each for side in _beside(frames) for each in side]
        holding = (_holding(stages, number) for stages in self._propagated(between) for number in numbers)
        beside = tuple(dict.fromkeys(holding))
        self._calibrated = Stage(calibrate, none, beside, self._root, frames, needs_keyframe=True, cost=0.1)

    def on(self, span: Span) -> Iterator[tuple[Span, tuple[Stage, ...]]]:
        """The parts of a span of frames, between the keyframes or beyond one of them, the nearest to that first; and of
        each the inputs of a stage that composites both layers on it."""
        first, second = self.keys
        sides = self._propagated(span)
        near = first if span[1] < first.frame else second
        for part in outward(near.frame, span[1] if span[0] > near.frame else span[0]):
            of_first, of_second = (overlapping(side, part) for side in sides)
            flows = self._planner.flows_of(part[0] - 1, part[1] - 1)
            inputs: tuple[Stage, ...] = (self._learned, self._calibrated, *of_first, *of_second, *flows)
            cost = 0.5 * length(part)
            mattes = Stage(reconcile, NoParameters(), inputs, self._root, part, needs_keyframe=True, cost=cost)
            layers = (*first.layer_inputs(of_first), *second.layer_inputs(of_second))
            yield part, (*layers, self._coloured, self._calibrated, mattes)

    def _propagated(self, span: Span) -> tuple[list[Stage], list[Stage]]:
        """The stages that propagate the first's edit and the second's to all of a span."""
        ends = (span[1] if span[0] > key.frame else span[0] for key in self.keys)
        forward, backward = (list(self._planner.propagated(key, end)) for key, end in zip(self.keys, ends, strict=True))
        return forward, backward


def _holding(stages: Sequence[Stage[Any, Propagated]], number: int) -> Stage[Any, Propagated]:
    """The one of the stages whose frames hold a number."""
    return next(stage for stage in stages if stage.frames[0] <= number <= stage.frames[1])


@stage(output=SharedColour)
def colour_pair(context: Context, stage: Stage[NoParameters, SharedColour]) -> SharedColour:
    """The colour map of two keyframes."""
    edits = [context.load(needed) for needed in stage.inputs_of(colour)]
    if any(edit.drawn or edit.grade for edit in edits):
        return SharedColour(None)
    paints = [load_paint(context, painted) for painted in stage.inputs_of(matte)]
    found = shared_colour(paints, [ColourMap(edit.table, 0.0) for edit in edits])
    return SharedColour(None if found is None else found.table)


@stage(output=LearnedPair, version=2)
def learn_pair(context: Context, stage: Stage[NoParameters, LearnedPair]) -> LearnedPair:
    """The network of two keyframes."""
    keys = stage.inputs_of(learn)
    edits = [context.load(key).edit for key in keys]
    shown = []
    for key, edit in zip(keys, edits, strict=True):
        if edit is None or edit.drawn:
            return LearnedPair(None)
        frame, beside = key.frames[0], motion.beside(flow_chunks(context, stage), key.frames[0])
        shown.append(Shown(analysis_frame(context, frame).lab, tracker.from_bytes(edit.region), beside))
    return LearnedPair(matte_net.train(*shown))


@stage(output=Calibrated, version=3)
def calibrate(context: Context, stage: Stage[NoParameters, Calibrated]) -> Calibrated:
    """How well the edit of each keyframe agrees with the other beside that: there the other's is as painted but for a
    few steps of motion."""
    forward, backward = (
        [each for each in stage.inputs_of(propagate) if each.parameters.step == step] for step in (1, -1)
    )
    at_second, at_first = _beside(stage.frames)
    first = _calibrated(context, forward, backward, at_second)
    second = _calibrated(context, backward, forward, at_first)
    return Calibrated(first, second)


def _beside(keyframes: Span) -> tuple[range, range]:
    """The frames beside the second of two keyframes and beside the first, between them, the nearest first."""
    first, second = keyframes
    count = min(_BESIDE, second - first - 1)
    return range(second - 1, second - 1 - count, -1), range(first + 1, first + 1 + count)


def _calibrated(
    context: Context, edit: Sequence[Stage[Any, Propagated]], other: Sequence[Stage[Any, Propagated]], numbers: range
) -> Calibration | None:
    """That of an edit in frames beside the other keyframe; None of a grade. edit, other: as either was propagated."""
    found = []
    for number in numbers:
        here, true = (_side(context, _holding(stages, number), number) for stages in (edit, other))
        if here is None or true is None:
            return None
        found.append(Calibration.of(here[0].matte, true[0].matte, here[1]))
    return Calibration.along(found)


def _side(context: Context, propagated: Stage[Any, Propagated], number: int) -> tuple[Evidence, float] | None:
    """The matte of a frame and the confidence in all of it; None of a grade."""
    found, index = context.load(propagated), number - propagated.frames[0]
    if found.matte is None or found.matte_confidence is None:
        return None
    matte, certain = (tracker.from_bytes(plane[index]) for plane in (found.matte, found.matte_confidence))
    return Evidence(matte, certain), float(found.confidence[index])


@stage(output=Reconciled, version=8)
def reconcile(context: Context, stage: Stage[NoParameters, Reconciled]) -> Reconciled:
    """The mattes of the stage's frames and whose colours they have; of paint that must stick to its surface the
    latter alone."""
    (pair,) = stage.inputs_of(learn_pair)
    trained = context.load(pair).net
    net, moved = None if trained is None else MatteNet(trained), Motion(flow_chunks(context, stage), 1)
    calibrations = load_calibrations(context, stage)
    mattes, shares = [], []
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        sides = _sides(context, stage, calibrations, number)
        if not sides:
            return Reconciled()
        before = moved.to_keyframe_side(number) if moved.covers(number) else None
        if (before is not None and before.cut) or not all(side.weight for side in sides):
            found = reconciling.surer(sides)
        elif net is None:
            found = reconciling.Reconciliation(sides[0].evidence.matte, reconciling.shares(sides))
        else:
            frame = previous = analysis_frame(context, number)
            sides = _in_sight(context, sides, frame)
            backward = np.zeros((*frame.lab.shape[:2], 2), np.float32)  # the shot's first frame has none before it
            if before is not None:
                previous, backward = analysis_frame(context, number - 1), before.backward
            found = reconciling.reconciled(net, sides, frame, previous, backward)
        mattes.append(tracker.to_bytes(found.matte))
        shares.append(tracker.to_bytes(found.share))
    return Reconciled(None if net is None else np.stack(mattes), np.stack(shares))


def _sides(
    context: Context, stage: Stage, calibrations: Sequence[Calibration | None], number: int
) -> list[reconciling.Side]:
    """What was propagated to a frame from either keyframe, for a `reconcile` stage; none of grades."""
    sides = []
    holding = [each for each in stage.inputs_of(propagate) if each.frames[0] <= number <= each.frames[1]]
    for propagated, calibration in zip(holding, calibrations, strict=True):
        found = _side(context, propagated, number)
        if found is None or calibration is None:
            return []
        keyframe = propagated.inputs[0].frames[0]
        evidence, confidence = found
        weight, spill = calibration.weight(confidence), calibration.spill(confidence)
        sides.append(reconciling.Side(evidence, weight, spill, keyframe, abs(number - keyframe)))
    return sides


def _in_sight(context: Context, sides: Sequence[reconciling.Side], frame: AnalysisFrame) -> list[reconciling.Side]:
    """The sides of a frame, those near to their keyframes by what their frames show."""
    known = []
    for side, other in zip(sides, reversed(sides), strict=True):
        if side.distance <= reconciling.NEAR:
            flow, returned = motion.glance(frame, [analysis_frame(context, side.keyframe)])
            side = reconciling.in_sight(side, other, flow, returned)
        known.append(side)
    return known


def load_calibrations(context: Context, stage: Stage) -> tuple[Calibration | None, Calibration | None]:
    """Those of a stage's `calibrate` input, of the first keyframe and of the second."""
    (calibrated,) = stage.inputs_of(calibrate)
    found = context.load(calibrated)
    return found.first, found.second
