"""Writing a result as numbered images."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import sequence, timecode
from paintover_engine.media.bounds import Bounds
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.plate import ImagePlate, Pixels, Plate, VideoPlate, encoded, unit
from paintover_engine.media.sink import LOCK, Sink, failed

_WORKERS = 2  # threads; OpenImageIO releases the interpreter's lock while it compresses
_MAX_PENDING = 4  # frames that wait for a thread
_INTEGER, _FLOAT = ("uint8", "uint16"), ("half", "float")
# Sample types of each format, and its largest number of channels (0: no limit).
_FORMATS: dict[str, tuple[tuple[str, ...], int]] = {
    ".exr": (_FLOAT, 0),
    ".png": (_INTEGER, 4),
    ".tif": (("uint8", "uint16", "float"), 0),
    ".tiff": (("uint8", "uint16", "float"), 0),
    ".dpx": (_INTEGER, 4),
}
IMAGE_SUFFIXES = tuple(_FORMATS)
_TYPES: dict[str, Any] = {"uint8": np.uint8, "uint16": np.uint16, "half": np.float16, "float": np.float32}


def folder_format(info: SourceInfo) -> str:
    """The suffix of images written to a folder: an image sequence's own, else ".exr" for float samples and ".png"."""
    suffix = info.format.split()[0]
    if info.kind == "sequence" and f".{suffix}" in IMAGE_SUFFIXES:
        return f".{suffix}"
    return ".exr" if info.sample in _FLOAT else ".png"


