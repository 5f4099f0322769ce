"""The blur that a frame has and the keyframe has not, measured on the plate, and given to the paint.

The keyframe's plate, moved onto the frame, shows the same surface as the frame does. Where the frame's gradients are
weaker, it is blurrier: along the surface's motion by the time of exposure, in all directions by the lens's focus. The
extent is that at which the keyframe's gradients, blurred so, are as strong as the frame's (re-blurring, as Zhuo, Sim:
Defocus map estimation from a single image, Pattern Recognition 2011, with a second picture in place of the first one's
own edges). Strengths alone are compared, over a window: a registration that is wrong by a pixel looks like no blur.
Haze and burnt-out highlights weaken gradients, too: bright parts are left out, and what a small blur would explain is
taken for those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, endpoints, magnitudes, shrink
from paintover_engine.compose.matte import Plane, extend
from paintover_engine.compose.planes import times
from paintover_engine.media.bounds import bounds_of

Picture = NDArray[np.float32]  # (h, w, 3)

_MEASURED = 80_000  # pixels of the pictures that are measured at most
_DETAIL = 1.0  # standard deviation, in pixels, below which detail is taken for grain
_WINDOW = 16.0  # the same of the window over which gradients are compared
_LINES = (2.0, 4.0, 8.0, 16.0, 32.0)  # lengths that are tried, in pixels
_SPREADS = (1.0, 2.0, 4.0, 8.0)  # standard deviations that are tried
_PITCH = 8  # pixels of the coarser grid
_SMOOTH = 1.5  # of its pixels, over which the measured blur is averaged
_TEXTURE = 8e-5  # mean square of a gradient per pixel below which it tells nothing
_FAINTEST = 1e-6  # the same of rounding
_DOUBT = 0.03  # square of a logarithm by which a blur must explain the picture better than none
_FAINT, _PLAIN = 0.8, 1.2  # measured pixels up to which a blur is taken for lost contrast, and from which for a blur
_NOTICED = 0.5  # pixels from which on a blur is seen
_AROUND = 24  # pixels around what is blurred that are looked at
_SHOULDER = 0.85  # brightness from which on highlights lose contrast that they did not lose by blur
_TAPS = 12
_TOGETHER = 3  # neighbouring taps that are averaged first
_REDUCED = 2.0  # standard deviation from which on a blur is computed on a smaller picture


@dataclass(frozen=True)
class Blur:
    """line: (h, w, 2), in pixels, from the middle of the line that a point is drawn out to, to its end. spread: (h, w),
    standard deviation of what blurs all directions, in pixels."""

    line: Field
    spread: Plane

    def __call__(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """A picture (h, w[, c]), c up to 4, blurred so; itself where there is no blur."""
        seen = np.maximum(2 * magnitudes(self.line), self.spread) > _NOTICED
        x, y, width, height = bounds_of(seen.astype(np.uint8), _AROUND)
        if width == 0:
            return picture
        part, blurred = np.s_[y : y + height, x : x + width], picture.copy()
        blurred[part] = _spread(_drawn_out(picture[part], self.line[part]), self.spread[part])
        return blurred


def added_blur(frame: Picture, key: Picture, motion: Field, weight: Plane) -> Blur:
    """The blur of a frame beyond that of its keyframe.

    frame: a part of the plate; key: the keyframe's plate, moved onto it and in its light; motion: (h, w, 2), pixels
    from one frame to the next; weight: (h, w) 0..1, how well the two show the same surface."""
    height, width = weight.shape
    scale = min(1.0, (_MEASURED / (height * width)) ** 0.5)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    seen, expected = (cv2.cvtColor(np.clip(shrink(each, size), 0, 1), cv2.COLOR_RGB2GRAY) for each in (frame, key))
    same = shrink(weight, size) * (np.maximum(seen, expected) < _SHOULDER)
    measured = _measured(seen, expected, shrink(motion, size) * np.float32(scale), same)
    planes = cv2.resize(measured, (width, height), interpolation=cv2.INTER_LINEAR) / np.float32(scale)
    return Blur(np.ascontiguousarray(planes[..., :2]), np.ascontiguousarray(planes[..., 2]))


def _measured(frame: Plane, key: Plane, motion: Field, weight: Plane) -> NDArray[np.float32]:
    """The line and the spread of `Blur` for grey pictures (h, w), on a coarser grid (h', w', 3)."""
    speed = magnitudes(motion)
    direction = np.asarray(motion / np.maximum(speed, np.float32(1e-3))[..., None], np.float32)
    strength = _Strength(direction, weight)
    seen, sharp = strength(frame), strength(key)
    spread = [sharp, *(strength(cv2.GaussianBlur(key, (0, 0), each)) for each in _SPREADS)]
    longest = float(speed.max())
    lengths = [each for each in _LINES if each / 2 < longest]
    line = [sharp, *(strength(_drawn_out(key, direction * np.float32(each / 2))) for each in lengths)]
    coarse = shrink(cv2.merge([direction, speed]), seen.shape[1::-1])
    found = _likeliest(seen - sharp, [each - sharp for each in spread], [each - sharp for each in line], coarse[..., 2])
    textured = np.minimum(np.exp(sharp).sum(-1) / np.float32(_TEXTURE), 1) * shrink(weight, seen.shape[1::-1])
    total = cv2.GaussianBlur(textured, (0, 0), _SMOOTH)
    smooth = (
        cv2.GaussianBlur(found * textured[..., None], (0, 0), _SMOOTH) / np.maximum(total, np.float32(1e-6))[..., None]
    )
    smooth = extend(smooth, np.minimum(total, 1))
    length, extent = cv2.split(smooth * np.clip((smooth - np.float32(_FAINT)) / np.float32(_PLAIN - _FAINT), 0, 1))
    return np.asarray(cv2.merge([coarse[..., 0] * length / 2, coarse[..., 1] * length / 2, extent]), np.float32)


class _Strength:
    """The logarithm of the mean square of a picture's gradients around each pixel of a coarser grid (h', w', 2): along
    a motion (a unit vector, or 0), and in all directions."""

    def __init__(self, direction: Field, weight: Plane) -> None:
        self._x, self._y = cv2.split(direction)
        self._weight = weight
        self._total = self._mean(weight) + np.float32(1e-3)

    def __call__(self, grey: Plane) -> NDArray[np.float32]:
        smooth = cv2.GaussianBlur(grey, (0, 0), _DETAIL)
        across, down = (cv2.Sobel(smooth, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
        along = across * self._x + down * self._y
        planes = cv2.merge([along * along * self._weight, (across * across + down * down) * self._weight])
        return np.asarray(np.log(self._mean(planes) / self._total[..., None] + np.float32(_FAINTEST)), np.float32)

    def _mean(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = planes.shape[:2]
        coarse = shrink(planes, (max(1, width // _PITCH), max(1, height // _PITCH)))
        return np.asarray(cv2.GaussianBlur(coarse, (0, 0), _WINDOW / _PITCH), np.float32)


def _likeliest(
    seen: NDArray[np.float32], spread: Sequence[NDArray[np.float32]], line: Sequence[NDArray[np.float32]], speed: Plane
) -> NDArray[np.float32]:
    """(h, w, 2): the length of the line, up to the `speed`, and the spread that weaken gradients as is seen; none where
    that explains it about as well.

    seen, and of each extent that was tried spread, line: (h, w, 2), logarithms of how they change; of both at once the
    sum is taken."""
    least = np.full(speed.shape, np.inf, np.float32)
    found = np.zeros_like(seen)
    lines = list(_between((0.0, *_LINES), line))
    for extent, by_spread in _between((0.0, *_SPREADS), spread):
        for length, by_line in lines:
            error = np.square(seen - by_spread - by_line).sum(-1) + np.float32(_DOUBT * ((extent > 0) + (length > 0)))
            better = (error < least) & (length <= speed)
            least[better] = error[better]
            found[better] = length, extent
    return found


def _between(
    extents: Sequence[float], tried: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """What was tried at some extents, and halfway between them."""
    yield extents[0], tried[0]
    for n in range(1, len(tried)):
        yield (extents[n - 1] + extents[n]) / 2, (tried[n - 1] + tried[n]) * np.float32(0.5)
        yield extents[n], tried[n]


def _drawn_out(picture: NDArray[np.float32], line: Field) -> NDArray[np.float32]:
    """A picture (h, w[, c]) whose points are drawn out to lines, as `Blur.line`: the mean of `_TAPS` points, or of as
    many as are a pixel apart."""
    longest = 2 * float(magnitudes(line).max(initial=0))
    if longest < _NOTICED:
        return picture
    taps = min(_TAPS, int(np.ceil(longest)) + 1)
    if taps <= 2 * _TOGETHER:
        return _mean_along(picture, line, taps)
    groups = -(-taps // _TOGETHER)
    return _mean_along(_mean_along(picture, line / np.float32(groups), _TOGETHER), line, groups)


def _mean_along(picture: NDArray[np.float32], line: Field, taps: int) -> NDArray[np.float32]:
    """The mean (h, w[, c]) of a picture at points evenly along each pixel's line."""
    total = np.zeros_like(picture)
    for tap in range(taps):
        points = endpoints(line * np.float32((2 * tap + 1) / taps - 1))
        total += cv2.remap(picture, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(total / np.float32(taps), np.float32)


def _spread(picture: NDArray[np.float32], spread: Plane) -> NDArray[np.float32]:
    """A picture (h, w[, c]) blurred by a Gaussian of each pixel's own extent: between those of a few pictures, by its
    variance."""
    most = float(spread.max(initial=0))
    if most < _NOTICED:
        return picture
    square, less, sharper = spread * spread, 0.0, picture
    left = np.ones_like(spread)  # of each pixel's weight, 1 where its extent is no less than what was looked at
    total = np.zeros_like(picture)
    for more in _SPREADS:
        share = np.clip((square - np.float32(less * less)) / np.float32(more * more - less * less), 0, 1)
        total += times(sharper, left - share)
        left, less, sharper = share, more, _gaussian(picture, more)
        if more >= most:
            break
    return np.asarray(total + times(sharper, left), np.float32)


def _gaussian(picture: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    """A picture (h, w[, c]) blurred by a Gaussian, a wide one on a smaller picture."""
    factor = int(max(1, deviation / _REDUCED))
    height, width = picture.shape[:2]
    if factor == 1 or min(height, width) < 4 * factor:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), deviation), np.float32)
    small = shrink(picture, (-(-width // factor), -(-height // factor)))
    soft = cv2.GaussianBlur(small, (0, 0), deviation / factor)
    return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
