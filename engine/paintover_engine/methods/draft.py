"""The draft: a keyframe carried through the shot by optical flow, without weights.

    flow      motion between neighbouring frames, both ways; depends on the plate alone
    study     what the keyframe's paint is: its matte and what it did
    carry     outward from a keyframe: where every pixel stood on the keyframe, and how sure that is
    result    the painted colour and the matte of each frame, from the keyframe on either side
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import (
    FlowEstimator,
    consistency,
    flow_size,
    follow,
    grid,
    is_cut,
    pack,
    shrink,
    unpack,
)
from paintover_engine.compose.matte import bounds, difference_matte
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, Tensors

if TYPE_CHECKING:
    from paintover_engine.media.source import SourceInfo

CHUNK = 8
"""Frames per stage. Flow chunks lie on an absolute grid of this pitch, so any later edit finds them."""


# The plan.


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: DraftParameters) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    flows = {first: _flow_stage(info, first) for first in _grid(info.first, info.last - 1)}
    keys = sorted(keyframes, key=lambda key: key.frame)
    if not keys:
        return list(flows.values())
    planner = _Planner(info, parameters, flows)
    studies = {key.frame: planner.study(key) for key in keys}
    for key in keys:
        planner.add(planner.result((key.frame, key.frame), (studies[key.frame],)))
    for before, after in zip([None, *keys], [*keys, None], strict=True):
        planner.interval(studies[before.frame] if before else None, studies[after.frame] if after else None)
    return planner.stages


def _grid(first: int, last: int) -> list[int]:
    """The first frames of the absolute chunks that touch first..last."""
    return list(range(first // CHUNK * CHUNK, last + 1, CHUNK))


def _flow_stage(info: SourceInfo, first: int) -> Stage:
    """The flow of the pairs (n, n + 1) for n in one chunk of the grid, as far as the shot has them."""
    frames = (max(first, info.first), min(first + CHUNK - 1, info.last - 1))
    return Stage("flow", {}, (), (info.fingerprint,), frames, cost=3.0 * (frames[1] - frames[0] + 1))


@dataclass
class _Planner:
    """Collects stages; every stage is added after its inputs."""

    info: SourceInfo
    parameters: DraftParameters
    flows: dict[int, Stage]

    def __post_init__(self) -> None:
        self.stages: list[Stage] = []

    def add(self, stage: Stage) -> Stage:
        if stage not in self.stages:
            self.stages.append(stage)
        return stage

    def study(self, key: KeyframeRef) -> Stage:
        roots = (self.info.fingerprint, key.digest)
        frames = (key.frame, key.frame)
        return self.add(Stage("study", self.parameters.model_dump(), (), roots, frames, needs_keyframe=True))

    def interval(self, before: Stage | None, after: Stage | None) -> None:
        """The frames between two neighbouring keyframes, or from the outermost one to the shot's end."""
        first = before.frames[0] + 1 if before else self.info.first
        last = after.frames[0] - 1 if after else self.info.last
        if first > last:
            return
        if before is None or after is None:  # one-sided: results follow each carried chunk
            study = before or after
            assert study is not None
            for carried in self.carries(study, last if before else first):
                self.add(carried)
                self.add(self.result(carried.frames, (study, carried)))
            return
        forward = [self.add(stage) for stage in self.carries(before, last)]
        by_frames = {stage.frames: stage for stage in forward}
        for carried in self.carries(after, first):
            self.add(carried)
            self.add(self.result(carried.frames, (before, by_frames[carried.frames], after, carried)))

    def carries(self, study: Stage, end: int) -> Iterator[Stage]:
        """Carry stages from a keyframe to frame `end`, chunk by chunk outward; their flow is added as they are made."""
        key = study.frames[0]
        step = 1 if end > key else -1
        inner, outer = min(key + step, end), max(key + step, end)
        spans = [(max(first, inner), min(first + CHUNK - 1, outer)) for first in _grid(inner, outer)]
        previous = study
        for span in spans[::step]:
            pairs = (span[0] - 1, span[1] - 1) if step > 0 else span
            flows = tuple(self.add(self.flows[first]) for first in _grid(*pairs))
            inputs = (study, previous, *flows)
            previous = Stage(
                "carry", {"step": step}, inputs, study.roots, span, needs_keyframe=True, cost=float(span[1] - span[0] + 1)
            )
            yield previous

    def result(self, span: tuple[int, int], inputs: tuple[Stage, ...]) -> Stage:
        """inputs: one or two of (study, carry); a study alone for the keyframe's own frame."""
        roots = tuple(dict.fromkeys(root for stage in inputs for root in stage.roots))
        return Stage(
            "result", self.parameters.model_dump(), inputs, roots, span, publishes=True, needs_keyframe=True,
            cost=float(span[1] - span[0] + 1),
        )


# The stages' functions.


def flow(context: Context, stage: Stage) -> Tensors:
    """`ahead` and `back` (pairs, h, w, 2) int16: packed flow n -> n + 1 and n + 1 -> n; `cut` (pairs,) uint8."""
    first, last = stage.frames
    estimator = FlowEstimator()
    size = flow_size(context.info.width, context.info.height)
    ahead, back, cut = [], [], []
    near = shrink(context.plate(first).display(), size)
    for number in range(first, last + 1):
        context.check()
        far = shrink(context.plate(number + 1).display(), size)
        grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (near, far)]
        there = estimator.between(grey[0], grey[1])
        ahead.append(pack(there))
        back.append(pack(estimator.between(grey[1], grey[0])))
        cut.append(is_cut(near, far, there))
        near = far
    return {"ahead": np.stack(ahead), "back": np.stack(back), "cut": np.array(cut, np.uint8)}


