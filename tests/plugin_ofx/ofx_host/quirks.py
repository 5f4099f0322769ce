"""How a host differs from a perfect one, and the standard's words for its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

OK, FAILED, ERR_UNKNOWN, ERR_UNSUPPORTED, ERR_BAD_HANDLE, REPLY_DEFAULT = 0, 1, 3, 5, 9, 14
COMPONENTS = {1: "OfxImageComponentAlpha", 3: "OfxImageComponentRGB", 4: "OfxImageComponentRGBA"}
GUARD = 0xA5  # what memory holds that a render must not touch

DEPTHS = {
    "byte": ("OfxBitDepthByte", np.dtype(np.uint8)),
    "short": ("OfxBitDepthShort", np.dtype(np.uint16)),
    "half": ("OfxBitDepthHalf", np.dtype(np.float16)),
    "float": ("OfxBitDepthFloat", np.dtype(np.float32)),
}

Pixels = NDArray[Any]
Source = Callable[[float], "Pixels | None"]
Value = Any


@dataclass(frozen=True)
class Quirks:
    """How this host differs from a perfect one.

    missing_suites: names of suites that it does not have. missing_functions: their NULL functions.
    absent: properties that it never gives. origin: where the lower left pixel lies. padding: bytes after each row.
    other_times: "given", "refused", or "ignored" (any time gives the current frame, as MLT does).
    components: "RGBA" or "RGB". project: the format's width and height, its lower left at (0, 0); None: not given.
    scale: the images' render scale. pixel_aspect: a pixel's width over its height.
    colourspace: of the Source clip, by OpenFX 1.5's names; "": it is not said.
    tiles: it gives only what is asked for of a picture, by default the render window.
    draws: it has the interact and draw suites. refused_kinds: kinds of parameters that it does not have.
    """

    name: str = "org.paintover.testhost"
    context: str = "OfxImageEffectContextFilter"
    depth: str = "byte"
    negative_rows: bool = False
    padding: int = 0
    origin: tuple[int, int] = (0, 0)
    missing_suites: frozenset[str] = frozenset()
    missing_functions: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    other_times: str = "given"
    premultiplied: bool = False
    in_place: bool = False
    keeps_instance_data: bool = True
    frames: tuple[int, int] | None = (0, 11)
    components: str = "RGBA"
    project: tuple[float, float] | None = None
    scale: float = 1.0
    pixel_aspect: float = 1.0
    colourspace: str = ""
    tiles: bool = False
    draws: bool = False
    refused_kinds: frozenset[str] = frozenset()
    extra_host: dict[str, list[Value]] = field(default_factory=dict)
