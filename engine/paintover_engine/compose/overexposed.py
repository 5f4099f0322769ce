"""Frames so bright that samples are clipped, as in a flash: their colours and their motion, from frames beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.exposure import PLAIN, Display, Exposure
from paintover_engine.compose.flow import Field, consistency, warp
from paintover_engine.compose.matte import Plane, extend
from paintover_engine.compose.motion import PairMotion

CLIPPED = 252
"""The 8-bit level from which a sample may be clipped."""

_LEAST = 0.001  # share of the samples; fewer that are clipped change nothing that is seen
_AROUND = (7, 7)  # pixels over which motions are compared
_PLAINLY, _SLIGHTLY = 0.8, 1.0  # share of the difference, and less by so many levels, that a better motion leaves
_ROUNDS = 4  # of the fixed point that inverts a motion


@dataclass(frozen=True)
class RestoredFrames:
    """Frames whose clipped samples were restored, at the keyframe's exposure.

    numbers: (n,) int64. pictures: (n, 2h, 2w, 3) uint8, of twice the flow's size."""

    numbers: NDArray[np.int64]
    pictures: NDArray[np.uint8]

    @staticmethod
    def of(pictures: Sequence[tuple[int, Display | None]]) -> RestoredFrames | None:
        """Those of some frames, by number, that are not None; None where all are."""
        found = [(number, picture) for number, picture in pictures if picture is not None]
        if not found:
            return None
        return RestoredFrames(
            np.array([number for number, _ in found], np.int64), np.stack([picture for _, picture in found])
        )

    def at(self, number: int) -> Display | None:
        """A frame's picture (2h, 2w, 3); None of one that was not restored."""
        (index,) = np.nonzero(self.numbers == number)
        return self.pictures[index[0]] if len(index) else None


def brightens(exposure: Exposure) -> bool:
    """Whether an exposure is so much brighter that it may clip what is not clipped without it."""
    return exposure.strength > PLAIN and float((exposure.gain + exposure.lift).mean()) > 1


def restored(frame: Display, exposure: Exposure, previous: Display, backward: Field) -> Display | None:
    """A frame at the keyframe's exposure, its clipped samples from another that shows the same surfaces; None where
    none is clipped. What a sample was clipped at is the least that it can be.

    frame: (2h, 2w, 3), as it was shot. exposure: from the keyframe to it. previous: (2h, 2w, 3), the other at the
    keyframe's exposure. backward: (h, w, 2), flow from the frame to that."""
    clipped = frame >= CLIPPED
    if clipped.mean(dtype=np.float64) < _LEAST:
        return None
    height, width = frame.shape[:2]
    scale = np.array([width / backward.shape[1], height / backward.shape[0]], np.float32)
    large: Field = cv2.resize(backward, (width, height), interpolation=cv2.INTER_LINEAR) * scale
    clipped = cv2.dilate(clipped.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # averages of some that are
    exposed = exposure.inverse().of_display(frame)
    return np.where(clipped, np.maximum(exposed, warp(previous, large)), exposed)


def blown_out(frame: Display) -> NDArray[np.bool_]:
    """(h, w): where a frame (h, w, 3) is so bright that its colours are lost: most of a pixel's channels are
    clipped."""
    return np.asarray((frame >= CLIPPED).sum(axis=2) >= 2)


def motion_through(
    found: PairMotion, frame: Display, previous: Display, beyond: PairMotion, share: float
) -> PairMotion:
    """The motion between an overexposed frame and the one before it. Where the frame is blown out, surfaces are taken
    to move evenly from the frame before it to one beyond it, except for what the rest of the frame, around them,
    shows of uneven motion (a camera that shakes), and unless the motion between the two plainly explains more.

    found: the motion between the two as far as they show it. frame: (h, w, 3); previous: (h, w, 3), the one before as
    it is exposed. beyond: the motion from the one before to one beyond. share: of that way that lies before the frame,
    0..1."""
    blown, even = blown_out(frame), beyond.forward * np.float32(share)
    backward = _inverted(even)
    known: Plane = np.asarray(consistency(found.backward, found.forward) * ~blown, np.float32)
    uneven = extend(found.backward - backward, known) if known.any() else np.zeros_like(backward)
    backward = backward + uneven
    evenly = blown & (
        _difference(found.backward, frame, previous) > _PLAINLY * _difference(backward, frame, previous) - _SLIGHTLY
    )
    backward = np.where(evenly[..., None], backward, found.backward)
    reached = warp(cv2.merge([evenly.astype(np.float32), *cv2.split(uneven)]), even)
    forward = np.where(reached[..., :1] > 0.5, even - reached[..., 1:], found.forward)
    return replace(found, backward=np.ascontiguousarray(backward), forward=np.ascontiguousarray(forward))


def _difference(backward: Field, frame: Display, previous: Display) -> Plane:
    """(h, w): the mean difference around each pixel, in 8-bit levels, that a motion leaves."""
    left = cv2.absdiff(warp(previous, backward), frame).astype(np.float32)
    return np.asarray(cv2.blur(cv2.transform(left, np.full((1, 3), 1 / 3, np.float32)), _AROUND))


def _inverted(forward: Field) -> Field:
    """The flow back along a flow, on the grid that it leads to: the fixed point of b(x) = -forward(x + b(x))."""
    backward = -forward
    for _ in range(_ROUNDS):
        backward = -warp(forward, backward)
    return backward
