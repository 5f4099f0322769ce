"""Motion between neighbouring frames of a shot: estimated in chunks of frame pairs, read while an edit propagates.

Forward flow leads from frame n to n + 1, backward flow from n + 1 to n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.exposure import NO_CHANGE, Display, Exposure, of_aligned, of_histograms
from paintover_engine.compose.flow import (
    Field,
    FlowEstimator,
    halved,
    is_cut,
    magnitudes,
    pack,
    unexplained,
    unpack,
    warp,
)
from paintover_engine.compose.global_motion import LONG, Grey, candidates

Span = tuple[int, int]
"""First and last frame number, inclusive."""


STRIDE = 4
"""Frames between two anchors (`compose.propagate`), which lie on an absolute grid of this pitch."""

EXPOSED = 12 / 255
"""Strength of an exposure change from which flow is estimated without it, too."""

_EXPLAINED = 0.28  # what flow leaves unexplained in all but quick motion
_FOUND = 0.35  # what it leaves where the motion is still found
_SUDDEN = 1.6  # times what it left of the pair before; in steady footage it is less
_ROUNDS = 3  # of the fixed point that inverts a motion
BETTER = 0.9
"""Share of what is left unexplained at which another motion is taken."""


@dataclass(frozen=True)
class FlowChunk:
    """The motion of the frame pairs (n, n + 1) of a span of n.

    forward, backward: (pairs, h, w, 2) int16, packed flow (`flow.pack`). cut: (pairs,) uint8, 1 where the picture
    changes as at a cut. repeated: (pairs,) uint8, 1 where both frames are the same picture (animation on twos,
    pulldown, a freeze); their flow is 0. jump: (pairs,) uint8, 1 where the whole picture moves too far for flow alone.
    exposure: (pairs, 2, 3) float32, `Exposure.packed` from n to n + 1. far_forward, far_backward: (strides, h, w, 2)
    int16, the same flow chained over `STRIDE` frames, from each multiple of that whose pairs the span holds."""

    forward: NDArray[np.int16]
    backward: NDArray[np.int16]
    far_forward: NDArray[np.int16]
    far_backward: NDArray[np.int16]
    cut: NDArray[np.uint8]
    repeated: NDArray[np.uint8]
    jump: NDArray[np.uint8]
    exposure: NDArray[np.float32]


@dataclass(frozen=True)
class PairMotion:
    """The motion between a frame and another, nearer to the keyframe.

    backward: (h, w, 2), flow from the frame to the other; forward: from the other to the frame; cut, repeated, jump: as
    in `FlowChunk`. exposure: from the other to the frame. left: what flow leaves unexplained (`flow.unexplained`) where
    it is known; found: so little that it explains the two pictures."""

    backward: Field
    forward: Field
    cut: bool
    repeated: bool = False
    jump: bool = False
    exposure: Exposure = NO_CHANGE
    left: float | None = None

    @property
    def found(self) -> bool:
        return self.left is None or self.left < _FOUND

    def continued(self, frames: int = 1) -> Guess | None:
        """The motion from the frame to one so many frames on if the velocity stays; None where this is no steady
        motion."""
        if self.cut or self.jump or not self.found:
            return None
        back = np.asarray(np.float32(frames) * self.backward, np.float32)
        return Guess(-back, warp(back, back))


@dataclass(frozen=True)
class Guess:
    """Roughly the flow (h, w, 2) from one frame to another, and back."""

    forward: Field
    backward: Field


def estimate(first: int, frames: Iterator[AnalysisFrame], check: Callable[[], None]) -> FlowChunk:
    """The motion between each of the frames, whose numbers ascend from `first`, and the next. check: called once a
    pair; raises to cancel."""
    pairs = []
    current = next(frames)
    with PairEstimator() as estimator:
        guess, left = None, None
        following: AnalysisFrame | None = next(frames)
        while following is not None:
            check()
            beyond = next(frames, None)
            if guess is None and beyond is not None:
                guess = estimator.by_the_next(following.grey, beyond.grey)
            pair = estimator.between(current, following, guess, left)
            pairs.append(pair)
            if not pair.repeated:
                current, guess, left = following, pair.continued(), pair.left
            following = beyond
    starts = strides_of((first, first + len(pairs) - 1))
    strides = [pairs[start - first : start - first + STRIDE] for start in starts]
    still = np.zeros((0, *pairs[0].forward.shape), np.int16)
    return FlowChunk(
        np.stack([pack(pair.forward) for pair in pairs]),
        np.stack([pack(pair.backward) for pair in pairs]),
        _stacked([chained([pair.forward for pair in stride]) for stride in strides], still),
        _stacked([chained([pair.backward for pair in stride[::-1]]) for stride in strides], still),
        np.array([pair.cut for pair in pairs], np.uint8),
        np.array([pair.repeated for pair in pairs], np.uint8),
        np.array([pair.jump for pair in pairs], np.uint8),
        np.stack([pair.exposure.packed() for pair in pairs]),
    )


def strides_of(span: Span) -> range:
    """The multiples of `STRIDE` from which a span of pairs (n, n + 1) holds all `STRIDE` pairs."""
    return range(-(-span[0] // STRIDE) * STRIDE, span[1] - STRIDE + 2, STRIDE)


def chained(fields: Sequence[Field]) -> Field:
    """Flow (h, w, 2) from the first frame to the last. fields: from each to the next."""
    whole = fields[0]
    for field in fields[1:]:
        whole = whole + warp(field, whole)
    return whole


def _stacked(fields: Sequence[Field], none: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.stack([pack(field) for field in fields]) if fields else none


def is_repeated(first: AnalysisFrame, second: AnalysisFrame) -> bool:
    """Whether two frames are the same picture, to rounding."""
    return bool(cv2.norm(first.sharp, second.sharp, cv2.NORM_INF) <= 1)


@dataclass(frozen=True)
class _Flows:
    """Flow between two pictures both ways, and what of the first the forward one leaves unexplained."""

    forward: Field
    backward: Field
    left: float


class PairEstimator:
    """Estimates the motion between two frames, whatever happens to the light or the camera between them. It owns a
    thread; use it in a `with` statement."""

    def __init__(self) -> None:
        self._forward, self._backward, self._half = FlowEstimator(), FlowEstimator(), FlowEstimator()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> PairEstimator:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def by_the_next(self, frame: Grey, following: Grey) -> Guess | None:
        """The motion to a frame (h, w) from the one before it if the velocity is that to the following one, estimated
        at half the size; None where flow does not explain that, or the pictures are too small."""
        if min(frame.shape) < 2 * FlowEstimator.MINIMUM:
            return None
        here, there = halved(frame), halved(following)
        onward = self._half.between(here, there)
        if unexplained(here, there, onward) > _FOUND:
            return None
        onward = 2 * cv2.resize(onward, (frame.shape[1], frame.shape[0]))
        return Guess(warp(onward, onward), -onward)

    def between(
        self, first: AnalysisFrame, second: AnalysisFrame, guess: Guess | None = None, usual: float | None = None
    ) -> PairMotion:
        """The motion from a frame, nearer to the keyframe, to another, which need not be its neighbour. `cut`: they
        show different scenes. guess: what it may be, by the frames beside them: what is small and fast is lost from
        sight in the coarse pictures in which a search without one begins. usual: what flow left unexplained of the pair
        before."""
        if is_repeated(first, second):
            still = np.zeros((*first.grey.shape, 2), np.float32)
            return PairMotion(still, still, cut=False, repeated=True)
        about = of_histograms(first.display, second.display)
        pictures = (first.grey, second.grey)
        flows = self._flows(*pictures, guess)
        if about is not None and about.strength > EXPOSED:
            matched = _greys(*at_one_exposure(first.display, second.display, about))
            others = self._flows(*matched, guess)
            if others.left < BETTER * flows.left:
                pictures, flows = matched, others
        jump, sudden = False, usual is not None and flows.left > _SUDDEN * usual
        sudden = sudden or (guess is not None and _departs(flows.forward, guess.forward))
        if flows.left > _EXPLAINED or sudden:
            if guess is not None:
                flows = min(flows, self._flows(*pictures), key=lambda found: found.left)
            for start, back in candidates(*pictures):
                if sudden or unexplained(*pictures, start) < flows.left:
                    others = self._flows(*pictures, _jumped(Guess(start, back), guess))
                    if others.left < BETTER * flows.left:
                        flows, jump = others, True
        cut = is_cut(first.display, second.display, flows.left)
        exposure = NO_CHANGE
        if flows.left < _FOUND:
            exposure = of_aligned(first.display, second.display, flows.forward, about)
        return PairMotion(flows.backward, flows.forward, cut, jump=jump and not cut, exposure=exposure, left=flows.left)

    def _flows(self, first: Grey, second: Grey, guess: Guess | None = None) -> _Flows:
        start, back = (None, None) if guess is None else (guess.forward, guess.backward)
        backward = self._pool.submit(self._backward.between, second, first, start=back)
        forward = self._forward.between(first, second, start=start)
        left = unexplained(first, second, forward)
        return _Flows(forward, backward.result(), left)


def _jumped(jump: Guess, guess: Guess | None) -> Guess:
    """A jump of the whole picture, in which what moves otherwise than most of it goes on to do so. guess: the motion as
    it would be without the jump, where that is known."""
    if guess is None:
        return jump
    forward = np.asarray(jump.forward + guess.forward - np.median(guess.forward, axis=(0, 1)), np.float32)
    backward = jump.backward
    for _ in range(_ROUNDS):
        backward = -warp(forward, backward)
    return Guess(forward, backward)


def _departs(flow: Field, guess: Field) -> bool:
    """Whether most of a picture moves plainly otherwise than it was guessed to."""
    return float(np.median(magnitudes(flow - guess))) > LONG


def at_one_exposure(first: Display, second: Display, change: Exposure) -> tuple[Display, Display]:
    """Two pictures, the darker one exposed and clipped as the brighter one is. change: from the first to the second."""
    if float(change.gain.mean() + change.lift.mean()) > 1:
        return change.of_display(first), second
    return first, change.inverse().of_display(second)


def _greys(first: Display, second: Display) -> tuple[Grey, Grey]:
    return cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), cv2.cvtColor(second, cv2.COLOR_RGB2GRAY)


Chunks = Sequence[tuple[Span, FlowChunk | Callable[[], FlowChunk]]]
"""Chunks, or what reads them when they are needed, each with the span of its first frames."""


def _read(chunk: FlowChunk | Callable[[], FlowChunk]) -> FlowChunk:
    return chunk if isinstance(chunk, FlowChunk) else chunk()


class Motion:
    """Flow along the direction in which an edit is propagated, away from its keyframe.

    step: 1 to later frames, -1 to earlier ones."""

    def __init__(self, chunks: Chunks, step: int) -> None:
        self._step = step
        self._spans = [span for span, _ in chunks]
        self._chunks = dict(chunks)

    def _chunk(self, span: Span) -> FlowChunk:
        chunk = self._chunks[span] = _read(self._chunks[span])
        return chunk

    def covers(self, number: int) -> bool:
        """Whether the chunks hold the motion between frame `number` and its neighbour on the keyframe's side."""
        return any(span[0] <= self._first_of_pair(number) <= span[1] for span in self._spans)

    def _first_of_pair(self, number: int) -> int:
        return number - 1 if self._step > 0 else number

    def _pair(self, number: int) -> tuple[FlowChunk, int]:
        """The chunk that holds the same, and the pair's index in it."""
        first = self._first_of_pair(number)
        span = next(span for span in self._spans if span[0] <= first <= span[1])
        return self._chunk(span), first - span[0]

    def to_keyframe_side(self, number: int) -> PairMotion:
        """The motion between frame `number` and its neighbour on the keyframe's side."""
        chunk, index = self._pair(number)
        forward, backward = unpack(chunk.forward[index]), unpack(chunk.backward[index])
        towards, away = (backward, forward) if self._step > 0 else (forward, backward)
        exposure = Exposure.unpacked(chunk.exposure[index])
        return PairMotion(
            towards,
            away,
            bool(chunk.cut[index]),
            bool(chunk.repeated[index]),
            bool(chunk.jump[index]),
            exposure if self._step > 0 else exposure.inverse(),
        )

    def is_plain(self, start: int, end: int) -> bool:
        """Whether nothing but motion happens from frame `start` to `end`, which is farther from the keyframe."""
        return all(map(self._pair_is_plain, range(start + self._step, end + self._step, self._step)))

    def _pair_is_plain(self, number: int) -> bool:
        chunk, index = self._pair(number)
        events = chunk.cut[index] or chunk.repeated[index] or chunk.jump[index]
        return not events and Exposure.unpacked(chunk.exposure[index]) is NO_CHANGE

    def over(self, start: int, end: int) -> tuple[Field, Field]:
        """Flow (h, w, 2) from frame `end` to `start`, which is nearer to the keyframe, and from there back: chained
        over the frames between them."""
        low = min(start, end)
        for span in self._spans:
            strides = strides_of(span)
            if abs(end - start) == STRIDE and low in strides:
                index, chunk = strides.index(low), self._chunk(span)
                forward, backward = unpack(chunk.far_forward[index]), unpack(chunk.far_backward[index])
                return (backward, forward) if self._step > 0 else (forward, backward)
        pairs = [self.to_keyframe_side(number) for number in range(start + self._step, end + self._step, self._step)]
        return chained([pair.backward for pair in pairs[::-1]]), chained([pair.forward for pair in pairs])


