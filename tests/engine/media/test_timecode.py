from __future__ import annotations

from fractions import Fraction

import pytest
from paintover_engine.media import timecode

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("start", "frames", "rate", "expected"),
    [
        ("01:00:00:00", 25, Fraction(25), "01:00:01:00"),
        ("00:59:59:23", 1, Fraction(24000, 1001), "01:00:00:00"),
        ("23:59:59:24", 1, Fraction(25), "00:00:00:00"),
        ("01:00:59;29", 1, NTSC, "01:01:00;02"),  # SMPTE ST 12-1: numbers 00 and 01 are dropped
        ("01:09:59;29", 1, NTSC, "01:10:00;00"),  # but not in every tenth minute
        ("00:00:00;00", 17982, NTSC, "00:10:00;00"),
        ("00:00:00;00", 1800, NTSC, "00:01:00;02"),
        ("00:00:00;00", 107892, NTSC, "01:00:00;00"),
        ("00:00:00;00", 3600, Fraction(60000, 1001), "00:01:00;04"),
        ("00:00:00:00", 1800, NTSC, "00:01:00:00"),
        ("", 5, NTSC, ""),
        ("no timecode", 5, NTSC, ""),
        ("01:00:00:00", 5, None, ""),
    ],
)
def test_frames_are_counted_on(start: str, frames: int, rate: Fraction | None, expected: str) -> None:
    assert timecode.add(start, frames, rate) == expected


def test_drop_frame_numbers_are_consecutive() -> None:
    seen = [timecode.add("00:00:00;00", n, NTSC) for n in range(17990)]
    assert len(set(seen)) == len(seen)
    assert not any(t.endswith((":00;00", ":00;01")) and t[4] != "0" for t in seen)
