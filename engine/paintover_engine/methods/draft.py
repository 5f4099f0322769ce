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

from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.colour_map import fit as fit_colour_map
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
    guided_coefficients,
    sharpen,
    without_specks,
)
from paintover_engine.compose.matte_net import MatteNet, appearance, cielab, train
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

LEAN = 0.25
"""How much the matte's surroundings weigh beside the network's own log-odds: keeps far lookalikes out and insides whole."""

SUPPORT = 0.02
"""A keyframe's matte above this is part of the edit."""

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
        return _Key(key.frame, matte, Stage("learn", mode, (matte,), roots, frames, needs_keyframe=True, cost=10.0))

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
        previous = self._add(key.learn)
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
    yield _publish(context, paint.frame, paint.plate, paint.painted, paint.matte, 1.0)


def learn(context: Context, stage: Stage) -> Tensors:
    """What the paint does: `table`, its colour map; `detail` (h, w) uint8, how much of the paint the map misses;
    `grade` (1,) uint8, whether it is one for the whole frame; `region` (h, w) uint8, where it applies; `profile` (1,) uint8,
    whether it is soft; and the matte network's weights."""
    paint = _Paint.of(context, stage.inputs[0])
    mode = stage.parameters["mode"]
    size = flow_size(context.info.width, context.info.height)
    colour = _learn_colour(paint)
    grade = mode == "grade" or (mode == "auto" and _is_grade(paint, colour))
    if grade:
        return {"table": colour.table, "grade": np.ones(1, np.uint8)}
    region = shrink((paint.matte > SUPPORT).astype(np.float32), size)
    detail = {"auto": _missed(paint, colour, size), "colour": np.zeros_like(region), "paint": np.ones_like(region)}[mode]
    net = train(shrink(context.plate(paint.frame).display(), size), region)
    return {
        "table": colour.table,
        "grade": np.zeros(1, np.uint8),
        "soft": np.array([_is_soft(paint.matte)], np.uint8),
        "region": _to_bytes(region),
        "detail": _to_bytes(detail),
        **net.tensors(),
    }


