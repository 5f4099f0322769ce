"""What an artist's paint is: a keyframe against its plate, and what of it is a function of colour, opaque, soft or a
grade."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose import colour_map
from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.matte import Window, bounds, disc, extend

Plane = NDArray[np.float32]  # (H, W)
Picture = NDArray[np.float32]  # (H, W, 3)

SUPPORT = 0.02
"""A keyframe's matte above this is part of the edit."""

_SOLID = 0.1  # a matte above this tells the painted colour well enough


@dataclass(frozen=True)
class Paint:
    """A keyframe: its plate and picture, the matte, and `painted` such that plate · (1 - matte) + painted · matte is
    what the artist sees. Display-encoded."""

    plate: Picture
    picture: Picture
    painted: Picture
    matte: Plane

    @staticmethod
    def of(plate: Picture, picture: Picture, matte: Plane, given: bool) -> Paint:
        """given: the matte is the artist's own, and the picture shows the paint at full strength; else the matte was
        found from the difference, and the picture shows the paint as far as the matte says."""
        if given:
            return Paint(plate, picture, picture, matte)
        x, y, width, height = bounds(matte)
        part = np.s_[y : y + height, x : x + width]
        painted, opacity = picture.copy(), np.where(matte[part] > 0, matte[part], np.float32(1))
        painted[part] = plate[part] + (picture[part] - plate[part]) / opacity[..., None]
        return Paint(plate, picture, painted, matte)

    def cropped(self, margin: int) -> tuple[Paint, Window]:
        """The paint's surroundings alone, and where they lie."""
        x, y, width, height = window = bounds(self.matte, margin)
        part = np.s_[y : y + height, x : x + width]
        return Paint(self.plate[part], self.picture[part], self.painted[part], self.matte[part]), window

    def colour(self) -> ColourMap:
        """The colour map that comes nearest to the paint."""
        rows, columns = np.nonzero(self.matte > 0.5)
        if len(rows) == 0:
            rows, columns = np.nonzero(self.matte > 0)
        return colour_map.fit(self.plate[rows, columns], self.painted[rows, columns], rows // 16 + columns // 16)

    def is_grade(self, colour: ColourMap) -> bool:
        """Whether one colour map holds in the whole frame: it explains what is painted, and changes nothing else."""
        step = max(1, min(self.matte.shape) // 200)
        plate, picture, matte = (
            np.ascontiguousarray(a[::step, ::step]) for a in (self.plate, self.picture, self.matte)
        )
        if matte.mean() < 0.5:
            return False
        change, missed = picture - plate, colour(plate) - picture
        return bool((missed**2).mean() < 0.02 * (change**2).mean() and np.quantile(np.abs(missed), 0.99) < 0.06)

    def is_drawn(self, colour: ColourMap) -> bool:
        """Whether some of the paint is plainly no function of the plate's colour: a mark, a texture, something
        removed."""
        inside = (self.matte > 0.5).astype(np.float32)
        missed = cv2.blur(((colour(self.plate) - self.painted) ** 2).sum(-1) * inside, (31, 31))
        change = cv2.blur(((self.painted - self.plate) ** 2).sum(-1) * inside, (31, 31))
        return bool(((missed > 0.06 * change) & (inside > 0)).sum() > 0.02 * inside.sum())

    def is_soft(self) -> bool:
        """Whether the matte fades over more than an antialiased edge does."""
        partial = ((self.matte > SUPPORT) & (self.matte < 0.95)).astype(np.uint8)
        wide = cv2.morphologyEx(partial, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        return bool(wide.sum() > 0.05 * max(1, int((self.matte > SUPPORT).sum())))

    def showing_through(self) -> Picture:
        """(H, W, 1) 0..1: how much of the plate's own detail the paint lets through around each pixel: 0 for opaque
        paint, 1 where it only adds to the plate. The slope of the picture's fine detail on the plate's, as in a guided
        filter (He, Sun, Tang 2010). Continued beyond the paint."""
        solid = (self.matte > _SOLID).astype(np.float32)
        plate = self.plate - cv2.GaussianBlur(self.plate, (0, 0), 2)
        painted = self.painted - cv2.GaussianBlur(self.painted, (0, 0), 2)
        together = cv2.GaussianBlur((plate * painted).sum(-1) * solid, (0, 0), 3)
        alone = cv2.GaussianBlur((plate * plate).sum(-1) * solid, (0, 0), 3)
        return extend(np.clip((together + 1e-6) / (alone + 1e-6), 0, 1)[..., None], solid)

    def beyond(self, base: Picture) -> Picture:
        """(H, W, 3): what the paint has beyond a base that is made from the plate, continued beyond its edge."""
        return extend(self.painted - base, (self.matte > _SOLID).astype(np.float32))

    def opacity(self) -> Plane:
        """How opaque the matte is inside, continued beyond its edge: what fades slowly stays, hard edges are left
        out."""
        inside = cv2.erode((self.matte > SUPPORT).astype(np.float32), disc(2))
        return extend(self.matte[..., None], inside)[..., 0]
