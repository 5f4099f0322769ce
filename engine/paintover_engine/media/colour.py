"""Colour spaces by OpenColorIO name, to and from the encoding that methods compute in.

The working encoding is sRGB-encoded Rec.709, unclamped. "" names a display-encoded source, which is worked on as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import PyOpenColorIO as ocio
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError, nearest

CONFIG = "studio-config-v2.2.0_aces-v1.3_ocio-v2.4"  # pinned: a job's pixels must not change with the library
WORKING = "sRGB Encoded Rec.709 (sRGB)"
SCENE_LINEAR = "Linear Rec.709 (sRGB)"
_LARGEST = 65504.0  # of half floats

# CIE xy of red, green, blue as EXR files state them, and the linear space that they mean.
_CHROMATICITIES = {
    (0.64, 0.33, 0.30, 0.60, 0.15, 0.06): SCENE_LINEAR,
    (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077): "ACES2065-1",
    (0.713, 0.293, 0.165, 0.830, 0.128, 0.044): "ACEScg",
    (0.708, 0.292, 0.170, 0.797, 0.131, 0.046): "Linear Rec.2020",
    (0.680, 0.320, 0.265, 0.690, 0.150, 0.060): "Linear P3-D65",
}


@functools.lru_cache(maxsize=1)
def _config() -> ocio.Config:
    return ocio.Config.CreateFromBuiltinConfig(CONFIG)


def _names() -> Iterator[str]:
    for space in _config().getColorSpaces():
        yield space.getName()
        yield from space.getAliases()


def check_colorspace(name: str) -> str:
    """The config's own name for a colour space given by name or alias, case-insensitively; "" stays "".

    Raises PaintoverError with the nearest valid name for an unknown one.
    """
    if not name:
        return ""
    space = _config().getColorSpace(name)
    if space is None:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"There is no colour space '{name}'.{nearest(name, _names())}")
    if space.getEncoding() == "data":
        raise PaintoverError(Code.INVALID_ARGUMENT, f"Colour space '{name}' holds data, not colour; leave it out.")
    return str(space.getName())


def known(name: str) -> bool:
    """True where the config has a colour space of that name or alias, and it holds colour."""
    space = _config().getColorSpace(name) if name else None
    return space is not None and space.getEncoding() != "data"


def is_scene_linear(name: str) -> bool:
    """True for a colour space whose values are proportional to the scene's light; False for ""."""
    return bool(name) and _config().getColorSpace(name).getEncoding() == "scene-linear"


def from_chromaticities(values: tuple[float, ...]) -> str | None:
    """The linear colour space that an EXR file's first six chromaticities mean, None where no known one is near."""
    for expected, name in _CHROMATICITIES.items():
        if np.allclose(values[:6], expected, atol=2e-3):
            return name
    return None


@functools.lru_cache(maxsize=16)
def _processor(source: str, target: str) -> ocio.CPUProcessor:
    return _config().getProcessor(source, target).getDefaultCPUProcessor()


def _convert(rgb: NDArray[np.float32], source: str, target: str) -> NDArray[np.float32]:
    converted = np.array(rgb, dtype=np.float32, order="C")  # a copy: OpenColorIO works in place
    if converted.size:
        _processor(source, target).applyRGB(converted)
    return converted


def to_working(rgb: NDArray[np.float32], colorspace: str) -> NDArray[np.float32]:
    """(H, W, 3) in `colorspace` to sRGB-encoded Rec.709, unclamped but finite. Returns `rgb` itself where it is
    that already."""
    rgb = finite(rgb)
    return rgb if not colorspace else finite(_convert(rgb, colorspace, WORKING))


def finite(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) within what a half float holds: 0 for what is no number, the largest for what is infinite. Returns
    `rgb` itself where it is so already. Renders hold such pixels, and no method can compute with them."""
    if not rgb.size or (rgb.max() <= _LARGEST and rgb.min() >= -_LARGEST):  # neither holds of what is no number
        return rgb
    return np.clip(np.nan_to_num(rgb, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST), -_LARGEST, _LARGEST)


def from_working(working: NDArray[np.float32], colorspace: str) -> NDArray[np.float32]:
    """The inverse of `to_working`."""
    return working if not colorspace else _convert(working, WORKING, colorspace)
