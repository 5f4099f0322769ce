"""One keyframe's paint rendered on another frame's own pixels, at the plate's size."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.blur import added_blur
from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.exposure import Exposure
from paintover_engine.compose.fill import Smooth, goes_on, is_pattern
from paintover_engine.compose.flow import (
    Field,
    affine_motion,
    endpoints,
    flow_size,
    shrink,
    unpack,
    warp,
    within_picture,
)
from paintover_engine.compose.grain import grain_of
from paintover_engine.compose.matte import (
    Plane,
    apply_coefficients,
    disc,
    extend,
    guided_coefficients,
    sharpen,
)
from paintover_engine.compose.overexposed import CLIPPED
from paintover_engine.compose.paint import Paint
from paintover_engine.compose.planes import planes_of, times
from paintover_engine.compose.tracker import Propagated, certain, from_bytes
from paintover_engine.media.bounds import EMPTY, Bounds, bounds_of
from paintover_engine.media.colour import to_working
from paintover_engine.media.correction import Correction, corrected
from paintover_engine.media.keyframe_kind import KeyframeKind
from paintover_engine.media.plate import Plate, unit

Picture = NDArray[np.float32]  # (h, w, 3)

MARGIN = 4
"""How far beyond the propagated matte the full-size one may reach, in flow pixels."""

_AROUND = 16  # how much of the keyframe around its paint is sampled, in the plate's pixels
_LIGHT = (15, 15)  # flow pixels over which light is even
_ENOUGH = 100  # flow pixels by which the motion of a surface is known
_MEAN = np.full((1, 3), 1 / 3, np.float32)
_EDGE = 1e-4  # variance of a picture 0..1 below which the guided filter sees no edge


@dataclass(frozen=True)
class PaintOptions:
    """fill: paint on a surface that goes on beyond the keyframe's border is continued over what comes into view of it.
    motion_blur, grain: drawn paint takes the blur and the grain of its frame."""

    fill: bool = False
    motion_blur: bool = False
    grain: bool = False


AS_PAINTED = PaintOptions()


class PlateRegion:
    """A part of a frame of the plate, no more of which is converted than `bounds` needs.

    working: (h, w, 3) float32, the part inside `bounds`, at the plate's size in the working encoding; small:
    (h', w', 3) float32 0..1, the whole frame at the flow's size; size: (width, height) of the plate."""

    def __init__(self, plate: Plate, bounds: Bounds) -> None:
        x, y, width, height = bounds
        native = plate.native_rgb()
        as_it_is = not plate.colorspace and native.dtype in (np.uint8, np.uint16)
        whole = native if as_it_is else plate.display()
        self.bounds = bounds
        self._part = native[y : y + height, x : x + width]
        self.working = to_working(unit(self._part), plate.colorspace)
        self.size = (whole.shape[1], whole.shape[0])
        self.small = unit(shrink(whole, flow_size(*self.size)))

    def exposed(self, exposure: Exposure, restored: NDArray[np.uint8] | None = None) -> PlateRegion:
        """The same part at another exposure. restored: (h', w', 3), the whole frame at that exposure, for what is
        clipped."""
        view = copy.copy(self)
        view.working, view.small = exposure(self.working), exposure(self.small)
        if restored is not None and np.issubdtype(self._part.dtype, np.integer):
            clipped = unit(self._part) >= np.float32(CLIPPED / 255)
            enlarged = self.enlarged(unit(restored))
            view.working = np.where(clipped, np.maximum(view.working, enlarged), view.working)
            view.small = unit(shrink(restored, (self.small.shape[1], self.small.shape[0])))
        return view

    def pixel(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The width and height, in the plate's pixels, of a pixel of a plane (height, width, …) of the whole frame."""
        return np.array([self.size[0] / shape[1], self.size[1] / shape[0]], np.float32)

    def enlarged(self, small: NDArray[np.float32]) -> NDArray[np.float32]:
        """Planes of the flow's size (h', w'[, c]) enlarged to the plate's, inside `bounds`: (h, w[, c])."""
        x, y, width, height = self.bounds
        across, down = small.shape[1] / self.size[0], small.shape[0] / self.size[1]
        to_small = np.array([[across, 0, (x + 0.5) * across - 0.5], [0, down, (y + 0.5) * down - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        large = cv2.warpAffine(small, to_small, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(large, np.float32)


class PaintLayer:
    """A keyframe's paint, ready to be composited on frames.

    paint: the keyframe's, at the plate's size; None where it is a function of colour inside a hard edge, and no pixel
    of the keyframe is needed. colour: its colour map. drawn: the paint is no function of colour. firmness: how well its
    edge is seen in the plate, 0..1."""

    def __init__(
        self,
        paint: Paint | None,
        colour: ColourMap,
        drawn: bool,
        firmness: float,
        options: PaintOptions = AS_PAINTED,
    ) -> None:
        self._colour = colour
        self._firmness = firmness
        self._mapped = paint is not None
        if paint is None:
            return
        near, self._origin = paint.cropped(_AROUND)
        self._alphas = cv2.merge([near.opacity(), near.matte])
        self._options = options
        self._plate = near.plate
        # What shines through paint shines through where it goes on, too.
        fill = options.fill and drawn and goes_on(paint.matte) and near.hides_detail()
        self._fill = fill
        self._beyond = cv2.BORDER_REFLECT_101 if fill else cv2.BORDER_REPLICATE
        self._transmission = near.transmission(fill) if drawn else None
        self._opaque = drawn or near.hides_detail()
        size = flow_size(paint.plate.shape[1], paint.plate.shape[0])
        self._light = cv2.transform(shrink(paint.plate, size), _MEAN)
        self._painted = (shrink(paint.matte, size) > 0.9).astype(np.float32)
        base = colour(near.plate) if self._transmission is None else near.plate * self._transmission
        self._residual = near.residual(base, fill)
        self._smooth = None
        if fill and self._transmission is not None and is_pattern(near.painted, near.matte):
            self._smooth = Smooth(np.dstack([self._residual, self._transmission]))

    def with_firmness(self, firmness: float) -> PaintLayer:
        """The layer for mattes whose edge is seen otherwise."""
        layer = copy.copy(self)
        layer._firmness = firmness
        return layer

    def composite(
        self,
        view: PlateRegion,
        propagated: Propagated,
        index: int,
        number: int,
        correction: Correction | None = None,
    ) -> tuple[Picture, Plane]:
        """Painted colour (h, w, 3) and matte (h, w) of a view of the frame `number`, at an index of a propagated span.

        correction: the frame's; it counts at the plate's size."""
        assert propagated.matte is not None
        small = from_bytes(propagated.matte[index])
        reached = _reached(small, view)
        matte = _at_full_size(small, view)
        matte *= reached
        if not self._mapped or propagated.offset is None or propagated.offset_confidence is None:
            return self._colour(view.working), _corrected(matte, correction, view)
        offset, small_confidence = unpack(propagated.offset[index]), from_bytes(propagated.offset_confidence[index])
        if self._fill:
            offset, small_confidence = self._as_around(offset, small_confidence)
        on_key, confidence, light = self._surface(offset, small_confidence, view)
        residual = _sampled(self._residual, on_key, cv2.INTER_CUBIC, self._beyond)
        opacity, on_paint = planes_of(_sampled(self._alphas, on_key))
        if self._transmission is None:
            through, residual = np.zeros_like(confidence), times(residual, np.minimum(4 * confidence, 1))
        else:
            through = _sampled(self._transmission, on_key, border=self._beyond)
            if self._smooth:
                *planes, through = planes_of(self._smooth.beyond(on_key, np.dstack([residual, through])))
                residual = cv2.merge(planes)
            residual = times(residual, light)
        grain = None
        if self._opaque and (self._options.motion_blur or self._options.grain):
            key = times(_sampled(self._plate, on_key, cv2.INTER_CUBIC), light)
            same = certain(confidence) * within_picture(on_key, self._plate.shape)
            if self._options.motion_blur:
                motion = view.enlarged(_motion(propagated.offset, index)) * view.pixel(offset.shape)
                blur = added_blur(view.working, key, motion, same)
                colours = blur(cv2.merge([*planes_of(residual), opacity]))  # four planes cost as much as one
                residual, opacity = np.ascontiguousarray(colours[..., :3]), np.ascontiguousarray(colours[..., 3])
                through, on_paint = planes_of(blur(cv2.merge([through, on_paint])))
            grain = grain_of(view.working, key, same > 0.5, number) if self._options.grain else None
        base = self._colour(view.working) if self._transmission is None else times(view.working, through)
        painted = base + residual
        matte *= opacity
        matte += (1 - self._firmness) * certain(confidence) * (on_paint - matte)
        matte *= reached
        if grain is not None:
            painted = grain.onto(painted, through, matte > 0.5)
        return painted, _corrected(matte, correction, view, opacity)

    def _as_around(self, offset: Field, confidence: Plane) -> tuple[Field, Plane]:
        """A registration with what came into view placed as the paint around it is: nothing is known of it itself."""
        inside = within_picture(endpoints(offset), confidence.shape) * warp(self._painted, offset)
        known = (certain(confidence) * inside > 0.5).astype(np.float32)
        known = cv2.erode(known, disc(2))
        if known.sum() < _ENOUGH:
            return offset, confidence
        affine = affine_motion(offset, known, robust=True)
        around = affine + extend(offset - affine, known)
        return np.where(known[..., None] > 0, offset, around), confidence * known

    def _surface(self, offset: Field, confidence: Plane, view: PlateRegion) -> tuple[Field, Plane, Plane]:
        """Of the view's pixels: where they stood in the cropped keyframe (h, w, 2), the confidence in that (h, w), and
        the ratio of the light there to that on the keyframe (h, w). offset, confidence: (h', w'[, 2]), a
        registration."""
        across, down = view.pixel(offset.shape)
        x, y = planes_of(offset)
        planes = view.enlarged(
            cv2.merge([x * across, y * down, confidence, self._relighting(offset, confidence, view)])
        )
        x, y, confidence, light = planes_of(planes)
        left, top = view.bounds[0] - self._origin[0], view.bounds[1] - self._origin[1]
        return endpoints(cv2.merge([x, y]), (left, top, *view.bounds[2:])), confidence, light

    def _relighting(self, offset: Field, confidence: Plane, view: PlateRegion) -> Plane:
        """(h', w') 0.5..2: the ratio of the light on the surface around each pixel to that on the keyframe."""
        frame, key = cv2.transform(view.small, _MEAN), warp(self._light, offset)
        frame, key = (cv2.blur(light * confidence, _LIGHT) + np.float32(1e-6) for light in (frame, key))
        ratio, known = np.clip(frame / key, 0.5, 2.0), np.minimum(20 * cv2.blur(confidence, _LIGHT), 1)
        if not known.any():
            return np.ones_like(confidence)
        return extend(ratio[..., None], known)[..., 0]  # where nothing is known, the nearest light that is


def _motion(offset: NDArray[np.int16], index: int) -> Field:
    """(h, w, 2): how the surface moves from one frame to the next, around that at an index of a span of registrations
    (frames, h, w, 2); 0 in a span of one frame."""
    first, last = max(0, index - 1), min(len(offset) - 1, index + 1)
    return (unpack(offset[first]) - unpack(offset[last])) / np.float32(max(1, last - first))


def reach(matte: NDArray[np.uint8], size: tuple[int, int]) -> Bounds:
    """The bounds, in a plate of (width, height) `size`, of all that a propagated matte (h', w') can paint."""
    x, y, w, h = bounds_of(matte, MARGIN)
    if w == 0:
        return EMPTY
    height, width = matte.shape
    left, right = x * size[0] // width, min(-(-(x + w) * size[0] // width), size[0])
    top, bottom = y * size[1] // height, min(-(-(y + h) * size[1] // height), size[1])
    return left, top, right - left, bottom - top


def _sampled(
    on_key: NDArray[np.float32], points: Field, method: int = cv2.INTER_LINEAR, border: int = cv2.BORDER_REPLICATE
) -> NDArray[np.float32]:
    """A picture of the keyframe at points (h, w, 2). border: how it goes on beyond its edges."""
    return np.asarray(cv2.remap(on_key, points, None, method, borderMode=border), np.float32)


def _corrected(matte: Plane, correction: Correction | None, view: PlateRegion, opacity: Plane | None = None) -> Plane:
    """The matte (h, w) of a view with the frame's correction, if any. opacity: of the paint that a roto matte shows."""
    if correction is None:
        return matte
    x, y, width, height = view.bounds
    drawn = correction.matte[y : y + height, x : x + width]
    if correction.kind is KeyframeKind.ROTO and opacity is not None:
        drawn = drawn * opacity
    return corrected(correction.kind, drawn, matte)


def _at_full_size(matte: Plane, view: PlateRegion) -> Plane:
    """A matte (h', w') of the flow's size enlarged to a view (h, w), its edge moved to the plate's edges by the fast
    guided filter."""
    x, y, width, height = bounds_of(matte, 2 * MARGIN)
    coefficients = np.zeros((*matte.shape, 4), np.float32)
    if width and height:
        part = np.s_[y : y + height, x : x + width]
        coefficients[part] = guided_coefficients(view.small[part], matte[part], 2, _EDGE)
    return sharpen(apply_coefficients(view.enlarged(coefficients), np.clip(view.working, 0, 1)), 1.5)


def _reached(matte: Plane, view: PlateRegion) -> NDArray[np.bool_]:
    """(h, w): the view's pixels that a matte (h', w') of the flow's size may reach."""
    return np.asarray(view.enlarged(cv2.dilate(matte, disc(MARGIN - 1))) > 0.1)
