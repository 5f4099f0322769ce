"""Whether a painted picture is of its frame, by what is not painted in it; and changes of the whole picture undone.

Programs shift a picture, rescale it, or read its numbers by another gamma, range or matrix. Where one of these explains
what is not painted, it is sure, and undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SIDE = 960  # pixels on the long side of the pictures that are compared
_SAMPLES = 60_000
_SAME = 1.1  # steps of the picture's samples within which two values are the same
_MOSTLY = 0.5  # share of a picture that agrees with its plate from which nothing has to be undone
_MORE = 0.25  # how much larger that share must be for a change to be sure
_OTHER = 2.5 / 255  # difference from which a pixel plainly disagrees with a frame
_NEIGHBOURS = (-1, 1, -2, 2, -3, 3)
_SUSPECT = 0.003  # of the picture agrees with another frame alone: that frame is named
_STRANGE = 0.3  # of the picture disagrees with its frame: farther ones are looked at, too
_SURE = 0.1  # likewise: refused
_UNLIKE = 5.0  # times as much as agrees with its own frame alone
_LONGEST = 0.05  # of the picture's side; a longer shift is another picture
_SHORTEST = 0.2  # pixels
_WHOLE = 0.08  # pixels from a whole number at which a shift is that number
_BETTER = 0.6  # share of the difference in detail that an alignment may leave
_NEAR = 3 / 255  # beyond the range of the plate around a pixel, from which a resampled picture is painted there
_SPECK = 24  # pixels of an island that is no paint


@dataclass(frozen=True)
class _Tone:
    """A reading of a picture's numbers that is not the plate's. words: what is said of it, after the file's name.
    applied: from the plate's values (..., 3) to the picture's; undone: back."""

    words: str
    applied: Callable[[Array], Array]
    undone: Callable[[Array], Array]


def _power(exponent: float, words: str) -> _Tone:
    return _Tone(
        words,
        lambda colours: np.asarray(np.clip(colours, 0, 1) ** np.float32(exponent)),
        lambda colours: np.asarray(np.clip(colours, 0, 1) ** np.float32(1 / exponent)),
    )


def _line(gain: float, lift: float, words: str) -> _Tone:
    return _Tone(
        words,
        lambda colours: np.asarray(colours * np.float32(gain) + np.float32(lift)),
        lambda colours: np.asarray((colours - np.float32(lift)) / np.float32(gain)),
    )


def _encoding(red: float, blue: float) -> NDArray[np.float64]:
    """The matrix (3, 3) from R'G'B' to Y'CbCr of luma coefficients (ITU-R BT.601, 709, 2020)."""
    green = 1 - red - blue
    return np.array(
        [
            [red, green, blue],
            [-red / (2 - 2 * blue), -green / (2 - 2 * blue), 0.5],
            [0.5, -green / (2 - 2 * red), -blue / (2 - 2 * red)],
        ]
    )


_LUMA = {"BT.601": (0.299, 0.114), "BT.709": (0.2126, 0.0722), "BT.2020": (0.2627, 0.0593)}


def _matrix(written: str, read: str) -> _Tone:
    matrix = np.linalg.inv(_encoding(*_LUMA[read])) @ _encoding(*_LUMA[written])
    back = np.linalg.inv(matrix)
    return _Tone(
        f"was read with the matrix of {read} instead of {written}",
        lambda colours: np.asarray(colours @ matrix.T, np.float32),
        lambda colours: np.asarray(colours @ back.T, np.float32),
    )


_TONES: tuple[_Tone, ...] = (
    *(
        _power(shown / own, f"is {'darker' if shown > own else 'lighter'} by a gamma of {shown} over {own}")
        for shown, own in ((1.96, 2.2), (2.2, 1.96), (2.2, 2.4), (2.4, 2.2), (1.8, 2.2), (2.2, 1.8))
    ),
    _line(219 / 255, 16 / 255, "has limited range (16 to 235) where the shot has full range"),
    _line(255 / 219, -16 / 219, "has full range where the shot has limited range (16 to 235)"),
    *(_matrix(a, b) for a in _LUMA for b in _LUMA if a != b and {a, b} != {"BT.601", "BT.2020"}),
)


def check_frame(file: Path, picture: Array, frame: int, plate: Array, neighbour: Callable[[int], Array | None]) -> str:
    """What is to be said of a picture (H, W, 3) that looks like another frame than its own; "" of any other.

    frame, plate: its number and its plate (H, W, 3). neighbour: the plate of another frame, None outside the shot.
    Raises PaintoverError where it is sure."""
    small = _small(picture)
    changed = _changed(small, _small(plate))
    found: list[tuple[float, float, int]] = []
    for distance in _NEIGHBOURS:
        if abs(distance) > 1 and not found and float(changed.mean()) < _STRANGE:
            break
        other = neighbour(frame + distance)
        if other is None:
            continue
        there = _changed(small, _small(other))
        theirs, own = float((changed & ~there).mean()), float((there & ~changed).mean())
        if theirs > _SUSPECT and theirs > _UNLIKE * own:
            found.append((theirs - own, theirs, frame + distance))
    if not found:
        return ""
    _, share, looks = max(found)
    if share > _SURE:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"'{file.name}' looks like frame {looks}, not {frame}: give it as the keyframe of frame {looks}.",
        )
    return f"'{file.name}' looks like frame {looks}, not {frame}; check the frame's number."


def conformed(file: Path, picture: Array, plate: Array, step: float) -> tuple[Array, list[str]]:
    """A picture (H, W, 3) with what was done to the whole of it undone, and what is said of that; the same object where
    nothing was.

    plate: (H, W, 3), of the same encoding. step: of the picture's samples, 0 of float ones."""
    if _agreeing(picture, plate, step) >= _MOSTLY or min(plate.shape[:2]) < 32:
        return picture, []
    notes = []
    moved = _alignment(picture, plate)
    aligned = picture if moved is None else _moved(picture, moved, plate)
    share, tone = max(
        ((_agreeing(aligned, each.applied(plate), step), each) for each in _TONES), key=lambda pair: pair[0]
    )
    if share >= _agreeing(aligned, plate, step) + _MORE:
        same = np.abs(aligned - tone.applied(plate)).max(axis=2) <= _tolerance(step)
        aligned = np.where(same[..., None], plate, tone.undone(aligned))
        notes.append(f"'{file.name}' {tone.words}; that is undone.")
    if moved is not None:
        aligned = np.where(_painted(aligned, plate)[..., None], aligned, plate)
        notes.insert(0, f"'{file.name}' is {_in_words(moved, plate)}; that is undone.")
    return (aligned.astype(np.float32), notes) if notes else (picture, notes)


