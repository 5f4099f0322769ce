"""Propagates an edit's matte, and where needed the map to its surface, from frame to frame outward from the keyframe.

All pictures and planes are of the flow's size (`paintover_engine.compose.flow.flow_size`). Along the direction of
propagation, backward flow leads from a frame to the one before it, nearer to the keyframe, and forward flow from that
one to the frame.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose import foreground, unpainted
from paintover_engine.compose.analysis_frame import AnalysisFrame, Display, Lab
from paintover_engine.compose.background import Background
from paintover_engine.compose.confidence import ConfidenceMeter, Trail
from paintover_engine.compose.correcting import DrawnMatte
from paintover_engine.compose.dragging import DragPoints
from paintover_engine.compose.exposure import NO_CHANGE, Exposure
from paintover_engine.compose.flow import consistency, pack, unpack, warp
from paintover_engine.compose.long_range import Evidence, Hop, Proposal, proposed
from paintover_engine.compose.matte import (
    Plane,
    apply_coefficients,
    disc,
    guided_coefficients,
    sharpen,
    speck_size,
    without_specks,
)
from paintover_engine.compose.matte_net import (
    MatteNet,
    NetWeights,
    RelativeMotion,
    TrainedNet,
    feature_planes,
    motion_plane,
    object_motion,
)
from paintover_engine.compose.overexposed import RestoredFrames
from paintover_engine.compose.reacquire import reacquired
from paintover_engine.compose.reason import Reason
from paintover_engine.compose.register import Registrar, Registration
from paintover_engine.compose.rigidity import Rigidity, unlike_object
from paintover_engine.compose.scene import FrameEvent, Step
from paintover_engine.media.bounds import bounds_of
from paintover_engine.media.keyframe_kind import KeyframeKind

REACH = 10
"""How far from its motion-compensated place the matte is searched for, in pixels."""

_PRIOR_WEIGHT = 0.1  # of the surroundings' log-odds beside the network's own
_MOTION_WEIGHT = 2.0  # of the same where motion is right
_SETTLED = 0.1  # share of the uncertainty of a pixel that the network's agreement removes at a frame
_BLUR = 2  # of the prior matte, in pixels, for the surroundings' odds
_PLAIN = 6.0  # log-odds of what is plainly the object by its motion; of what is plainly not, less than 0
_EDGE = 1e-4  # variance of a picture 0..1 below which the guided filter sees no edge
_SPECK = 12  # islands and holes of fewer pixels are noise, if all parts of the edit are plainly larger
_SLIVER = 0.02  # share of a drawn part below which what is left of it in sight is no picture of it
_GONE = 0.02  # share of the keyframe's matte below which the edit is out of sight


@dataclass(frozen=True)
class TrackedEdit:
    """What a local edit is tracked by.

    region: (h, w) uint8, where the keyframe is painted. mapped: the map to its surface is propagated too. drawn: on the
    surface that the keyframe shows: none of it is on others. firmness: how well the edge of the region is seen in the
    plate, 0 to 1. net: the trained matte network. unpainted: (h, w) uint8, the unpainted part of what is painted."""

    region: NDArray[np.uint8]
    mapped: bool
    drawn: bool
    firmness: float
    net: TrainedNet
    unpainted: NDArray[np.uint8]


@dataclass(frozen=True)
class Propagated:
    """An edit in a span of frames, ascending. Of a grade, `confidence`, `reason`, `exposure` and `events` alone.

    confidence: (frames,) float32, 0..1; 0 where the frame does not show the scene. reason: (frames,) uint8, `Reason`:
    what lowers it most. exposure: (frames, 2, 3) float32, `Exposure.packed` from the keyframe to each frame. events:
    (frames,) uint8, each a `FrameEvent`. matte, matte_confidence: (frames, h, w) uint8, `Evidence`. offset:
    (frames, h, w, 2) int16, packed, and offset_confidence: (frames, h, w) uint8: the `Registration`s of a mapped
    edit. restored: the frames in which clipped samples were restored; None without any."""

    confidence: NDArray[np.float32]
    reason: NDArray[np.uint8]
    exposure: NDArray[np.float32]
    events: NDArray[np.uint8]
    matte: NDArray[np.uint8] | None = None
    matte_confidence: NDArray[np.uint8] | None = None
    offset: NDArray[np.int16] | None = None
    offset_confidence: NDArray[np.uint8] | None = None
    restored: RestoredFrames | None = None


@dataclass(frozen=True)
class PackedStates:
    """States of an edit that others are propagated from, in n frames.

    matte, matte_confidence: (n, h, w) uint8. trail: (n, h, w, 2) int16, packed, agreement, corrected: (n,) float32, of
    a `Trail`. rigidity: (n, 2) float32, explained and total of a `Rigidity`. behind: (n, h, w, 3) float16 L*a*b*, and
    behind_seen: (n, h, w) uint8, of a `Background`. net: the matte network's layers as of the last of them. offset,
    packed, offset_confidence: of a mapped edit. overruled: (n, h, w) uint8, `State.overruled`; unpainted: likewise, of
    the `Evidence`."""

    matte: NDArray[np.uint8]
    matte_confidence: NDArray[np.uint8]
    trail: NDArray[np.int16]
    agreement: NDArray[np.float32]
    corrected: NDArray[np.float32]
    rigidity: NDArray[np.float32]
    behind: NDArray[np.float16]
    behind_seen: NDArray[np.uint8]
    net: NetWeights
    offset: NDArray[np.int16] | None = None
    offset_confidence: NDArray[np.uint8] | None = None
    overruled: NDArray[np.uint8] | None = None
    unpainted: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class State:
    """The edit in one frame: its matte, what lies behind it, its confidence 0..1 and what lowers that, how it came
    there, and, of a mapped edit, where the frame's pixels stood on the keyframe. exposure: from the keyframe to the
    frame. events: what happened to the frame. overruled: (h, w) 0..1, where the artist's corrections say that the
    registration leads to the wrong matte; None without any. restored: of the frame's `Step`. rigidity: of its object,
    as far as the anchors are known."""

    evidence: Evidence
    background: Background
    confidence: float
    reason: Reason
    trail: Trail
    registration: Registration | None
    exposure: Exposure = NO_CHANGE
    events: FrameEvent = FrameEvent(0)
    overruled: Plane | None = None
    restored: Display | None = None
    rigidity: Rigidity = Rigidity()

    @property
    def matte(self) -> Plane:
        return self.evidence.matte


class Tracker:
    """Propagates one keyframe's edit outward. key: the keyframe's plate. chain: it goes from anchor to anchor, and the
    network is trained further on what it meets; else confidence is measured."""

    def __init__(self, key: AnalysisFrame, edit: TrackedEdit, chain: bool = True) -> None:
        self._chain = chain
        self._key = key
        self._edit = edit
        self._region = from_bytes(edit.region)
        self._net = MatteNet(edit.net)
        self._meter = ConfidenceMeter(key, self._region)
        self._speck = speck_size(self._region, _SPECK, _SLIVER if edit.drawn else 0.0)

    def shown(self) -> Evidence:
        """What the keyframe itself shows."""
        other = from_bytes(self._edit.unpainted) if self._edit.unpainted.any() else None
        return Evidence(self._region, np.ones_like(self._region), other)

    def start(self) -> State:
        """The state of the keyframe itself."""
        registration = Registration.identity(*self._region.shape[:2]) if self._edit.mapped else None
        background = Background.of(self._key.lab, self._region)
        return State(self.shown(), background, 1.0, Reason.NONE, self._meter.start(), registration)

    def register(self, registration: Registration | None, step: Step) -> Registration | None:
        """The registration of `step`'s frame from that of the frame before it; None of an edit that is not mapped. It
        needs no matte, so that it may be computed ahead of `advance`, in another thread."""
        if registration is None or step.events & FrameEvent.REPEATED:
            return registration
        if step.events & FrameEvent.ACROSS:
            object_ = warp(self._region, registration.offset) * certain(registration.confidence)
            found = reacquired(step, object_)
            step = found.step if found else step
        previous, frame = step.previous.sharp_grey, step.frame.sharp_grey
        return self._registrar.advance(registration, step.backward, step.forward, previous, frame)

    def advance(
        self,
        state: State,
        registration: Registration | None,
        step: Step,
        hops: Sequence[tuple[Hop, Evidence]] = (),
    ) -> State:
        """The state of `step`'s frame from that of the frame before it. registration: from `register`. hops: motions
        from the frame to others nearer to the keyframe, with their mattes (h, w) 0..1."""
        if step.events & FrameEvent.REPEATED:
            return replace(state, events=step.events, restored=step.restored)
        known = [(step.hop(), state.evidence), *hops]
        if step.events & FrameEvent.ACROSS and (again := reacquired(step, state.matte)):
            step, known = again.step, [(again.hop, state.evidence)]  # no flow across the gap is to be trusted
        moved = proposed(known)
        prior, trail = moved.matte, state.trail
        background = state.background.moved(step.backward, step.forward, _grown(prior))
        overruled = None if state.overruled is None else warp(state.overruled, step.backward)
        if registration is not None and overruled is not None:
            registration = replace(registration, confidence=registration.confidence * (1 - overruled))
        if registration is None:
            if prior.sum() < _GONE * self._region.sum() and (place := self._registrar.search(step.frame.sharp_grey)):
                prior = warp(self._region, place.offset) * certain(place.confidence)
                trail = Trail(place.offset - step.backward, trail.agreement)
            found, rigidity = self._segmented(replace(moved, matte=prior), step, background, state)
        else:  # where the map to the keyframe is certain, the keyframe's own matte counts; elsewhere the last frame's
            on_key = warp(self._region, registration.offset)
            # What plainly moves as the surroundings is no paint, however it looks.
            contrary = np.clip(-2 * motion_plane(step.backward, prior) - 1, 0, 1)
            registration = replace(registration, confidence=registration.confidence * (1 - contrary * on_key))
            weight = certain(registration.confidence)
            prior += weight * (on_key - prior)
            found, rigidity = self._segmented(replace(moved, matte=prior), step, background, state)
            corrected = found.matte + (1 - self._edit.firmness) * weight * (on_key - found.matte)
            found = replace(found, matte=without_specks(corrected, self._speck))
        trail = self._meter.advance(trail, step.backward, found.matte, prior)
        background = background.updated(step.frame.lab, found.matte)
        moved_on = State(
            found, background, 1.0, Reason.NONE, trail, registration, step.exposure, step.events, overruled,
            step.restored, rigidity,
        )  # fmt: skip
        return moved_on if self._chain else self.measured(moved_on, step.frame)

    def measured(self, state: State, frame: AnalysisFrame) -> State:
        """The state of a frame, at the keyframe's exposure, with its confidence."""
        surface = None if state.registration is None else state.registration.confidence
        measures = self._meter.measure(state.trail, frame, state.evidence, surface)
        return replace(state, confidence=measures.confidence, reason=measures.reason)

    def corrected(self, state: State, given: DrawnMatte | DragPoints, step: Step) -> State:
        """The state of `step`'s frame as the artist corrects it; the network is trained on that."""
        corrected = (
            self._dragged(state, given, step) if isinstance(given, DragPoints) else self._drawn(state, given, step)
        )
        return corrected if self._chain else self.measured(corrected, step.frame)

    def dragged(self, registration: Registration | None, drag: DragPoints, step: Step) -> Registration | None:
        """The registration of `step`'s frame, moved by the artist; None of an edit that is not mapped."""
        if registration is None:
            return None
        motion = drag.motion(warp(self._region, registration.offset))
        return self._registrar.moved(registration, motion, step.frame.sharp_grey)

    def _dragged(self, state: State, drag: DragPoints, step: Step) -> State:
        registration = state.registration
        motion = drag.motion(state.matte if registration is None else warp(self._region, registration.offset))
        matte = DrawnMatte(KeyframeKind.ROTO, warp(state.matte, motion))
        other = state.evidence.unpainted
        found = matte.evidence(replace(state.evidence, unpainted=None if other is None else warp(other, motion)))
        trail = self._meter.corrected(state.trail, matte.outside & (state.matte > 0.5))
        self._learn(state, found, matte.outside, step)
        if registration is not None:
            registration = self._registrar.moved(registration, motion, step.frame.sharp_grey)
        return replace(
            state,
            evidence=found,
            background=state.background.updated(step.frame.lab, matte.matte),
            trail=replace(trail, offset=motion + warp(trail.offset, motion)),
            registration=registration,
            overruled=None if state.overruled is None else warp(state.overruled, motion),
        )

    def _learn(self, state: State, found: Evidence, outside: NDArray[np.bool_], step: Step) -> None:
        """Trains the network on what corrects a state. found: as it is corrected; outside: (h, w), where no edit is."""
        if not self._chain:
            return
        near = _grown(np.maximum(state.matte, found.matte)) > 0
        outside, inside = outside & near, (found.matte > 0.9) & ~outside
        warped = warp(step.previous.lab, step.backward)
        planes = feature_planes(step.frame.lab, warped, state.matte, motion_plane(step.backward, state.matte))
        self._net.correct(planes, outside, inside, np.random.default_rng(abs(step.number)))

    def _drawn(self, state: State, drawn: DrawnMatte, step: Step) -> State:
        found = drawn.evidence(state.evidence)
        self._learn(state, found, drawn.outside, step)
        registration, overruled = state.registration, state.overruled
        if registration is not None:
            overruled = drawn.overruled(warp(self._region, registration.offset))
            if state.overruled is not None:
                overruled = np.maximum(overruled, state.overruled)
            registration = replace(registration, confidence=registration.confidence * (1 - overruled))
        trail = self._meter.corrected(state.trail, drawn.outside)
        background = state.background.updated(step.frame.lab, found.matte)
        return replace(
            state, evidence=found, background=background, trail=trail, registration=registration, overruled=overruled
        )

    def unseen(self, state: State) -> State:
        """The state of a frame that does not show the scene, after the last one that did."""
        nothing = np.zeros_like(state.matte)
        return State(
            Evidence(nothing, nothing),
            state.background,
            0.0,
            Reason.NOT_SHOWN,
            state.trail,
            state.registration,
            events=FrameEvent.HIDDEN,
        )

    def _segmented(
        self, prior: Proposal, step: Step, background: Background, state: State
    ) -> tuple[Evidence, Rigidity]:
        """The matte of a frame, and its object's rigidity. background: as moved; state: of the frame before."""
        rigidity = state.rigidity
        if step.events & FrameEvent.PASSED and step.restored is None:  # too little is left to correct motion by
            return prior, rigidity
        rng = np.random.default_rng(abs(step.number)) if self._chain else None
        warped = warp(step.previous.lab, step.backward)
        behind = background.odds(step.frame.lab)
        own = object_motion(step.backward, prior.matte)
        relative = RelativeMotion.of(step.backward, prior.matte, own)
        motion = relative.plane
        plain = None
        if not self._edit.drawn:
            plain = foreground.evidence(prior, behind, relative, _grown(prior.matte))
        if self._chain or rigidity.weight:
            unlike = unlike_object(own, motion, state.matte)
            if self._chain:
                rigidity = rigidity.updated(prior, unlike)
            if rigidity.weight:
                rigid = rigidity.carried(own, motion, state.matte, consistency(step.backward, step.forward))
                rigid -= rigidity.excluded(unlike, prior.confidence, behind)
                plain = rigid if plain is None else rigid + (np.float32(1) - np.abs(rigid)) * plain
        if prior.unpainted is not None:
            plain = unpainted.competing(plain, prior.unpainted, prior.motion, prior.matte)
        found = segment(self._net, prior, step.frame, warped, motion, behind, plain, rng, self._speck)
        found = replace(found, unpainted=unpainted.remaining(prior.unpainted, found.matte))
        if step.blown is not None:  # what is white shows nothing
            found = replace(found, matte=np.where(step.blown, prior.matte, found.matte))
        return found, rigidity

    @functools.cached_property
    def _registrar(self) -> Registrar:
        return Registrar(self._key.sharp_grey, self._region)

    def packed(self, states: Sequence[State]) -> PackedStates:
        """States as they are stored, with the network as it is now."""
        offset, offset_confidence = _packed_registrations(states)
        overruled = [state.overruled for state in states]
        none = np.zeros_like(self._region)
        return PackedStates(
            matte=np.stack([to_bytes(state.matte) for state in states]),
            matte_confidence=np.stack([to_bytes(state.evidence.confidence) for state in states]),
            trail=np.stack([pack(state.trail.offset) for state in states]),
            agreement=np.array([state.trail.agreement for state in states], np.float32),
            corrected=np.array([state.trail.corrected for state in states], np.float32),
            rigidity=np.array([(state.rigidity.explained, state.rigidity.total) for state in states], np.float32),
            behind=np.stack([state.background.lab.astype(np.float16) for state in states]),
            behind_seen=np.stack([to_bytes(state.background.seen) for state in states]),
            net=self._net.layers(),
            offset=offset,
            offset_confidence=offset_confidence,
            overruled=np.stack([to_bytes(none if each is None else each) for each in overruled])
            if any(each is not None for each in overruled)
            else None,
            unpainted=_packed_unpainted(states),
        )

    def resume(self, packed: PackedStates, index: int, exposure: Exposure, restored: Display | None) -> State:
        """One of the states that `packed` packed; the network goes on from theirs. exposure, restored: of its frame."""
        self._net = MatteNet(self._edit.net, packed.net)
        registration = None
        if packed.offset is not None and packed.offset_confidence is not None:
            registration = Registration(unpack(packed.offset[index]), from_bytes(packed.offset_confidence[index]))
        return State(
            Evidence(
                from_bytes(packed.matte[index]),
                from_bytes(packed.matte_confidence[index]),
                None if packed.unpainted is None else from_bytes(packed.unpainted[index]),
            ),
            Background(packed.behind[index].astype(np.float32), from_bytes(packed.behind_seen[index])),
            1.0,
            Reason.NONE,
            Trail(unpack(packed.trail[index]), float(packed.agreement[index]), float(packed.corrected[index])),
            registration,
            exposure,
            overruled=None if packed.overruled is None else from_bytes(packed.overruled[index]),
            restored=restored,
            rigidity=Rigidity(*packed.rigidity[index].tolist()),
        )


