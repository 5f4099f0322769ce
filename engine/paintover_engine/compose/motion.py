"""Motion between neighbouring frames of a shot: estimated in chunks of frame pairs, read while an edit propagates.

Forward flow leads from frame n to n + 1, backward flow from n + 1 to n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.flow import Field, FlowEstimator, is_cut, pack, unpack

Span = tuple[int, int]
"""First and last frame number, inclusive."""


@dataclass(frozen=True)
class FlowChunk:
    """The motion of the frame pairs (n, n + 1) of a span of n.

    forward, backward: (pairs, h, w, 2) int16, packed flow (`flow.pack`). cut: (pairs,) uint8, 1 where the shot cuts
    between the two frames."""

    forward: NDArray[np.int16]
    backward: NDArray[np.int16]
    cut: NDArray[np.uint8]


def estimate(frames: Iterator[AnalysisFrame], check: Callable[[], None]) -> FlowChunk:
    """The motion between each of the frames and the next. check: called once a pair; raises to cancel."""
    forward_estimator, backward_estimator = FlowEstimator(), FlowEstimator()
    forward, backward, cut = [], [], []
    current = next(frames)
    with ThreadPoolExecutor(1) as pool:
        for following in frames:
            check()
            to_current = pool.submit(backward_estimator.between, following.grey, current.grey)
            to_following = forward_estimator.between(current.grey, following.grey)
            forward.append(pack(to_following))
            cut.append(is_cut(current.display, following.display, to_following))
            backward.append(pack(to_current.result()))
            current = following
    return FlowChunk(np.stack(forward), np.stack(backward), np.array(cut, np.uint8))


class Motion:
    """Flow along the direction in which an edit is propagated, away from its keyframe.

    chunks: each with the span of its first frames. step: 1 to later frames, -1 to earlier ones."""

    def __init__(self, chunks: Sequence[tuple[Span, FlowChunk]], step: int) -> None:
        self._step = step
        self._chunks = chunks

    def to_keyframe_side(self, number: int) -> tuple[Field, Field, bool]:
        """Flow (h, w, 2) from frame `number` to its neighbour on the keyframe's side; flow from that neighbour to the
        frame; and whether the shot cuts between them."""
        first_of_pair = number - 1 if self._step > 0 else number
        first, chunk = next((span[0], chunk) for span, chunk in self._chunks if span[0] <= first_of_pair <= span[1])
        index = first_of_pair - first
        forward, backward = unpack(chunk.forward[index]), unpack(chunk.backward[index])
        towards, away = (backward, forward) if self._step > 0 else (forward, backward)
        return towards, away, bool(chunk.cut[index])
