"""What lies behind an edit's object: the background, remembered from frames that showed it, under the motion of what
surrounds the object.

Where a frame shows what is remembered, it shows no object; where it plainly shows something else, something stands
before it. So a matte neither clings to background that the object has passed, nor needs the object's looks alone
(background subtraction under a moving camera: Elgammal et al.: Background and foreground modeling using nonparametric
kernel density estimation, Proc. IEEE 2002, with the camera's motion taken out as in motion segmentation).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import Lab, distances
from paintover_engine.compose.flow import Field, consistency, endpoints, warp, within_picture
from paintover_engine.compose.matte import Plane, disc, extend
from paintover_engine.compose.planes import planes_of, summed, times

_BESIDE = 3  # pixels from the matte up to which a frame's background is not remembered
_TOLERANCE = 0.06  # difference in scaled L*a*b* that noise and light make
_PIXEL = 0.7  # share of the local contrast that a misplacement makes
_REMEMBERED = 0.97  # confidence that is left, a frame, of what is not seen
_SAME, OTHER = -6.0, 4.0
"""Log-odds of the object where the frame shows what is remembered, and where it plainly does not."""
_STEEPNESS = 6.0  # of the log-odds, over the difference in tolerances
_EVEN = 1.7  # the difference, in tolerances, that says neither
_WINDOW = (3, 3)


@dataclass(frozen=True)
class Background:
    """lab: (h, w, 3), what lies behind the object in a frame; seen: (h, w) 0..1, how well that is known."""

    lab: Lab
    seen: Plane

    @staticmethod
    def of(lab: Lab, matte: Plane) -> Background:
        """As a frame alone shows it."""
        return Background(lab, _outside(matte))

    def moved(self, backward: Field, forward: Field, hidden: NDArray[np.uint8]) -> Background:
        """The same in the next frame. backward: flow from it to this one; forward: from this one; hidden: (h, w), 1
        where the object may be in it. There the background moves as its surroundings."""
        confidence = consistency(backward, forward) * (1 - hidden)
        motion = extend(backward, confidence)
        moved = warp(cv2.merge([*planes_of(self.lab), self.seen]), motion)  # four planes cost less than three
        light, green, blue, seen = planes_of(moved)
        inside = within_picture(endpoints(motion), seen.shape)
        return Background(cv2.merge([light, green, blue]), seen * inside)

    def odds(self, frame: Lab) -> Plane:
        """(h, w): log-odds that a frame's pixels are the object, by what lies behind them; 0 where that is not
        known."""
        difference = cv2.blur(distances(frame, self.lab), _WINDOW)
        mean = cv2.blur(self.lab, (5, 5))
        variance = np.maximum(cv2.blur(self.lab * self.lab, (5, 5)) - mean * mean, 0)
        spread = summed(np.sqrt(variance))
        ratio = difference / (np.float32(_TOLERANCE) + np.float32(_PIXEL) * spread)
        known = np.clip(2 * cv2.erode(self.seen, np.ones(_WINDOW, np.uint8)) - 1, 0, 1)
        return np.asarray(
            known * np.clip(np.float32(_STEEPNESS) * (ratio - np.float32(_EVEN)), _SAME, OTHER), np.float32
        )

    def updated(self, frame: Lab, matte: Plane) -> Background:
        """With what a frame shows of it outside a matte."""
        shown = _outside(matte)
        lab = self.lab + times(frame - self.lab, shown)
        return Background(lab, np.maximum(shown, np.float32(_REMEMBERED) * self.seen))


def _outside(matte: Plane) -> Plane:
    return np.asarray(cv2.dilate((matte > 0.1).astype(np.uint8), disc(_BESIDE)) == 0, np.float32)
