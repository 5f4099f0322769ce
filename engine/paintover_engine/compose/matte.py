"""Mattes: computed from a keyframe, cleaned, refined by the guided filter, feathered; and filling-in beyond them."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.planes import planes_of, summed

Plane = NDArray[np.float32]  # (h, w)

_SPECK = 24  # pixels of an island or a hole that are noise
_FAINTEST = 1 / 255  # less of the paint is not seen, and cannot be divided by
_ENOUGH = 1000  # side of the middle part of a picture that its noise is estimated on
_COMPRESSION = 4.0 / 255  # standard deviation of the strongest compression that a keyframe comes with
_SIGNIFICANT = 4.0  # standard deviations of compression noise that a difference must exceed to be paint


def difference_matte(
    plate: NDArray[np.float32], edited: NDArray[np.float32], noise: float | None = None
) -> NDArray[np.float32]:
    """Where a painted picture differs from its plate, 0..1.

    plate, edited: (H, W, 3) float32, display-encoded (1 = white). noise: `compression_noise` of the two, where that is
    known. Returns (H, W) float32: exactly 0 where the two are the same but for rounding or compression noise, 1 where
    the paint is plainly visible, in between on soft paint. Specks and holes of a few pixels are removed."""
    r, g, b = cv2.split(cv2.absdiff(edited, plate))
    difference = cv2.max(cv2.max(r, g), b)  # NumPy's maximum over an axis of three is slow
    noise = compression_noise(plate, edited) if noise is None else noise
    low = max(0.5 / 255, _SIGNIFICANT * noise)
    matte = np.clip((difference - low) / (10.0 / 255), 0.0, 1.0).astype(np.float32)
    matte[matte < _FAINTEST] = 0
    return clean(matte, smallest_island=_SPECK if noise > 0 else 1)


def compression_noise(plate: NDArray[np.float32], edited: NDArray[np.float32]) -> float:
    """The standard deviation of the noise that compression added to a picture, 0 for none.

    Estimated on the finest detail of what a grade does not explain (Immerkaer: Fast noise variance estimation, CVIU
    1996), by a median, so that paint, which covers little of the finest detail, does not count; and on the coarser
    part, as far as that may be compression."""
    y, x = (max(0, (side - _ENOUGH) // 2) for side in plate.shape[:2])
    middle = np.s_[y : y + _ENOUGH, x : x + _ENOUGH]
    if _detail(edited[middle] - plate[middle]) == 0:  # most of it is untouched
        return 0.0
    residual = _ungraded(plate[middle], edited[middle])
    detail = _detail(residual)
    if detail < 0.1 / 255:
        return 0.0
    return max(detail, min(float(np.median(np.abs(residual))) / 0.6745, _COMPRESSION))


def _detail(difference: NDArray[np.float32]) -> float:
    """The standard deviation of a difference's finest detail, as that of noise on most pixels."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    fine = cv2.filter2D(difference, cv2.CV_32F, kernel)
    if 2 * np.count_nonzero(fine) < fine.size:
        return 0.0  # which finding the median takes longer to say
    return float(np.median(np.abs(fine))) / 0.6745


