"""The draft: a keyframe carried through the shot without weights and without a GPU.

    flow      motion between neighbouring frames, both ways; of the plate alone, so it is prepared while the artist paints
    matte     where the keyframe is painted
    learn     what the paint does: a colour map where it is a function of the plate's colour, a small network that knows
              the painted thing from its surroundings, and how much is left that only motion can carry
    carry     outward from a keyframe, frame by frame: the matte moved by flow and corrected by the network and the
              picture's edges; and, where needed, where on the keyframe each pixel stood
    result    each frame's own pixels through the colour map, plus what it misses, in the matte at the plate's size;
              between two keyframes, both by their confidence and distance
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose import colour_map
from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.flow import (
    FlowEstimator,
    flow_size,
    follow,
    grid,
    is_cut,
    pack,
    shrink,
    unpack,
)
from paintover_engine.compose.matte import (
    apply_coefficients,
    bounds,
    difference_matte,
    extend,
    feathered,
    guided_coefficients,
    sharpen,
    without_specks,
)
from paintover_engine.compose.matte_net import MatteNet, feature_planes, motion_plane, train
from paintover_engine.compose.register import Registrar, Registration
from paintover_engine.media.colour import from_working
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, Tensors

if TYPE_CHECKING:
    from paintover_engine.media.source import SourceInfo

CHUNK = 8
"""Frames per stage. Flow chunks lie on an absolute grid of this pitch, so any later edit finds them."""

REACH = 10
"""How far from where motion puts it the matte is looked for, in flow pixels."""

LEAN = 0.1
"""How much the matte's surroundings weigh beside the network's own log-odds: keeps far lookalikes out and insides whole."""

TRIALS = ((1.5, 0.0), (-1.0, 1.2), (0.0, -1.5))
"""Slips of the matte, in flow pixels, that tell how well its edge is seen."""

SUPPORT = 0.02
"""A keyframe's matte above this is part of the edit."""

MARGIN = 4
"""How far beyond the carried matte the full-size one may reach, in flow pixels."""

THIN = 1 / 32
"""A carried matte below this is none: no haze of changes that nobody sees."""

Window = tuple[int, int, int, int]  # x, y, width, height


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


def matte(context: Context, stage: Stage) -> Tensors:
    """`matte` (H, W) float16 at the plate's size: the artist's own, or where the keyframe differs from its plate."""
    key = context.keyframe(stage.roots[1])
    found = key.matte if key.matte is not None else difference_matte(context.plate(key.frame).working(), key.working)
    return {"matte": found.astype(np.float16)}


