"""The stages that track a keyframe's edit through a shot: the draft's own, which give the other methods their mattes.

flow           motion between neighbouring frames, both ways; of the plate alone, so it is prepared while the artist
               paints
long_flow      the same between frames farther apart: between anchors, of which every fourth frame is one
matte          where the keyframe is painted
result_at_key  publishes the keyframe's own frame: the paint as it is
colour         what the paint does: a colour map where it is a function of the plate's colour, and whether that is all
kind           whether that is a grade, and whether it must stick to the surface under it
region         where it is painted, at the flow's size. What depends on these two and the plate alone is found again
               when the same place is painted otherwise:
train_matte    a small network that segments the painted object, while `colour` runs
learn          what the edit is tracked by: that network, where there is something to track
track          outward from a keyframe, from anchor to anchor: the matte, warped by flow and corrected by the network
               and the picture's edges, and by the artist where a frame has a correction; and, where needed, the
               registration of each pixel to the keyframe. The only chain of the draft
propagate      the same in all frames, from the anchors around them
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from paintover_engine.compose import heap, long_range, motion, paint
from paintover_engine.compose import propagate as propagation
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.compressed_paint import separated
from paintover_engine.compose.correcting import DrawnMatte
from paintover_engine.compose.dragging import DragPoints
from paintover_engine.compose.flow import flow_size, shrink
from paintover_engine.compose.keyframe_layer import KeyframeLayer
from paintover_engine.compose.layer import AS_PAINTED, PaintOptions
from paintover_engine.compose.long_range import HOPS, HopChunk, LongRangeMotion
from paintover_engine.compose.matte import compression_noise, difference_matte
from paintover_engine.compose.measured_net import MeasuredNet
from paintover_engine.compose.motion import STRIDE, FlowChunk, Motion
from paintover_engine.compose.paint import ColourEdit, Mode, Paint
from paintover_engine.compose.prefetch import prefetched
from paintover_engine.compose.propagate import Anchors
from paintover_engine.compose.tracker import Propagated, TrackedEdit
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.correction import Correction, Drag
from paintover_engine.methods.planning import CHUNK, Span, chunk_starts, length, outward
from paintover_engine.methods.publishing import publish
from paintover_engine.methods.stage import (
    Context,
    KeyframeRef,
    NoParameters,
    ResultFrame,
    Stage,
    corrections_of,
    stage,
)

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo

# Stages share out frames and steps to threads. OpenCV's and BLAS's own would, on pictures this small, mostly wait.
cv2.setNumThreads(1)
threadpool_limits(limits=1, user_api="blas")
heap.keep_freed_memory()

_SPANS_BEFORE = max(HOPS) // CHUNK
"""Spans of anchors before one that hops from it reach."""

# What travels between the stages.


@dataclass(frozen=True)
class KeyframeMatte:
    """matte: (H, W) float16 0..1 at the plate's size, where the keyframe is painted. compressed: its picture holds the
    noise of lossy compression."""

    matte: NDArray[np.float16]
    compressed: bool


@dataclass(frozen=True)
class ColourParameters:
    """mode: the kind of edit, where the artist chose it."""

    mode: Mode


@dataclass(frozen=True)
class Region:
    """region: (h, w) float32 0..1 at the flow's size, where it is painted."""

    region: NDArray[np.float32]


@dataclass(frozen=True)
class Kind:
    """grade: nothing is to be tracked. surface: the paint must stick to the surface under it."""

    grade: bool
    surface: bool


@dataclass(frozen=True)
class Trained:
    """network: of the painted place; None where so much is painted that it may be a grade, which needs none."""

    network: MeasuredNet | None


@dataclass(frozen=True)
class Learned:
    """edit: what it is tracked by; None of a grade, which is not tracked."""

    grade: bool
    edit: TrackedEdit | None


@dataclass(frozen=True)
class HopParameters:
    """hop: the distance between a pair's frames."""

    hop: int


@dataclass(frozen=True)
class PropagateParameters:
    """step: 1 to later frames, -1 to earlier ones."""

    step: int


