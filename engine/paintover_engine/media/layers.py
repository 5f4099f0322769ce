"""What was painted on the layers of a Photoshop file that `export_frame` wrote and an editor saved.

The plate's layer is left out, and the coverage of the others is the matte. Files come from other programs, or from
anywhere: sizes are checked before memory is taken for them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from psd_tools import PSDImage
from psd_tools.constants import BlendMode, ChannelID, ColorMode, Compression
from psd_tools.psd import PSD
from psd_tools.psd.bin_utils import read_fmt
from psd_tools.psd.header import FileHeader

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.export import plate_samples, read_plate_layer_name
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.plate import Plate, unit

MOST_LAYERS = 1000
LARGEST_FILE = 4 * 2**30  # bytes
_LEAST_FILE = 2**30  # bytes that a file may have, however small its canvas
_ROOM = 128  # canvases' worth of pixels that all layers may hold together
_LEAST_ROOM = 2**26  # pixels
_RGB = (ChannelID.CHANNEL_0, ChannelID.CHANNEL_1, ChannelID.CHANNEL_2)
_LAYER_BLOCKS = (b"Layr", b"Lr16", b"Lr32")
_LARGE_BLOCKS = (  # whose length has 8 bytes in a PSB
    b"LMsk", b"Lr16", b"Lr32", b"Layr", b"Mt16", b"Mt32", b"Mtrn", b"Alph", b"FMsk", b"lnk2", b"FEid", b"FXid", b"PxSD",
)  # fmt: skip
_OVER = (BlendMode.NORMAL, BlendMode.PASS_THROUGH)
_PAINTABLE = ("pixel", "type", "smartobject")  # kinds whose pixels the file holds as they show


class Damaged(Exception):
    """The file is cut off, half-written or no Photoshop file at all."""


@dataclass(frozen=True, eq=False)
class PaintedLayers:
    """The layers above the plate's, put together.

    rgb: (H, W, 3) float32, straight: what shows at full strength. alpha: (H, W) float32 0..1: how far it covers.
    Both None where the layers cannot be told from what they do to the plate, so that the flattened picture counts.
    reason: why that is, a sentence's part ("layer 'Glow' has effects").
    blended: `rgb` is not what shows, since some layers are blended in other ways than normal; `alpha` is right.
    plate: (H, W, 3) float32: the plate's layer as it was saved. plate_shows: it is visible and opaque.
    """

    rgb: NDArray[np.float32] | None
    alpha: NDArray[np.float32] | None
    reason: str
    blended: bool
    plate: NDArray[np.float32]
    plate_shows: bool
    step: float
    icc: bytes


def read_header(file: Path) -> FileHeader:
    """The size and kind of a Photoshop file, from its first bytes. Raises Damaged."""
    try:
        with file.open("rb") as opened:
            return FileHeader.read(opened)
    except OSError as error:
        if error.errno is not None:
            raise
        raise Damaged from error
    except Exception as error:
        raise Damaged from error


def open_document(file: Path) -> PSDImage:
    """A Photoshop file whose size was checked, with its layers not yet unpacked.

    Raises PaintoverError where it is too large to handle, Damaged where it is not whole."""
    header = read_header(file)
    most = min(LARGEST_FILE, max(_LEAST_FILE, _ROOM * header.width * header.height * header.depth // 2))
    if file.stat().st_size > most:
        raise PaintoverError(
            Code.RESOURCE_EXHAUSTED,
            f"'{file}' is larger than {most / 2**30:.0f} GiB; merge the layers that you painted, and save again.",
        )
    try:
        with file.open("rb") as opened:
            count = _layer_count(opened)
            opened.seek(0)
            document = PSD.read(opened) if count <= MOST_LAYERS else None
        if document:
            _check_picture_data(document)
            return PSDImage(document)
    except MemoryError:
        raise
    except Exception as error:  # psd-tools raises many kinds on damaged files
        raise Damaged from error
    raise PaintoverError(
        Code.INVALID_ARGUMENT, f"'{file}' has {count} layers; merge them to {MOST_LAYERS} at most, and save again."
    )


def _layer_count(opened: BinaryIO) -> int:
    """How many layers a file says that it has, before any is read: psd-tools takes a millisecond for each.

    The count begins the layers' own section; of 16 and 32 bits a channel, a block in one that follows it (Adobe
    Photoshop File Formats Specification, "Layer and Mask Information")."""
    version = FileHeader.read(opened).version
    for _ in ("colour mode data", "image resources"):
        opened.seek(read_fmt("I", opened)[0], os.SEEK_CUR)
    size = ("I", "Q")[version - 1]
    length = read_fmt(size, opened)[0]
    end = opened.tell() + length
    counts = [0]
    if length and read_fmt(size, opened)[0]:
        counts.append(abs(read_fmt("h", opened)[0]))
    elif length:
        opened.seek(read_fmt("I", opened)[0], os.SEEK_CUR)  # the global layer mask
        while opened.tell() + 12 < end:
            _, key = read_fmt("4s4s", opened)
            length = read_fmt(size if key in _LARGE_BLOCKS else "I", opened)[0]
            after = opened.tell() + (length + 3) // 4 * 4
            if key in _LAYER_BLOCKS:
                counts.append(abs(read_fmt("h", opened)[0]))
            opened.seek(after)
    return max(counts)


def _check_picture_data(document: PSD) -> None:
    """Refuses a flattened picture that ends early: that part of the file is written last, so it tells a half-written
    file."""
    header, data = document.header, document.image_data.data
    rows = header.height * header.channels
    if document.image_data.compression is Compression.RAW:
        due = rows * ((header.width * header.depth + 7) // 8)
    elif document.image_data.compression is Compression.RLE:
        size = 2 * header.version
        counts = np.frombuffer(data[: rows * size], f">u{size}")
        due = rows * size + int(counts.sum()) if len(counts) == rows else len(data) + 1
    else:
        return
    if len(data) < due:
        raise Damaged


def read_layers(document: PSDImage, file: Path, frame: int, plate: Plate, info: SourceInfo) -> PaintedLayers | None:
    """What was painted above the plate's layer; None where no layer is one.

    file: what errors call it. frame: the number of `plate` in its shot.
    Raises PaintoverError where the plate's layer is another frame's, or a layer is too large; Damaged."""
    every = list(document)
    place = next((index for index, layer in enumerate(every) if read_plate_layer_name(layer.name)), None)
    if place is None or document.depth not in (8, 16):
        return None
    bottom, painted = every[place], every[place + 1 :]  # what lies under the plate does not show
    _check_frame(file, bottom.name, frame, info)
    if document.color_mode is not ColorMode.RGB:
        mode = document.color_mode.name.replace("_", " ").upper()
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{file}' was converted to {mode}; convert it back to RGB and save it again."
        )
    _check_room(document, file)
    icc = bytes(document.image_resources.get_data(1039) or b"")
    step = 1.0 / (2**document.depth - 1)
    own = _Pile(document)
    own.put(bottom, hidden=True)
    shows = bottom.visible and bottom.opacity == 255
    reasons = [_why_not(layer) for layer in _visible(painted)]
    reason = next((text for text in reasons if text), "")
    if reason:
        return PaintedLayers(None, None, reason, False, own.straight(), shows, step, icc)
    pile = _Pile(document)
    for layer in painted:
        pile.put(layer)
    blended = any(layer.blend_mode not in _OVER for layer in _visible(painted))
    return PaintedLayers(pile.straight(), pile.alpha, "", blended, own.straight(), shows, step, icc)


def painted_on_plate(layers: PaintedLayers, plate: Plate, info: SourceInfo) -> float:
    """The share of pixels (0..1) where the plate's layer is no longer the plate."""
    bits = 8 if layers.step > 1 / 1000 else 16
    difference = np.abs(layers.plate - unit(plate_samples(plate, info, bits))).max(axis=2)
    # An 8-bit copy of a 16-bit picture is off by half a step of the 8-bit one.
    return float((difference > 1.5 / 255.0).mean())


