"""An artist's paint: a keyframe against its plate, and whether it is a grade, a function of colour, opaque or soft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose import colour_map
from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.fill import continued
from paintover_engine.compose.flow import shrink
from paintover_engine.compose.matte import disc, extend
from paintover_engine.media.bounds import Bounds, bounds_of

Plane = NDArray[np.float32]  # (H, W)
Picture = NDArray[np.float32]  # (H, W, 3)

SUPPORT = 0.02
"""A keyframe's matte above this is part of the edit."""

SURROUNDINGS = 32
"""Pixels around the paint by which its kind is judged."""

Mode = Literal["auto", "colour", "paint", "grade"]

_WIDE = 0.5  # share of the frame that a grade changes at least
_UNEXPLAINED = 0.06  # share of a change, in square, that a colour map leaves where it does not explain it
_SEEN = 8 / 255  # root mean square of what it leaves from which that is seen
_TEXTURED = 0.3  # likewise of a compressed picture's finest detail, which is noise below that
_AS_WELL = 1.5  # times the squared error of a keyframe's own map: more is plainly worse
_BLOCK = (4, 4)  # pixels over which the noise of compression cancels
_SOLID = 0.1  # a matte above this shows the painted colour well enough
_HIDDEN = 0.25  # share of the plate's detail below which paint hides it
_EDGE = 4  # pixels at the paint's edge that mix it with what lies beside


@dataclass(frozen=True)
class ColourEdit:
    """What the paint does.

    table: (n, n, n, 3) float32, its colour map (`ColourMap.table`). grade: the map is all of it, in the whole frame.
    drawn: the paint is no function of the plate's colour. soft: its edge is."""

    table: NDArray[np.float32]
    grade: bool
    drawn: bool
    soft: bool