AnchorStage = Stage[PropagateParameters, Anchors]


# The plan.


@dataclass(frozen=True)
class KeyframeStages:
    """The stages that describe a keyframe."""

    frame: int
    matte: Stage[NoParameters, KeyframeMatte]
    colour: Stage[ColourParameters, ColourEdit]
    learn: Stage[NoParameters, Learned]
    result_at_key: Stage

    def layer_inputs(self, propagated: Sequence[Stage]) -> tuple[Stage, ...]:
        """The inputs of a stage that composites this keyframe's layer on propagated frames (`load_layer`)."""
        return (self.matte, self.colour, self.learn, *propagated)


class TrackingPlanner:
    """Declares the stages above for a shot. mode: the kind of edit, where the artist chose it. given: the job's
    keyframes and corrections, of which the latter count."""

    def __init__(self, info: SourceInfo, mode: Mode, given: Sequence[KeyframeRef]) -> None:
        self._info = info
        self._corrections = corrections_of(given)
        self._mode = mode
        self._flows = {first: self._flow(first) for first in chunk_starts(info.first, info.last - 1, STRIDE)}
        self._hops = {
            (hop, first): self._hop(hop, first)
            for hop in HOPS
            for first in chunk_starts(info.first, info.last - hop)
            if long_range.firsts_of((max(first, info.first), min(first + CHUNK - 1, info.last - hop)))
        }

    @property
    def prepared(self) -> list[Stage]:
        """The stages that need no keyframe: the flow of the whole shot. What reads the same frames is neighbours."""
        stages: list[Stage] = []
        for start, neighbours in self._flows.items():
            stages.append(neighbours)
            stages += [self._hops[hop, start] for hop in HOPS if (hop, start) in self._hops]
        return stages

    def _flow(self, first: int) -> Stage[NoParameters, FlowChunk]:
        """The flow of the pairs (n, n + 1) for n from one anchor to the next, as far as the shot has them: what is
        learned from a keyframe waits for one such stage."""
        frames = (max(first, self._info.first), min(first + STRIDE - 1, self._info.last - 1))
        return Stage(flow, NoParameters(), (), (self._info.fingerprint,), frames, cost=2.0 * length(frames))

    def _hop(self, hop: int, first: int) -> Stage[HopParameters, HopChunk]:
        """The flow of the pairs (n, n + hop) for the anchors n in one chunk, as far as the shot has them."""
        frames = (max(first, self._info.first), min(first + CHUNK - 1, self._info.last - hop))
        roots = (self._info.fingerprint,)
        return Stage(long_flow, HopParameters(hop), (), roots, frames, cost=0.5 * length(frames))

    def _hops_of(self, hop: int, first: int, last: int) -> tuple[Stage[HopParameters, HopChunk], ...]:
        """The flow of the pairs (n, n + hop) for n from first to last; none where first is beyond last."""
        if first > last:
            return ()
        return tuple(self._hops[hop, start] for start in chunk_starts(first, last) if (hop, start) in self._hops)

    def flows_of(self, first: int, last: int) -> tuple[Stage[NoParameters, FlowChunk], ...]:
        """The flow of the pairs (n, n + 1) for n from first to last."""
        return tuple(self._flows[start] for start in chunk_starts(first, last, STRIDE) if start in self._flows)

    def keyframe(self, key: KeyframeRef) -> KeyframeStages:
        """A keyframe's own stages."""
        none, roots, frames = NoParameters(), (self._info.fingerprint, key.digest), (key.frame, key.frame)
        painted = Stage(matte, none, (), roots, frames, needs_keyframe=True)
        published = Stage(result_at_key, none, (painted,), roots, frames, needs_keyframe=True)
        mode = ColourParameters(self._mode)
        edit = Stage(colour, mode, (painted,), roots, frames, needs_keyframe=True, cost=2.0)
        does = Stage(kind, none, (edit,), roots, frames, needs_keyframe=True, by_content=True, cost=0.1)
        place = Stage(region, none, (painted,), roots, frames, needs_keyframe=True, by_content=True, cost=0.1)
        inputs: tuple[Stage, ...] = (does, place)
        if self._mode != "grade":
            inputs += (Stage(train_matte, none, (place,), roots[:1], frames, needs_keyframe=True, cost=6.0),)
        learned = Stage(learn, none, inputs, roots[:1], frames, needs_keyframe=True, cost=0.1)
        return KeyframeStages(key.frame, painted, edit, learned, published)

    def _tracked(self, key: KeyframeStages, end: int) -> list[AnchorStage]:
        """The chain of stages over the anchors from a keyframe to frame `end`, outward. Each is of the anchors that one
        chunk of flow leads to."""
        step = 1 if end > key.frame else -1
        shift = 1 if step > 0 else 0  # frame n is reached by the pair (n - 1, n)
        stages: list[AnchorStage] = []
        for first, last in outward(key.frame - shift, end - shift):
            span = (first + shift, last + shift)
            hops: list[Stage[HopParameters, HopChunk]] = []
            for hop in HOPS:  # those that lead to the keyframe or to frames beyond it
                if step > 0:
                    hops += self._hops_of(hop, max(span[0] - hop, key.frame), span[1] - hop)
                else:
                    hops += self._hops_of(hop, span[0], min(span[1], key.frame - hop))
            stages.append(
                Stage(
                    track,
                    PropagateParameters(step),
                    (key.learn, *stages[::-1][:_SPANS_BEFORE], *self.flows_of(first, last), *hops),
                    (*key.learn.roots, *self._corrections_of(span)),
                    span,
                    needs_keyframe=True,
                    cost=0.4 * length(span),
                )
            )
        return stages

    def propagated(self, key: KeyframeStages, end: int) -> Iterator[Stage[PropagateParameters, Propagated]]:
        """The stages of the frames from beside a keyframe to frame `end`, outward from one anchor to the next: each is
        independent of the others."""
        step = 1 if end > key.frame else -1
        anchors = self._tracked(key, end)
        for span in outward(key.frame, end, STRIDE):
            # The anchors at both ends of every interval between them that the span touches.
            low, high = max(span[0] - STRIDE, key.frame + 1), min(span[1] + STRIDE, key.frame - 1)
            first, last = (low, span[1]) if step > 0 else (span[0], high)
            around = [each for each in anchors if each.frames[0] <= last and each.frames[1] >= first]
            reach = (low, max(each.frames[1] for each in around)) if step > 0 else span
            pairs = (reach[0] - 1, reach[1] - 1) if step > 0 else reach
            yield Stage(
                propagate,
                PropagateParameters(step),
                (key.learn, *around, *self.flows_of(*pairs)),
                (*key.learn.roots, *self._corrections_of(reach)),
                span,
                needs_keyframe=True,
                cost=float(length(span)),
            )

    def _corrections_of(self, span: Span) -> tuple[str, ...]:
        """The digests of the corrections of a span's frames."""
        return tuple(each.digest for each in self._corrections if span[0] <= each.frame <= span[1])


