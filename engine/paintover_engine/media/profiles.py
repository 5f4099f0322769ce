"""Colour profiles (ICC.1:2022) of pictures, applied by LittleCMS in float.

Relative colorimetric with black point compensation, as Photoshop converts by default.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
from imagecodecs import CMS, CmsError, cms_transform
from numpy.typing import NDArray
from PIL import ImageCms

_ALIKE = 2.0 / 255.0  # a profile that changes no colour by more than this is the same

_SPACES = {"RGB": "rgb", "GRAY": "gray", "CMYK": "cmyk", "Lab": "lab"}
_CHANNELS = {"rgb": 3, "gray": 1, "cmyk": 4, "lab": 3}


class Unusable(Exception):
    """A profile that is damaged, or not one of what the picture holds."""


@dataclass(frozen=True)
class Profile:
    """data: the file's bytes. name: its description. space: "rgb", "gray", "cmyk" or "lab"."""

    data: bytes
    name: str
    space: str


@functools.lru_cache(maxsize=1)
def srgb() -> bytes:
    """sRGB's profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@functools.lru_cache(maxsize=1)
def lab() -> Profile:
    """What L*a*b* samples without a profile mean: CIE L*a*b* under D50."""
    return read_profile(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())


def read_profile(data: bytes) -> Profile:
    """A profile's name and kind. Raises Unusable."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = (ImageCms.getProfileDescription(profile) or "unnamed").strip()
        space = _SPACES[profile.profile.xcolor_space.strip()]
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError) as error:
        raise Unusable from error
    return Profile(data, name, space)


def same(profile: Profile, target: bytes) -> bool:
    """Whether an RGB profile means the same as another, for all that can be seen. Raises Unusable."""
    if profile.data == target:
        return True
    if profile.space != "rgb":
        return False
    levels = np.linspace(0.0, 1.0, 9, dtype=np.float32)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(9, 81, 3)
    return float(np.abs(convert(cube, profile, target) - cube).max()) <= _ALIKE


def convert(samples: NDArray[np.float32], profile: Profile, target: bytes, into: str = "rgb") -> NDArray[np.float32]:
    """(H, W, C) float32 in a target profile's space, not clipped, from (H, W, C) in another's: RGB and grey 0..1, CMYK
    as coverage 0..1, L*a*b* as 0..100 and -128..127. into: the target's space. Raises Unusable.

    In float: LittleCMS computes integers of 16 bits by a coarse table, which is off by up to a tenth."""
    if samples.shape[2] != _CHANNELS[profile.space]:
        raise Unusable
    given = samples[..., 0] if profile.space == "gray" else samples
    if profile.space == "cmyk":
        given = given * np.float32(100.0)  # LittleCMS counts ink in per cent
    try:
        converted = cms_transform(
            np.ascontiguousarray(given, np.float32),
            profile.data,
            target,
            colorspace=profile.space,
            outcolorspace=into,
            outdtype=np.float32,
            intent=CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=CMS.FLAGS.BLACKPOINTCOMPENSATION,
        )
    except (CmsError, ValueError) as error:
        raise Unusable from error
    pixels = np.asarray(converted, np.float32).reshape(*samples.shape[:2], -1)
    return pixels / np.float32(100.0) if into == "cmyk" else pixels


@dataclass(frozen=True, eq=False)
class Original:
    """A picture before its conversion to RGB.

    samples: (H, W, C) float32, as `convert` takes them. tolerance: (C,), what they may be off where nobody painted: a
    step for rounding, or for the noise that Photoshop adds when it converts to 8 bits."""

    samples: NDArray[np.float32]
    profile: Profile
    tolerance: NDArray[np.float32]

    def holds(self, rgb: NDArray[np.float32], target: bytes) -> NDArray[np.bool_]:
        """(H, W): where the picture is what (H, W, 3) colours in the RGB of `target` become in its profile: there it
        holds the same, however coarse its steps are in that RGB. Raises Unusable."""
        became = convert(np.clip(rgb, 0.0, 1.0), read_profile(target), self.profile.data, self.profile.space)
        if self.profile.space != "lab":
            became = np.clip(became, 0.0, 1.0)
        return np.asarray((np.abs(became - self.samples) <= self.tolerance).all(axis=2))