class ImageSink(Sink):
    """Writes each frame to an image file with the frame's number in its name, on threads."""

    def __init__(
        self, path: Path, is_pattern: bool, info: SourceInfo, overwrite: bool, guard: Callable[[], None]
    ) -> None:
        self._names = output_names(path, is_pattern, info)
        self._info = info
        self._suffix = self._names.extension
        self._pending: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="write-image")
        super().__init__(path, overwrite, guard)
        self._note_losses()

    def write(self, plate: Plate) -> None:
        if self._info.is_held(plate.number):
            return
        pixels, spec = self._image(plate)
        name = self._names.name(plate.number)
        self._pending.append(self._pool.submit(write_image, self._staging / name, self.path, pixels, spec))
        while len(self._pending) > _MAX_PENDING or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()

    def _finish(self) -> None:
        while self._pending:
            self._pending.popleft().result()

    def _close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def _renames(self) -> list[tuple[Path, Path]]:
        folder = self._names.folder
        staged = sorted(name for name in os.listdir(self._staging) if name != LOCK)
        if not self._overwrite and any((folder / name).exists() for name in staged):
            raise PaintoverError(Code.ALREADY_EXISTS, f"'{self.path}' exists; add --overwrite or choose another name.")
        folder.mkdir(exist_ok=True)
        return [(self._staging / name, folder / name) for name in staged]

    def _note_losses(self) -> None:
        info, name = self._info, self._suffix.lstrip(".").upper()
        if info.sample in _FLOAT and not set(_FLOAT) & set(_FORMATS[self._suffix][0]):
            self.note(f"{name} holds no float samples: frames are sRGB-encoded and values above 1 are clipped.")
        if info.sample not in _FLOAT and self._suffix == ".exr":
            self.note("The EXR files hold the source's display-encoded values as they are, not linear ones.")
        if info.has_audio:
            self.note("The source's sound is not written: images hold none.")

    def _image(self, plate: Plate) -> tuple[Pixels, oiio.ImageSpec]:
        """(H, W, C) samples of a type that the format has, and their header."""
        sample_types, max_channels = _FORMATS[self._suffix]
        if isinstance(plate, ImagePlate) and _fits(plate, sample_types, max_channels):
            if plate.data is None or not self._same_format():
                self._note_crop(plate)
                return plate.pixels, self._header(plate, plate.pixels, plate.alpha_channel)
            pixels, bounds = plate.stored()
            if bounds != plate.window:
                self.note("Some paint lies outside the data window of its frame, which is made larger to hold it.")
            return pixels, self._header(plate, pixels, plate.alpha_channel, bounds)
        if isinstance(plate, ImagePlate):
            self._note_crop(plate)
        pixels, straight = _colour_samples(plate, sample_types)
        alpha = plate.alpha()
        if alpha is not None:
            pixels = _with_alpha(pixels, alpha, straight, self._suffix == ".exr")
        extra = isinstance(plate, ImagePlate) and plate.pixels.shape[2] > pixels.shape[2] and not plate.grey
        if extra and isinstance(plate, ImagePlate) and plate.pixels.shape[2] > (4 if alpha is not None else 3):
            self.note(f"{self._suffix.lstrip('.').upper()} holds colour and alpha only; further channels are left out.")
        return pixels, self._header(plate, pixels, pixels.shape[2] - 1 if pixels.shape[2] in (2, 4) else None)

    def _note_crop(self, plate: ImagePlate) -> None:
        if plate.data is not None:
            self.note(f"{self._suffix.lstrip('.').upper()} holds what the source shows; pixels around that are cut.")

    def _header(
        self, plate: Plate, pixels: Pixels, alpha_channel: int | None, bounds: Bounds | None = None
    ) -> oiio.ImageSpec:
        """The header of an output file.

        bounds: of `pixels` in the display window; None where they fill it."""
        source = plate.spec if isinstance(plate, ImagePlate) else None
        height, width, channels = pixels.shape
        kind = oiio.TypeDesc(next(name for name, dtype in _TYPES.items() if dtype == pixels.dtype))
        same_format = self._info.kind == "sequence" and self._same_format()
        if source is not None and same_format and channels == source.nchannels:
            spec = oiio.ImageSpec(source)
            if not spec.channelformats:
                spec.format = kind
            if bounds is not None:
                spec.x, spec.y = source.full_x + bounds[0], source.full_y + bounds[1]
                spec.width, spec.height = bounds[2:]
        else:
            spec = oiio.ImageSpec(width, height, channels, kind)
            if source is not None:
                _copy_metadata(source, spec)
            elif isinstance(plate, VideoPlate):
                self._video_tags(plate, spec)
        if alpha_channel is not None:
            spec.alpha_channel = alpha_channel
            if self._suffix != ".exr" and (source is None or not same_format):
                spec["oiio:UnassociatedAlpha"] = 1
        self._compress(spec, source, same_format)
        if self._suffix == ".dpx" and self._info.bits in (10, 12):
            spec["oiio:BitsPerSample"] = self._info.bits
        return spec

    def _compress(self, spec: oiio.ImageSpec, source: oiio.ImageSpec | None, same_format: bool) -> None:
        if self._suffix == ".png":
            spec["png:compressionLevel"], spec["png:filter"] = 1, 64  # fast; the difference in size is a few per cent
        elif self._suffix in (".tif", ".tiff") and (source is None or not same_format):
            spec["compression"] = "zip"
        elif source is not None and same_format:
            own = source.get_string_attribute("compression").split(":")[0].lower()
            if own and own not in _LOSSLESS and not (own == "pxr24" and _within_24_bits(source)):
                spec["compression"] = "zip"
                self.note(
                    f"The source's {own.upper()} compression would change pixels that are not painted; "
                    "the result is written with ZIP, which changes none."
                )

    def _same_format(self) -> bool:
        source = "." + self._info.format.split()[0]
        return self._suffix[:4] == source[:4]

    def _video_tags(self, plate: VideoPlate, spec: oiio.ImageSpec) -> None:
        info = self._info
        if info.pixel_aspect != 1:
            spec["PixelAspectRatio"] = float(info.pixel_aspect)
        if info.rate:
            spec.attribute("FramesPerSecond", oiio.TypeRational, (info.rate.numerator, info.rate.denominator))
        if info.timecode and self._suffix in (".exr", ".dpx"):
            now = timecode.add(info.timecode, plate.number - info.first, info.rate)
            spec.attribute("smpte:TimeCode", oiio.TypeTimeCode, timecode.packed(now))


def output_names(path: Path, is_pattern: bool, info: SourceInfo) -> sequence.ImageSequence:
    """The output's files as an image sequence: named by its pattern, or in its folder as the source's are."""
    pattern = sequence.parse_pattern(str(path)) if is_pattern else None
    return _signed(pattern, info) if pattern else _names(path, info)


def _names(folder: Path, info: SourceInfo) -> sequence.ImageSequence:
    suffix = folder_format(info)
    if info.kind == "video":
        return sequence.ImageSequence(folder, f"{Path(info.path).stem}.", suffix, 5, ())
    if info.kind == "frames":
        return sequence.ImageSequence(folder, "", suffix, 8, ())
    source = sequence.find(info.path)
    stem = source.suffix[: source.suffix.rindex(".")]
    return dataclasses.replace(source, folder=folder, suffix=stem + suffix, numbers=())


def _signed(pattern: sequence.ImageSequence, info: SourceInfo) -> sequence.ImageSequence:
    """The pattern, with the source's way to write numbers below 0."""
    if info.kind != "sequence" or info.first >= 0:
        return pattern
    return dataclasses.replace(pattern, sign_is_padding=sequence.find(info.path).sign_is_padding)