# The stages' functions.


@stage(output=FlowChunk, version=10)
def flow(context: Context, stage: Stage[NoParameters, FlowChunk]) -> FlowChunk:
    """The motion of the pairs (n, n + 1) for the stage's frames n."""
    first, last = stage.frames
    frames = prefetched(functools.partial(analysis_frame, context), range(first, last + 2))
    return motion.estimate(first, frames, context.check)


@stage(output=HopChunk, version=6)
def long_flow(context: Context, stage: Stage[HopParameters, HopChunk]) -> HopChunk:
    """The motion of the pairs (n, n + hop) for the anchors n among the stage's frames."""
    frame_at = functools.partial(analysis_frame, context)
    return long_range.estimate_hops(stage.parameters.hop, stage.frames, frame_at, context.check)


@stage(output=KeyframeMatte, version=3)
def matte(context: Context, stage: Stage[NoParameters, KeyframeMatte]) -> KeyframeMatte:
    """Where the keyframe differs from its plate; the artist's own matte limits that."""
    key = context.keyframe(stage.roots[1])
    plate = context.plate(key.frame).working()
    noise = compression_noise(plate, key.working)
    found, compressed = difference_matte(plate, key.working, noise), key.compressed or noise > 0
    if compressed:
        found = separated(plate, key.working, found)
    if key.matte is not None:  # at full strength inside: the picture shows the paint without its matte
        found = np.where(found > 0, key.matte, np.float32(0))
    return KeyframeMatte(found.astype(np.float16), compressed)


