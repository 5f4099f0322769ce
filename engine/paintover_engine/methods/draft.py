"""The draft: a keyframe carried through the shot without weights and without a GPU.

flow      motion between neighbouring frames, both ways; of the plate alone, so it is prepared while the artist
paints matte     where the keyframe is painted
learn     what the paint does: a colour map where it is a function of the plate's colour, a small network that knows
          the painted thing from its surroundings, and how much is left that only motion can carry
carry     outward from a keyframe, frame by frame: the matte moved by flow and corrected by the network and the
          picture's edges; and, where needed, where on the keyframe each pixel stood
result    each frame's own pixels through the colour map, plus what it misses, in the matte at the plate's size;
          between two keyframes, both by their confidence and distance
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.flow import Field, FlowEstimator, flow_size, is_cut, pack, shrink, unpack
from paintover_engine.compose.layer import Layer, View, reach
from paintover_engine.compose.matte import Plane, Window, bounds, difference_matte, feathered
from paintover_engine.compose.matte_net import train
from paintover_engine.compose.paint import SUPPORT, Paint
from paintover_engine.compose.tracker import Display, State, Step, Tracker, firmness, from_bytes, to_bytes
from paintover_engine.media.colour import from_working
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, Tensors

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo

CHUNK = 8
"""Frames per stage. Flow chunks lie on an absolute grid of this pitch, so any later edit finds them."""

THIN = 1 / 32
"""A carried matte below this is none: no haze of changes that nobody sees."""

# The plan.


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: DraftParameters) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    planner = _Planner(info, parameters)
    if not keyframes:
        return list(planner.flows.values())
    keys = sorted(keyframes, key=lambda key: key.frame)
    sides = [planner.side(key) for key in keys]
    for before, after in zip([None, *sides], [*sides, None], strict=True):
        planner.interval(before, after)
    return planner.stages


@dataclass(frozen=True)
class _Key:
    """The stages that describe one keyframe."""

    frame: int
    matte: Stage
    learn: Stage


class _Planner:
    """Collects stages; every stage is added once, after its inputs."""

    def __init__(self, info: SourceInfo, parameters: DraftParameters) -> None:
        self._info = info
        self._parameters = parameters
        self.flows = {first: self._flow(first) for first in _grid(info.first, info.last - 1)}
        self.stages: list[Stage] = []

    def _flow(self, first: int) -> Stage:
        """The flow of the pairs (n, n + 1) for n in one chunk of the grid, as far as the shot has them."""
        frames = (max(first, self._info.first), min(first + CHUNK - 1, self._info.last - 1))
        return Stage("flow", {}, (), (self._info.fingerprint,), frames, cost=2.0 * _length(frames))

    def _add(self, stage: Stage) -> Stage:
        if stage not in self.stages:
            self.stages.append(stage)
        return stage

    def side(self, key: KeyframeRef) -> _Key:
        """A keyframe's own stages; its own frame is published first of all."""
        roots, frames = (self._info.fingerprint, key.digest), (key.frame, key.frame)
        matte = self._add(Stage("matte", {}, (), roots, frames, needs_keyframe=True))
        published = Stage("result_at_key", {}, (matte,), roots, frames, publishes=True, needs_keyframe=True)
        self._add(published)
        mode = {"mode": self._parameters.mode}
        pair = min(key.frame, self._info.last - 1)  # the motion of what is painted is learned from one neighbour
        inputs = (matte, *(self.flows[first] for first in _grid(pair, pair) if first in self.flows))
        return _Key(key.frame, matte, Stage("learn", mode, inputs, roots, frames, needs_keyframe=True, cost=10.0))

    def interval(self, before: _Key | None, after: _Key | None) -> None:
        """The frames between two neighbouring keyframes, or from the outermost one to the shot's end."""
        first = before.frame + 1 if before else self._info.first
        last = after.frame - 1 if after else self._info.last
        if first > last:
            return
        ahead = self._carries(before, last) if before else iter(())
        if after is None:
            for carried in ahead:
                self._result(carried.frames, (before, carried))
            return
        reached = {carried.frames: carried for carried in ahead}
        for carried in self._carries(after, first):
            self._result(carried.frames, (before, reached.get(carried.frames)), (after, carried))

    def _carries(self, key: _Key, end: int) -> Iterator[Stage]:
        """Carry stages from a keyframe to frame `end`, chunk by chunk outward, each with the flow it needs."""
        step = 1 if end > key.frame else -1
        inner, outer = min(key.frame + step, end), max(key.frame + step, end)
        spans = [(max(first, inner), min(first + CHUNK - 1, outer)) for first in _grid(inner, outer)]
        for needed in (*key.learn.inputs, key.learn):
            previous = self._add(needed)
        for span in spans[::step]:
            pairs = (span[0] - 1, span[1] - 1) if step > 0 else span
            flows = tuple(self._add(self.flows[first]) for first in _grid(*pairs))
            previous = Stage(
                "carry",
                {"step": step},
                (key.learn, previous, *flows),
                key.learn.roots,
                span,
                needs_keyframe=True,
                cost=_length(span),
            )
            yield self._add(previous)

    def _result(self, span: tuple[int, int], *sides: tuple[_Key | None, Stage | None]) -> None:
        """The painted frames of a span from one or two keyframes and what was carried from each."""
        inputs = [stage for key, carried in sides if key and carried for stage in (key.matte, key.learn, carried)]
        roots = dict.fromkeys(root for stage in inputs for root in stage.roots)
        softness = {"softness": self._parameters.softness}
        self._add(
            Stage(
                "result",
                softness,
                tuple(inputs),
                tuple(roots),
                span,
                publishes=True,
                needs_keyframe=True,
                cost=_length(span),
            )
        )


