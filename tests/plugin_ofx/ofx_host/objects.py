"""What a host holds and the plugin knows by handles: property sets, parameters, clips, images."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.plugin_ofx.ofx_host.quirks import COMPONENTS, DEPTHS, GUARD, Pixels, Quirks, Value


class Properties:
    """A property set: lists of values by name."""

    def __init__(self, values: dict[str, list[Value]] | None = None) -> None:
        self.values = values or {}
        self._strings: dict[bytes, ctypes.Array[ctypes.c_char]] = {}

    def string(self, value: str | bytes) -> int:
        """The address of a C string that lives as long as this set."""
        raw = value.encode() if isinstance(value, str) else value
        buffer = self._strings.setdefault(raw, ctypes.create_string_buffer(raw))
        return ctypes.addressof(buffer)

    def put(self, name: str, index: int, value: Value) -> None:
        values = self.values.setdefault(name, [])
        values.extend([None] * (index + 1 - len(values)))
        values[index] = value


@dataclass
class Param:
    """A parameter. curve: its value at a time, where it is animated."""

    kind: str
    name: str
    properties: Properties
    value: Value = None
    curve: Callable[[float], float] | None = None

    def at(self, time: float) -> Value:
        return self.curve(time) if self.curve else self.value


@dataclass
class Clip:
    """A clip; of an instance, `picture` gives its image at a time."""

    name: str
    properties: Properties
    picture: Callable[[float], Image | None] | None = None


@dataclass
class Image:
    """Pixels with guarded memory around them. rows: the pixels in it, row 0 at the top."""

    memory: Pixels
    rows: Pixels
    properties: Properties


class Described:
    """What an effect is described by: properties, clips and parameters. param_set: the properties of all its parameters
    together. defined: the parameters' names, in order."""

    def __init__(self) -> None:
        self.properties = Properties()
        self.param_set = Properties()
        self.clips: dict[str, Clip] = {}
        self.params: dict[str, Param] = {}
        self.defined: list[str] = []


Window = tuple[int, int, int, int]


def make_image(pixels: Pixels, quirks: Quirks, *, guarded: bool = False, window: Window | None = None) -> Image:
    """An image of a host's. guarded: its pixels are not those given but the guard's bytes. window: the part that it is
    of the pixels: x1, y1, x2, y2, y up."""
    x, y = quirks.origin
    region = [x, y, x + pixels.shape[1], y + pixels.shape[0]]
    if window:
        x, y = window[:2]
        pixels = pixels[region[3] - window[3] : region[3] - y, x - region[0] : window[2] - region[0]]
    height, width, channels = pixels.shape
    row = width * channels * pixels.itemsize
    stride = row + quirks.padding
    memory = np.full((height + 2, stride), GUARD, np.uint8)
    inner = memory[1:-1]
    strides = (stride, channels * pixels.itemsize, pixels.itemsize)
    rows = np.ndarray((height, width, channels), pixels.dtype, memory, stride, strides)
    address = inner.ctypes.data
    if quirks.negative_rows:
        data, row_bytes = address + (height - 1) * stride, -stride
    else:
        rows = rows[::-1]
        data, row_bytes = address, stride
    if not guarded:
        rows[...] = pixels
    bounds = [x, y, x + width, y + height]
    depth = next(name for name, dtype in DEPTHS.values() if dtype == pixels.dtype)
    properties = Properties(
        {
            "OfxPropType": ["OfxTypeImage"],
            "OfxImagePropData": [data],
            "OfxImagePropBounds": bounds,
            "OfxImagePropRegionOfDefinition": region,
            "OfxImagePropRowBytes": [row_bytes],
            "OfxImageEffectPropPixelDepth": [depth],
            "OfxImageEffectPropComponents": [COMPONENTS[channels]],
            "OfxImageEffectPropRenderScale": [quirks.scale, quirks.scale],
            "OfxImagePropPixelAspectRatio": [quirks.pixel_aspect],
            "OfxImageEffectPropPreMultiplication": [
                "OfxImageAlphaPremultiplied" if quirks.premultiplied else "OfxImageAlphaUnPremultiplied"
            ],
            "OfxImagePropField": ["OfxFieldNone"],
        }
    )
    properties.memory = memory  # type: ignore[attr-defined]  # lives as long as the plugin holds it
    return Image(memory, rows, properties)
