"""One frame of the plate, in its native samples."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import cv2
import numpy as np
import OpenImageIO as oiio
from numpy.typing import NDArray

from paintover_engine.media import colour
from paintover_engine.media.bounds import Bounds
from paintover_engine.media.video_picture import VideoPicture, read_only, rgb_of

Pixels = NDArray[Any]


class Plate(Protocol):
    """An untouched frame. Implementations keep the native samples and convert on demand.

    Threads share plates without a lock: nothing of a plate changes after it was made, its samples are read-only, and
    each call converts with what belongs to that call alone (`media.video_picture`).
    All arrays are upright, top row first, shape (height, width[, channels]).
    """

    @property
    def number(self) -> int:
        """The frame's number in the shot."""
        ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def colorspace(self) -> str:
        """An OpenColorIO name; "" for display-encoded as it is."""
        ...

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height, upright."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of the native samples."""
        ...

    def native_rgb(self) -> Pixels:
        """(H, W, 3) in the shot's own encoding, as uint8, uint16, float16 or float32 over their whole range."""
        ...

    def rgb(self) -> NDArray[np.float32]:
        """(H, W, 3) in the shot's own encoding; integer samples scaled to 0..1, float samples as they are."""
        ...

    def working(self) -> NDArray[np.float32]:
        """(H, W, 3) sRGB-encoded Rec.709, unclamped: what methods compute in. Equals `rgb` for display-encoded shots;
        values above 1 of scene-linear shots survive (`SourceInfo`'s colour gives the way back)."""
        ...

    def display(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: `working` clipped to 0..1 and quantised; what flow and models see."""
        ...

    def alpha(self) -> NDArray[np.float32] | None:
        """(H, W) 0..1, None where the source has none."""
        ...


def to_display(working: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) working RGB clipped to 0..1 and quantised to uint8; what is not a number becomes 0."""
    scaled = np.nan_to_num(working * np.float32(255.0), nan=0.0, posinf=255.0, neginf=0.0)
    display: NDArray[np.uint8] = np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
    return display


def unit(samples: Pixels) -> NDArray[np.float32]:
    """Integer samples over their type's maximum, float samples as they are, in float32."""
    if np.issubdtype(samples.dtype, np.integer):
        scaled = samples.astype(np.float32)
        scaled *= np.float32(1.0 / np.iinfo(samples.dtype).max)
        return scaled
    return samples.astype(np.float32)


@dataclass(frozen=True, eq=False)
class ImagePlate:
    """A frame of a sequence: its array as the file holds it, and the file's header.

    pixels: (H, W, C) uint8, uint16, float16 or float32: what the picture shows, 0 where the file holds nothing.
    colours: the three channels that are red, green and blue (one channel three times for grey).
    alpha_channel: its index, None where there is none.
    spec: the file's header, None for uploaded frames.
    data: (h, w, C), all pixels of the file, where they are others than what the picture shows; else None.
    window: where `data` lies: x, y, w, h from the top left of `pixels`.
    """

    number: int
    pixels: Pixels
    colours: tuple[int, int, int]
    alpha_channel: int | None
    colorspace: str
    spec: oiio.ImageSpec | None = None
    data: Pixels | None = None
    window: Bounds = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", read_only(self.pixels))
        if self.data is not None:
            object.__setattr__(self, "data", read_only(self.data))

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def nbytes(self) -> int:
        return int(self.pixels.nbytes) + (0 if self.data is None else int(self.data.nbytes))

    @property
    def pixel_aspect(self) -> Fraction:
        stated = self.spec.get_float_attribute("PixelAspectRatio", 1.0) if self.spec is not None else 1.0
        return Fraction(stated or 1.0).limit_denominator(1000)

    @property
    def grey(self) -> bool:
        """True where one channel holds the picture."""
        return len(set(self.colours)) == 1

    @property
    def whole(self) -> ImagePlate:
        """All pixels of the file as a picture of their own; the plate itself where those are what it shows."""
        return self if self.data is None else dataclasses.replace(self, pixels=self.data, data=None)

    def stored(self) -> tuple[Pixels, Bounds]:
        """The pixels to write, and where they lie (x, y, w, h from the top left of `pixels`): the file's own window,
        made larger only where something outside it is painted."""
        if self.data is None:
            return self.pixels, (0, 0, self.width, self.height)
        x, y, width, height = self.window
        shown, held = overlap(self.window, (self.height, self.width))
        outside: NDArray[np.bool_] = (self.pixels != 0).any(axis=2)
        outside[shown] = False
        if not outside.any():
            data = self.data.copy()
            data[held] = self.pixels[shown]
            return data, self.window
        rows, columns = np.flatnonzero(outside.any(axis=1)), np.flatnonzero(outside.any(axis=0))
        left, top = min(x, int(columns[0])), min(y, int(rows[0]))
        right, bottom = max(x + width, int(columns[-1]) + 1), max(y + height, int(rows[-1]) + 1)
        window = (left, top, right - left, bottom - top)
        data = np.zeros((bottom - top, right - left, self.data.shape[2]), self.data.dtype)
        data[y - top : y - top + height, x - left : x - left + width] = self.data
        shown, held = overlap(window, (self.height, self.width))
        inside = data[held]
        np.copyto(inside, self.pixels[shown])
        return data, window

    def native_rgb(self) -> Pixels:
        """(H, W, 3) in the file's own samples; a view where the channels stand side by side."""
        if self.colours == (0, 1, 2):
            return self.pixels[..., :3]
        return self.pixels[..., list(self.colours)]

    def rgb(self) -> NDArray[np.float32]:
        return unit(self.native_rgb())

    def working(self) -> NDArray[np.float32]:
        return colour.to_working(self.rgb(), self.colorspace)

    def display(self) -> NDArray[np.uint8]:
        if self.pixels.dtype == np.uint8 and not self.colorspace:
            return np.ascontiguousarray(self.native_rgb())
        return to_display(self.working())

    def alpha(self) -> NDArray[np.float32] | None:
        return None if self.alpha_channel is None else unit(self.pixels[..., self.alpha_channel])


Region = tuple[slice, slice]  # rows, columns


def overlap(window: Bounds, shape: tuple[int, int]) -> tuple[Region, Region]:
    """Where a window (x, y, w, h) lies in a picture of a shape (H, W): the region of the picture, and that of the
    window."""
    x, y, width, height = window
    left, top = min(max(x, 0), shape[1]), min(max(y, 0), shape[0])
    right, bottom = max(min(x + width, shape[1]), left), max(min(y + height, shape[0]), top)
    return np.s_[top:bottom, left:right], np.s_[top - y : bottom - y, left - x : right - x]


def straight(rgb: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) with the alpha that it was multiplied by divided out; unchanged where alpha is 0."""
    divided: NDArray[np.float32] = rgb / np.where(alpha > 0.0, alpha, 1.0).astype(np.float32)[..., None]
    return divided


def encoded(plate: Plate) -> NDArray[np.uint16]:
    """(H, W, 3) sRGB-encoded samples of a float plate, for formats that hold integers: straight, clipped to 0..1."""
    alpha = plate.alpha()
    if alpha is None:
        working = plate.working()
    else:
        working = colour.to_working(straight(plate.rgb(), alpha), plate.colorspace)
    samples: NDArray[np.uint16] = np.rint(np.clip(np.nan_to_num(working), 0.0, 1.0) * 65535.0).astype(np.uint16)
    return samples


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is made upright: mirrored left to right first, then turned by quarters anticlockwise."""

    turns: int = 0
    mirrored: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """From the frame's display matrix, to the nearest quarter turn."""
        data: Any = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(data, "<i4")[:5])
        mirrored = a * d - b * c < 0
        if mirrored:
            a, b = -a, -b
        # The matrix takes (1, 0) to (a, b) with y downward; an anticlockwise quarter turn takes it to (0, -1).
        turns = round(np.arctan2(-b, a) / (np.pi / 2)) % 4
        return cls(turns, mirrored)

    def upright(self, pixels: Pixels) -> Pixels:
        """A stored picture (H, W, …) as it is seen."""
        return np.rot90(pixels[:, ::-1] if self.mirrored else pixels, self.turns)

    def stored(self, pixels: Pixels) -> Pixels:
        """An upright picture (H, W, …) as it is stored."""
        turned = np.rot90(pixels, -self.turns)
        return turned[:, ::-1] if self.mirrored else turned