def _fits(plate: ImagePlate, sample_types: tuple[str, ...], max_channels: int) -> bool:
    """Whether a format of those sample types and channels stores a plate's samples unchanged."""
    name = next(name for name, dtype in _TYPES.items() if dtype == plate.pixels.dtype)
    channels = plate.pixels.shape[2]
    return name in sample_types and (not max_channels or channels <= max_channels)


def _colour_samples(plate: Plate, sample_types: tuple[str, ...]) -> tuple[Pixels, bool]:
    """(H, W, 3) colours in one of the sample types, and whether they are straight (not multiplied by alpha)."""
    native: Pixels = plate.native_rgb()
    if native.dtype in (np.uint8, np.uint16):
        if native.dtype.name in sample_types:
            return native, True
        if "half" in sample_types:
            # Half represents all 8-bit values exactly; 16-bit values need float.
            return unit(native).astype(np.float16 if native.dtype == np.uint8 else np.float32), True
        return unit(native), True
    if set(_FLOAT) & set(sample_types):
        return (native if native.dtype == np.float16 and "half" in sample_types else native.astype(np.float32)), False
    return encoded(plate), True


def _with_alpha(pixels: Pixels, alpha: NDArray[np.float32], straight: bool, associated: bool) -> Pixels:
    """(H, W, C + 1): colours and alpha in the colours' type.

    alpha: (H, W), 0..1. straight: the colours are not multiplied by alpha; associated: the format's must be."""
    if np.issubdtype(pixels.dtype, np.integer):
        peak = np.iinfo(pixels.dtype).max
        return np.dstack([pixels, np.rint(np.clip(alpha, 0.0, 1.0) * peak).astype(pixels.dtype)])
    if straight and associated:
        pixels = (pixels * alpha[..., None]).astype(pixels.dtype)
    return np.dstack([pixels, alpha.astype(pixels.dtype)])


_LOSSLESS = (
    "none", "rle", "zip", "zips", "piz", "htj2k", "htj2k256", "htj2k32",  # EXR
    "lzw", "deflate", "packbits", "zstd", "lzma", "ccittrle", "ccitt_t4", "ccitt_t6", "next", "thunderscan",  # TIFF
)  # fmt: skip


def _within_24_bits(spec: oiio.ImageSpec) -> bool:
    """Whether no channel is a 32-bit float, which PXR24 rounds to 24 bits."""
    return "float" not in {str(kind) for kind in (spec.channelformats or [spec.format])}


# Attributes that describe how the source's file stores its samples; they are wrong in another format.
_OF_FILE = ("compression", "CompressionQuality", "planarconfig", "oiio:BitsPerSample", "oiio:subimages", "Orientation")
_OF_FORMAT = ("png:", "tiff:", "openexr:", "dpx:", "jpeg:", "oiio:", "Exif:", "bmp:", "targa:")


def _copy_metadata(source: oiio.ImageSpec, target: oiio.ImageSpec) -> None:
    """Copies attributes to a header of another format, but those that describe the source's file."""
    for attribute in source.extra_attribs:
        name = attribute.name
        if name not in _OF_FILE and not name.startswith(_OF_FORMAT):
            target.attribute(name, attribute.type, attribute.value)
    if source.get_string_attribute("oiio:ColorSpace") and target.format == source.format:
        target["oiio:ColorSpace"] = source.get_string_attribute("oiio:ColorSpace")


def write_image(path: Path, out: Path, pixels: Pixels, spec: oiio.ImageSpec) -> None:
    """Writes an image file. out: the path that errors name. Raises PaintoverError where the file is not complete."""
    image = oiio.ImageOutput.create(str(path))
    if image is None:
        raise failed(out, oiio.geterror())
    try:
        written = image.open(str(path), spec) and image.write_image(np.ascontiguousarray(pixels))
    finally:
        closed = image.close()
    if not (written and closed):
        raise failed(out, image.geterror() or "the disk did not take it")
    if path.suffix.lower() == ".png" and not _whole_png(path):
        raise failed(out, "the disk did not take it")


def _whole_png(path: Path) -> bool:
    """Whether a PNG's chunks end with IEND at the file's end: OpenImageIO does not report failed buffered writes."""
    with path.open("rb") as file:
        size, position = os.fstat(file.fileno()).st_size, 8
        while position + 12 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            position += 12 + length
            if kind == b"IEND":
                return bool(position == size)
    return False