def _check_frame(file: Path, name: str, frame: int, info: SourceInfo) -> None:
    named, source = read_plate_layer_name(name), Path(info.path).name
    if named and named != (source, frame):
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"'{file}' was made from frame {named[1]} of {named[0]}, not from frame {frame} of {source}; "
            "paint on the file of that frame.",
        )


def _check_room(document: PSDImage, file: Path) -> None:
    """Refuses layers that would take more memory or time than any painting needs."""
    canvas = document.width * document.height
    room = max(_ROOM * canvas, _LEAST_ROOM)
    total = 0
    for record, _ in document._record._iter_layers():
        sizes = [width * height for width, height in record.channel_sizes]
        if any(size > room // 4 for size in sizes):
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"A layer of '{file}' is {record.width}x{record.height}, far larger than the picture; crop it.",
            )
        total += sum(sizes) // 4
    if total > room:
        raise PaintoverError(
            Code.RESOURCE_EXHAUSTED, f"The layers of '{file}' are too large together; merge those that you painted."
        )


def _visible(layers: Any) -> Iterator[Any]:
    """The layers that show, and those in groups that show."""
    for layer in layers:
        if layer.visible and layer.opacity > 0:
            yield layer
            if layer.is_group():
                yield from _visible(layer)


def _why_not(layer: Any) -> str:
    """Why a layer's pixels and coverage are not what shows of it; "" where they are."""
    name = f"layer '{layer.name}'"
    if layer.is_group():
        kind = "group"
    else:
        kind = layer.kind
        if kind not in _PAINTABLE:
            return f"{name} is an adjustment, a fill or a shape"
    try:
        if layer.has_effects():
            return f"{name} has effects"
    except Exception:  # of a kind that psd-tools does not know: then it has some
        return f"{name} has effects"
    if kind != "group" and layer.clipping:
        return f"{name} is clipped to another"
    if layer.has_vector_mask():
        return f"{name} has a vector mask"
    return ""


