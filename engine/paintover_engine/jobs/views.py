"""Small pictures of plates and results for people to look at, which the media worker encodes."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.composite import composite
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.outputs import load_painted
from paintover_engine.jobs.store import PICTURE, Store, StoredFrame
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.source import Source, open_source

QUALITY = 82
OPEN_SOURCES = 4


class Sources:
    """The sources that were read last, kept open: opening a long video costs more than reading a frame of it."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, int, int], Source] = OrderedDict()

    def get(self, info: SourceInfo) -> Source:
        """The open source of a shot. Each range of a file has its own."""
        key = (info.fingerprint, info.first, info.last)
        source = self._open.pop(key, None) or open_source(info)
        self._open[key] = source
        if len(self._open) > OPEN_SOURCES:
            self._open.popitem(last=False)[1].close()
        return source


def save_picture(
    views: Store,
    key: str,
    source: Source,
    info: SourceInfo,
    number: int,
    side: int,
    painted: StoredFrame | None,
    name: str = PICTURE,
) -> None:
    """Stores a picture of a frame among the views, `side` pixels at its longer side: the plate, or with `painted` the
    result.

    name: the file's, whose ending says how it is encoded."""
    plate = source.read(number)
    if painted:
        plate = composite(plate, load_painted(painted), painted.bounds)
    _save(views, key, cv2.cvtColor(_fit(plate.display(), info, side), cv2.COLOR_RGB2BGR), name)


def save_matte(views: Store, key: str, info: SourceInfo, side: int, painted: StoredFrame) -> None:
    """Stores a picture of a result's matte: white with the matte as alpha, to show over the plate or the result."""
    x, y, width, height = painted.bounds
    matte = np.zeros((info.height, info.width), np.float32)
    matte[y : y + height, x : x + width] = load_painted(painted)[..., 3]
    alpha = np.rint(np.clip(_fit(matte, info, side), 0, 1) * 255).astype(np.uint8)
    _save(views, key, np.dstack([np.full_like(alpha, 255)] * 3 + [alpha]))


def _fit(picture: NDArray[np.generic], info: SourceInfo, side: int) -> NDArray[np.generic]:
    """The picture scaled to square pixels and at most `side` of them at its longer side."""
    width, height = info.width * float(info.pixel_aspect), float(info.height)
    scale = min(1.0, side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _save(views: Store, key: str, picture: NDArray[np.generic], name: str = PICTURE) -> None:
    quality = cv2.IMWRITE_WEBP_QUALITY if name == PICTURE else cv2.IMWRITE_JPEG_QUALITY
    encoded, data = cv2.imencode(Path(name).suffix, picture, [quality, QUALITY])
    if not encoded:
        raise PaintoverError(Code.INTERNAL, f"A picture to look at could not be encoded as {name}.")
    with views.writing(key, publishes=True) as folder:
        (folder / name).write_bytes(data.tobytes())
