"""Motion between neighbouring frames of a shot: estimated in chunks of frame pairs, read while an edit propagates.

Forward flow leads from frame n to n + 1, backward flow from n + 1 to n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.flow import Field, FlowEstimator, is_cut, pack, unpack

Span = tuple[int, int]
"""First and last frame number, inclusive."""


@dataclass(frozen=True)
class FlowChunk:
    """The motion of the frame pairs (n, n + 1) of a span of n.

    forward, backward: (pairs, h, w, 2) int16, packed flow (`flow.pack`). cut: (pairs,) uint8, 1 where the picture
    changes as at a cut. repeated: (pairs,) uint8, 1 where both frames are the same picture (animation on twos,
    pulldown, a freeze); their flow is 0."""

    forward: NDArray[np.int16]
    backward: NDArray[np.int16]
    cut: NDArray[np.uint8]
    repeated: NDArray[np.uint8]


@dataclass(frozen=True)
class PairMotion:
    """The motion between a frame and another, nearer to the keyframe.

    backward: (h, w, 2), flow from the frame to the other; forward: from the other to the frame; cut, repeated: as in
    `FlowChunk`."""

    backward: Field
    forward: Field
    cut: bool
    repeated: bool = False


def estimate(frames: Iterator[AnalysisFrame], check: Callable[[], None]) -> FlowChunk:
    """The motion between each of the frames and the next. check: called once a pair; raises to cancel."""
    forward_estimator, backward_estimator = FlowEstimator(), FlowEstimator()
    forward, backward, cut, repeated = [], [], [], []
    current = next(frames)
    with ThreadPoolExecutor(1) as pool:
        for following in frames:
            check()
            repeated.append(is_repeated(current, following))
            if repeated[-1]:
                still = np.zeros((*current.grey.shape, 2), np.int16)
                forward.append(still)
                backward.append(still)
                cut.append(False)
                continue
            to_current = pool.submit(backward_estimator.between, following.grey, current.grey)
            to_following = forward_estimator.between(current.grey, following.grey)
            forward.append(pack(to_following))
            cut.append(is_cut(current.display, following.display, to_following))
            backward.append(pack(to_current.result()))
            current = following
    flags = (np.array(flag, np.uint8) for flag in (cut, repeated))
    return FlowChunk(np.stack(forward), np.stack(backward), *flags)


def is_repeated(first: AnalysisFrame, second: AnalysisFrame) -> bool:
    """Whether two frames are the same picture, to rounding."""
    return bool(cv2.norm(first.sharp, second.sharp, cv2.NORM_INF) <= 1)


def bridged(nearer: AnalysisFrame, frame: AnalysisFrame) -> PairMotion:
    """The motion between two frames that need not be neighbours; `cut`: they show different scenes."""
    estimator = FlowEstimator()
    forward = estimator.between(nearer.grey, frame.grey)
    cut = is_cut(nearer.display, frame.display, forward)
    return PairMotion(estimator.between(frame.grey, nearer.grey), forward, cut)


class Motion:
    """Flow along the direction in which an edit is propagated, away from its keyframe.

    chunks: each with the span of its first frames. step: 1 to later frames, -1 to earlier ones."""

    def __init__(self, chunks: Sequence[tuple[Span, FlowChunk]], step: int) -> None:
        self._step = step
        self._chunks = chunks

    def covers(self, number: int) -> bool:
        """Whether the chunks hold the motion between frame `number` and its neighbour on the keyframe's side."""
        return any(span[0] <= self._first_of_pair(number) <= span[1] for span, _ in self._chunks)

    def _first_of_pair(self, number: int) -> int:
        return number - 1 if self._step > 0 else number

    def to_keyframe_side(self, number: int) -> PairMotion:
        """The motion between frame `number` and its neighbour on the keyframe's side."""
        first_of_pair = self._first_of_pair(number)
        first, chunk = next((span[0], chunk) for span, chunk in self._chunks if span[0] <= first_of_pair <= span[1])
        index = first_of_pair - first
        forward, backward = unpack(chunk.forward[index]), unpack(chunk.backward[index])
        towards, away = (backward, forward) if self._step > 0 else (forward, backward)
        return PairMotion(towards, away, bool(chunk.cut[index]), bool(chunk.repeated[index]))


def beside(chunks: Sequence[tuple[Span, FlowChunk]], key: int) -> Field:
    """Flow (h, w, 2) from frame `key` to the nearest frame that is another picture, a later one if the chunks hold one;
    0 where they hold none."""
    for step in (-1, 1):
        motion, number = Motion(chunks, step), key
        while motion.covers(number):
            pair = motion.to_keyframe_side(number)
            if not pair.repeated:
                return pair.backward
            number -= step
    return np.zeros(chunks[0][1].forward.shape[1:], np.float32)
