"""A rigid object's own motion, as a test of what its matte may hold.

What an object uncovers has no counterpart in the frame before, so that flow there is a guess, which likes to lead back
into the matte. A rigid object moves by one affine motion: what that does not bring from its matte, or what moves as the
surroundings do, is not the object; what it brings, and what moves with it, is, in whatever light (layered motion: Wang,
Adelson: Representing moving images with layers, IEEE Transactions on Image Processing 1994). How far the test holds is
measured where flow is certain: from an object with limbs the test would take those away, so that there it has no
weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from paintover_engine.compose.flow import Field, warp
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane, disc

_BESIDE = 2
"""Pixels by which an object may be beside its affine motion, or show more of itself than in the frame before."""
_STEEPNESS = 4  # power of the certainty of motion, and of its lack
_ARTICULATED, _RIGID = 0.96, 0.98
"""Share of the matte that its motion explains, from which the test has weight, and all."""


@dataclass(frozen=True)
class Rigidity:
    """How much of an object's matte one affine motion has explained where flow was certain. explained, total: pixels,
    summed over the anchors so far, weighted by the certainty."""

    explained: float = 0.0
    total: float = 0.0

    @property
    def weight(self) -> float:
        """0..1: what the test is worth."""
        share = self.explained / self.total if self.total > 0 else 0.0
        return float(np.clip((share - _ARTICULATED) / (_RIGID - _ARTICULATED), 0, 1))

    def updated(self, prior: Evidence, unlike: Plane) -> Rigidity:
        """With one more frame. prior: its motion-compensated matte; unlike: from `unlike_object`."""
        certain = prior.matte * prior.confidence**_STEEPNESS
        explained, total = float(certain[unlike < 0.5].sum()), float(certain.sum())
        return Rigidity(self.explained + explained, self.total + total)

    def excluded(self, unlike: Plane, sure: Plane, behind: Plane) -> Plane:
        """(h, w) 0..1: how plainly pixels are not the object. sure: (h, w) 0..1, certainty of motion. behind: (h, w),
        `Background.odds`: an object that comes out from behind another thing looks otherwise than that."""
        uncovered = np.clip(2 - behind / 2, 0, 1)
        return np.asarray(np.float32(self.weight) * unlike * uncovered * (1 - sure) ** _STEEPNESS, np.float32)

    def carried(self, own: Field, motion: Plane, before: Plane, consistent: Plane) -> Plane:
        """(h, w) 0..1: how plainly pixels are the object still, however the light on it changes: what its own motion
        brings from its matte, and moves there with it, not with its surroundings.

        own, motion, before: as of `unlike_object`; consistent: (h, w) 0..1, `flow.consistency`, which light does not
        lower."""
        inside = warp(np.asarray(cv2.erode(before, disc(_BESIDE)), np.float32), own)
        return np.asarray(np.float32(self.weight) * np.maximum(motion, 0) * inside * consistent, np.float32)


def unlike_object(own: Field, motion: Plane, before: Plane) -> Plane:
    """(h, w) 0..1: where a rigid object with a matte `before`, (h, w) in the frame before, cannot be.

    own: (h, w, 2), its affine motion back to that frame; motion: (h, w), `motion_plane`."""
    covered = warp(np.asarray(cv2.dilate(before, disc(_BESIDE)), np.float32), own)
    return np.asarray(np.maximum(1 - covered, -motion), np.float32)