@stage(publishes=True)
def result_at_key(context: Context, stage: Stage[NoParameters, Iterator[ResultFrame]]) -> Iterator[ResultFrame]:
    """The keyframe's own frame: the paint as it is."""
    (painted,) = stage.inputs_of(matte)
    key = load_paint(context, painted)
    whole = (0, 0, context.info.width, context.info.height)
    yield publish(context, stage.frames[0], whole, key.painted, key.matte)


@stage(output=ColourEdit, version=2)
def colour(context: Context, stage: Stage[ColourParameters, ColourEdit]) -> ColourEdit:
    """What the keyframe's paint does."""
    (painted,) = stage.inputs_of(matte)
    return paint.analysed(load_paint(context, painted), stage.parameters.mode)


@stage(output=Kind)
def kind(context: Context, stage: Stage[NoParameters, Kind]) -> Kind:
    """What kind of edit it is."""
    (edit,) = stage.inputs_of(colour)
    does = context.load(edit)
    return Kind(does.grade, surface=does.drawn or does.soft)


@stage(output=Region, version=2)
def region(context: Context, stage: Stage[NoParameters, Region]) -> Region:
    """Where the keyframe is painted, at the flow's size."""
    (painted,) = stage.inputs_of(matte)
    return Region(paint.region_of(context.load(painted).matte, flow_size(context.info.width, context.info.height)))


@stage(output=Trained, version=3)
def train_matte(context: Context, stage: Stage[NoParameters, Trained]) -> Trained:
    """The network of the painted place. It waits for nothing but the matte, so that of an edit that may be a grade none
    is trained before that is known."""
    (place,) = stage.inputs_of(region)
    painted = context.load(place).region
    return Trained(None if paint.may_be_grade(painted) else _trained(context, stage, painted))


@stage(output=Learned, version=5)
def learn(context: Context, stage: Stage[NoParameters, Learned]) -> Learned:
    """What the edit is tracked by."""
    (does,), (place,) = stage.inputs_of(kind), stage.inputs_of(region)
    found = context.load(does)
    if found.grade:
        return Learned(True, None)
    painted = context.load(place).region
    networks = [context.load(each).network for each in stage.inputs_of(train_matte)]
    network = next(filter(None, networks), None) or _trained(context, stage, painted)
    return Learned(False, network.edit(painted, found.surface))


def _trained(context: Context, stage: Stage, painted: NDArray[np.float32]) -> MeasuredNet:
    """The network of a place, (h, w), on a stage's frame."""
    frame, shot = stage.frames[0], range(context.info.first, context.info.last + 1)
    near = [frame + step * distance for step in (1, -1) for distance in range(1, STRIDE + 1)]
    others = (analysis_frame(context, number) for number in near if number in shot)
    key = analysis_frame(context, frame)
    return MeasuredNet.of(key, painted, *motion.glance(key, others))


@stage(output=Anchors, version=9)
def track(context: Context, stage: Stage[PropagateParameters, Anchors]) -> Anchors:
    """The edit in the anchors among the stage's frames, from the stage before it or from the keyframe."""
    (learned,), step = stage.inputs_of(learn), stage.parameters.step
    before = [context.load(needed) for needed in stage.inputs_of(track)]
    numbers = range(stage.frames[0], stage.frames[1] + 1)[::step]
    moved, frame_at = Motion(flow_chunks(context, stage), step), functools.partial(analysis_frame, context)
    shot = (context.info.first, context.info.last)
    edit, keyframe = context.load(learned).edit, learned.frames[0]
    if edit is None:
        for correction in corrections(context, [stage]):
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"The keyframe {keyframe} grades the whole frame, so that frame {correction.frame} has no matte to "
                "correct; give the keyframe one with --matte, or leave the correction out.",
            )
        return propagation.track_grade(keyframe, before[0] if before else None, numbers, moved, frame_at, shot)
    far = [(each.frames, each.parameters.hop, context.load(each)) for each in stage.inputs_of(long_flow)]
    hops = LongRangeMotion(far, step, flow_size(context.info.width, context.info.height))
    given = _at_flow_size(context, stage)
    return propagation.track(edit, keyframe, before, numbers, moved, hops, frame_at, shot, context.check, given)


