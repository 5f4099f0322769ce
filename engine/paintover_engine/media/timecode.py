"""SMPTE timecode: counting frames on from one (SMPTE ST 12-1)."""

from __future__ import annotations

import re
from fractions import Fraction

_TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.,])(\d\d\d?)")


def add(start: str, frames: int, rate: Fraction | None) -> str:
    """The timecode `frames` after `start` at `rate`; "" for an empty or malformed start or an unknown rate.

    A semicolon before the frames means drop-frame counting: numbers 0 and 1 (0 to 3 at 60) of every minute are
    skipped, but not of every tenth.
    """
    match = _TIMECODE.fullmatch(start.strip())
    if match is None or not rate:
        return ""
    fps = max(1, round(rate))
    drop = match[4] in ";," and fps % 30 == 0
    skipped = fps // 15 if drop else 0
    hours, minutes, seconds, count = (int(match[group]) for group in (1, 2, 3, 5))
    total_minutes = hours * 60 + minutes
    number = (total_minutes * 60 + seconds) * fps + count - skipped * (total_minutes - total_minutes // 10) + frames
    if drop:
        per_ten_minutes = fps * 600 - 9 * skipped
        per_minute = fps * 60 - skipped
        tens, rest = divmod(number, per_ten_minutes)
        number += 9 * skipped * tens + (skipped * ((rest - skipped) // per_minute) if rest > skipped else 0)
    seconds, count = divmod(number, fps)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours % 24:02d}:{minutes:02d}:{seconds:02d}{';' if drop else ':'}{count:02d}"


def packed(text: str) -> tuple[int, int]:
    """A timecode as the two words that EXR and DPX headers hold: time in binary-coded decimals, and no user data."""
    match = _TIMECODE.fullmatch(text)
    if match is None:
        raise ValueError(f"no timecode: {text!r}")
    hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
    word = _decimal(frames % 100) | _decimal(seconds) << 8 | _decimal(minutes) << 16 | _decimal(hours) << 24
    return word | (match[4] in ";,") << 6, 0


def _decimal(value: int) -> int:
    return value // 10 << 4 | value % 10