def covers_everything(picture: Array, plate: Array) -> bool:
    """Whether a picture (H, W, 3) differs from its plate nearly everywhere."""
    return float(_changed(_small(picture), _small(plate)).mean()) > 0.95


def _small(picture: Array) -> Array:
    scale = min(1.0, _SIDE / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)


def _changed(picture: Array, plate: Array) -> Mask:
    """(h, w): where two pictures differ by more than rounding and compression."""
    difference = cv2.blur(np.abs(picture - plate).max(axis=2), (3, 3))
    return np.asarray(difference > max(_OTHER, 4 * min(float(np.median(difference)), _OTHER)))


def _tolerance(step: float) -> float:
    return _SAME * max(step, 1 / 255) + 1e-5


def _agreeing(picture: Array, plate: Array, step: float) -> float:
    """The share of the pixels in which two pictures are the same."""
    pitch = max(1, round((plate.shape[0] * plate.shape[1] / _SAMPLES) ** 0.5))
    difference = np.abs(picture[::pitch, ::pitch] - np.clip(plate[::pitch, ::pitch], 0, 1)).max(axis=2)
    return float((difference <= _tolerance(step)).mean())


def _alignment(picture: Array, plate: Array) -> NDArray[np.float32] | None:
    """(2, 3): from the plate's pixels to the picture's, where the whole picture was shifted or scaled; else None."""
    here, there = _detail(plate), _detail(picture)
    window = cv2.createHanningWindow((here.shape[1], here.shape[0]), cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(here, there, window)
    start = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    if max(abs(dx), abs(dy)) > _LONGEST * max(here.shape):
        start[:, 2] = 0
    found, left = None, _left(here, there)
    for model in (cv2.MOTION_TRANSLATION, cv2.MOTION_AFFINE):
        try:
            stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-6)
            _, matrix = cv2.findTransformECC(here, there, start.copy(), model, stop, None, 3)
        except cv2.error:  # it does not converge
            continue
        after = _left(here, _warped(there, matrix))
        if after < _BETTER * left:
            found, left, start = matrix, after, matrix
    if found is None:
        return None
    scale = plate.shape[1] / here.shape[1]
    found = found.copy()
    found[:, 2] = found[:, 2] * scale + (found[:, :2] - np.eye(2)) @ np.full(2, (scale - 1) / 2)
    return _rounded(found, plate)