@stage(output=Propagated, version=21)
def propagate(context: Context, stage: Stage[PropagateParameters, Propagated]) -> Propagated:
    """The edit in the stage's frames, from the anchors around them."""
    (learned,), step = stage.inputs_of(learn), stage.parameters.step
    anchors = [context.load(needed) for needed in stage.inputs_of(track)]
    numbers = range(stage.frames[0], stage.frames[1] + 1)
    moved, frame_at = Motion(flow_chunks(context, stage), step), functools.partial(analysis_frame, context)
    shot = (context.info.first, context.info.last)
    edit, keyframe = context.load(learned).edit, learned.frames[0]
    if edit is None:
        return propagation.propagate_grade(keyframe, anchors, numbers, moved, frame_at, shot)
    given = _at_flow_size(context, stage)
    return propagation.propagate(edit, keyframe, anchors, numbers, moved, frame_at, shot, context.check, given)


# What the stages of all methods read.


def load_paint(context: Context, painted: Stage[NoParameters, KeyframeMatte]) -> Paint:
    """The paint of the keyframe whose `matte` stage is given."""
    key = context.keyframe(painted.roots[1])
    found = context.load(painted)
    plate, alpha = context.plate(key.frame).working(), found.matte.astype(np.float32)
    return Paint.of(plate, key.working, alpha, given=key.matte is not None, compressed=found.compressed)


def load_layer(
    context: Context,
    stages: Sequence[Stage],
    options: PaintOptions = AS_PAINTED,
    table: NDArray[np.float32] | None = None,
) -> KeyframeLayer:
    """A keyframe's layer. stages: from `KeyframeStages.layer_inputs`. options: of its paint. table: of a colour map
    instead of its own."""
    painted, edit, learned, *propagated = stages
    tracked, does = context.load(learned).edit, context.load(edit)
    return KeyframeLayer(
        learned.frames[0],
        (context.info.width, context.info.height),
        does if table is None else replace(does, table=table),
        tracked,
        [(each.frames, context.load(each)) for each in propagated],
        load_paint(context, painted) if tracked and tracked.mapped else None,
        options,
        [each for each in corrections(context, propagated) if isinstance(each, Correction)],
    )


def corrections(context: Context, propagated: Sequence[Stage]) -> list[Correction | Drag]:
    """Those of the frames of some `propagate` stages."""
    return [context.correction(root) for each in propagated for root in each.roots[1:]]


def _at_flow_size(context: Context, stage: Stage) -> dict[int, DrawnMatte | DragPoints]:
    """The corrections of a stage's frames, by frame."""
    plate = (context.info.width, context.info.height)
    size = flow_size(*plate)
    return {
        each.frame: DragPoints.of(each, plate, size) if isinstance(each, Drag) else DrawnMatte.of(each, size)
        for each in corrections(context, [stage])
    }


@functools.lru_cache(maxsize=max(HOPS) + 2 * CHUNK)
def analysis_frame(context: Context, number: int) -> AnalysisFrame:
    """A frame of the plate, read when it is first looked at. Cached: stages that follow one another read the same
    ones."""
    width, height = flow_size(context.info.width, context.info.height)
    return AnalysisFrame(lambda: shrink(context.plate(number).display(), (2 * width, 2 * height)))


def flow_chunks(context: Context, stage: Stage) -> list[tuple[Span, Callable[[], FlowChunk]]]:
    """What reads the outputs of the flow stages among a stage's inputs, for `Motion`."""
    return [(needed.frames, functools.partial(context.load, needed)) for needed in stage.inputs_of(flow)]
