"""Motion over several frames at once, which drifts less than a chain of neighbours and reaches past what occludes.

Flow to frames several distances away, each pixel's error by the forward-backward test and by its colour, and the matte
of the frame that each leads to, weighted by that error: the weight-free part of Neoral, Serych, Matas: MFT: Long-Term
Tracking of Every Pixel (WACV 2024), on mattes that were corrected in between rather than on positions alone. It is of
the plate alone, and each pair is independent of every other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import AnalysisFrame, Lab, cielab, distances
from paintover_engine.compose.exposure import NO_CHANGE, of_aligned, of_histograms
from paintover_engine.compose.flow import (
    Field,
    FlowEstimator,
    endpoints,
    halved,
    magnitudes,
    pack,
    unexplained,
    unpack,
    warp,
    within_picture,
)
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.motion import BETTER, EXPOSED, STRIDE, Span, at_one_exposure
from paintover_engine.compose.planes import planes_of

HOPS = (4, 16)
"""Distances in frames, beside that to the neighbour."""

_COLOUR = 10.0  # pixels of error that a difference of 1 in scaled L*a*b* counts as
_WINDOW = (5, 5)  # over which the difference of colour is averaged
_OUTSIDE = 31.0  # error of a motion that leads out of the picture, in pixels
_ERROR_SCALE = 8.0  # packed errors are in 1/8 pixel, up to 31
_SPREAD = 1.0  # error in pixels at which a motion's weight is 1/e
_SOUND = 1.0  # the same up to which it brings all the confidence there is
_REACH = 4.0  # the same, beyond that, at which the confidence that it brings is 1/e
_PIXEL = 2.0  # hops are computed at half the flow's size: they need no edges, which the matte has by itself
_LEAST = 1e-6  # weight of a motion in which nothing is right
_ENTERING = 0.5  # confidence at most of what no motion leads into the picture from


@dataclass(frozen=True)
class HopChunk:
    """The motion of the frame pairs (n, n + hop) of the multiples n of `STRIDE` in a span, at half the flow's size.

    forward, backward: (pairs, h, w, 2) int16, packed flow (`flow.pack`). forward_error, backward_error: (pairs, h, w)
    uint8, `motion_error` in 1/8 of the flow's pixels."""

    forward: NDArray[np.int16]
    backward: NDArray[np.int16]
    forward_error: NDArray[np.uint8]
    backward_error: NDArray[np.uint8]


@dataclass(frozen=True)
class Hop:
    """A motion from a frame to another, nearer to the keyframe.

    backward: (h, w, 2), flow to it; error: (h, w), `motion_error`."""

    backward: Field
    error: Plane


def estimate_hops(
    hop: int, span: Span, frame_at: Callable[[int], AnalysisFrame], check: Callable[[], None]
) -> HopChunk:
    """The motion of the pairs (n, n + hop) of the multiples n of `STRIDE` in a span. check: called once a pair; raises
    to cancel."""
    estimator = FlowEstimator()
    columns: list[tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.uint8], NDArray[np.uint8]]] = []
    for number in firsts_of(span):
        check()
        first, second = frame_at(number), frame_at(number + hop)
        forward, backward, here_lab, there_lab = _flow_between(estimator, first, second)
        error = _packed_error(motion_error(forward, backward, here_lab, there_lab, _PIXEL))
        back_error = _packed_error(motion_error(backward, forward, there_lab, here_lab, _PIXEL))
        columns.append((pack(forward), pack(backward), error, back_error))
    forwards, backwards, errors, back_errors = zip(*columns, strict=True)
    return HopChunk(np.stack(forwards), np.stack(backwards), np.stack(errors), np.stack(back_errors))


