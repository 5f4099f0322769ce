"""Writing one frame of a shot as the file that an artist paints on."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
from PIL import ImageCms
from psd_tools.constants import BlendMode, ChannelID, Compression, ProtectedFlags, Resource, Tag
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

from paintover_engine.durable import sync_file, sync_folder
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import sink
from paintover_engine.media.image_sink import write_image
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.plate import ImagePlate, Pixels, Plate, encoded

FORMATS = (".psd", ".png", ".tif", ".tiff", ".exr")
PLATE_ID, PAINT_ID = 1, 2  # of the layers, from the bottom
PAINT_LAYER = "Paint"
_LARGEST_PSD = 30000  # pixels a side, by Adobe's specification of the format
_PLATE_LAYER = re.compile(r"Plate \((?P<source>.+), frame (?P<frame>-?\d+)\)")


def export_frame(path: str | os.PathLike[str], plate: Plate, info: SourceInfo, overwrite: bool = False) -> list[str]:
    """Writes a frame for painting: whole or not at all. Returns notes for the user.

    path: ends with .psd (the plate as a locked layer, an empty layer above it), .png, .tif or .exr.
    Integer samples are 8-bit for 8-bit shots, else 16-bit; those of a scene-linear shot are sRGB-encoded and clipped.
    Raises PaintoverError where the file is there already, cannot be written, or cannot hold the frame.
    """
    file = Path(path)
    kind = file.suffix.lower()
    _check(file, kind, plate, info, overwrite)
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial{kind}")
    try:
        if kind == ".psd":
            _write_psd(partial, plate_samples(plate, info), plate_layer_name(info, plate.number), _profile(plate, info))
        elif kind == ".exr":
            _write_image(partial, file, plate.native_rgb(), info, b"")
        else:
            _write_image(partial, file, plate_samples(plate, info), info, _profile(plate, info))
        _publish(partial, file, overwrite)
    except OSError as error:
        raise sink.failed(file, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return _notes(file, kind, info)


def plate_samples(plate: Plate, info: SourceInfo, bits: int | None = None) -> Pixels:
    """(H, W, 3) uint8 or uint16: what an exported picture holds. bits: 8 or 16; None: as the shot's depth asks."""
    bits = bits or (8 if info.bits <= 8 else 16)
    if info.scene_linear:
        unit = encoded(plate).astype(np.float32) / 65535.0
    else:
        unit = np.clip(np.nan_to_num(plate.rgb()), 0.0, 1.0)
    samples: Pixels = np.rint(unit * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    return samples


def plate_layer_name(info: SourceInfo, frame: int) -> str:
    """What the locked layer of an exported PSD is called: it tells which frame of what it is, in any editor."""
    return f"Plate ({Path(info.path).name}, frame {frame})"


def read_plate_layer_name(name: str) -> tuple[str, int] | None:
    """The source's name and the frame that a layer says to be the plate of; None for other layers."""
    match = _PLATE_LAYER.match(name)
    return (match["source"], int(match["frame"])) if match else None


def plate_profile(plate: Plate) -> bytes:
    """The ICC profile that the shot's own file carries; empty where it has none."""
    if not isinstance(plate, ImagePlate) or plate.spec is None:
        return b""
    profile = plate.spec.getattribute("ICCProfile")
    return np.asarray(profile, np.uint8).tobytes() if profile is not None else b""


def _check(file: Path, kind: str, plate: Plate, info: SourceInfo, overwrite: bool) -> None:
    if kind not in FORMATS:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{file.name}' cannot be painted on; name a {', '.join(FORMATS)} file."
        )
    if not file.parent.is_dir():
        raise PaintoverError(Code.NOT_FOUND, f"There is no folder '{file.parent}' to put '{file.name}' into; make it.")
    if file.is_dir() or (file.exists() and not overwrite):
        raise PaintoverError(
            Code.ALREADY_EXISTS, f"'{file}' is there already, perhaps painted on; name another file, or remove it."
        )
    if kind == ".exr" and not info.scene_linear:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"EXR holds scene-linear light and '{Path(info.path).name}' is display-encoded; paint on psd, png or tif.",
        )
    if kind == ".psd" and max(plate.width, plate.height) > _LARGEST_PSD:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"A PSD has at most {_LARGEST_PSD} pixels a side and the shot is {plate.width}x{plate.height}; use tif.",
        )


def _publish(partial: Path, file: Path, overwrite: bool) -> None:
    """Gives the finished file its name; never a name that came to be taken meanwhile, unless asked to."""
    sync_file(partial)
    try:
        if overwrite:
            partial.replace(file)
        else:
            os.link(partial, file)
    except FileExistsError as error:
        raise PaintoverError(Code.ALREADY_EXISTS, f"'{file}' is there already; name another file.") from error
    except OSError:
        if overwrite:
            raise
        partial.replace(file)  # a file system without links
    sync_folder(file.parent)


