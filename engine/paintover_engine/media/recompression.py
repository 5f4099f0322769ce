"""What JPEG made of the plate around the paint of a keyframe: found by compressing the plate in the same way.

Where nobody painted, a JPEG file holds what its tables make of the plate, to the last bit; beside paint, in the same
blocks, what they make of both. So the noise of compression need not be told from paint by its strength.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

Array = NDArray[np.float32]

_JPEG = b"\xff\xd8\xff"
_LOSSY = (_JPEG, b"GIF8", b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")
"""The first bytes of JPEG, GIF, JPEG 2000 and its codestream, JPEG XL and its container."""
_TOUCHED = 1.5  # of 255: more is no rounding, so paint reaches into the block
_PLAIN = 24.0  # of 255: plainly paint, whatever the compression
_UNEXPLAINED = 8.0  # of 255: paint, where the compression of plate and plain paint does not explain it
_ROUNDS = 4
_FEW = 8  # pixels
_SMOOTH = 5  # pixels


@dataclass(frozen=True)
class Encoder:
    """What decides how a JPEG file's samples differ from the picture that was written: tables by their number, 64
    values each, and Pillow's number of the chroma subsampling. size: (width, height) of the file."""

    tables: Mapping[int, Sequence[int]]
    subsampling: int
    size: tuple[int, int]

    def compressed(self, picture: Array) -> Array:
        """A picture as this encoder writes it. picture: (H, W, 3) float32, display-encoded, 0..1; so is the result."""
        written = io.BytesIO()
        samples = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        Image.fromarray(samples).save(written, "JPEG", qtables=self.tables, subsampling=self.subsampling)
        with Image.open(written) as image:
            return np.asarray(image, np.float32) / np.float32(255)


def is_lossy(file: Path) -> bool:
    """Whether a file's format compresses its samples with losses: a JPEG of any kind, WebP, AVIF, HEIC, a palette."""
    start = _first_bytes(file)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return start[12:16] != b"VP8L"
    palette = start.startswith(b"\x89PNG") and start[25:26] == b"\x03"
    return start.startswith(_LOSSY) or palette or start[4:8] == b"ftyp"


def _first_bytes(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(26)


def encoder_of(file: Path) -> Encoder | None:
    """The encoder that wrote a file; None where it is no RGB JPEG, or of a subsampling that Pillow cannot write."""
    if not _first_bytes(file).startswith(_JPEG):
        return None
    try:
        with Image.open(file) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode != "RGB":
                return None
            encoder = Encoder(image.quantization, JpegImagePlugin.get_sampling(image), image.size)
    except UnidentifiedImageError:  # of a kind that OpenImageIO alone reads
        return None
    return encoder if encoder.subsampling >= 0 else None


def without_compression(file: Path, painted: Array, plate: Array) -> Array:
    """A painted JPEG with the plate's own values wherever compression alone explains how the two differ.

    painted, plate: (H, W, 3) float32, display-encoded, 1 = white; `painted` as `file` holds it. Returns `painted`
    itself for other files, and where no paint would be left."""
    encoder = encoder_of(file)
    if encoder is None or encoder.size != plate.shape[1::-1]:
        return painted
    difference = _difference(painted, encoder.compressed(plate))
    touched = difference > _TOUCHED
    paint = plain = difference > _PLAIN
    for _ in range(_ROUNDS):
        both = encoder.compressed(np.where(paint[..., None], painted, plate))
        more = touched & ~paint & (_difference(painted, both) > _UNEXPLAINED)
        if more.sum() < _FEW:
            break
        paint = paint | more
    paint = plain | (cv2.medianBlur(paint.astype(np.uint8), _SMOOTH) > 0)  # no fringe of chroma's coarser samples
    return np.where(paint[..., None], painted, plate).astype(np.float32) if paint.sum() >= _FEW else painted


def _difference(one: Array, other: Array) -> Array:
    """The largest of a pixel's three differences, (H, W), of 255."""
    return np.asarray(np.abs(one - other).max(axis=2) * np.float32(255), np.float32)
