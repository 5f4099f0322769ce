"""Keeps an edit's matte, and where needed its surface, from frame to frame outward from the keyframe.

All pictures and planes are of the flow's size (`paintover_engine.compose.flow.flow_size`).
"""

from __future__ import annotations

import functools
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
from paintover_engine.compose.matte_net import Lab, MatteNet, cielab, feature_planes, motion_plane
from paintover_engine.compose.register import Registrar, Registration, halved

Display = NDArray[np.uint8]  # (h, w, 3)


class Look:
    """A frame as motion and networks see it. sharp: (2h, 2w, 3) uint8 at twice the flow's size; display: (h, w, 3) at
    the flow's. Its grey pictures and its L*a*b* (h, w, 3) are made when first asked for."""

    def __init__(self, sharp: Display) -> None:
        self.sharp = sharp
        self.display: Display = halved(sharp)

    @functools.cached_property
    def grey(self) -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(self.display, cv2.COLOR_RGB2GRAY))

    @functools.cached_property
    def sharp_grey(self) -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(self.sharp, cv2.COLOR_RGB2GRAY))

    @functools.cached_property
    def lab(self) -> Lab:
        return cielab(self.display)

    def prepared(self) -> Look:
        """Itself, with all of it made."""
        _ = self.sharp_grey, self.lab
        return self


REACH = 10
"""How far from where motion puts it the matte is looked for, in pixels."""

_LEAN = 0.1  # how much the matte's surroundings weigh beside the network's own log-odds
_EDGE = 1e-4  # variance of a picture 0..1 below which the guided filter sees no edge
_SPECK = 12  # islands and holes of fewer pixels are noise
_UNSEEN = 0.9  # agreement of a frame in which nothing of the edit is seen
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
    """A frame and the one before it, nearer to the keyframe. home: flow from this frame to that; out: the way back;
    cut: the shot changes between them."""

    number: int
    now: Look
    then: Look
    home: Field
    out: Field
    cut: bool


class Tracker:
    """Carries one keyframe's edit outward, frame by frame.

    key: the keyframe's plate. region: (h, w) 0..1, where it is painted. net: tensors of a `MatteNet`. firm: from
    `firmness`.
    mapped: follow the surface too.
    """

    def __init__(self, key: Look, region: Plane, net: Mapping[str, NDArray[Any]], firm: float, mapped: bool) -> None:
        self._key = key
        self._region = region
        self._net = MatteNet(net)
        self._firm = firm
        self._mapped = mapped

    def start(self) -> State:
        """The keyframe's own."""
        place = Registration.identity(*self._region.shape[:2]) if self._mapped else None
        return State(self._region, 1.0, place)

    def register(self, place: Registration | None, step: Step) -> Registration | None:
        """Where `step`'s frame stood on the keyframe, from that of the frame before it; None where no surface is
        followed. It needs no matte, so it may be made ahead of `advance`, in another thread."""
        return None if place is None else self._registrar.advance(place, step.home, step.out, step.now.sharp_grey)

    def advance(self, state: State, place: Registration | None, step: Step) -> State:
        """The state of `step`'s frame from that of the frame before it. place: from `register`."""
        prior = follow(state.matte, step.home)
        if place is None:
            if prior.sum() < _GONE * self._region.sum():
                prior = self._found_again(step.now)
            matte = self._segmented(prior, step)
        else:  # where the map to the keyframe is sure, the keyframe's own matte counts; elsewhere the last frame's
            on_key, sure = follow(self._region, place.offset), certain(place.trust)
            prior += sure * (on_key - prior)
            matte = self._segmented(prior, step)
            matte = without_specks(matte + (1 - self._firm) * sure * (on_key - matte), _SPECK)
        return State(matte, _less_sure(state.confidence, matte, prior), place)

    def _segmented(self, prior: Plane, step: Step) -> Plane:
        draw = np.random.default_rng(abs(step.number))
        return segment(self._net, prior, step.now, follow(step.then.lab, step.home), step.home, draw)

    def _found_again(self, now: Look) -> Plane:
        """The matte of something out of sight, if it is back."""
        found = self._registrar.search(now.sharp_grey)
        if found is None:
            return np.zeros_like(self._region)
        return follow(self._region, found.offset) * certain(found.trust)

    @functools.cached_property
    def _registrar(self) -> Registrar:
        return Registrar(self._key.sharp_grey, self._region)

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
    now: Look,
    moved: Lab,
    home: Field,
    learning: np.random.Generator | None = None,
) -> Plane:
    """The matte (h, w) of a frame: what motion says (`prior`), corrected by what the pixels look like and by their
    edges.

    now: the frame; moved: the one before, moved onto it by the flow `home`. learning: draws the sure pixels from which
    the network goes on learning; None for none."""
    found = np.zeros_like(prior)
    where = _grown(prior)
    x, y, width, height = bounds(where, 3 * REACH)
    if width < 4 or height < 4:
        return found
    part = np.s_[y : y + height, x : x + width]
    before = prior[part]
    planes = feature_planes(now.lab[part], moved[part], before, motion_plane(home, prior)[part])
    odds = np.clip(net.odds(planes, where[part] > 0), -6, 6)
    near = np.clip(cv2.GaussianBlur(before, (0, 0), 4), 0.02, 0.98)
    inside = 1 / (1 + np.exp(-(odds + _LEAN * np.log(near / (1 - near)))))
    guide = now.display[part].astype(np.float32) * np.float32(1 / 255)
    smooth = apply_coefficients(guided_coefficients(guide, inside, 4, _EDGE), guide)
    matte = found[part] = without_specks(sharpen(smooth, 2.0), _SPECK)
    if learning is not None:
        far = _grown(np.maximum(matte, before)) == 0
        deep = (cv2.erode((np.minimum(matte, before) > 0.9).astype(np.uint8), disc(4)) > 0) & (odds > 1)
        net.learn(planes, far, deep, learning)
    return found


def _grown(matte: Plane) -> NDArray[np.uint8]:
    """0/1 (h, w): what lies within `REACH` of the matte."""
    return np.asarray(cv2.dilate((matte > 0.1).astype(np.uint8), disc(REACH)))


def firmness(net: Mapping[str, NDArray[Any]], key: Look, region: Plane, home: Field) -> float:
    """0..1: how much nearer to the keyframe's matte its slipped copies come by looks. 0 where its edge is no edge of
    the plate (a mark on a plain door), 1 where it is an object's outline.

    net: tensors of the keyframe's `MatteNet`; home: flow from the keyframe to a neighbour."""
    network = MatteNet(net)
    before = after = 1e-6
    for slip in _TRIALS:
        shift: Field = np.broadcast_to(np.array(slip, np.float32), (*region.shape, 2))
        moved = follow(region, shift)
        mended = segment(network, moved, key, follow(key.lab, shift), home)
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
    """The confidence of a frame whose matte had to be corrected from `prior` to `found`; out of sight, it fades
    slowly."""
    both = float(found.sum() + prior.sum())
    agreement = 2 * float(np.minimum(found, prior).sum()) / both if both > 1 else _UNSEEN
    return float(max(1e-3, confidence * agreement**0.25))