def _profile(plate: Plate, info: SourceInfo) -> bytes:
    """The ICC profile that says what an exported picture's values mean: the plate's own, else sRGB."""
    own = b"" if info.scene_linear else plate_profile(plate)
    return own or ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _notes(file: Path, kind: str, info: SourceInfo) -> list[str]:
    if kind == ".exr":
        return []
    if info.scene_linear:
        return [f"'{file.name}' shows the shot sRGB-encoded; light above 1 stays as it is wherever you do not paint."]
    if info.colorspace:
        return [f"'{file.name}' is in the shot's own encoding, {info.colorspace}; paint in its colours."]
    return []


def _write_image(path: Path, out: Path, pixels: Pixels, info: SourceInfo, profile: bytes) -> None:
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 3, str(pixels.dtype).replace("float16", "half"))
    spec.attribute("PixelAspectRatio", float(info.pixel_aspect))
    if path.suffix == ".exr":
        spec.attribute("compression", "zip")
        spec.attribute("oiio:ColorSpace", info.colorspace)
    if profile:
        spec.attribute("ICCProfile", oiio.TypeDesc(f"uint8[{len(profile)}]"), np.frombuffer(profile, np.uint8))
    write_image(path, out, pixels, spec)


def _write_psd(path: Path, pixels: Pixels, plate_name: str, profile: bytes) -> None:
    """pixels: (H, W, 3) uint8 or uint16."""
    height, width = pixels.shape[:2]
    depth = pixels.dtype.itemsize * 8
    planes = [_plane(pixels[..., channel]) for channel in range(3)]
    opaque = _plane(np.full((height, width), np.iinfo(pixels.dtype).max, pixels.dtype))
    layers = [
        _layer(plate_name, PLATE_ID, (width, height), depth, [opaque, *planes], locked=True),
        # All its pixels are there, transparent: some editors open a layer without pixels as one that takes no paint.
        _layer(PAINT_LAYER, PAINT_ID, (width, height), depth, [bytes(len(opaque))] * 4, locked=False),
    ]
    resources: Any = [(key, ImageResource(key=key, data=data)) for key, data in _resources(profile)]
    document = PSD(
        header=FileHeader(width=width, height=height, channels=3, depth=depth),
        image_resources=ImageResources(resources),
        layer_and_mask_information=_layer_information(layers, depth),
        image_data=ImageData(Compression.RAW, b"".join(planes)),
    )
    with open(path, "wb") as file:
        document.write(file)


def _plane(samples: Pixels) -> bytes:
    return samples.astype(samples.dtype.newbyteorder(">")).tobytes()


def _resources(profile: bytes) -> list[tuple[int, bytes]]:
    per_inch = (72 << 16).to_bytes(4, "big") + b"\0\1\0\1"
    top = PAINT_ID - PLATE_ID  # counted from the bottom
    return [
        (Resource.RESOLUTION_INFO.value, per_inch * 2),
        (Resource.LAYER_STATE_INFO.value, top.to_bytes(2, "big")),  # the active layer, so that a stroke lands there
        (Resource.ICC_PROFILE.value, profile),
        (Resource.LAYER_SELECTION_IDS.value, (1).to_bytes(2, "big") + PAINT_ID.to_bytes(4, "big")),
    ]


PsdLayer = tuple[LayerRecord, ChannelDataList]


def _layer(name: str, id: int, size: tuple[int, int], depth: int, channels: list[bytes], *, locked: bool) -> PsdLayer:
    """A layer of the canvas's size. channels: alpha, red, green, blue, uncompressed."""
    ids = (ChannelID.TRANSPARENCY_MASK, ChannelID.CHANNEL_0, ChannelID.CHANNEL_1, ChannelID.CHANNEL_2)
    data: Any = []  # psd-tools' lists are generic without saying of what
    for samples in channels:
        channel = ChannelData(Compression.RLE if samples.count(0) == len(samples) else Compression.RAW)
        channel.set_data(samples, *size, depth)
        data.append(channel)
    blocks = TaggedBlocks()
    blocks.set_data(Tag.UNICODE_LAYER_NAME, name)
    blocks.set_data(Tag.LAYER_ID, id)
    if locked:
        blocks.set_data(Tag.PROTECTED_SETTING, int(ProtectedFlags.COMPLETE))
    record = LayerRecord(
        top=0,
        left=0,
        bottom=size[1],
        right=size[0],
        channel_info=[ChannelInfo(kind, channel._length) for kind, channel in zip(ids, data, strict=True)],
        blend_mode=BlendMode.NORMAL,
        flags=LayerFlags(transparency_protected=locked),
        name=name.encode("mac_roman", "replace").decode("mac_roman")[:60],
        tagged_blocks=blocks,
    )
    return record, ChannelDataList(data)


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
