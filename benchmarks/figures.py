"""Figures as the benchmarks' tables show them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def psnr(error: NDArray[np.float32], least: float = 1e-9) -> float:
    """dB of a peak of 1. least: the mean square that a smaller one counts as."""
    return float(-10 * np.log10(max(float(np.square(error, dtype=np.float64).mean()), least)))


def cell(values: Sequence[float | None], digits: int = 2) -> str:
    """Mean and standard error of what is known."""
    known = [value for value in values if value is not None]
    if not known or not np.isfinite(known).all():
        return "NaN" if known else ""
    error = statistics.stdev(known) / len(known) ** 0.5 if len(known) > 1 else 0.0
    return f"{statistics.fmean(known):.{digits}f} ± {error:.{digits}f}"


def difference(base: Sequence[float], other: Sequence[float], digits: int = 2) -> str:
    """Mean of what `other` has more, clip by clip, and two standard errors of it; bold where it is beyond them."""
    apart = np.subtract(other, base)
    mean = float(apart.mean())
    error = 2 * float(apart.std(ddof=1)) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
    text = f"{mean:+.{digits}f} ± {error:.{digits}f}"
    return f"**{text}**" if abs(mean) > error else text