def _rounded(matrix: NDArray[np.float32], plate: Array) -> NDArray[np.float32] | None:
    """The alignment, by whole pixels where it is that; None where it is none."""
    whole = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    middle = np.array([plate.shape[1] / 2, plate.shape[0] / 2])
    shift = matrix[:, :2] @ middle + matrix[:, 2] - middle
    whole[:, 2] = np.rint(shift)
    if _furthest(matrix - whole, plate) < _WHOLE:
        return whole if whole[:, 2].any() else None
    furthest = _furthest(matrix - np.eye(2, 3, dtype=np.float32), plate)
    return matrix if _SHORTEST < furthest < _LONGEST * max(plate.shape) else None


def _furthest(matrix: NDArray[np.float32], plate: Array) -> float:
    """The longest vector that a matrix (2, 3) gives for a corner."""
    height, width = plate.shape[:2]
    corners = np.array([[x, y, 1] for x in (0, width) for y in (0, height)])
    return float(np.abs(corners @ matrix.T).max())


def _detail(picture: Array) -> Array:
    """(h, w): a small picture's brightness without what is coarse, by its local contrast."""
    grey = cv2.cvtColor(np.clip(_small(picture), 0, 1), cv2.COLOR_RGB2GRAY)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 4)
    return np.asarray(fine / (np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 8)) + 0.01), np.float32)


def _left(here: Array, there: Array) -> float:
    """How much two pictures differ in detail where they differ least."""
    return float(np.quantile(np.abs(here - there), 0.4))


def _warped(picture: Array, matrix: NDArray[np.float32]) -> Array:
    size = (picture.shape[1], picture.shape[0])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _moved(picture: Array, matrix: NDArray[np.float32], plate: Array) -> Array:
    """The picture aligned with the plate, and the plate where it has nothing."""
    inside = cv2.warpAffine(
        np.ones(picture.shape[:2], np.float32),
        matrix,
        (picture.shape[1], picture.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return np.where((inside > 0.99)[..., None], np.clip(_warped(picture, matrix), 0, 1), plate).astype(np.float32)


def _painted(picture: Array, plate: Array) -> Mask:
    """(H, W): where a resampled picture is outside the range that its plate has around the pixel."""
    window = np.ones((3, 3), np.uint8)
    above, below = picture - cv2.dilate(plate, window), cv2.erode(plate, window) - picture
    outside = (np.maximum(above, below).max(axis=2) > _NEAR).astype(np.uint8)
    solid = cv2.morphologyEx(outside, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    large = statistics[:, cv2.CC_STAT_AREA] >= _SPECK
    large[0] = False
    return np.asarray(large[labels])


def _in_words(matrix: NDArray[np.float32], plate: Array) -> str:
    """What an alignment undoes: "shifted by 2.0, -1.0 pixels"."""
    middle: Sequence[float] = (plate.shape[1] / 2, plate.shape[0] / 2)
    dx, dy = (float(value) for value in matrix[:, :2] @ np.array(middle) + matrix[:, 2] - np.array(middle))
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2].astype(np.float64)))))
    shifted = f"shifted by {dx:.1f}, {dy:.1f} pixels"
    return shifted if abs(scale - 1) < 5e-4 else f"scaled by {100 * scale:.1f} % and {shifted}"