def _ungraded(plate: NDArray[np.float32], edited: NDArray[np.float32]) -> NDArray[np.float32]:
    """The residual (h, w, 3) of the difference after the best quadratic map of the plate's colours: all of it for local
    paint."""
    r, g, b = (channel.astype(np.float32) for channel in cv2.split(plate))
    basis = np.stack([np.ones_like(r), r, g, b, r * r, g * g, b * b, r * g, r * b, g * b], -1).reshape(-1, 10)
    difference = (edited - plate).reshape(-1, 3)
    some = np.s_[:: max(1, len(basis) // 20_000)]
    map_, *_ = np.linalg.lstsq(basis[some], difference[some], rcond=None)
    return np.asarray((difference - basis @ map_).reshape(plate.shape), np.float32)


def clean(matte: Plane, smallest_island: int) -> Plane:
    """A keyframe's matte (H, W) 0..1 without islands of fewer than `smallest_island` pixels, and without holes and
    dents of a few pixels where the paint happens to have the plate's colour."""
    cleaned = matte * _without_small((matte > 0).astype(np.uint8), smallest_island)
    matte = cleaned if cleaned.any() else matte  # a small edit is still an edit
    filled = 1 - _without_small(1 - (matte > 0.5).astype(np.uint8), _SPECK)
    around = cv2.dilate(matte, np.ones((5, 5), np.uint8))
    return np.where((filled > 0) & (matte <= 0.5), around, matte).astype(np.float32)


def without_specks(matte: NDArray[np.float32], smallest: int) -> NDArray[np.float32]:
    """The matte (h, w) 0..1 without the islands and the holes of fewer than `smallest` pixels."""
    matte = matte * _without_small((matte > 0.02).astype(np.uint8), smallest)
    gaps = (matte < 0.98).astype(np.uint8)
    return np.where(gaps > _without_small(gaps, smallest), 1.0, matte).astype(np.float32)


def speck_size(region: NDArray[np.float32], most: int, share: float = 0.0) -> int:
    """Pixels below which an island of a region's (h, w) matte is noise: half of its smallest part, at most `most`, or
    this share of that part where it is more."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((region > 0.02).astype(np.uint8))
    smallest = min((int(stats[part, cv2.CC_STAT_AREA]) for part in range(1, count)), default=2 * most)
    return max(1, min(most, smallest // 2), round(share * smallest))


def _without_small(solid: NDArray[np.uint8], smallest: int) -> NDArray[np.uint8]:
    """A 0/1 picture without its connected regions of fewer than `smallest` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= smallest
    keep[0] = False
    return np.asarray(keep.astype(np.uint8)[labels])


def guided_coefficients(
    guide: NDArray[np.float32], target: NDArray[np.float32], radius: int, flatness: float
) -> NDArray[np.float32]:
    """(h, w, 4) a, b such that target is about a · guide + b around every pixel (He, Sun, Tang: Guided image
    filtering, ECCV 2010). Enlarged, they give the target at a larger guide's detail (He, Sun: Fast guided filter,
    2015).

    guide: (h, w, 3) 0..1; target: (h, w); radius in pixels; flatness: variance of the guide below which it is no
    edge."""
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(plane: NDArray[Any]) -> Plane:
        return np.asarray(cv2.blur(plane, side, borderType=cv2.BORDER_REFLECT))

    r, g, b = planes_of(guide)
    mr, mg, mb, mt = (mean(plane) for plane in (r, g, b, target))
    pairs = itertools.combinations_with_replacement((r, g, b), 2)
    rr, rg, rb, gg, gb, bb = (mean(first * second) for first, second in pairs)
    cr, cg, cb = (mean(plane * target) for plane in (r, g, b))
    least = np.float32(flatness)
    rr, gg, bb = rr - mr * mr + least, gg - mg * mg + least, bb - mb * mb + least
    rg, rb, gb = rg - mr * mg, rb - mr * mb, gb - mg * mb
    cr, cg, cb = cr - mr * mt, cg - mg * mt, cb - mb * mt
    irr, irg, irb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    igg, igb, ibb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    scale = 1 / (rr * irr + rg * irg + rb * irb)
    ar = (irr * cr + irg * cg + irb * cb) * scale
    ag = (irg * cr + igg * cg + igb * cb) * scale
    ab = (irb * cr + igb * cg + ibb * cb) * scale
    return np.asarray(cv2.merge([mean(plane) for plane in (ar, ag, ab, mt - ar * mr - ag * mg - ab * mb)]))


def apply_coefficients(coefficients: NDArray[np.float32], guide: NDArray[np.float32]) -> NDArray[np.float32]:
    """a · guide + b: (h, w, 4) and (h, w, 3) -> (h, w)."""
    slopes = cv2.cvtColor(coefficients, cv2.COLOR_BGRA2BGR)  # the first three
    return np.asarray(summed(cv2.multiply(slopes, guide)) + coefficients[..., 3])


def disc(radius: int) -> NDArray[np.uint8]:
    """A round structuring element, 2 · radius + 1 pixels wide."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))


def sharpen(matte: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
    """A steeper edge at the same place, within 0..1."""
    return np.asarray(np.clip((matte - 0.5) * np.float32(gain) + 0.5, 0.0, 1.0))


def feathered(matte: NDArray[np.float32], softness: float) -> NDArray[np.float32]:
    """The matte with its edge softened inwards over `softness` pixels; nothing grows."""
    if softness <= 0 or matte.size == 0:
        return matte
    soft = cv2.GaussianBlur(matte, (0, 0), softness / 2)
    return np.asarray(np.minimum(matte, np.clip(2 * soft - 1, 0, 1)))


def extend(picture: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fills unknown pixels smoothly from the nearest known ones (Gortler et al.: The Lumigraph, 1996, "pull-push").

    picture: (h, w, c); known: (h, w) 0..1, each pixel's weight. Pixels of weight 1 keep their value."""
    height, width = known.shape
    weighted = cv2.merge([*(plane * known for plane in planes_of(picture)), known])
    levels = [weighted]
    while min(levels[-1].shape[:2]) > 1 and levels[-1][..., -1].min() < 1e-3:
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (-(-w // 2), -(-h // 2)), interpolation=cv2.INTER_AREA))
    *planes, share = planes_of(levels[-1])
    filled = cv2.merge([plane / np.maximum(share, np.float32(1e-6)) for plane in planes])
    for level in reversed(levels[:-1]):
        h, w = level.shape[:2]
        coarse = planes_of(cv2.resize(filled, (w, h), interpolation=cv2.INTER_LINEAR))
        *planes, share = planes_of(level)
        rest = 1 - np.minimum(share, 1)
        filled = cv2.merge([plane + rest * beyond for plane, beyond in zip(planes, coarse, strict=True)])
    return np.asarray(filled, np.float32).reshape(height, width, -1)