def result_at_key(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The keyframe's own frame: the paint as it is."""
    paint = _Paint.of(context, stage.inputs[0])
    whole = (0, 0, context.info.width, context.info.height)
    yield _publish(context, paint.frame, whole, paint.painted, paint.matte, 1.0)


def learn(context: Context, stage: Stage) -> Tensors:
    """What the paint does: `table`, its colour map; `grade` (1,) uint8, whether it is one for the whole frame; `region` (h, w) uint8, where it applies; `firm` (1,) float32,
    how well its edge is seen in the plate; `mapped` (1,) uint8, whether its surface must be followed; and the matte
    network's weights."""
    paint = _Paint.of(context, stage.inputs[0])
    mode = stage.parameters["mode"]
    size = flow_size(context.info.width, context.info.height)
    colour = _learn_colour(paint)
    grade = mode == "grade" or (mode == "auto" and _is_grade(paint, colour))
    if grade:
        return {"table": colour.table, "grade": np.ones(1, np.uint8)}
    region = shrink((paint.matte > SUPPORT).astype(np.float32), size)
    picture = shrink(context.plate(paint.frame).display(), size)
    home = _Motion(context, stage.inputs[1:], 1 if paint.frame == context.info.last else -1).to(paint.frame)[0]
    net = train(picture, region, home)
    firm = _firmness(MatteNet(net), picture, region, home)
    drawn = mode == "paint" or (mode == "auto" and _missed(paint, colour) > 0.02)
    mapped = drawn or firm == 0 or _is_soft(paint.matte)
    return {
        "table": colour.table,
        "grade": np.zeros(1, np.uint8),
        "mapped": np.array([mapped], np.uint8),
        "drawn": np.array([drawn], np.uint8),
        "firm": np.array([firm], np.float32),
        "region": _to_bytes(region),
        **net,
    }


def _learn_colour(paint: _Paint) -> ColourMap:
    rows, columns = np.nonzero(paint.matte > 0.5)
    if len(rows) == 0:
        rows, columns = np.nonzero(paint.matte > 0)
    return colour_map.fit(paint.plate[rows, columns], paint.painted[rows, columns], rows // 16 + columns // 16)


def _is_grade(paint: _Paint, colour: ColourMap) -> bool:
    """Whether the same colour map holds in the whole frame: it explains what is painted, and changes nothing else."""
    step = max(1, min(paint.matte.shape) // 200)
    plate, painted, matte = (np.ascontiguousarray(a[::step, ::step]) for a in (paint.plate, paint.key, paint.matte))
    if matte.mean() < 0.5:
        return False
    change = painted - plate
    missed = colour(plate) - painted
    return bool((missed**2).mean() < 0.02 * (change**2).mean() and np.quantile(np.abs(missed), 0.99) < 0.06)


def _missed(paint: _Paint, colour: ColourMap) -> float:
    """The share of the painted region around whose pixels the paint is plainly not a function of the plate's colour."""
    inside = (paint.matte > 0.5).astype(np.float32)
    missed = ((colour(paint.plate) - paint.painted) ** 2).sum(-1) * inside
    change = ((paint.painted - paint.plate) ** 2).sum(-1) * inside
    missed, change = (cv2.blur(energy, (31, 31)) for energy in (missed, change))
    return float((missed > 0.06 * change)[inside > 0].mean()) if inside.any() else 0.0


def _showing_through(paint: _Paint, inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 1) 0..1: how much of the plate's own detail the paint lets through around each pixel: 0 for opaque paint, 1 where
    it only adds to the plate. The slope of the picture's fine detail on the plate's, as in a guided filter (He et al. 2010)."""
    plate, painted = (picture - cv2.GaussianBlur(picture, (0, 0), 2) for picture in (paint.plate, paint.painted))
    together = cv2.GaussianBlur((plate * painted).sum(-1) * inside, (0, 0), 3)
    alone = cv2.GaussianBlur((plate * plate).sum(-1) * inside, (0, 0), 3)
    return np.clip((together + 1e-6) / (alone + 1e-6), 0, 1)[..., None]


def _is_soft(matte: NDArray[np.float32]) -> bool:
    """Whether the matte fades over more than an antialiased edge does: partial pixels far from both 0 and 1."""
    partial = ((matte > SUPPORT) & (matte < 0.95)).astype(np.uint8)
    wide = cv2.morphologyEx(partial, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return bool(wide.sum() > 0.05 * max(1, (matte > SUPPORT).sum()))


def _firmness(
    net: MatteNet, picture: NDArray[np.uint8], region: NDArray[np.float32], home: NDArray[np.float32]
) -> float:
    """0..1: how much nearer to the keyframe's matte its slipped copies come by looks. 0 where its edge is no edge of the
    plate (a mark on a plain door), 1 where it is an object's outline."""
    before = after = 1e-6
    for slip in TRIALS:
        shift = np.broadcast_to(np.array(slip, np.float32), (*region.shape, 2))
        moved = follow(region, shift)
        mended = _segment(net, moved, picture, follow(picture, shift), home)
        before += float(np.abs(moved - region).sum())
        after += float(np.abs(mended - region).sum())
    return float(np.clip(2 * (1 - after / before) - 0.5, 0, 1))


def carry(context: Context, stage: Stage) -> Tensors:
    """`matte` (frames, h, w) uint8: where the edit applies; `confidence` (frames,) float32; and where the edit is carried by
    motion, `offset` (frames, h, w, 2) int16, packed, to each pixel's place on the keyframe, and `trust` (frames, h, w) uint8.
    Frames ascend. Beyond a cut all is 0."""
    learned, previous, *flows = stage.inputs
    step = int(stage.parameters["step"])
    tracker, motion = _Tracker(context, learned), _Motion(context, flows, step)
    state = tracker.start() if previous is learned else tracker.resume(context.load(previous), -1 if step > 0 else 0)
    states = []
    for number in _outward(stage.frames, step):
        context.check()
        home, out, cut = motion.to(number)
        state = state.ended() if cut else tracker.advance(state, number, number - step, home, out)
        states.append(state)
    return tracker.tensors(states[::step])


@dataclass
class _State:
    """What is known of one frame: matte (h, w) 0..1, its confidence, and where its pixels stood on the keyframe."""

    matte: NDArray[np.float32]
    confidence: float
    place: Registration | None

    def ended(self) -> _State:
        return replace(self, matte=np.zeros_like(self.matte), confidence=0.0)


class _Tracker:
    """Carries a keyframe's matte, and where needed its surface, from frame to frame outward."""

    def __init__(self, context: Context, learned: Stage) -> None:
        tensors = context.load(learned)
        self._context = context
        self._size = flow_size(context.info.width, context.info.height)
        self._grade = bool(tensors["grade"][0])
        if self._grade:
            return
        self._region = _from_bytes(tensors["region"])
        self._mapped = bool(tensors["mapped"][0])
        self._firm = float(tensors["firm"][0])
        self._learned = tensors
        self._net = MatteNet(tensors)
        self._picture: tuple[int, NDArray[np.uint8]] = (learned.frames[0], self._look(learned.frames[0]))
        self._registrar = Registrar(_grey(self._picture[1]), self._region) if self._mapped else None

    def _look(self, number: int) -> NDArray[np.uint8]:
        return shrink(self._context.plate(number).display(), self._size)

    def start(self) -> _State:
        width, height = self._size
        if self._grade:
            return _State(np.ones((height, width), np.float32), 1.0, None)
        return _State(self._region, 1.0, Registration.identity(height, width) if self._mapped else None)

    def resume(self, tensors: Mapping[str, NDArray[Any]], index: int) -> _State:
        """The state that an earlier chunk ended with."""
        if not self._grade:
            self._net = MatteNet({**self._learned, **tensors})
        place = None
        if "offset" in tensors:
            place = Registration(unpack(tensors["offset"][index]), _from_bytes(tensors["trust"][index]))
        return _State(_from_bytes(tensors["matte"][index]), float(tensors["confidence"][index]), place)

    def tensors(self, states: Sequence[_State]) -> Tensors:
        tensors: Tensors = {
            "matte": np.stack([_to_bytes(state.matte) for state in states]),
            "confidence": np.array([state.confidence for state in states], np.float32),
        }
        if not self._grade:
            tensors |= self._net.learned()
        places = [state.place for state in states if state.place is not None]
        if places:
            tensors["offset"] = np.stack([pack(place.offset) for place in places])
            tensors["trust"] = np.stack([_to_bytes(place.trust) for place in places])
        return tensors

    def advance(
        self, state: _State, number: int, before: int, home: NDArray[np.float32], out: NDArray[np.float32]
    ) -> _State:
        """The state at frame `number`, from that at `before`. home: flow from `number` to `before`; out: the way back."""
        if self._grade or state.confidence == 0.0:
            return state
        if self._picture[0] != before:
            self._picture = (before, self._look(before))
        then, now = self._picture[1], self._look(number)
        self._picture = (number, now)
        prior = follow(state.matte, home)
        if state.place is None or self._registrar is None:
            found = _segment(self._net, prior, now, follow(then, home), home, np.random.default_rng(number))
            return _State(found, _less_sure(state.confidence, found, prior), None)
        place = self._registrar.advance(state.place, home, out, _grey(now))
        on_key = follow(self._region, place.offset)
        trust = _sure(place.trust)
        prior = prior + trust * (on_key - prior)
        found = _segment(self._net, prior, now, follow(then, home), home, np.random.default_rng(number))
        found = found + (1 - self._firm) * trust * (on_key - found)
        return _State(found, _less_sure(state.confidence, found, prior), place)


def _sure(trust: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip((trust - 0.1) / 0.4, 0, 1)


def _less_sure(confidence: float, found: NDArray[np.float32], prior: NDArray[np.float32]) -> float:
    """The confidence of a frame whose matte had to be corrected from `prior` to `found`."""
    agreement = 2 * float(np.minimum(found, prior).sum()) / max(1e-6, float(found.sum() + prior.sum()))
    return max(1e-3, confidence * agreement**0.25)


def _segment(
    net: MatteNet,
    prior: NDArray[np.float32],
    now: NDArray[np.uint8],
    moved: NDArray[np.uint8],
    home: NDArray[np.float32],
    learning: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """The matte (h, w) of a frame: what motion says (`prior`), corrected by what the pixels look like and their edges.

    now: the frame's picture; moved: the one before, moved onto this one by the flow `home`. learning: whence to draw the sure
    pixels that the network learns."""
    found = np.zeros_like(prior)
    where = cv2.dilate(prior, _disc(REACH)) > 0.1
    x, y, width, height = bounds(where.astype(np.float32), 3 * REACH)
    if width < 4 or height < 4:
        return found
    part = np.s_[y : y + height, x : x + width]
    planes = feature_planes(now[part], moved[part], prior[part], motion_plane(home, prior)[part])
    odds = np.clip(net.odds(planes, where[part]), -6, 6)
    near = np.clip(cv2.GaussianBlur(prior[part], (0, 0), 4), 0.02, 0.98)
    inside = 1 / (1 + np.exp(-(odds + LEAN * np.log(near / (1 - near)))))
    guide = now[part].astype(np.float32) / 255
    smooth = apply_coefficients(guided_coefficients(guide, inside, 4, 1e-4), guide)
    found[part] = without_specks(sharpen(smooth, 2.0), 12)
    if learning is not None:
        far = cv2.dilate(np.maximum(found, prior)[part], _disc(REACH)) < 0.1
        deep = (cv2.erode(np.minimum(found, prior)[part], _disc(4)) > 0.9) & (odds > 1)
        net.learn(planes, far, deep, learning)
    return found


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))


def _disc(radius: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _to_bytes(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(plane * 255).astype(np.uint8)


def _from_bytes(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
    return plane.astype(np.float32) / 255


def _outward(span: tuple[int, int], step: int) -> range:
    return range(span[0], span[1] + 1) if step > 0 else range(span[1], span[0] - 1, -1)


class _Motion:
    """Flow between neighbouring frames, read from the flow stages that a chunk needs."""

    def __init__(self, context: Context, flows: Sequence[Stage], step: int) -> None:
        self._step = step
        self._chunks = [(stage.frames, context.load(stage)) for stage in flows]

    def to(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
        """Flow from frame `number` to its neighbour on the keyframe's side, the flow from there back, and whether the shot
        cuts between them."""
        pair = number - 1 if self._step > 0 else number
        first, tensors = next((span[0], t) for span, t in self._chunks if span[0] <= pair <= span[1])
        ahead, back = (unpack(tensors[name][pair - first]) for name in ("ahead", "back"))
        home, out = (back, ahead) if self._step > 0 else (ahead, back)
        return home, out, bool(tensors["cut"][pair - first])


def result(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The painted frames of one chunk, from the keyframe on either side.

    The inputs are (matte, learn, carry) of each keyframe."""
    sides = [_Side(context, *stage.inputs[i : i + 3]) for i in range(0, len(stage.inputs), 3)]
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        confidence = max(side.confidence(number) for side in sides)
        window = _union([side.window(number) for side in sides if side.confidence(number) > 0])
        if window is None:
            yield ResultFrame(number, (0, 0, 0, 0), np.zeros((0, 0, 4), np.float16), confidence)
            continue
        painted, matte = _blended(sides, number, _Picture(context, number, window))
        yield _publish(context, number, window, painted, feathered(matte, float(stage.parameters["softness"])), confidence)


def _blended(
    sides: Sequence[_Side], number: int, picture: _Picture
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Painted colour and matte in the picture's window: each keyframe's, by its confidence and nearness."""
    weights = [side.confidence(number) / abs(number - side.frame) for side in sides]
    painted, matte = np.zeros_like(picture.working), np.zeros(picture.working.shape[:2], np.float32)
    for side, weight in zip(sides, weights, strict=True):
        if weight > 0:
            share = np.float32(weight / sum(weights))
            colour, alpha = side.edit(number, picture)
            alpha *= share
            painted += colour * alpha[..., None]
            matte += alpha
    painted /= np.maximum(matte, 1e-4)[..., None]
    return painted, matte


def _union(windows: Sequence[Window | None]) -> Window | None:
    boxes = [(x, y, x + width, y + height) for window in windows if window for x, y, width, height in [window]]
    if not boxes:
        return None
    left, top = (min(box[i] for box in boxes) for i in (0, 1))
    right, bottom = (max(box[i] for box in boxes) for i in (2, 3))
    return left, top, right - left, bottom - top


class _Picture:
    """A window of a frame of the plate.

    working: (h, w, 3), the window at the plate's size; small: (h, w, 3) 0..1, the whole frame at the flow's size.
    """

    def __init__(self, context: Context, number: int, window: Window) -> None:
        plate = context.plate(number)
        x, y, width, height = self.window = window
        self.size = (context.info.width, context.info.height)
        self.working = np.ascontiguousarray(plate.working()[y : y + height, x : x + width])
        self.small = shrink(plate.display(), flow_size(*self.size)).astype(np.float32) / 255

    def enlarged(self, small: NDArray[np.float32]) -> NDArray[np.float32]:
        """The window of a field (h, w[, c]) of the flow's size, at the plate's size."""
        x, y, width, height = self.window
        across, down = small.shape[1] / self.size[0], small.shape[0] / self.size[1]
        to_small = np.array(
            [[across, 0, (x + 0.5) * across - 0.5], [0, down, (y + 0.5) * down - 0.5]], np.float64
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(small, to_small, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)


class _Side:
    """One keyframe's contribution to a chunk of frames."""

    def __init__(self, context: Context, matte: Stage, learned: Stage, carried: Stage) -> None:
        self.frame = learned.frames[0]
        self._size = (context.info.width, context.info.height)
        self._first = carried.frames[0]
        self._carried = context.load(carried)
        tensors = context.load(learned)
        self._colour = ColourMap(np.array(tensors["table"]), 0.0)
        self._grade = bool(tensors["grade"][0])
        self._mapped = not self._grade and bool(tensors["mapped"][0])
        if self._mapped:
            self._firm = float(tensors["firm"][0])
            paint = _Paint.of(context, matte)
            self._matte = paint.matte
            self._profile = _profile(paint.matte)
            inside = (paint.matte > 0.1).astype(np.float32)
            self._through = extend(_showing_through(paint, inside), inside) if tensors["drawn"][0] else None
            base = self._colour(paint.plate) if self._through is None else paint.plate * self._through
            self._missed = extend(paint.painted - base, inside)

    def confidence(self, number: int) -> float:
        return float(self._carried["confidence"][number - self._first])

    def window(self, number: int) -> Window | None:
        """The box that holds everything this keyframe paints in a frame, in the plate's pixels; None for nothing."""
        if self._grade:
            return (0, 0, *self._size)
        matte = self._carried["matte"][number - self._first]
        height, width = matte.shape
        x, y, w, h = bounds(matte, MARGIN)
        if w == 0:
            return None
        left, right = x * self._size[0] // width, -(-(x + w) * self._size[0] // width)
        top, bottom = y * self._size[1] // height, -(-(y + h) * self._size[1] // height)
        return left, top, min(right, self._size[0]) - left, min(bottom, self._size[1]) - top

    def edit(self, number: int, picture: _Picture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Painted colour (h, w, 3) and matte (h, w) in the picture's window."""
        if self._grade:
            return self._colour(picture.working), np.ones(picture.working.shape[:2], np.float32)
        index = number - self._first
        matte = _at_full_size(_from_bytes(self._carried["matte"][index]), picture)
        if not self._mapped:
            return self._colour(picture.working), matte
        points = self._on_key(unpack(self._carried["offset"][index]), picture)
        trust = picture.enlarged(_from_bytes(self._carried["trust"][index]))
        missed = _seen(self._missed, points, cv2.INTER_CUBIC)
        if self._through is None:
            painted = self._colour(picture.working) + missed * np.minimum(4 * trust, 1)[..., None]
        else:
            painted = picture.working * _seen(self._through, points)[..., None] + missed
        matte *= _seen(self._profile, points)
        return painted, matte + (1 - self._firm) * _sure(trust) * (_seen(self._matte, points) - matte)

    def _on_key(self, offset: NDArray[np.float32], picture: _Picture) -> NDArray[np.float32]:
        """Where on the keyframe the window's pixels stood, (h, w, 2) in the plate's pixels."""
        x, y, width, height = picture.window
        scale = np.array([self._size[0] / offset.shape[1], self._size[1] / offset.shape[0]], np.float32)
        return grid(x + width, y + height)[y:, x:] + picture.enlarged(offset) * scale


def _seen(on_key: NDArray[np.float32], points: NDArray[np.float32], method: int = cv2.INTER_LINEAR) -> NDArray[np.float32]:
    return cv2.remap(on_key, points, None, method, borderMode=cv2.BORDER_REPLICATE)


def _at_full_size(matte: NDArray[np.float32], picture: _Picture) -> NDArray[np.float32]:
    """The window of a matte (h, w) of the flow's size at the plate's size, its edge on the plate's edges."""
    x, y, width, height = bounds(matte, 2 * MARGIN)
    part = np.s_[y : y + height, x : x + width]
    coefficients = np.zeros((*matte.shape, 4), np.float32)
    coefficients[part] = guided_coefficients(picture.small[part], matte[part], 2, 1e-4)
    fine = apply_coefficients(picture.enlarged(coefficients), np.clip(picture.working, 0, 1))
    near = picture.enlarged(cv2.dilate(matte, _disc(MARGIN - 1)))
    return sharpen(fine, 1.5) * (near > 0.1)


def _profile(matte: NDArray[np.float32]) -> NDArray[np.float32]:
    """How opaque the matte is inside, continued beyond its edge: what fades slowly stays, hard edges are left out."""
    inside = cv2.erode((matte > SUPPORT).astype(np.float32), _disc(2))
    return extend(matte[..., None], inside)[..., 0]


@dataclass(frozen=True)
class _Paint:
    """A keyframe: its plate and picture (H, W, 3), the matte (H, W), and `painted` such that
    plate · (1 - matte) + painted · matte is what the artist sees."""

    frame: int
    plate: NDArray[np.float32]
    key: NDArray[np.float32]
    painted: NDArray[np.float32]
    matte: NDArray[np.float32]

    @staticmethod
    def of(context: Context, stage: Stage) -> _Paint:
        key = context.keyframe(stage.roots[1])
        plate = context.plate(key.frame).working()
        matte = context.load(stage)["matte"].astype(np.float32)
        painted = key.working
        if key.matte is None:
            painted = plate + (key.working - plate) / np.where(matte > 0, matte, 1)[..., None]
        return _Paint(key.frame, plate, key.working, painted, matte)


def _publish(
    context: Context,
    number: int,
    window: Window,
    painted: NDArray[np.float32],
    matte: NDArray[np.float32],
    confidence: float,
) -> ResultFrame:
    """A window of a painted frame in the shot's encoding, cut to where the matte is. A matte too thin to see is none."""
    matte = np.where(matte < THIN, 0.0, matte).astype(np.float32)
    x, y, width, height = bounds(matte)
    part = np.s_[y : y + height, x : x + width]
    colour = from_working(np.ascontiguousarray(painted[part]), context.info.colorspace)
    pixels = np.dstack([colour, matte[part]]).astype(np.float16)
    place = (window[0] + x, window[1] + y, width, height) if width else (0, 0, 0, 0)
    return ResultFrame(number, place, pixels, confidence)
