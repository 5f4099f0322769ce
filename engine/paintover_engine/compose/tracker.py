"""Keeps an edit's matte, and where needed its surface, from frame to frame outward from the keyframe.

All pictures and planes are of the flow's size (`paintover_engine.compose.flow.flow_size`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, follow, pack, unpack
from paintover_engine.compose.matte import (
    Plane,
    apply_coefficients,
    bounds,
    disc,
    guided_coefficients,
    sharpen,
    without_specks,
)
from paintover_engine.compose.matte_net import MatteNet, feature_planes, motion_plane
from paintover_engine.compose.register import Registrar, Registration

Display = NDArray[np.uint8]  # (h, w, 3)

REACH = 10
"""How far from where motion puts it the matte is looked for, in pixels."""

_LEAN = 0.1  # how much the matte's surroundings weigh beside the network's own log-odds
_EDGE = 1e-4  # variance of a picture 0..1 below which the guided filter sees no edge
_SPECK = 12  # islands and holes of fewer pixels are noise
_GONE = 0.02  # share of the keyframe's matte below which the edit is out of sight
_TRIALS = ((1.5, 0.0), (-1.0, 1.2), (0.0, -1.5))  # slips of the matte, in pixels, that tell how well its edge is seen


@dataclass(frozen=True)
class State:
    """What is known of one frame: the matte (h, w) 0..1, its confidence 0..1, and, where the edit's surface is
    followed, where its pixels stood on the keyframe."""

    matte: Plane
    confidence: float
    place: Registration | None


@dataclass(frozen=True)
class Step:
    """A frame and the one before it, nearer to the keyframe. home: flow from this frame to that; out: the way back."""

    number: int
    now: Display
    then: Display
    home: Field
    out: Field


class Tracker:
    """Carries one keyframe's edit outward, frame by frame.

    key: the keyframe's plate. region: (h, w) 0..1, where it is painted. net: tensors of a `MatteNet`. firm: from
    `firmness`.
    mapped: follow the surface too.
    """

    def __init__(self, key: Display, region: Plane, net: Mapping[str, NDArray[Any]], firm: float, mapped: bool) -> None:
        self._key = key
        self._region = region
        self._net = MatteNet(net)
        self._firm = firm
        self._mapped = mapped
        self._made: Registrar | None = None

    def start(self) -> State:
        """The keyframe's own."""
        place = Registration.identity(*self._region.shape[:2]) if self._mapped else None
        return State(self._region, 1.0, place)

    def advance(self, state: State, step: Step) -> State:
        """The state of `step`'s frame from that of the frame before it."""
        if state.place is not None:
            return self._advance_mapped(state, state.place, step)
        prior = follow(state.matte, step.home)
        if prior.sum() < _GONE * self._region.sum():
            prior = self._found_again(step.now)
        matte = segment(self._net, prior, step.now, follow(step.then, step.home), step.home, _draw(step))
        return State(matte, _less_sure(state.confidence, matte, prior), None)

    def _advance_mapped(self, state: State, place: Registration, step: Step) -> State:
        """Where the map to the keyframe is sure, the keyframe's own matte counts; elsewhere the last frame's."""
        place = self._registrar().advance(place, step.home, step.out, _grey(step.now))
        on_key, sure = follow(self._region, place.offset), certain(place.trust)
        prior = follow(state.matte, step.home)
        prior += sure * (on_key - prior)
        matte = segment(self._net, prior, step.now, follow(step.then, step.home), step.home, _draw(step))
        matte += (1 - self._firm) * sure * (on_key - matte)
        return State(matte, _less_sure(state.confidence, matte, prior), place)

    def _found_again(self, now: Display) -> Plane:
        """The matte of something out of sight, if it is back."""
        found = self._registrar().search(_grey(now))
        if found is None:
            return np.zeros_like(self._region)
        return follow(self._region, found.offset) * certain(found.trust)

    def _registrar(self) -> Registrar:
        if self._made is None:
            self._made = Registrar(_grey(self._key), self._region)
        return self._made

    def tensors(self, states: Sequence[State]) -> dict[str, NDArray[Any]]:
        """The states as `carry` keeps them, and what the network has learned since."""
        kept: dict[str, NDArray[Any]] = dict(self._net.learned())
        kept["matte"] = np.stack([to_bytes(state.matte) for state in states])
        kept["confidence"] = np.array([state.confidence for state in states], np.float32)
        places = [state.place for state in states if state.place is not None]
        if places:
            kept["offset"] = np.stack([pack(place.offset) for place in places])
            kept["trust"] = np.stack([to_bytes(place.trust) for place in places])
        return kept

    def resume(self, learned: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[Any]], index: int) -> State:
        """The state number `index` of `tensors`, and its network. learned: as given at first."""
        self._net = MatteNet({**learned, **kept})
        place = None
        if self._mapped:
            place = Registration(unpack(kept["offset"][index]), from_bytes(kept["trust"][index]))
        return State(from_bytes(kept["matte"][index]), float(kept["confidence"][index]), place)


