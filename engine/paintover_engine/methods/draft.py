"""The draft: a keyframe carried through the shot without weights and without a GPU.

flow      motion between neighbouring frames, both ways; of the plate alone, so it is prepared while the artist paints
matte     where the keyframe is painted
colour    what the paint does: a colour map where it is a function of the plate's colour, and whether that is all
region    where it is painted, at the size that motion is seen at. What follows from that and the plate alone is found
          again when the same place is painted otherwise:
learn     a small network that knows the painted thing from its surroundings
carry     outward from a keyframe, frame by frame: the matte moved by flow and corrected by the network and the
          picture's edges; and, where needed, where on the keyframe each pixel stood
result    each frame's own pixels through the colour map, plus what it misses, in the matte at the plate's size;
          between two keyframes, both by their confidence and distance
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.flow import Field, FlowEstimator, flow_size, is_cut, pack, shrink, unpack
from paintover_engine.compose.layer import Layer, View, reach
from paintover_engine.compose.matte import Plane, Window, bounds, difference_matte, feathered
from paintover_engine.compose.matte_net import train
from paintover_engine.compose.paint import SUPPORT, Paint
from paintover_engine.compose.register import Registration
from paintover_engine.compose.tracker import Look, State, Step, Tracker, firmness, from_bytes, to_bytes
from paintover_engine.media.colour import from_working
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, Tensors, stage

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo

CHUNK = 8
"""Frames per stage. Flow chunks lie on an absolute grid of this pitch, so any later edit finds them."""

THIN = 1 / 32
"""A carried matte below this is none: no haze of changes that nobody sees."""

Made = TypeVar("Made")

# Stages share out frames and steps to threads. OpenCV's and BLAS's own would, on pictures this small, mostly wait.
cv2.setNumThreads(1)
threadpool_limits(limits=1, user_api="blas")

SURROUNDINGS = 32
"""Pixels around the paint by which it is judged what kind of paint it is."""

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
    """A keyframe and the last of the stages that describe it."""

    frame: int
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
        return Stage(flow, {}, (), (self._info.fingerprint,), frames, cost=2.0 * _length(frames))

    def _add(self, stage: Stage) -> Stage:
        if stage not in self.stages:
            self.stages.append(stage)
        return stage

    def side(self, key: KeyframeRef) -> _Key:
        """A keyframe's own stages; its own frame is published first of all."""
        roots, frames = (self._info.fingerprint, key.digest), (key.frame, key.frame)
        painted = self._add(Stage(matte, {}, (), roots, frames, needs_keyframe=True))
        self._add(Stage(result_at_key, {}, (painted,), roots, frames, needs_keyframe=True))
        mode = {"mode": self._parameters.mode}
        pair = min(key.frame, self._info.last - 1)  # the motion of what is painted is learned from one neighbour
        flows = tuple(self.flows[first] for first in _grid(pair, pair) if first in self.flows)
        does = Stage(colour, mode, (painted,), roots, frames, needs_keyframe=True, cost=2.0)
        where = Stage(region, {}, (painted, does), roots, frames, needs_keyframe=True, by_content=True, cost=0.1)
        return _Key(key.frame, Stage(learn, {}, (where, *flows), roots[:1], frames, needs_keyframe=True, cost=6.0))

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
        for needed in (*describing(key.learn)[:-1], *key.learn.inputs, key.learn):
            previous = self._add(needed)
        for span in spans[::step]:
            pairs = (span[0] - 1, span[1] - 1) if step > 0 else span
            flows = tuple(self._add(self.flows[first]) for first in _grid(*pairs))
            previous = Stage(
                carry,
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
        inputs = [stage for key, carried in sides if key and carried for stage in (*describing(key.learn), carried)]
        roots = dict.fromkeys(root for stage in inputs for root in stage.roots)
        softness = {"softness": self._parameters.softness}
        self._add(
            Stage(
                result,
                softness,
                tuple(inputs),
                tuple(roots),
                span,
                needs_keyframe=True,
                cost=_length(span),
            )
        )


def describing(learn: Stage) -> tuple[Stage, ...]:
    """What tells of a keyframe beside what is carried from it: its (matte, colour, learn)."""
    matte, colour = learn.inputs[0].inputs  # of its region
    return matte, colour, learn


def _grid(first: int, last: int) -> list[int]:
    """The first frames of the absolute chunks that touch first..last."""
    return list(range(first // CHUNK * CHUNK, last + 1, CHUNK))


def _length(span: tuple[int, int]) -> float:
    return float(span[1] - span[0] + 1)


# The stages' functions.


@stage()
def flow(context: Context, stage: Stage) -> Tensors:
    """`ahead` and `back` (pairs, h, w, 2) int16: packed flow n -> n + 1 and n + 1 -> n; `cut` (pairs,) uint8."""
    first, last = stage.frames
    onward, homeward = FlowEstimator(), FlowEstimator()
    ahead, back, cut = [], [], []
    looks = _made_ahead(lambda number: _look(context, number), range(first, last + 2))
    near = next(looks)
    with ThreadPoolExecutor(1) as beside:
        for far in looks:
            context.check()
            here = beside.submit(homeward.between, far.grey, near.grey)
            there = onward.between(near.grey, far.grey)
            ahead.append(pack(there))
            cut.append(is_cut(near.display, far.display, there))
            back.append(pack(here.result()))
            near = far
    return {"ahead": np.stack(ahead), "back": np.stack(back), "cut": np.array(cut, np.uint8)}


@stage()
def matte(context: Context, stage: Stage) -> Tensors:
    """`matte` (H, W) float16 at the plate's size: the artist's own, or where the keyframe differs from its plate."""
    key = context.keyframe(stage.roots[1])
    found = key.matte if key.matte is not None else difference_matte(context.plate(key.frame).working(), key.working)
    return {"matte": found.astype(np.float16)}


@stage(publishes=True)
def result_at_key(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The keyframe's own frame: the paint as it is."""
    paint = _paint(context, stage.inputs[0])
    whole = (0, 0, context.info.width, context.info.height)
    yield publish(context, stage.frames[0], whole, paint.painted, paint.matte, 1.0)


@stage()
def colour(context: Context, stage: Stage) -> Tensors:
    """What the paint does. `table`: its colour map; `grade` (1,): whether that is all of it, in the whole frame;
    `drawn` (1,): whether it is no function of colour; `soft` (1,): whether its edge is soft."""
    mode = stage.parameters["mode"]
    paint = _paint(context, stage.inputs[0])
    map_ = paint.colour()
    grade = mode == "grade" or (mode == "auto" and paint.is_grade(map_))
    near, _ = paint.cropped(SURROUNDINGS)
    drawn = not grade and (mode == "paint" or (mode == "auto" and near.is_drawn(map_)))
    soft = not grade and near.is_soft()
    return {"table": map_.table, "grade": _flag(grade), "drawn": _flag(drawn), "soft": _flag(soft)}


@stage()
def region(context: Context, stage: Stage) -> Tensors:
    """`region` (h, w) float32, 0..1: where it is painted; `grade` (1,): everywhere, and nothing need be followed;
    `followed` (1,): whether its surface must be."""
    painted, known = (context.load(needed) for needed in stage.inputs)
    support = (painted["matte"].astype(np.float32) > SUPPORT).astype(np.float32)
    # A pixel that happens to have the plate's colour in one edit must not tell it from another of the same place.
    support = cv2.morphologyEx(support, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    where = shrink(support, flow_size(context.info.width, context.info.height))
    followed = bool(known["drawn"][0] or known["soft"][0])
    return {"region": where, "grade": known["grade"], "followed": _flag(followed)}


@stage()
def learn(context: Context, stage: Stage) -> Tensors:
    """How the painted thing is known. `grade` (1,): as it came. Else `region` (h, w) uint8: where it is painted;
    `mapped` (1,): whether its surface must be followed; `firm` (1,) float32: how well its edge is seen in the plate;
    and the matte network's tensors."""
    key = stage.frames[0]
    known = context.load(stage.inputs[0])
    if known["grade"][0]:
        return {"grade": _flag(True)}
    look, painted = _look(context, key), known["region"]
    home, _, _ = _Motion(context, stage.inputs[1:], 1 if key == context.info.last else -1).from_frame(key)
    net = train(look.lab, painted, home)
    firm = firmness(net, look, painted, home)
    return {
        "grade": _flag(False),
        "region": to_bytes(painted),
        "mapped": _flag(bool(painted.any()) and (bool(known["followed"][0]) or firm == 0)),
        "firm": np.array([firm], np.float32),
        **net,
    }


@stage()
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
    then, place, lost = _look(context, numbers[0] - step), state.place, state.confidence == 0

    def prepared(number: int) -> tuple[Step, Registration | None]:
        """A frame, and where it stood on the keyframe, from those of the frame before it."""
        nonlocal then, place, lost
        before, then = then, _look(context, number).prepared()
        made = Step(number, then, before, *motion.from_frame(number))
        lost |= made.cut
        place = place if lost else tracker.register(place, made)
        return made, place

    states = []
    for made, registered in _made_ahead(prepared, numbers):
        context.check()
        if made.cut:
            state = State(np.zeros_like(state.matte), 0.0, registered)
        elif state.confidence > 0:
            state = tracker.advance(state, registered, made)
        states.append(state)
    return tracker.tensors(states[::step])


def _carry_grade(motion: _Motion, numbers: range, before: Mapping[str, NDArray[Any]] | None, step: int) -> Tensors:
    """A grade holds in every frame up to a cut."""
    sure = 1.0 if before is None else float(before["confidence"][_outermost(step)])
    confidence = []
    for number in numbers:
        sure *= not motion.from_frame(number)[2]
        confidence.append(sure)
    return {"confidence": np.array(confidence[::step], np.float32)}


@stage(publishes=True)
def result(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The painted frames of one chunk, from the keyframe on either side.

    The inputs are (matte, colour, learn, carry) of each keyframe."""
    count = len(OF_A_SIDE)
    sides = [Side(context, stage.inputs[i : i + count]) for i in range(0, len(stage.inputs), count)]
    softness = float(stage.parameters["softness"])

    def frame(number: int) -> ResultFrame:
        context.check()
        window = union([side.window(number) for side in sides if side.confidence(number) > 0])
        painted, alpha = _blended(sides, number, View(context.plate(number), window))
        confidence = max(side.confidence(number) for side in sides)
        return publish(context, number, window, painted, feathered(alpha, softness), confidence)

    yield from _made_ahead(frame, range(stage.frames[0], stage.frames[1] + 1))


def _blended(sides: Sequence[Side], number: int, view: View) -> tuple[NDArray[np.float32], Plane]:
    """Painted colour and matte of a view: each keyframe's, by its confidence and nearness."""
    weighed = [(side, side.confidence(number) / abs(number - side.frame)) for side in sides]
    weighed = [(side, weight) for side, weight in weighed if weight > 0]
    if not view.working.size or not weighed:
        return np.zeros_like(view.working), np.zeros(view.working.shape[:2], np.float32)
    if len(weighed) == 1:
        return weighed[0][0].lay(number, view)
    whole = sum(weight for _, weight in weighed)
    painted, alpha = np.zeros_like(view.working), np.zeros(view.working.shape[:2], np.float32)
    for side, weight in weighed:
        colour, share = side.lay(number, view)
        share *= np.float32(weight / whole)
        painted += cv2.multiply(colour, cv2.merge([share] * 3))
        alpha += share
    painted /= np.maximum(alpha, np.float32(1e-4))[..., None]
    return painted, alpha


OF_A_SIDE = (matte, colour, learn, carry)
"""The functions of the stages that a `Side` is read from, in its order."""


class Side:
    """One keyframe's contribution to some frames. stages: its (matte, colour, learn, carry …), which tell of
    them."""

    def __init__(self, context: Context, stages: Sequence[Stage]) -> None:
        matte, painted, learned, *carried = stages
        self.frame = learned.frames[0]
        self._size = (context.info.width, context.info.height)
        self._kept = [(stage.frames, context.load(stage)) for stage in carried]
        does, known = context.load(painted), context.load(learned)
        self._grade = bool(does["grade"][0])
        self._colour = ColourMap(does["table"], 0.0)
        if not self._grade:
            paint = _paint(context, matte) if known["mapped"][0] else None
            self._layer = Layer(paint, self._colour, bool(does["drawn"][0]), float(known["firm"][0]))

    def confidence(self, number: int) -> float:
        """How far what is carried to a frame is to be trusted, 0 to 1; 0 from a cut on."""
        kept, index = self._at(number)
        return float(kept["confidence"][index])

    def window(self, number: int) -> Window:
        """The box that holds all that this keyframe paints in a frame, in the plate's pixels."""
        kept, index = self._at(number)
        return (0, 0, *self._size) if self._grade else reach(kept["matte"][index], self._size)

    def lay(self, number: int, view: View) -> tuple[NDArray[np.float32], Plane]:
        """The painted colour (h, w, 3) and the matte (h, w) of a view of a frame."""
        if self._grade:
            return self._colour(view.working), np.ones(view.working.shape[:2], np.float32)
        kept, index = self._at(number)
        return self._layer.lay(view, kept, index)

    def _at(self, number: int) -> tuple[Mapping[str, NDArray[Any]], int]:
        return next((kept, number - span[0]) for span, kept in self._kept if span[0] <= number <= span[1])


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


@functools.lru_cache(maxsize=2 * CHUNK)
def _look(context: Context, number: int) -> Look:
    """A frame as flow and networks see it: display-encoded, small. Kept, for neighbouring stages ask for the same."""
    width, height = flow_size(context.info.width, context.info.height)
    return Look(shrink(context.plate(number).display(), (2 * width, 2 * height)))


def _made_ahead(make: Callable[[int], Made], numbers: Iterable[int]) -> Iterator[Made]:
    """What `make` makes of each number, in order; the next one is made by a thread meanwhile: decoding, OpenCV and
    OpenColorIO work beside Python."""
    with ThreadPoolExecutor(1) as pool:
        ahead: Future[Made] | None = None
        try:
            for number in numbers:
                made, ahead = ahead, pool.submit(make, number)
                if made:
                    yield made.result()
            if ahead:
                yield ahead.result()
        finally:
            if ahead:
                ahead.cancel()


def _flag(value: bool) -> NDArray[np.uint8]:
    return np.array([value], np.uint8)


def _outermost(step: int) -> int:
    """Which of a chunk's frames, which ascend, is the farthest from the keyframe."""
    return -1 if step > 0 else 0


def union(windows: Sequence[Window]) -> Window:
    """The least window that holds all of them."""
    boxes = [(x, y, x + width, y + height) for x, y, width, height in windows if width]
    if not boxes:
        return 0, 0, 0, 0
    left, top, right, bottom = np.array(boxes).T
    x, y = int(left.min()), int(top.min())
    return x, y, int(right.max()) - x, int(bottom.max()) - y


def publish(
    context: Context, number: int, window: Window, painted: NDArray[np.float32], alpha: Plane, confidence: float
) -> ResultFrame:
    """A window of a painted frame in the shot's encoding, cut to where the matte is. A matte too thin to see is
    none."""
    alpha = np.where(alpha < THIN, np.float32(0), alpha)
    x, y, width, height = bounds(alpha)
    if width == 0:
        return ResultFrame(number, (0, 0, 0, 0), np.zeros((0, 0, 4), np.float16), confidence)
    part = np.s_[y : y + height, x : x + width]
    colour = from_working(np.ascontiguousarray(painted[part]), context.info.colorspace)
    pixels = cv2.merge([colour, alpha[part]])
    half: NDArray[np.float16] = cv2.add(pixels, np.zeros(4), dtype=cv2.CV_16F)  # ten times as quick as NumPy's
    return ResultFrame(number, (window[0] + x, window[1] + y, width, height), half, confidence)