def propagated(numbers: Sequence[int], states: Sequence[State]) -> Propagated:
    """The states of successive frames, ascending, as they are stored."""
    offset, offset_confidence = _packed_registrations(states)
    return Propagated(
        confidence=np.array([state.confidence for state in states], np.float32),
        reason=np.array([state.reason for state in states], np.uint8),
        exposure=np.stack([state.exposure.packed() for state in states]),
        events=np.array([state.events for state in states], np.uint8),
        matte=np.stack([to_bytes(state.matte) for state in states]),
        matte_confidence=np.stack([to_bytes(state.evidence.confidence) for state in states]),
        offset=offset,
        offset_confidence=offset_confidence,
        restored=RestoredFrames.of([(number, each.restored) for number, each in zip(numbers, states, strict=True)]),
    )


def _packed_registrations(states: Sequence[State]) -> tuple[NDArray[np.int16] | None, NDArray[np.uint8] | None]:
    """The registrations of a mapped edit: their offsets and confidences."""
    places = [state.registration for state in states if state.registration is not None]
    if not places:
        return None, None
    return np.stack([pack(place.offset) for place in places]), np.stack(
        [to_bytes(place.confidence) for place in places]
    )


def _packed_unpainted(states: Sequence[State]) -> NDArray[np.uint8] | None:
    """The unpainted parts in some states; None where there are none."""
    found = [state.evidence.unpainted for state in states]
    return np.stack([to_bytes(each) for each in found if each is not None]) if found[0] is not None else None


