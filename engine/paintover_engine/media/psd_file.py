"""Writing layered Photoshop files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psd_tools.constants import BlendMode, ChannelID, Compression, ProtectedFlags, Resource, SectionDivider, Tag
from psd_tools.psd import PSD
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.image_resources import ImageResource, ImageResources
from psd_tools.psd.layer_and_mask import (
    ChannelData,
    ChannelDataList,
    ChannelImageData,
    ChannelInfo,
    GlobalLayerMaskInfo,
    LayerAndMaskInformation,
    LayerFlags,
    LayerInfo,
    LayerRecord,
    LayerRecords,
)
from psd_tools.psd.tagged_blocks import TaggedBlocks

from paintover_engine.media.plate import Pixels


@dataclass(frozen=True)
class Layer:
    """A layer. pixels: (h, w, 3) uint8 or uint16; None: of the canvas's size, and transparent everywhere.

    origin: x and y of the pixels' top left corner on the canvas. opaque: (h, w) bool, where the pixels show; None:
    everywhere."""

    name: str
    pixels: Pixels | None
    locked: bool = False
    origin: tuple[int, int] = (0, 0)
    opaque: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Group:
    """A closed group of layers, from the bottom up."""

    name: str
    layers: Sequence[Layer]


def write_psd(path: Path, merged: Pixels, layers: Sequence[Layer | Group], profile: bytes) -> None:
    """Writes a file whose topmost layer or group is the active one.

    merged: (H, W, 3) uint8 or uint16, what a program shows that reads no layers. layers: from the bottom up, of its
    depth. profile: ICC; empty for none."""
    height, width = merged.shape[:2]
    depth = merged.dtype.itemsize * 8
    records = [_record(part, id, merged) for id, part in enumerate(_parts(layers), 1)]
    resources: Any = [(key, ImageResource(key=key, data=data)) for key, data in _resources(profile, len(records))]
    document = PSD(
        header=FileHeader(width=width, height=height, channels=3, depth=depth),
        image_resources=ImageResources(resources),
        layer_and_mask_information=_layer_information(records, depth),
        image_data=ImageData(Compression.RAW, b"".join(_plane(merged[..., channel]) for channel in range(3))),
    )
    with open(path, "wb") as file:
        document.write(file)


@dataclass(frozen=True)
class _Divider:
    """A record that opens or ends a group."""

    name: str
    kind: SectionDivider


_Part = Layer | _Divider
_PsdLayer = tuple[LayerRecord, ChannelDataList]
_CHANNELS = (ChannelID.TRANSPARENCY_MASK, ChannelID.CHANNEL_0, ChannelID.CHANNEL_1, ChannelID.CHANNEL_2)
_END_OF_GROUP = "</Layer group>"  # as Photoshop calls it


def _parts(layers: Sequence[Layer | Group]) -> Iterator[_Part]:
    """The file's records, from the bottom up: a group's end lies below its layers, its name above them."""
    for layer in layers:
        if isinstance(layer, Layer):
            yield layer
        else:
            yield _Divider(_END_OF_GROUP, SectionDivider.BOUNDING_SECTION_DIVIDER)
            yield from layer.layers
            yield _Divider(layer.name, SectionDivider.CLOSED_FOLDER)


def _plane(samples: Pixels) -> bytes:
    return samples.astype(samples.dtype.newbyteorder(">")).tobytes()


def _resources(profile: bytes, layers: int) -> list[tuple[int, bytes]]:
    per_inch = (72 << 16).to_bytes(4, "big") + b"\0\1\0\1"
    top = layers - 1  # counted from the bottom
    return [
        (Resource.RESOLUTION_INFO.value, per_inch * 2),
        (Resource.LAYER_STATE_INFO.value, top.to_bytes(2, "big")),  # the active layer, so that a stroke lands there
        *([(Resource.ICC_PROFILE.value, profile)] if profile else []),
        (Resource.LAYER_SELECTION_IDS.value, (1).to_bytes(2, "big") + layers.to_bytes(4, "big")),
    ]


def _record(part: _Part, id: int, canvas: Pixels) -> _PsdLayer:
    """canvas: a picture of the document's size and depth."""
    x, y, width, height = _bounds(part, canvas)
    depth = canvas.dtype.itemsize * 8
    data: Any = []  # psd-tools' lists are generic without saying of what
    for samples in _samples(part, width * height * canvas.dtype.itemsize):
        channel = ChannelData(Compression.RLE if samples == samples[:1] * len(samples) else Compression.RAW)
        channel.set_data(samples, width, height, depth)
        data.append(channel)
    locked = isinstance(part, Layer) and part.locked
    record = LayerRecord(
        top=y,
        left=x,
        bottom=y + height,
        right=x + width,
        channel_info=[ChannelInfo(kind, channel._length) for kind, channel in zip(_CHANNELS, data, strict=True)],
        blend_mode=BlendMode.NORMAL,
        flags=LayerFlags(transparency_protected=locked),
        name=part.name.encode("mac_roman", "replace").decode("mac_roman")[:60],
        tagged_blocks=_blocks(part, id, locked),
    )
    return record, ChannelDataList(data)


def _bounds(part: _Part, canvas: Pixels) -> tuple[int, int, int, int]:
    """x, y, width and height."""
    if isinstance(part, _Divider):
        return 0, 0, 0, 0
    height, width = (canvas if part.pixels is None else part.pixels).shape[:2]
    return *part.origin, width, height


def _samples(part: _Part, size: int) -> list[bytes]:
    """Alpha, red, green and blue, uncompressed. size: of each, in bytes."""
    if isinstance(part, _Divider):
        return [b""] * len(_CHANNELS)
    if part.pixels is None:  # all are there, transparent: some editors open a layer without as one that takes no paint
        return [bytes(size)] * len(_CHANNELS)
    alpha = b"\xff" * size
    if part.opaque is not None:
        alpha = _plane(part.opaque * np.array(np.iinfo(part.pixels.dtype).max, part.pixels.dtype))
    return [alpha, *(_plane(part.pixels[..., channel]) for channel in range(3))]


def _blocks(part: _Part, id: int, locked: bool) -> TaggedBlocks:
    blocks = TaggedBlocks()
    blocks.set_data(Tag.UNICODE_LAYER_NAME, part.name)
    blocks.set_data(Tag.LAYER_ID, id)
    if isinstance(part, _Divider):
        blocks.set_data(Tag.SECTION_DIVIDER_SETTING, part.kind, b"8BIM", BlendMode.NORMAL)
    if locked:
        blocks.set_data(Tag.PROTECTED_SETTING, int(ProtectedFlags.COMPLETE))
    return blocks


def _layer_information(layers: Any, depth: int) -> LayerAndMaskInformation:
    """Deep documents keep their layers in a block of its own, as Photoshop does."""
    parts: dict[str, Any] = {
        "layer_count": len(layers),
        "layer_records": LayerRecords([record for record, _ in layers]),
        "channel_image_data": ChannelImageData([data for _, data in layers]),
    }
    blocks = TaggedBlocks()
    if depth == 8:
        return LayerAndMaskInformation(LayerInfo(**parts), GlobalLayerMaskInfo(), blocks)
    blocks.set_data(Tag.LAYER_16, **parts)
    return LayerAndMaskInformation(LayerInfo(), GlobalLayerMaskInfo(), blocks)