def segment(
    net: MatteNet,
    prior: Plane,
    now: Display,
    moved: Display,
    home: Field,
    learning: np.random.Generator | None = None,
) -> Plane:
    """The matte (h, w) of a frame: what motion says (`prior`), corrected by what the pixels look like and by their
    edges.

    now: the frame; moved: the one before, moved onto it by the flow `home`. learning: draws the sure pixels from which
    the network goes on learning; None for none."""
    found = np.zeros_like(prior)
    where = cv2.dilate(prior, disc(REACH)) > 0.1
    x, y, width, height = bounds(where.astype(np.float32), 3 * REACH)
    if width < 4 or height < 4:
        return found
    part = np.s_[y : y + height, x : x + width]
    before = prior[part]
    planes = feature_planes(now[part], moved[part], before, motion_plane(home, prior)[part])
    odds = np.clip(net.odds(planes, where[part]), -6, 6)
    near = np.clip(cv2.GaussianBlur(before, (0, 0), 4), 0.02, 0.98)
    inside = 1 / (1 + np.exp(-(odds + _LEAN * np.log(near / (1 - near)))))
    guide = now[part].astype(np.float32) / np.float32(255)
    smooth = apply_coefficients(guided_coefficients(guide, inside, 4, _EDGE), guide)
    matte = found[part] = without_specks(sharpen(smooth, 2.0), _SPECK)
    if learning is not None:
        far = cv2.dilate(np.maximum(matte, before), disc(REACH)) < 0.1
        deep = (cv2.erode(np.minimum(matte, before), disc(4)) > 0.9) & (odds > 1)
        net.learn(planes, far, deep, learning)
    return found


def firmness(net: Mapping[str, NDArray[Any]], key: Display, region: Plane, home: Field) -> float:
    """0..1: how much nearer to the keyframe's matte its slipped copies come by looks. 0 where its edge is no edge of
    the plate (a mark on a plain door), 1 where it is an object's outline.

    net: tensors of the keyframe's `MatteNet`; home: flow from the keyframe to a neighbour."""
    network = MatteNet(net)
    before = after = 1e-6
    for slip in _TRIALS:
        shift: Field = np.broadcast_to(np.array(slip, np.float32), (*region.shape, 2))
        moved = follow(region, shift)
        mended = segment(network, moved, key, follow(key, shift), home)
        before += float(np.abs(moved - region).sum())
        after += float(np.abs(mended - region).sum())
    return float(np.clip(2 * (1 - after / before) - 0.5, 0, 1))


def certain(trust: Plane) -> Plane:
    """How far a registration is relied on, 0..1, for its trust."""
    return np.asarray(np.clip((trust - 0.1) / 0.4, 0, 1), np.float32)


def to_bytes(plane: Plane) -> NDArray[np.uint8]:
    """0..1 as 0..255."""
    return np.rint(plane * 255).astype(np.uint8)


def from_bytes(plane: NDArray[np.uint8]) -> Plane:
    """0..255 as 0..1."""
    return plane.astype(np.float32) / np.float32(255)


def _less_sure(confidence: float, found: Plane, prior: Plane) -> float:
    """The confidence of a frame whose matte had to be corrected from `prior` to `found`."""
    agreement = 2 * float(np.minimum(found, prior).sum()) / max(1e-6, float(found.sum() + prior.sum()))
    return float(max(1e-3, confidence * agreement**0.25))


def _draw(step: Step) -> np.random.Generator:
    return np.random.default_rng(abs(step.number))


def _grey(picture: Display) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