def segment(
    net: MatteNet,
    prior: Evidence,
    frame: AnalysisFrame,
    warped: Lab,
    motion: Plane,
    behind: Plane | None = None,
    plain: Plane | None = None,
    rng: np.random.Generator | None = None,
    speck: int = _SPECK,
) -> Evidence:
    """The matte (h, w) of a frame: the motion-compensated one (`prior`), corrected by the pixels' appearance and by
    the picture's edges. What the network decides against what motion says, or where motion says nothing, is uncertain
    until it has decided so for some frames.

    warped: L*a*b* of the frame before, warped onto this one by flow. motion: (h, w), `motion_plane`. behind: (h, w),
    `Background.odds`, and plain: (h, w) -1..1, how plainly pixels are the object, or are not, whatever they look like;
    None: not known. rng: draws the confident pixels on which the network is trained further; None for no training.
    speck: islands and holes of fewer pixels are noise."""
    found, confidence = np.zeros_like(prior.matte), np.ones_like(prior.matte)
    candidates = _grown(prior.matte)
    x, y, width, height = bounds_of(candidates, 3 * REACH)
    if width < 4 or height < 4:
        return Evidence(found, confidence)
    part = np.s_[y : y + height, x : x + width]
    before, sure = prior.matte[part], prior.confidence[part]
    planes = feature_planes(frame.lab[part], warped[part], before, motion[part])
    odds = np.clip(net.odds(planes, candidates[part] > 0), -6, 6)
    if behind is not None:
        odds += behind[part]
    if plain is not None:
        odds += np.float32(_PLAIN) * plain[part] - np.abs(plain[part]) * odds
    near = np.clip(cv2.GaussianBlur(before, (0, 0), _BLUR), 0.02, 0.98)
    weight = np.float32(_PRIOR_WEIGHT) + np.float32(_MOTION_WEIGHT) * sure
    inside = 1 / (1 + np.exp(-(odds + weight * np.log(near / (1 - near)))))
    guide = frame.display[part].astype(np.float32) * np.float32(1 / 255)
    smooth = apply_coefficients(guided_coefficients(guide, inside, 4, _EDGE), guide)
    matte = found[part] = without_specks(sharpen(smooth, 2.0), speck)
    agreed = np.abs(np.tanh(odds / 2)) * ((odds > 0) == (matte > 0.5))
    kept = sure * (1 - np.abs(matte - before))
    confidence[part] = np.where(candidates[part] > 0, kept + np.float32(_SETTLED) * agreed * (1 - kept), 1)
    if rng is not None:
        outside = _grown(np.maximum(matte, before)) == 0
        core = (cv2.erode((np.minimum(matte, before) > 0.9).astype(np.uint8), disc(4)) > 0) & (odds > 1)
        net.learn(planes, outside, core, rng)
    return Evidence(found, confidence)


def _grown(matte: Plane) -> NDArray[np.uint8]:
    """0/1 (h, w): the pixels within `REACH` of the matte."""
    return np.asarray(cv2.dilate((matte > 0.1).astype(np.uint8), disc(REACH)))


def certain(confidence: Plane) -> Plane:
    """The weight of a registration, 0..1, for its confidence."""
    return np.asarray(np.clip((confidence - 0.1) / 0.4, 0, 1), np.float32)


def to_bytes(plane: Plane) -> NDArray[np.uint8]:
    """0..1 as 0..255."""
    return np.rint(plane * 255).astype(np.uint8)


def from_bytes(plane: NDArray[np.uint8]) -> Plane:
    """0..255 as 0..1."""
    return plane.astype(np.float32) / np.float32(255)