def firsts_of(span: Span) -> range:
    """The multiples of `STRIDE` in a span."""
    return range(-(-span[0] // STRIDE) * STRIDE, span[1] + 1, STRIDE)


def _flow_between(
    estimator: FlowEstimator, first: AnalysisFrame, second: AnalysisFrame
) -> tuple[Field, Field, Lab, Lab]:
    """Flow between two frames both ways at half the flow's size, and their L*a*b* at one exposure, where the light of
    the whole picture changed. Flow is of those pictures, too, where that explains more of them."""
    here, there = (halved(frame.grey) for frame in (first, second))
    forward = estimator.between(here, there)
    labs = halved(first.lab), halved(second.lab)
    change = of_histograms(first.display, second.display)
    if change is not None and change.strength > EXPOSED:
        pictures = at_one_exposure(halved(first.display), halved(second.display), change)
        here_matched, there_matched = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures)
        matched = estimator.between(here_matched, there_matched)
        explains = unexplained(here_matched, there_matched, matched) < BETTER * unexplained(here, there, forward)
        flow = matched if explains else forward
        if of_aligned(halved(first.display), halved(second.display), flow, change) is not NO_CHANGE:
            labs = cielab(pictures[0]), cielab(pictures[1])
            if explains:
                here, there, forward = here_matched, there_matched, matched
    return forward, estimator.between(there, here), *labs


def motion_error(flow: Field, returned: Field, here: Lab, there: Lab, pixel: float = 1.0) -> Plane:
    """(h, w) >= 0, in the flow's pixels: how wrong a flow from one picture to another may be, by how far flow back
    misses the pixel (Sundaram et al. 2010), and by how much the two differ in colour there.

    flow: here -> there; returned: there -> here; here, there: L*a*b* without its finest grain; pixel: the size of their
    pixels."""
    ends = endpoints(flow)
    back: Field = cv2.remap(returned, ends, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colour = cv2.blur(distances(here, warp(there, flow)), _WINDOW)
    error = np.float32(pixel) * magnitudes(flow + back) + np.float32(_COLOUR) * colour
    np.minimum(error, np.float32(_OUTSIDE), out=error)
    error[~within_picture(ends, flow.shape)] = _OUTSIDE
    return np.asarray(error)


def _packed_error(error: Plane) -> NDArray[np.uint8]:
    return np.asarray(np.rint(error * _ERROR_SCALE), np.uint8)


class LongRangeMotion:
    """The hops along the direction in which an edit is propagated, away from its keyframe.

    chunks: the span of each one's first frames, its hop and its motion. step: 1 to later frames, -1 to earlier ones.
    size: (width, height) of the flow."""

    def __init__(self, chunks: Sequence[tuple[Span, int, HopChunk]], step: int, size: tuple[int, int]) -> None:
        self._chunks = chunks
        self._step = step
        self._size = size

    def hops(self, number: int) -> Iterator[tuple[int, Hop]]:
        """The motions from a frame to those nearer to the keyframe, each with that frame's number."""
        for span, hop, chunk in self._chunks:
            to = number - self._step * hop
            firsts = firsts_of(span)
            if min(number, to) not in firsts:
                continue
            index = firsts.index(min(number, to))
            later = self._step > 0
            flow = unpack(chunk.backward[index] if later else chunk.forward[index])
            error = chunk.backward_error[index] if later else chunk.forward_error[index]
            scale = np.array([self._size[0] / flow.shape[1], self._size[1] / flow.shape[0]], np.float32)
            yield to, Hop(self._enlarged(flow * scale), self._enlarged(error.astype(np.float32) / _ERROR_SCALE))

    def _enlarged(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(planes, self._size, interpolation=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True)
class Evidence:
    """A matte (h, w) 0..1 and how certain it is (h, w) 0..1. unpainted: (h, w) 0..1, the part of its object that is not
    painted; None: not known."""

    matte: Plane
    confidence: Plane
    unpainted: Plane | None = None


@dataclass(frozen=True, kw_only=True)
class Proposal(Evidence):
    """What motion brings to a frame. motion: (h, w) 0..1, how certain that is by itself, whatever it brings."""

    motion: Plane


def proposed(known: Sequence[tuple[Hop, Evidence]]) -> Proposal:
    """What several motions to frames whose mattes are known propose for a frame: each pixel's mean matte, weighted by
    exp(-error) and by its confidence there; and the confidence of the surest, which falls with the motion's error. What
    comes in across the picture's border goes on there as what lay at the border, more likely than not."""
    total, weights, confidence, other, motion = (np.zeros_like(known[0][1].matte) for _ in range(5))
    entering = np.full_like(confidence, _ENTERING)
    for hop, there in known:
        beside = there.matte if there.unpainted is None else there.unpainted
        matte, sure, beside = planes_of(warp(cv2.merge([there.matte, there.confidence, beside]), hop.backward))
        weight = (np.exp(hop.error * np.float32(-1 / _SPREAD)) + np.float32(_LEAST)) * (sure + np.float32(_LEAST))
        total += weight * matte
        other += weight * beside
        weights += weight
        wrong = np.maximum(hop.error - np.float32(_SOUND), 0)
        right = np.exp(wrong * np.float32(-1 / _REACH))
        np.maximum(motion, right, out=motion)
        np.maximum(confidence, right * sure, out=confidence)
        np.minimum(entering, np.where(within_picture(endpoints(hop.backward), sure.shape), 0, sure), out=entering)
    np.maximum(confidence, entering, out=confidence)
    found = np.asarray(total / weights, np.float32)
    unpainted = None if known[0][1].unpainted is None else np.asarray(other / weights, np.float32)
    return Proposal(found, confidence, unpainted, motion=motion)