@dataclass(frozen=True, eq=False)
class VideoPlate:
    """A frame of a video: its decoded picture as it is stored; the arrays that it gives are upright."""

    number: int
    picture: VideoPicture
    orientation: Orientation
    colorspace: str
    pixel_aspect: Fraction = Fraction(1)

    @property
    def width(self) -> int:
        return self.picture.height if self.orientation.turns % 2 else self.picture.width

    @property
    def height(self) -> int:
        return self.picture.width if self.orientation.turns % 2 else self.picture.height

    @property
    def nbytes(self) -> int:
        return self.picture.nbytes

    def _upright(self, pixels: Pixels) -> Pixels:
        return np.ascontiguousarray(self.orientation.upright(pixels))

    def native_rgb(self) -> Pixels:
        """(H, W, 3) uint8 or uint16 over its whole range, or float samples as they are."""
        return self._upright(rgb_of(self.picture))

    def rgb(self) -> NDArray[np.float32]:
        return unit(self.native_rgb())

    def working(self) -> NDArray[np.float32]:
        return colour.to_working(self.rgb(), self.colorspace)

    def display(self) -> NDArray[np.uint8]:
        if self.colorspace or self.picture.is_float:
            return to_display(self.working())
        native = self.native_rgb()
        return native if native.dtype == np.uint8 else cv2.convertScaleAbs(native, alpha=255.0 / 65535.0)

    def alpha(self) -> NDArray[np.float32] | None:
        plane = self.picture.alpha_plane
        return None if plane is None else self._upright(plane.astype(np.float32) / np.float32(self.picture.peak))
