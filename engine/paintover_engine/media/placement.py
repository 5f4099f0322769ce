"""Where a picture of any size lies on the plate: at its size, enlarged, on its whole data window, cropped or padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.plate import ImagePlate, Plate, overlap

_LARGEST = 16  # times the plate's pixels; a larger picture is refused before it is read
_SMALLEST = 1 / 8  # of the plate's sides; a smaller one is a thumbnail, not a painting
_NEAR = 1.1  # between the aspects of a picture and the plate, from which it is another picture
_BLOCK = 8  # pixels that tools which generate pictures round sides to a multiple of
_ALIKE = 24 / 255  # median difference from the plate of a picture of the same

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Placement:
    """A picture is resized to `size` (width, height); its top left comes to (x, y) of the plate, and what lies beyond
    the plate is cut off.

    words: what is said of it, after the file's name; "" where nothing is."""

    size: tuple[int, int]
    x: int
    y: int
    words: str = ""

    def resized(self, picture: Array) -> Array:
        """A picture (h, w[, c]) at `size`."""
        height, width = picture.shape[:2]
        if (width, height) == self.size:
            return picture
        method = cv2.INTER_AREA if width > self.size[0] else cv2.INTER_CUBIC
        resized: Array = np.clip(cv2.resize(picture, self.size, interpolation=method), picture.min(), picture.max())
        return resized

    def put(self, picture: Array, around: Array) -> Array:
        """A picture (h, w[, c]) on the plate's canvas; `around` (H, W[, c]) where it has nothing."""
        resized = self.resized(picture)
        if resized.shape == around.shape and not (self.x or self.y):
            return resized
        canvas = around.copy()
        shown, held = overlap((self.x, self.y, *self.size), (around.shape[0], around.shape[1]))
        canvas[shown] = resized[held]
        return canvas


def check_size(file: Path, sizes: Sequence[tuple[int, int]], plate: Plate) -> None:
    """Refuses, before memory is taken for it, a picture that would not be used anyway.

    sizes: width and height of what it shows, and of all its pixels where those are others."""
    most = max(_LARGEST * plate.width * plate.height, 2**24)
    for width, height in sizes:
        if width < 1 or height < 1 or width * height > most:
            raise other_size(file, width, height, plate)
    if not any(_candidates(width, height, plate) for width, height in sizes):
        raise other_size(file, *sizes[0], plate)


def other_size(file: Path, width: int, height: int, plate: Plate) -> PaintoverError:
    """The error for a picture that cannot be placed."""
    return PaintoverError(
        Code.INVALID_ARGUMENT,
        f"'{file}' is {width}x{height} but the shot is {plate.width}x{plate.height}; "
        "save the keyframe at the shot's size.",
    )


def place(file: Path, picture: Array, plate: Plate, reference: Array) -> Placement:
    """Where a picture (h, w, 3) lies. reference: (H, W, 3), the plate in the same encoding.

    Raises PaintoverError where it cannot be told."""
    height, width = picture.shape[:2]
    found = _candidates(width, height, plate)
    if not found:
        raise other_size(file, width, height, plate)
    if len(found) == 1:
        return found[0]
    differences = [_difference(each, picture, reference) for each in found]
    best = int(np.argmin(differences))
    certain = any(True for kind in (_exact, _scaled) for _ in kind(width, height, plate))
    if not certain and differences[best] > _ALIKE:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"'{file}' is {width}x{height} but the shot is {plate.width}x{plate.height}, and whether it was rescaled "
            "or cropped cannot be seen; save the keyframe at the shot's size.",
        )
    return found[best]


def _candidates(width: int, height: int, plate: Plate) -> list[Placement]:
    """Where a picture of a size may lie; those of the first kind that there are any of."""
    for kind in (_exact, _scaled, _rounded):
        found = list(kind(width, height, plate))
        if found:
            return found
    return []


def _frames(plate: Plate) -> Iterator[tuple[tuple[int, int], int, int, str]]:
    """What of the plate a picture may show: size and place of the display window, and of the data window."""
    yield (plate.width, plate.height), 0, 0, ""
    if isinstance(plate, ImagePlate) and plate.data is not None:
        x, y, width, height = plate.window
        yield (width, height), x, y, f"holds the frame's data window ({width}x{height})"


def _exact(width: int, height: int, plate: Plate) -> Iterator[Placement]:
    for size, x, y, words in _frames(plate):
        if size == (width, height):
            yield Placement(size, x, y, f"{words}; what lies in the display window is taken" if words else "")


def _scaled(width: int, height: int, plate: Plate) -> Iterator[Placement]:
    for size, x, y, words in _frames(plate):
        if _same_shape(width, height, size):
            whole = f"the frame's data window of {size[0]}x{size[1]}" if words else f"the shot's {size[0]}x{size[1]}"
            yield Placement(size, x, y, f"is {width}x{height}; it is rescaled to {whole}")
    shown = plate.width * float(plate.pixel_aspect)  # which players round to a whole or an even number
    if plate.pixel_aspect != 1 and _same_shape(width, height, (shown, plate.height), 1.0):
        words = f"is {width}x{height}, as players show the shot; it is rescaled to {plate.width}x{plate.height}"
        yield Placement((plate.width, plate.height), 0, 0, words)


def _same_shape(width: int, height: int, size: tuple[float, float], rounding: float = 0.5) -> bool:
    """Whether scaling a size by any one factor, and rounding its width by so many pixels, gives `width` by `height`."""
    low = max((width - rounding) / size[0], (height - 0.5) / size[1])
    high = min((width + rounding) / size[0], (height + 0.5) / size[1])
    return low <= high and high >= _SMALLEST


def _rounded(width: int, height: int, plate: Plate) -> Iterator[Placement]:
    """Of a picture from a tool that rounds both sides to multiples of 8 or more: stretched, cropped or padded."""
    across, down = plate.width / width, plate.height / height
    if width % _BLOCK or height % _BLOCK or max(across / down, down / across) > _NEAR:
        return
    if 1 / min(across, down) < _SMALLEST:
        return
    shot = f"the shot's {plate.width}x{plate.height}"
    yield Placement((plate.width, plate.height), 0, 0, f"is {width}x{height}; it is stretched to {shot}")
    for factor, what in ((min(across, down), "cropped"), (max(across, down), "padded")):
        size = (round(width * factor), round(height * factor))
        x, y = (plate.width - size[0]) // 2, (plate.height - size[1]) // 2
        rest = "what it lacks is the plate" if what == "cropped" else "what it adds is left out"
        yield Placement(size, x, y, f"is {width}x{height}, {what} from the shot's middle; {rest}")


def _difference(placement: Placement, picture: Array, reference: Array) -> float:
    """The median difference from the plate where both have something."""
    resized = placement.resized(picture)
    shown, held = overlap((placement.x, placement.y, *placement.size), (reference.shape[0], reference.shape[1]))
    if not resized[held].size:
        return float("inf")
    return float(np.median(np.abs(resized[held] - reference[shown])))
