"""Between the plate's size and a model's: pictures fitted without stretching, and a model's change of a picture added
to the plate, which keeps its own detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]  # (h, w, 3)

Fit = Literal["pad", "crop"]

_SLIMMEST = 3.0  # aspect ratio up to which a model's picture follows the plate's
_LEAST = 0.75  # share of the model's area that its pictures have at least


@dataclass(frozen=True)
class Framing:
    """How a plate lies in a model's picture: scaled evenly, centred, and padded by reflection or cropped to fit.

    plate, size: (width, height) of the plate's and of the model's picture. inner: (width, height) of the plate in the
    model's pixels."""

    plate: tuple[int, int]
    size: tuple[int, int]
    inner: tuple[int, int]

    @staticmethod
    def of(plate: tuple[int, int], area: int, multiple: int, fit: Fit = "pad") -> Framing:
        """For a model that wants sides in multiples of `multiple` pixels, with about `area` pixels in all: the size
        whose shape is nearest to the plate's."""
        size = _nearest_size(plate, area, multiple)
        ratios = (size[0] / plate[0], size[1] / plate[1])
        scale = min(ratios) if fit == "pad" else max(ratios)
        inner = (max(1, round(plate[0] * scale)), max(1, round(plate[1] * scale)))
        return Framing(plate, size, inner)

    def to_model(self, picture: Picture) -> Picture:
        """A plate (H, W, 3) as the model's picture (h, w, 3), in the same values."""
        shrinks = self.inner[0] * self.inner[1] < self.plate[0] * self.plate[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        scaled = cv2.resize(picture, self.inner, interpolation=method) if self.inner != self.plate else picture
        x, y = self._offset(0), self._offset(1)
        scaled = scaled[max(0, -y) : max(0, -y) + self.size[1], max(0, -x) : max(0, -x) + self.size[0]]
        right, bottom = self.size[0] - scaled.shape[1] - max(0, x), self.size[1] - scaled.shape[0] - max(0, y)
        padded = cv2.copyMakeBorder(scaled, max(0, y), bottom, max(0, x), right, cv2.BORDER_REFLECT)
        return np.asarray(padded, np.float32)

    def to_plate(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """A model's picture (h, w, c) as one of the plate's size (H, W, c); 0 where the plate was cut off."""
        x, y = self._offset(0), self._offset(1)
        inside = picture[max(0, y) : max(0, y) + self.inner[1], max(0, x) : max(0, x) + self.inner[0]]
        right, bottom = self.inner[0] - inside.shape[1] - max(0, -x), self.inner[1] - inside.shape[0] - max(0, -y)
        whole = cv2.copyMakeBorder(inside, max(0, -y), bottom, max(0, -x), right, cv2.BORDER_CONSTANT, value=0)
        shrinks = self.inner[0] * self.inner[1] > self.plate[0] * self.plate[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        sized = cv2.resize(whole, self.plate, interpolation=method) if self.inner != self.plate else whole
        return np.asarray(sized, np.float32).reshape(self.plate[1], self.plate[0], -1)

    def _offset(self, axis: int) -> int:
        """Where the plate starts in the model's picture; below 0 where it is cut off."""
        return (self.size[axis] - self.inner[axis]) // 2


def _nearest_size(plate: tuple[int, int], area: int, multiple: int) -> tuple[int, int]:
    """The (width, height) in multiples, of at most `area` pixels and not much less, with the least padding."""
    wanted = float(np.clip(plate[0] / plate[1], 1 / _SLIMMEST, _SLIMMEST))
    most = max(1, int((area * _SLIMMEST) ** 0.5) // multiple + 1)
    sides = [multiple * n for n in range(1, most + 1)]
    fitting = [(w, h) for w in sides for h in sides if _LEAST * area <= w * h <= area] or [_square(area, multiple)]
    return max(
        fitting, key=lambda size: size[0] * size[1] * min(wanted * size[1] / size[0], size[0] / wanted / size[1])
    )


def _square(area: int, multiple: int) -> tuple[int, int]:
    side = max(multiple, int(area**0.5) // multiple * multiple)
    return side, side


def difference_composite(plate: Picture, edited: Picture, reconstructed: Picture, framing: Framing) -> Picture:
    """(H, W, 3): the plate plus the model's change. All pictures in the same encoding.

    plate: (H, W, 3), not clipped. edited, reconstructed: the model's pictures (h, w, 3) with the edit and without it,
    whose common errors cancel."""
    return plate + framing.to_plate(edited - reconstructed)
