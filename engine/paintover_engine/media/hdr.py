"""What an HDR10 video states of the display it was mastered on (SMPTE ST 2086) and of its brightness (CTA-861.3)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

Chromaticity = tuple[Fraction, Fraction]  # CIE 1931 x, y


@dataclass(frozen=True)
class MasteringDisplay:
    """The display that a video was mastered on.

    primaries: red, green and blue, and the white point; None where only the luminances are stated.
    luminance: least and largest, in candela per square metre; None where only the primaries are stated.
    """

    primaries: tuple[Chromaticity, Chromaticity, Chromaticity, Chromaticity] | None
    luminance: tuple[Fraction, Fraction] | None


@dataclass(frozen=True)
class ContentLight:
    """The brightest pixel and the brightest frame on average (MaxCLL, MaxFALL), in candela per square metre."""

    pixel: int
    frame: int


@dataclass(frozen=True)
class Hdr:
    """What a video states of both."""

    display: MasteringDisplay | None
    light: ContentLight | None

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Hdr | None:
        """From a decoded frame's side data, which has the container's too; None where it states nothing."""
        side_data: Any = frame.side_data
        display, light = side_data.get("MASTERING_DISPLAY_METADATA"), side_data.get("CONTENT_LIGHT_LEVEL")
        if display is None and light is None:
            return None
        return cls(
            None if display is None else _mastering_display(np.frombuffer(display, "<i4").tolist()),
            None if light is None else ContentLight(*np.frombuffer(light, "<u4")[:2].tolist()),
        )


def _mastering_display(values: list[int]) -> MasteringDisplay:
    """values: FFmpeg's AVMasteringDisplayMetadata: ten rationals (x and y of red, green, blue and white, least and
    largest luminance), and whether the primaries and the luminances are set."""
    numbers = [Fraction(values[2 * k], values[2 * k + 1] or 1) for k in range(10)]
    red, green, blue, white = ((numbers[2 * k], numbers[2 * k + 1]) for k in range(4))
    has_primaries, has_luminance = values[20:22]
    return MasteringDisplay(
        (red, green, blue, white) if has_primaries else None, (numbers[8], numbers[9]) if has_luminance else None
    )