def _grid(first: int, last: int) -> list[int]:
    """The first frames of the absolute chunks that touch first..last."""
    return list(range(first // CHUNK * CHUNK, last + 1, CHUNK))


def _length(span: tuple[int, int]) -> float:
    return float(span[1] - span[0] + 1)


# The stages' functions.


def flow(context: Context, stage: Stage) -> Tensors:
    """`ahead` and `back` (pairs, h, w, 2) int16: packed flow n -> n + 1 and n + 1 -> n; `cut` (pairs,) uint8."""
    first, last = stage.frames
    estimator = FlowEstimator()
    ahead, back, cut = [], [], []
    near = _look(context, first)
    for number in range(first, last + 1):
        context.check()
        far = _look(context, number + 1)
        grey_near, grey_far = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (near, far))
        there = estimator.between(grey_near, grey_far)
        ahead.append(pack(there))
        back.append(pack(estimator.between(grey_far, grey_near)))
        cut.append(is_cut(near, far, there))
        near = far
    return {"ahead": np.stack(ahead), "back": np.stack(back), "cut": np.array(cut, np.uint8)}


def matte(context: Context, stage: Stage) -> Tensors:
    """`matte` (H, W) float16 at the plate's size: the artist's own, or where the keyframe differs from its plate."""
    key = context.keyframe(stage.roots[1])
    found = key.matte if key.matte is not None else difference_matte(context.plate(key.frame).working(), key.working)
    return {"matte": found.astype(np.float16)}


def result_at_key(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The keyframe's own frame: the paint as it is."""
    paint = _paint(context, stage.inputs[0])
    whole = (0, 0, context.info.width, context.info.height)
    yield _publish(context, stage.frames[0], whole, paint.painted, paint.matte, 1.0)


def learn(context: Context, stage: Stage) -> Tensors:
    """What the paint is. `table`: its colour map; `grade` (1,): whether that is all of it, in the whole frame. Else
    `drawn` (1,): whether it is no function of colour; `mapped` (1,): whether its surface must be followed; `region`
    (h, w)
    uint8: where it applies; `firm` (1,) float32: how well its edge is seen in the plate; and the matte network's
    tensors."""
    key, mode = stage.frames[0], stage.parameters["mode"]
    paint = _paint(context, stage.inputs[0])
    colour = paint.colour()
    grade = mode == "grade" or (mode == "auto" and paint.is_grade(colour))
    if grade:
        return {"table": colour.table, "grade": _flag(True)}
    picture = _look(context, key)
    region = shrink((paint.matte > SUPPORT).astype(np.float32), (picture.shape[1], picture.shape[0]))
    home, _, _ = _Motion(context, stage.inputs[1:], 1 if key == context.info.last else -1).from_frame(key)
    net = train(picture, region, home)
    firm = firmness(net, picture, region, home)
    drawn = mode == "paint" or (mode == "auto" and paint.is_drawn(colour))
    return {
        "table": colour.table,
        "grade": _flag(False),
        "drawn": _flag(drawn),
        "mapped": _flag(bool(paint.matte.any()) and (drawn or firm == 0 or paint.is_soft())),
        "region": to_bytes(region),
        "firm": np.array([firm], np.float32),
        **net,
    }


def carry(context: Context, stage: Stage) -> Tensors:
    """What `Tracker.tensors` keeps of the chunk's frames, ascending: `matte`, `confidence` and, where the surface is
    followed, `offset` and `trust`. From a cut on, confidence and matte are 0. Of a grade, `confidence` (frames,)
    alone."""
    learned, previous, *flows = stage.inputs
    step = int(stage.parameters["step"])
    known, motion = context.load(learned), _Motion(context, flows, step)
    before = None if previous is learned else context.load(previous)
    numbers = range(stage.frames[0], stage.frames[1] + 1)[::step]
    if known["grade"][0]:
        return _carry_grade(motion, numbers, before, step)
    key = _look(context, learned.frames[0])
    tracker = Tracker(key, from_bytes(known["region"]), known, float(known["firm"][0]), bool(known["mapped"][0]))
    state = tracker.start() if before is None else tracker.resume(known, before, _outermost(step))
    states, then = [], _look(context, numbers[0] - step)
    for number in numbers:
        context.check()
        home, out, cut = motion.from_frame(number)
        now = _look(context, number)
        if cut:
            state = State(np.zeros_like(state.matte), 0.0, state.place)
        elif state.confidence > 0:
            state = tracker.advance(state, Step(number, now, then, home, out))
        states.append(state)
        then = now
    return tracker.tensors(states[::step])


def _carry_grade(motion: _Motion, numbers: range, before: Mapping[str, NDArray[Any]] | None, step: int) -> Tensors:
    """A grade holds in every frame up to a cut."""
    sure = 1.0 if before is None else float(before["confidence"][_outermost(step)])
    confidence = []
    for number in numbers:
        sure *= not motion.from_frame(number)[2]
        confidence.append(sure)
    return {"confidence": np.array(confidence[::step], np.float32)}


def result(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The painted frames of one chunk, from the keyframe on either side.

    The inputs are (matte, learn, carry) of each keyframe."""
    sides = [_Side(context, *stage.inputs[i : i + 3]) for i in range(0, len(stage.inputs), 3)]
    softness = float(stage.parameters["softness"])
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        window = _union([side.window(number) for side in sides if side.confidence(number) > 0])
        plate = context.plate(number)
        painted, alpha = _blended(sides, number, View(plate.working(), plate.display(), window))
        confidence = max(side.confidence(number) for side in sides)
        yield _publish(context, number, window, painted, feathered(alpha, softness), confidence)


def _blended(sides: Sequence[_Side], number: int, view: View) -> tuple[NDArray[np.float32], Plane]:
    """Painted colour and matte of a view: each keyframe's, by its confidence and nearness."""
    weights = [side.confidence(number) / abs(number - side.frame) for side in sides]
    painted, alpha = np.zeros_like(view.working), np.zeros(view.working.shape[:2], np.float32)
    if not alpha.size:
        return painted, alpha
    for side, weight in zip(sides, weights, strict=True):
        if weight > 0:
            colour, share = side.lay(number, view)
            share *= np.float32(weight / sum(weights))
            painted += colour * share[..., None]
            alpha += share
    painted /= np.maximum(alpha, 1e-4)[..., None]
    return painted, alpha


class _Side:
    """One keyframe's contribution to a chunk of frames."""

    def __init__(self, context: Context, matte: Stage, learned: Stage, carried: Stage) -> None:
        self.frame = learned.frames[0]
        self._first = carried.frames[0]
        self._size = (context.info.width, context.info.height)
        self._kept = context.load(carried)
        known = context.load(learned)
        self._grade = bool(known["grade"][0])
        self._colour = ColourMap(known["table"], 0.0)
        if not self._grade:
            paint = _paint(context, matte) if known["mapped"][0] else None
            self._layer = Layer(paint, self._colour, bool(known["drawn"][0]), float(known["firm"][0]))

    def confidence(self, number: int) -> float:
        return float(self._kept["confidence"][number - self._first])

    def window(self, number: int) -> Window:
        """The box that holds all that this keyframe paints in a frame, in the plate's pixels."""
        return (0, 0, *self._size) if self._grade else reach(self._kept["matte"][number - self._first], self._size)

    def lay(self, number: int, view: View) -> tuple[NDArray[np.float32], Plane]:
        if self._grade:
            return self._colour(view.working), np.ones(view.working.shape[:2], np.float32)
        return self._layer.lay(view, self._kept, number - self._first)


class _Motion:
    """Flow between neighbouring frames, read from the flow stages that a chunk needs. step: 1 away from a keyframe
    that lies before the chunk, -1 from one after it."""

    def __init__(self, context: Context, flows: Sequence[Stage], step: int) -> None:
        self._step = step
        self._chunks = [(stage.frames, context.load(stage)) for stage in flows]

    def from_frame(self, number: int) -> tuple[Field, Field, bool]:
        """Flow from frame `number` to its neighbour on the keyframe's side, the flow from there back, and whether the
        shot cuts between them."""
        pair = number - 1 if self._step > 0 else number
        first, tensors = next((span[0], t) for span, t in self._chunks if span[0] <= pair <= span[1])
        ahead, back = (unpack(tensors[name][pair - first]) for name in ("ahead", "back"))
        home, out = (back, ahead) if self._step > 0 else (ahead, back)
        return home, out, bool(tensors["cut"][pair - first])


def _paint(context: Context, matte: Stage) -> Paint:
    """The paint of the keyframe whose matte stage is given."""
    key = context.keyframe(matte.roots[1])
    alpha = context.load(matte)["matte"].astype(np.float32)
    return Paint.of(context.plate(key.frame).working(), key.working, alpha, given=key.matte is not None)


def _look(context: Context, number: int) -> Display:
    """A frame as flow and networks see it: display-encoded, at the flow's size."""
    return shrink(context.plate(number).display(), flow_size(context.info.width, context.info.height))


def _flag(value: bool) -> NDArray[np.uint8]:
    return np.array([value], np.uint8)


def _outermost(step: int) -> int:
    """Which of a chunk's frames, which ascend, is the farthest from the keyframe."""
    return -1 if step > 0 else 0


def _union(windows: Sequence[Window]) -> Window:
    boxes = [(x, y, x + width, y + height) for x, y, width, height in windows if width]
    if not boxes:
        return 0, 0, 0, 0
    left, top, right, bottom = np.array(boxes).T
    x, y = int(left.min()), int(top.min())
    return x, y, int(right.max()) - x, int(bottom.max()) - y


def _publish(
    context: Context, number: int, window: Window, painted: NDArray[np.float32], alpha: Plane, confidence: float
) -> ResultFrame:
    """A window of a painted frame in the shot's encoding, cut to where the matte is. A matte too thin to see is
    none."""
    alpha = np.where(alpha < THIN, 0, alpha).astype(np.float32)
    x, y, width, height = bounds(alpha)
    part = np.s_[y : y + height, x : x + width]
    colour = from_working(np.ascontiguousarray(painted[part]), context.info.colorspace)
    pixels = np.dstack([colour, alpha[part]]).astype(np.float16)
    place = (window[0] + x, window[1] + y, width, height) if width else (0, 0, 0, 0)
    return ResultFrame(number, place, pixels, confidence)