def study(context: Context, stage: Stage) -> Tensors:
    """`matte` (H, W) float16 at the plate's size."""
    key = context.keyframe(stage.roots[1])
    matte = key.matte if key.matte is not None else difference_matte(context.plate(key.frame).working(), key.working)
    return {"matte": matte.astype(np.float16)}


def carry(context: Context, stage: Stage) -> Tensors:
    """`source` (frames, h, w, 2) int16: packed offsets to where each pixel stands on the keyframe, in flow pixels;
    `trust` (frames, h, w) uint8: 255 = surely. Frames ascend."""
    study, previous, *flows = stage.inputs
    step = int(stage.parameters["step"])
    size = flow_size(context.info.width, context.info.height)
    if previous is study:
        offset = np.zeros((size[1], size[0], 2), np.float32)
        trust = np.ones((size[1], size[0]), np.float32)
    else:
        state = context.load(previous)
        outermost = -1 if step > 0 else 0
        offset, trust = unpack(state["source"][outermost]), state["trust"][outermost].astype(np.float32) / 255
    offsets, trusts = [], []
    for number in _outward(stage.frames, step):
        context.check()
        home, out, cut = _motion(context, flows, number, step)
        offset = home + follow(offset, home)
        trust = follow(trust, home) * consistency(home, out) * (not cut)
        offsets.append(pack(offset))
        trusts.append(np.rint(trust * 255).astype(np.uint8))
    return {"source": np.stack(offsets[::step]), "trust": np.stack(trusts[::step])}


def _outward(span: tuple[int, int], step: int) -> range:
    return range(span[0], span[1] + 1) if step > 0 else range(span[1], span[0] - 1, -1)


def _motion(
    context: Context, flows: Sequence[Stage], number: int, step: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """Flow from frame `number` to its neighbour on the keyframe's side, flow from there back out, and whether the shot
    cuts between them."""
    pair = number - 1 if step > 0 else number
    holder = next(stage for stage in flows if stage.frames[0] <= pair <= stage.frames[1])
    tensors = context.load(holder)
    index = pair - holder.frames[0]
    ahead, back = unpack(tensors["ahead"][index]), unpack(tensors["back"][index])
    home, out = (back, ahead) if step > 0 else (ahead, back)
    return home, out, bool(tensors["cut"][index])


def result(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The painted frames of one chunk."""
    sides = [_Side(context, *stage.inputs[i : i + 2]) for i in range(0, len(stage.inputs), 2)]
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        plate = context.plate(number).working()
        parts = [side.edit(number) for side in sides]
        weights = [matte_trust[1] / abs(number - side.frame) if number != side.frame else 1.0
                   for side, matte_trust in zip(sides, [(p[1], p[2]) for p in parts], strict=True)]
        total = sum(weights) or 1.0
        matte = sum(w / total * p[1] for w, p in zip(weights, parts, strict=True))
        residual = sum(w / total * p[0] for w, p in zip(weights, parts, strict=True))
        confidence = max(p[2] for p in parts)
        yield _result_frame(context, number, plate, residual, matte, confidence)


@dataclass
class _Side:
    """One keyframe's contribution to a chunk of frames."""

    context: Context
    study: Stage
    carried: Stage | None = None

    def __post_init__(self) -> None:
        key = self.context.keyframe(self.study.roots[1])
        self.frame = key.frame
        self.matte = self.context.load(self.study)["matte"].astype(np.float32)
        self.residual = (key.working - self.context.plate(key.frame).working()) * (self.matte[..., None] > 0)

    def edit(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """Residual (H, W, 3), matte (H, W) and confidence at a frame."""
        if self.carried is None:
            return self.residual, self.matte, 1.0
        tensors = self.context.load(self.carried)
        index = number - self.carried.frames[0]
        height, width = self.matte.shape
        offset = unpack(tensors["source"][index])
        scale = np.array([width / offset.shape[1], height / offset.shape[0]], np.float32)
        points = grid(width, height) + cv2.resize(offset, (width, height)) * scale
        trust = tensors["trust"][index].astype(np.float32) / 255
        matte = cv2.remap(self.matte, points, None, cv2.INTER_LINEAR)
        residual = cv2.remap(self.residual, points, None, cv2.INTER_LINEAR)
        small = cv2.resize(matte, (trust.shape[1], trust.shape[0]), interpolation=cv2.INTER_AREA)
        confidence = float((small * trust).sum() / max(1e-6, small.sum())) if small.any() else 0.0
        return residual, matte, confidence


def _result_frame(
    context: Context,
    number: int,
    plate: NDArray[np.float32],
    residual: NDArray[np.float32],
    matte: NDArray[np.float32],
    confidence: float,
) -> ResultFrame:
    matte = np.where(matte < 1 / 64, 0.0, matte).astype(np.float32)
    x, y, width, height = bounds(matte)
    cut = np.s_[y : y + height, x : x + width]
    alpha = matte[cut]
    colour = plate[cut] + residual[cut] / np.maximum(alpha, 1 / 64)[..., None]
    if context.info.scene_linear:
        from paintover_engine.media.colour import from_working

        colour = from_working(colour, context.info.colorspace)
    painted = np.dstack([colour, alpha]).astype(np.float16)
    return ResultFrame(number, (x, y, width, height), painted, confidence)