def glance(frame: AnalysisFrame, others: Iterable[AnalysisFrame]) -> tuple[Field, Field]:
    """Flow (h, w, 2) from a frame to the first of others that is another picture, and from that to it; 0 where none is.
    It is there sooner than a chunk's."""
    other = next((each for each in others if not is_repeated(frame, each)), None)
    if other is None:
        still: Field = np.zeros((*frame.grey.shape, 2), np.float32)
        return still, still
    estimator, pictures = FlowEstimator(), [(frame.grey, other.grey)]
    about = of_histograms(frame.display, other.display)
    if about is not None and about.strength > EXPOSED:
        pictures.append(_greys(*at_one_exposure(frame.display, other.display, about)))
    flows = [(estimator.between(here, there), here, there) for here, there in pictures]
    flow, here, there = min(flows, key=lambda found: unexplained(found[1], found[2], found[0]))
    return flow, estimator.between(there, here)


def beside(chunks: Chunks, key: int) -> Field:
    """Flow (h, w, 2) from frame `key` to the nearest frame that is another picture, a later one if the chunks hold one;
    0 where they hold none."""
    for step in (-1, 1):
        motion, number = Motion(chunks, step), key
        while motion.covers(number):
            pair = motion.to_keyframe_side(number)
            if not pair.repeated:
                return pair.backward
            number -= step
    return np.zeros(_read(chunks[0][1]).forward.shape[1:], np.float32)
