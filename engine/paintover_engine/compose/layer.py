"""One keyframe's paint, made anew on another frame's own pixels at the plate's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.flow import Field, flow_size, follow, places, shrink, unpack
from paintover_engine.compose.matte import (
    Plane,
    Window,
    apply_coefficients,
    bounds,
    disc,
    guided_coefficients,
    sharpen,
)
from paintover_engine.compose.paint import Paint
from paintover_engine.compose.tracker import certain, from_bytes
from paintover_engine.media.colour import to_working
from paintover_engine.media.plate import Plate, unit

Picture = NDArray[np.float32]  # (h, w, 3)

MARGIN = 4
"""How far beyond the carried matte the full-size one may reach, in flow pixels."""

_AROUND = 16  # how much of the keyframe around its paint may be asked for, in the plate's pixels
_LIGHT = (15, 15)  # over how many flow pixels light is even
_MEAN = np.full((1, 3), 1 / 3, np.float32)
_EDGE = 1e-4  # variance of a picture 0..1 below which the guided filter sees no edge


class View:
    """A window of a frame of the plate, of which no more is converted than the window needs.

    working: (h, w, 3), the window at the plate's size; small: (h', w', 3) 0..1, the whole frame at the flow's size.
    """

    def __init__(self, plate: Plate, window: Window) -> None:
        x, y, width, height = window
        native = plate.native_rgb()
        as_it_is = not plate.colorspace and native.dtype in (np.uint8, np.uint16)
        whole = native if as_it_is else plate.display()
        self.window = window
        self.working = to_working(unit(native[y : y + height, x : x + width]), plate.colorspace)
        self.size = (whole.shape[1], whole.shape[0])
        self.small = unit(shrink(whole, flow_size(*self.size)))

    def enlarged(self, small: NDArray[np.float32]) -> NDArray[np.float32]:
        """The window of something of the flow's size (h', w'[, c]), at the plate's size."""
        x, y, width, height = self.window
        across, down = small.shape[1] / self.size[0], small.shape[0] / self.size[1]
        to_small = np.array([[across, 0, (x + 0.5) * across - 0.5], [0, down, (y + 0.5) * down - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        large = cv2.warpAffine(small, to_small, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(large, np.float32)


class Layer:
    """A keyframe's paint, ready to be laid on frames.

    paint: the keyframe's, at the plate's size; None needs neither `mapped` nor pixels of the keyframe. colour: its
    colour map.
    drawn: the paint is no function of colour. firm: how well its edge is seen in the plate, 0..1.
    """

    def __init__(self, paint: Paint | None, colour: ColourMap, drawn: bool, firm: float) -> None:
        self._colour = colour
        self._firm = firm
        self._mapped = paint is not None
        if paint is None:
            return
        near, self._home = paint.cropped(_AROUND)
        self._matte, self._opacity = near.matte, near.opacity()
        self._through = near.showing_through() if drawn else None
        size = flow_size(paint.plate.shape[1], paint.plate.shape[0])
        self._light = cv2.transform(shrink(paint.plate, size), _MEAN)
        self._rest = near.beyond(colour(near.plate) if self._through is None else near.plate * self._through)

    def lay(self, view: View, kept: Mapping[str, NDArray[Any]], index: int) -> tuple[Picture, Plane]:
        """Painted colour (h, w, 3) and matte (h, w) of a view. kept: `Tracker.tensors`, with the view's frame at
        `index`."""
        carried = from_bytes(kept["matte"][index])
        near = _near(carried, view)
        matte = _at_full_size(carried, view)
        matte *= near
        if not self._mapped:
            return self._colour(view.working), matte
        offset, sure = unpack(kept["offset"][index]), from_bytes(kept["trust"][index])
        on_key, trust, light = self._surface(offset, sure, view)
        rest = _seen(self._rest, on_key, cv2.INTER_CUBIC)
        if self._through is None:
            painted = self._colour(view.working) + _times(rest, np.minimum(4 * trust, 1))
        else:
            painted = _times(view.working, _seen(self._through, on_key)) + _times(rest, light)
        matte *= _seen(self._opacity, on_key)
        matte += (1 - self._firm) * certain(trust) * (_seen(self._matte, on_key) - matte)
        matte *= near
        return painted, matte

    def _surface(self, offset: Field, sure: Plane, view: View) -> tuple[Field, Plane, Plane]:
        """Of the view's pixels: where they stood in the keyframe's kept part (h, w, 2), how far that is trusted, and
        how much more light falls there than on the keyframe."""
        across, down = view.size[0] / offset.shape[1], view.size[1] / offset.shape[0]
        x, y = cv2.split(offset)
        planes = view.enlarged(
            cv2.merge([x * np.float32(across), y * np.float32(down), sure, self._relit(offset, sure, view)])
        )
        x, y, trust, light = cv2.split(planes)
        left, top = view.window[0] - self._home[0], view.window[1] - self._home[1]
        return places(cv2.merge([x, y]), (left, top, *view.window[2:])), trust, light

    def _relit(self, offset: Field, trust: Plane, view: View) -> Plane:
        """(h', w'): how much more light than on the keyframe falls on the surface around each pixel, and so on its
        paint."""
        now, then = cv2.transform(view.small, _MEAN), follow(self._light, offset)
        counts = trust + np.float32(1e-3)
        now, then = (cv2.blur(light * counts, _LIGHT) + np.float32(1e-4) for light in (now, then))
        return np.asarray(np.clip(now / then, 0.5, 2.0))


def reach(matte: NDArray[np.uint8], size: tuple[int, int]) -> Window:
    """The box of the plate, of (width, height) `size`, that holds all that a carried matte (h', w') can paint."""
    x, y, w, h = bounds(matte, MARGIN)
    if w == 0:
        return 0, 0, 0, 0
    height, width = matte.shape
    left, right = x * size[0] // width, min(-(-(x + w) * size[0] // width), size[0])
    top, bottom = y * size[1] // height, min(-(-(y + h) * size[1] // height), size[1])
    return left, top, right - left, bottom - top


def _seen(on_key: NDArray[np.float32], where: Field, method: int = cv2.INTER_LINEAR) -> NDArray[np.float32]:
    return np.asarray(cv2.remap(on_key, where, None, method, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _times(picture: Picture, plane: Plane) -> Picture:
    """A picture (h, w, 3) times a plane (h, w)."""
    return np.asarray(cv2.multiply(picture, cv2.merge([plane] * 3)), np.float32)


def _at_full_size(matte: Plane, view: View) -> Plane:
    """A view's part of a matte (h', w') of the flow's size, its edge on the plate's edges."""
    x, y, width, height = bounds(matte, 2 * MARGIN)
    coefficients = np.zeros((*matte.shape, 4), np.float32)
    if width and height:
        part = np.s_[y : y + height, x : x + width]
        coefficients[part] = guided_coefficients(view.small[part], matte[part], 2, _EDGE)
    return sharpen(apply_coefficients(view.enlarged(coefficients), np.clip(view.working, 0, 1)), 1.5)


def _near(matte: Plane, view: View) -> NDArray[np.bool_]:
    """(h, w): the view's pixels that a matte (h', w') of the flow's size may reach."""
    return np.asarray(view.enlarged(cv2.dilate(matte, disc(MARGIN - 1))) > 0.1)