class _Pile:
    """Layers put over each other, from the bottom, on an empty canvas. Sums are kept premultiplied."""

    def __init__(self, document: PSDImage) -> None:
        shape = (document.height, document.width)
        self._document = document
        self._colour = np.zeros((*shape, 3), np.float32)
        self.alpha = np.zeros(shape, np.float32)

    def straight(self) -> NDArray[np.float32]:
        """(H, W, 3) colours without their alpha; 0 where nothing is."""
        return np.divide(
            self._colour, self.alpha[..., None], out=np.zeros_like(self._colour), where=self.alpha[..., None] > 0
        )

    def put(self, layer: Any, hidden: bool = False) -> None:
        """Puts a layer, or a group's layers as one, over what is there. hidden: at full strength, showing or not."""
        if not hidden and (not layer.visible or layer.opacity == 0):
            return
        strength = 1.0 if hidden else layer.opacity / 255.0 * _fill(layer)
        if layer.is_group():
            inner = _Pile(self._document)
            for child in layer:
                inner.put(child)
            height, width = self.alpha.shape
            cover = strength * _mask(layer, (0, 0, width, height), self._document)
            self._over((0, 0, width, height), inner._colour * _planes(cover), inner.alpha * cover)
            return
        box = _clipped(layer.left, layer.top, layer.right, layer.bottom, self.alpha.shape)
        if box is None:
            return
        alpha = _channel(layer, ChannelID.TRANSPARENCY_MASK, box, self._document)
        cover = strength * _mask(layer, box, self._document)
        alpha = np.float32(1.0) * cover if alpha is None else alpha * cover
        for index, channel in enumerate(_RGB):
            samples = _channel(layer, channel, box, self._document)
            if samples is None:
                raise Damaged
            self._channel_over(box, index, samples * alpha, alpha)
        self._alpha_over(box, alpha)

    def _over(self, box: Box, colour: NDArray[np.float32], alpha: NDArray[np.float32]) -> None:
        for index in range(3):
            self._channel_over(box, index, colour[..., index], alpha)
        self._alpha_over(box, alpha)

    def _channel_over(self, box: Box, index: int, colour: Any, alpha: Any) -> None:
        left, top, right, bottom = box
        below = self._colour[top:bottom, left:right, index]
        below *= 1 - alpha
        below += colour

    def _alpha_over(self, box: Box, alpha: Any) -> None:
        left, top, right, bottom = box
        below = self.alpha[top:bottom, left:right]
        below *= 1 - alpha
        below += alpha


Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the canvas; right and bottom are exclusive."""


def _planes(cover: Any) -> Any:
    return cover[..., None] if isinstance(cover, np.ndarray) else cover


def _fill(layer: Any) -> float:
    """The strength of a layer's own pixels, apart from its effects."""
    return 1.0 if layer.is_group() else float(layer.fill_opacity) / 255.0


def _clipped(left: int, top: int, right: int, bottom: int, shape: tuple[int, ...]) -> Box | None:
    box = (max(left, 0), max(top, 0), min(right, shape[1]), min(bottom, shape[0]))
    return box if box[0] < box[2] and box[1] < box[3] else None


def _mask(layer: Any, box: Box, document: PSDImage) -> Any:
    """A layer's mask within a box: (h, w) float32 0..1, or 1.0 where it has none."""
    mask = layer.mask if layer.has_mask() else None
    if mask is None or mask.disabled:
        return 1.0
    left, top, right, bottom = box
    outside = mask.background_color / 255.0
    cover = np.full((bottom - top, right - left), outside, np.float32)
    kind = ChannelID.REAL_USER_LAYER_MASK if mask.has_real() else ChannelID.USER_LAYER_MASK
    inner = (max(left, mask.left), max(top, mask.top), min(right, mask.right), min(bottom, mask.bottom))
    if inner[0] < inner[2] and inner[1] < inner[3]:
        samples = _channel(layer, kind, inner, document, (mask.left, mask.top, mask.right, mask.bottom))
        if samples is None:
            raise Damaged
        cover[inner[1] - top : inner[3] - top, inner[0] - left : inner[2] - left] = samples
    return cover


def _channel(
    layer: Any, kind: ChannelID, box: Box, document: PSDImage, bounds: Box | None = None
) -> NDArray[np.float32] | None:
    """(h, w) float32 0..1: a channel's samples within a box of the canvas; None where the layer has no such one."""
    left, top, right, bottom = bounds or (layer.left, layer.top, layer.right, layer.bottom)
    for description, data in zip(layer._record.channel_info, layer._channels, strict=True):
        if description.id is not kind:
            continue
        samples = _decoded(data, right - left, bottom - top, document)
        part = samples[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
        return unit(np.ascontiguousarray(part).astype(part.dtype.newbyteorder("=")))
    return None


def _decoded(data: Any, width: int, height: int, document: PSDImage) -> NDArray[Any]:
    kind = np.dtype(">u2" if document.depth == 16 else "u1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # psd-tools warns, and gives black, where it cannot unpack
            unpacked = data.get_data(width, height, document.depth, document.version)
        return np.frombuffer(unpacked, kind).reshape(height, width)
    except MemoryError:
        raise
    except Exception as error:
        raise Damaged from error