@dataclass(frozen=True)
class Paint:
    """A keyframe: its plate and picture, the matte, and `painted` such that plate · (1 - matte) + painted · matte is
    what the artist sees. Display-encoded. compressed: the picture holds the noise of lossy compression."""

    plate: Picture
    picture: Picture
    painted: Picture
    matte: Plane
    compressed: bool = False

    @staticmethod
    def of(plate: Picture, picture: Picture, matte: Plane, given: bool, compressed: bool = False) -> Paint:
        """given: the matte is the artist's own, and the picture shows the paint at full strength; else the matte was
        computed from the difference, and the picture shows the paint composited through it."""
        if given:
            return Paint(plate, picture, picture, matte, compressed)
        x, y, width, height = bounds_of(matte)
        part = np.s_[y : y + height, x : x + width]
        painted, opacity = picture.copy(), np.where(matte[part] > 0, matte[part], np.float32(1))
        painted[part] = plate[part] + (picture[part] - plate[part]) / opacity[..., None]
        return Paint(plate, picture, painted, matte, compressed)

    def cropped(self, margin: int) -> tuple[Paint, Bounds]:
        """The paint with `margin` pixels around it, and the bounds of that."""
        x, y, width, height = bounds = bounds_of(self.matte, margin)
        part = np.s_[y : y + height, x : x + width]
        plate, picture, painted = (each[part] for each in (self.plate, self.picture, self.painted))
        return Paint(plate, picture, painted, self.matte[part], self.compressed), bounds

    def colour(self) -> ColourMap:
        """The colour map nearest to the paint."""
        return colour_map.fit(*self.samples())

    def samples(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """What a colour map is fitted to (`colour_map.fit`)."""
        rows, columns = np.nonzero(self.matte > 0.5)
        if len(rows) == 0:
            rows, columns = np.nonzero(self.matte > 0)
        return self.plate[rows, columns], self.painted[rows, columns], rows // 16 + columns // 16

    def is_grade(self, colour: ColourMap) -> bool:
        """Whether one colour map holds in the whole frame: it explains what is painted, and changes nothing else."""
        step = max(1, min(self.matte.shape) // 200)
        plate, picture, matte = (
            np.ascontiguousarray(a[::step, ::step]) for a in (self.plate, self.picture, self.matte)
        )
        if matte.mean() < _WIDE:
            return False
        change, error = picture - plate, colour(plate) - picture
        return bool((error**2).mean() < 0.02 * (change**2).mean() and np.quantile(np.abs(error), 0.99) < 0.06)

    def is_drawn(self, colour: ColourMap) -> bool:
        """Whether some of the paint is plainly no function of the plate's colour: a mark, a texture, a removal."""
        inside = (self.matte > 0.5).astype(np.float32)
        unexplained = (colour(self.plate) - self.painted) * inside[..., None]
        error = cv2.blur((unexplained**2).sum(-1), (31, 31))
        change = cv2.blur(((self.painted - self.plate) ** 2).sum(-1) * inside, (31, 31))
        plain = error > _UNEXPLAINED * change
        if self.compressed:  # its noise is fine
            coarse = cv2.blur((cv2.blur(unexplained, _BLOCK) ** 2).sum(-1), (31, 31))
            plain = (coarse > _UNEXPLAINED * change) | (error > _TEXTURED * change)
        seen = error > 3 * np.float32(_SEEN**2) * cv2.blur(inside, (31, 31))
        return bool((plain & seen & (inside > 0)).sum() > 0.02 * inside.sum())

    def is_soft(self) -> bool:
        """Whether the matte fades over more than an antialiased edge does."""
        partial = ((self.matte > SUPPORT) & (self.matte < 0.95)).astype(np.uint8)
        wide = cv2.morphologyEx(partial, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        return bool(wide.sum() > 0.05 * max(1, int((self.matte > SUPPORT).sum())))

    def transmission(self, fill: bool = False) -> Picture:
        """(H, W, 1) 0..1: how much of the plate's own detail the paint lets through around each pixel: 0 for opaque
        paint, 1 where it only adds to the plate. It is the regression slope of the picture's fine detail on the
        plate's, as in a guided filter (He, Sun, Tang: Guided image filtering, 2010, eq. 5); extrapolated beyond the
        paint. fill: 0 there, as paint that goes on is opaque."""
        solid = self._solid(fill)
        plate = self.plate - cv2.GaussianBlur(self.plate, (0, 0), 2)
        painted = self.painted - cv2.GaussianBlur(self.painted, (0, 0), 2)
        covariance = cv2.GaussianBlur((plate * painted).sum(-1) * solid, (0, 0), 3)
        variance = cv2.GaussianBlur((plate * plate).sum(-1) * solid, (0, 0), 3)
        slope = np.clip((covariance + 1e-6) / (variance + 1e-6), 0, 1)
        return (slope * solid)[..., None] if fill else extend(slope[..., None], solid)

    def hides_detail(self) -> bool:
        """Whether the plate's fine detail, and its grain, is not seen through most of the paint: flat, opaque paint."""
        inside = self.matte > 0.5
        return bool(inside.any() and np.median(self.transmission()[inside]) < _HIDDEN)

    def residual(self, base: Picture, fill: bool = False) -> Picture:
        """(H, W, 3): the paint less a base computed from the plate, extrapolated beyond the paint's edge. fill: the
        paint itself goes on there, with its texture; the base is 0 there."""
        if fill:
            return continued(self.painted, self._solid(fill)) - base
        return extend(self.painted - base, self._solid(fill))

    def _solid(self, fill: bool) -> Plane:
        """(H, W) 0 or 1: where the painted colour is seen well enough. fill: to go on from it, for which an edge is
        none, where it is mixed with what lies beside."""
        solid = (self.matte > _SOLID).astype(np.uint8)
        inner = cv2.erode(solid, disc(_EDGE)) if fill else solid
        return (inner if inner.any() else solid).astype(np.float32)

    def opacity(self) -> Plane:
        """(H, W) 0..1: the matte inside its edge, extrapolated beyond it: slow fades remain, hard edges do not."""
        inside = cv2.erode((self.matte > SUPPORT).astype(np.float32), disc(2))
        return extend(self.matte[..., None], inside)[..., 0]


def analysed(paint: Paint, mode: Mode) -> ColourEdit:
    """What a keyframe's paint does. mode: the kind of edit, where the artist chose it."""
    colour = paint.colour()
    grade = mode == "grade" or (mode == "auto" and paint.is_grade(colour))
    near, _ = paint.cropped(SURROUNDINGS)
    drawn = not grade and (mode == "paint" or (mode == "auto" and near.is_drawn(colour)))
    return ColourEdit(colour.table, grade, drawn, soft=not grade and near.is_soft())


def may_be_grade(region: Plane) -> bool:
    """Whether so much of a frame is painted, (h, w) 0..1, as `Paint.is_grade` asks for. It may say so of less: a region
    knows no opacity."""
    return bool(region.mean() >= _WIDE)


def shared_colour(paints: Sequence[Paint], own: Sequence[ColourMap]) -> ColourMap | None:
    """The colour map of several keyframes' paint: it knows the colours that any of them shows. own: their own maps.
    None where it explains one of them plainly worse than its own does, which is another edit."""
    samples = [paint.samples() for paint in paints]
    found = colour_map.fit(*(np.concatenate(column) for column in zip(*samples, strict=True)))
    for colour, (plate, painted, _) in zip(own, samples, strict=True):
        shared, alone = (float(np.square(each(plate[None])[0] - painted).sum()) for each in (found, colour))
        if shared > _AS_WELL * alone:
            return None
    return found


def region_of(matte: NDArray[np.float16], size: tuple[int, int]) -> Plane:
    """(h, w) 0..1: where a keyframe's matte (H, W) is painted, at (width, height) `size`. Two edits of one place have
    the same region: it knows no opacity, and gaps of a pixel are closed, where paint has the plate's colour."""
    support = (matte.astype(np.float32) > SUPPORT).astype(np.float32)
    return shrink(cv2.morphologyEx(support, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)), size)