def _learn_colour(paint: _Paint) -> ColourMap:
    rows, columns = np.nonzero(paint.matte > 0.5)
    if len(rows) == 0:
        rows, columns = np.nonzero(paint.matte > 0)
    return fit_colour_map(paint.plate[rows, columns], paint.painted[rows, columns], rows // 16 + columns // 16)


def _is_grade(paint: _Paint, colour: ColourMap) -> bool:
    """Whether the same colour map holds in the whole frame: it explains what is painted, and changes nothing else."""
    step = max(1, min(paint.matte.shape) // 200)
    plate, painted, matte = (np.ascontiguousarray(a[::step, ::step]) for a in (paint.plate, paint.key, paint.matte))
    if matte.mean() < 0.5:
        return False
    change = painted - plate
    missed = colour(plate) - painted
    return bool((missed**2).mean() < 0.02 * (change**2).mean() and np.quantile(np.abs(missed), 0.99) < 0.06)


def _missed(paint: _Paint, colour: ColourMap, size: tuple[int, int]) -> NDArray[np.float32]:
    """(h, w) 0..1: how much of the paint around each pixel is not a function of the plate's colour."""
    inside = (paint.matte > 0.5).astype(np.float32)
    missed = ((colour(paint.plate) - paint.painted) ** 2).sum(-1) * inside
    change = ((paint.painted - paint.plate) ** 2).sum(-1) * inside
    missed, change = (cv2.blur(shrink(energy, size), (15, 15)) for energy in (missed, change))
    share = np.sqrt(missed / np.maximum(change, 1e-6))
    return np.clip((share - 0.15) / 0.2, 0, 1).astype(np.float32)


def _is_soft(matte: NDArray[np.float32]) -> bool:
    """Whether the matte fades over more than an antialiased edge does: partial pixels far from both 0 and 1."""
    partial = ((matte > SUPPORT) & (matte < 0.95)).astype(np.uint8)
    wide = cv2.morphologyEx(partial, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return bool(wide.sum() > 0.05 * max(1, (matte > SUPPORT).sum()))


def carry(context: Context, stage: Stage) -> Tensors:
    """`matte` (frames, h, w) uint8: where the edit applies; `confidence` (frames,) float32; and where the edit is carried by
    motion, `offset` (frames, h, w, 2) int16, packed, to each pixel's place on the keyframe, and `trust` (frames, h, w) uint8.
    Frames ascend. Beyond a cut all is 0."""
    learned, previous, *flows = stage.inputs
    step = int(stage.parameters["step"])
    tracker = _Tracker(context, learned)
    state = tracker.start() if previous is learned else tracker.resume(context.load(previous), -1 if step > 0 else 0)
    states = []
    for number in _outward(stage.frames, step):
        context.check()
        home, cut = _motion(context, flows, number, step)
        state = state.ended() if cut else tracker.advance(state, number, number - step, home)
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
        self._mapped = bool(tensors["detail"].any() or tensors["soft"][0])
        self._net = MatteNet.from_tensors(tensors)
        self._picture: tuple[int, NDArray[np.uint8]] = (learned.frames[0], self._look(learned.frames[0]))
        self._registrar = Registrar(cv2.cvtColor(self._picture[1], cv2.COLOR_RGB2GRAY)) if self._mapped else None

    def _look(self, number: int) -> NDArray[np.uint8]:
        return shrink(self._context.plate(number).display(), self._size)

    def start(self) -> _State:
        width, height = self._size
        if self._grade:
            return _State(np.ones((height, width), np.float32), 1.0, None)
        return _State(self._region, 1.0, Registration.identity(height, width) if self._mapped else None)

    def resume(self, tensors: Mapping[str, NDArray[Any]], index: int) -> _State:
        place = None
        if "offset" in tensors:
            place = Registration(unpack(tensors["offset"][index]), _from_bytes(tensors["trust"][index]))
        return _State(_from_bytes(tensors["matte"][index]), float(tensors["confidence"][index]), place)

    def tensors(self, states: Sequence[_State]) -> Tensors:
        tensors: Tensors = {
            "matte": np.stack([_to_bytes(state.matte) for state in states]),
            "confidence": np.array([state.confidence for state in states], np.float32),
        }
        places = [state.place for state in states if state.place is not None]
        if places:
            tensors["offset"] = np.stack([pack(place.offset) for place in places])
            tensors["trust"] = np.stack([_to_bytes(place.trust) for place in places])
        return tensors

    def advance(self, state: _State, number: int, before: int, home: NDArray[np.float32]) -> _State:
        if self._grade or state.confidence == 0.0:
            return state
        if self._picture[0] != before:
            self._picture = (before, self._look(before))
        then, now = self._picture[1], self._look(number)
        self._picture = (number, now)
        prior = follow(state.matte, home)
        place = state.place
        if place is not None and self._registrar is not None:
            near = cv2.dilate(prior, _disc(REACH)) > 0.1
            place = self._registrar.advance(place, home, cv2.cvtColor(now, cv2.COLOR_RGB2GRAY), near)
            prior = prior + place.trust * (follow(self._region, place.offset) - prior)
        found = self._segment(prior, then, now, home)
        agreement = 2 * float(np.minimum(found, prior).sum()) / max(1e-6, float(found.sum() + prior.sum()))
        return _State(found, max(1e-3, state.confidence * agreement**0.25), place)

    def _segment(
        self, prior: NDArray[np.float32], then: NDArray[np.uint8], now: NDArray[np.uint8], home: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The matte of this frame: what motion says, corrected by what the pixels look like and their edges."""
        found = np.zeros_like(prior)
        where = cv2.dilate(prior, _disc(REACH)) > 0.1
        x, y, width, height = bounds(where.astype(np.float32), 2 * REACH)
        if width < 4 or height < 4:
            return found
        part = np.s_[y : y + height, x : x + width]
        mismatch = np.linalg.norm(cielab(now[part]) - cielab(then_at(then, home, part)), axis=-1)
        odds = np.clip(self._net(appearance(now[part]), prior[part], mismatch, where[part]), -6, 6)
        near = np.clip(cv2.GaussianBlur(prior[part], (0, 0), 4), 0.02, 0.98)
        inside = 1 / (1 + np.exp(-(odds + LEAN * np.log(near / (1 - near)))))
        guide = now[part].astype(np.float32) / 255
        smooth = apply_coefficients(guided_coefficients(guide, inside, 4, 1e-4), guide)
        found[part] = without_specks(sharpen(smooth, 2.0), 12)
        return found


def then_at(then: NDArray[np.uint8], home: NDArray[np.float32], part: tuple[slice, slice]) -> NDArray[np.uint8]:
    points = grid(home.shape[1], home.shape[0])[part] + home[part]
    return cv2.remap(then, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _disc(radius: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _to_bytes(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(plane * 255).astype(np.uint8)


def _from_bytes(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
    return plane.astype(np.float32) / 255


def _outward(span: tuple[int, int], step: int) -> range:
    return range(span[0], span[1] + 1) if step > 0 else range(span[1], span[0] - 1, -1)


def _motion(context: Context, flows: Sequence[Stage], number: int, step: int) -> tuple[NDArray[np.float32], bool]:
    """Flow from frame `number` to its neighbour on the keyframe's side, and whether the shot cuts between them."""
    pair = number - 1 if step > 0 else number
    holder = next(stage for stage in flows if stage.frames[0] <= pair <= stage.frames[1])
    tensors = context.load(holder)
    index = pair - holder.frames[0]
    return unpack(tensors["back" if step > 0 else "ahead"][index]), bool(tensors["cut"][index])


def result(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The painted frames of one chunk, from the keyframe on either side.

    The inputs are (matte, learn, carry) of each keyframe."""
    sides = [_Side(context, *stage.inputs[i : i + 3]) for i in range(0, len(stage.inputs), 3)]
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        picture = context.plate(number)
        plate = picture.working()
        small = shrink(picture.display(), flow_size(context.info.width, context.info.height)).astype(np.float32) / 255
        parts = [(side.confidence(number) / abs(number - side.frame), side) for side in sides]
        total = sum(weight for weight, _ in parts)
        if total == 0.0:
            yield ResultFrame(number, (0, 0, 0, 0), np.zeros((0, 0, 4), np.float16), 0.0)
            continue
        painted, matte = np.zeros_like(plate), np.zeros(plate.shape[:2], np.float32)
        for weight, side in parts:
            if weight > 0.0:
                colour, alpha = side.edit(number, plate, small)
                painted += colour * (alpha * weight / total)[..., None]
                matte += alpha * (weight / total)
        painted /= np.maximum(matte, 1e-4)[..., None]
        confidence = max(side.confidence(number) for side in sides)
        yield _publish(context, number, plate, painted, matte, confidence)


class _Side:
    """One keyframe's contribution to a chunk of frames."""

    def __init__(self, context: Context, matte: Stage, learned: Stage, carried: Stage) -> None:
        self.frame = learned.frames[0]
        self._first = carried.frames[0]
        self._carried = context.load(carried)
        tensors = context.load(learned)
        self._colour = ColourMap(np.array(tensors["table"]), 0.0)
        self._grade = bool(tensors["grade"][0])
        self._detail: NDArray[np.float32] | None = None
        self._profile: NDArray[np.float32] | None = None
        if self._grade:
            return
        paint = _Paint.of(context, matte)
        size = (context.info.width, context.info.height)
        if tensors["detail"].any():
            missed = paint.painted - self._colour(paint.plate)
            weight = cv2.resize(_from_bytes(tensors["detail"]), size, interpolation=cv2.INTER_LINEAR)
            self._detail = extend(missed * weight[..., None], (paint.matte > 0.5).astype(np.float32))
        if tensors["soft"][0]:
            self._profile = _profile(paint.matte)

    def confidence(self, number: int) -> float:
        return float(self._carried["confidence"][number - self._first])

    def edit(
        self, number: int, plate: NDArray[np.float32], small: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Painted colour (H, W, 3) and matte (H, W) of a frame."""
        painted = self._colour(plate)
        height, width = plate.shape[:2]
        if self._grade:
            return painted, np.ones((height, width), np.float32)
        index = number - self._first
        matte = _at_full_size(_from_bytes(self._carried["matte"][index]), small, plate)
        if self._detail is None and self._profile is None:
            return painted, matte
        offset = unpack(self._carried["offset"][index])
        scale = np.array([width / offset.shape[1], height / offset.shape[0]], np.float32)
        points = grid(width, height) + cv2.resize(offset, (width, height)) * scale
        if self._detail is not None:
            trust = cv2.resize(_from_bytes(self._carried["trust"][index]), (width, height))
            painted += cv2.remap(self._detail, points, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) * trust[..., None]
        if self._profile is not None:
            matte = matte * cv2.remap(self._profile, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return painted, matte


def _at_full_size(
    matte: NDArray[np.float32], small: NDArray[np.float32], plate: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The matte (h, w) at the plate's size (H, W), its edge on the plate's edges. small: the plate at the matte's size."""
    coefficients = guided_coefficients(small, matte, 2, 1e-4)
    large = cv2.resize(coefficients, (plate.shape[1], plate.shape[0]), interpolation=cv2.INTER_LINEAR)
    fine = sharpen(apply_coefficients(large, np.clip(plate, 0, 1)), 1.5)
    near = cv2.resize(cv2.dilate(matte, _disc(3)), (plate.shape[1], plate.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.where(near > 0.1, fine, 0).astype(np.float32)


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
    plate: NDArray[np.float32],
    painted: NDArray[np.float32],
    matte: NDArray[np.float32],
    confidence: float,
) -> ResultFrame:
    """A frame's painted window in the shot's encoding. A matte too thin to see is none."""
    matte = np.where(matte < THIN, 0.0, matte).astype(np.float32)
    x, y, width, height = bounds(matte)
    part = np.s_[y : y + height, x : x + width]
    colour = from_working(np.ascontiguousarray(painted[part]), context.info.colorspace)
    return ResultFrame(number, (x, y, width, height), np.dstack([colour, matte[part]]).astype(np.float16), confidence)
