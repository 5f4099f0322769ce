"""Numbered images on disk, and uploaded frames: finding them, checking them, reading one."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import fileseq
import numpy as np
import OpenImageIO as oiio
from safetensors import SafetensorError, safe_open

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import colour
from paintover_engine.media.plate import ImagePlate, Pixels

EXTENSIONS = frozenset({
    ".bmp", ".cin", ".dpx", ".exr", ".hdr", ".jp2", ".jpeg", ".jpg", ".jxl", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".sgi", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
FRAMES = "%08d.safetensors"  # names of uploaded frames
MAX_PIXELS = 2**29  # four times 16K by 8K; what is larger is damaged or hostile
_DTYPES = {"uint8": np.uint8, "uint16": np.uint16, "half": np.float16, "float": np.float32}
_CONFIG = oiio.ImageSpec()
_CONFIG["oiio:UnassociatedAlpha"] = 1  # straight alpha stays straight, so that samples come back bit for bit

oiio.attribute("limits:imagesize_MB", 16384)


@dataclass(frozen=True)
class ImageSequence:
    """Files of one folder that share a name but for a number.

    folder, prefix, suffix: the parts around the number; suffix holds the extension.
    padding: digits that numbers are padded to with zeros.
    numbers: those on disk, ascending.
    """

    folder: Path
    prefix: str
    suffix: str
    padding: int
    numbers: tuple[int, ...]

    @property
    def extension(self) -> str:
        """ ".exr": the end of the suffix, in lower case."""
        return os.path.splitext("_" + self.suffix)[1].lower()

    def name(self, number: int) -> str:
        """File name of a frame."""
        sign = "-" if number < 0 else ""
        return f"{self.prefix}{sign}{abs(number):0{max(self.padding - len(sign), 1)}d}{self.suffix}"

    def path(self, number: int) -> Path:
        """File of a frame."""
        return self.folder / self.name(number)

    @property
    def pattern(self) -> str:
        """The name with hashes for the number ("shot.####.exr")."""
        return f"{self.prefix}{'#' * self.padding}{self.suffix}"


def _from_fileseq(found: fileseq.FileSequence) -> ImageSequence:
    numbers = tuple(sorted(int(number) for number in found.frameSet() or ()))
    return ImageSequence(Path(found.dirname()), found.basename(), found.extension(), found.zfill(), numbers)


def _without_minus(found: ImageSequence) -> ImageSequence:
    """`frame-0001.png` is frame 1 behind a dash, not frame -1."""
    if found.numbers[-1] < 0 and found.prefix:
        numbers = tuple(-number for number in reversed(found.numbers))
        return ImageSequence(found.folder, found.prefix + "-", found.suffix, found.padding - 1, numbers)
    return found


def in_folder(folder: Path) -> list[ImageSequence]:
    """The sequences of images in a folder, by name; files without a number are left out."""
    found = fileseq.findSequencesOnDisk(str(folder), pad_style=fileseq.PAD_STYLE_HASH1)
    images = (f for f in found if f.frameSet() and f.extension().lower() in EXTENSIONS)
    return sorted((_without_minus(_from_fileseq(f)) for f in images), key=lambda s: s.pattern)


def parse_pattern(path: str) -> ImageSequence | None:
    """A sequence pattern without its numbers ("shot.%05d.exr", "shot.####.exr", "shot.@@@.exr"); None if it is none."""
    folder, name = os.path.split(path)
    match = re.fullmatch(r"(?P<prefix>[^%#@]*)(?:%(?:0(?P<digits>\d+))?d|(?P<run>#+|@+))(?P<suffix>[^%#@]*)", name)
    if match is None:
        return None
    padding = int(match["digits"] or 1) if match["run"] is None else len(match["run"])
    return ImageSequence(Path(folder or "."), match["prefix"], match["suffix"], padding, ())


def on_disk(pattern: ImageSequence) -> ImageSequence:
    """A pattern with the numbers of its files that are there."""
    escaped = re.escape(pattern.prefix), re.escape(pattern.suffix)
    name = re.compile(rf"{escaped[0]}(\d+){escaped[1]}")
    numbers = []
    for entry in os.scandir(pattern.folder):
        match = name.fullmatch(entry.name)
        if match and entry.name == pattern.name(int(match[1])):
            numbers.append(int(match[1]))
    return ImageSequence(pattern.folder, pattern.prefix, pattern.suffix, pattern.padding, tuple(sorted(numbers)))


def find(path: str) -> ImageSequence:
    """The sequence that a folder or a pattern names.

    Raises PaintoverError where there is none, or several in a folder.
    """
    if os.path.isdir(path):
        return _only(path, in_folder(Path(path)))
    pattern = parse_pattern(path)
    if pattern is None:
        raise _not_numbered(path)
    if not pattern.folder.is_dir():
        raise PaintoverError(Code.NOT_FOUND, f"There is no folder '{pattern.folder}'; check the path of '{path}'.")
    if pattern.extension not in EXTENSIONS:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{path}' is no pattern of images that can be read; valid: {_extension_names()}."
        )
    found = on_disk(pattern)
    if not found.numbers:
        others = [s.pattern for s in in_folder(pattern.folder)][:5]
        hint = f" The folder holds {', '.join(others)}." if others else ""
        raise PaintoverError(Code.NOT_FOUND, f"No file matches the pattern '{path}'.{hint}")
    return found


def _only(path: str, found: list[ImageSequence]) -> ImageSequence:
    if not found:
        raise PaintoverError(
            Code.NOT_FOUND, f"The folder '{path}' has no numbered images in it ({_extension_names()})."
        )
    if len(found) > 1:
        listed = ", ".join(s.pattern for s in found[:8]) + (", …" if len(found) > 8 else "")
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The folder '{path}' holds several sequences; name one of them by its pattern: {listed}.",
        )
    return found[0]


def _not_numbered(path: str) -> PaintoverError:
    name = os.path.basename(path)
    match = re.fullmatch(r"(.*?)(\d+)(\.[^.\d]*[^.]*)", name)
    hint = f"'{match[1]}{'#' * len(match[2])}{match[3]}'" if match else "a pattern such as 'shot.####.exr'"
    return PaintoverError(
        Code.INVALID_ARGUMENT, f"'{path}' is one image, which has nothing to propagate to; name a folder or {hint}."
    )


def _extension_names() -> str:
    return ", ".join(sorted(EXTENSIONS))


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of every unbroken run of ascending numbers."""
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1]


def written(run: tuple[int, int]) -> str:
    """ "4" or "4-9"."""
    return str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}"


@dataclass(frozen=True)
class Header:
    """What all frames of a sequence must share, read without their pixels.

    sample: "uint8", "uint10", "uint12", "uint16", "half" or "float".
    """

    width: int
    height: int
    channels: int
    sample: str


def _open(path: Path) -> oiio.ImageInput:
    if not path.is_file():  # a fifo or a device would block or never end
        raise PaintoverError(Code.NOT_FOUND, f"The image '{path}' is missing or is no regular file.")
    image = oiio.ImageInput.open(str(path), _CONFIG)
    if image is None:
        raise PaintoverError(Code.DATA_LOSS, f"The image '{path}' cannot be read: {_reason(oiio.geterror())}.")
    spec = image.spec()
    if spec.deep:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' is a deep image; flatten it first.")
    if spec.width * spec.height > MAX_PIXELS or spec.nchannels < 1 or spec.depth > 1:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{path}' says that it is {spec.width}x{spec.height} pixels, which is too large."
        )
    return image


def _reason(text: str) -> str:
    return " ".join(text.split()).rstrip(".") or "its format is not known"


def sample_of(spec: oiio.ImageSpec) -> str:
    """ "uint8", "uint10", "uint12", "uint16", "half" or "float": the samples of an image's file."""
    bits = spec.get_int_attribute("oiio:BitsPerSample", 0)
    name = str(spec.format)
    if spec.channelformats:  # channels of several types are held in the one that holds them all
        name = "float" if len({str(f) for f in spec.channelformats}) > 1 else str(spec.channelformats[0])
    if name in ("uint16", "int16") and bits in (10, 12):
        return f"uint{bits}"
    return {"uint8": "uint8", "int8": "uint8", "uint16": "uint16", "int16": "uint16", "half": "half"}.get(name, "float")


def read_header(path: Path) -> tuple[Header, oiio.ImageSpec]:
    """Size and samples of an image file, and its whole header. Raises PaintoverError where it cannot be read."""
    image = _open(path)
    spec = oiio.ImageSpec(image.spec())
    image.close()
    width, height = _canvas(spec)[2:]
    if spec.get_int_attribute("Orientation", 1) >= 5:
        width, height = height, width
    return Header(width, height, spec.nchannels, sample_of(spec)), spec


def _canvas(spec: oiio.ImageSpec) -> tuple[int, int, int, int]:
    """x, y, width, height of what a frame shows: its display window, or all its pixels where they reach beyond it."""
    inside = (
        spec.x >= spec.full_x
        and spec.y >= spec.full_y
        and spec.x + spec.width <= spec.full_x + spec.full_width
        and spec.y + spec.height <= spec.full_y + spec.full_height
    )
    if inside and spec.full_width and spec.full_height:
        return spec.full_x, spec.full_y, spec.full_width, spec.full_height
    return spec.x, spec.y, spec.width, spec.height


def read_image(path: Path) -> tuple[Pixels, oiio.ImageSpec]:
    """An image file's samples (H, W, C) uint8, uint16, float16 or float32, upright, and its header made to fit them.

    Raises PaintoverError where the file cannot be read or ends early.
    """
    image = _open(path)
    spec = oiio.ImageSpec(image.spec())
    dtype = _DTYPES.get(sample_of(spec), np.uint16)
    pixels = image.read_image(0, 0, 0, spec.nchannels, oiio.TypeDesc(np.dtype(dtype).name.replace("float16", "half")))
    failed = image.has_error
    reason = image.geterror()
    image.close()
    if pixels is None or failed:
        raise PaintoverError(Code.DATA_LOSS, f"The image '{path}' is damaged: {_reason(reason)}.")
    pixels = np.asarray(pixels, dtype=dtype).reshape(spec.height, spec.width, spec.nchannels)
    return _upright(*_on_canvas(pixels, spec))


def _on_canvas(pixels: Pixels, spec: oiio.ImageSpec) -> tuple[Pixels, oiio.ImageSpec]:
    """Pads a cropped EXR to its display window."""
    x, y, width, height = _canvas(spec)
    if (x, y, width, height) == (spec.x, spec.y, spec.width, spec.height):
        return pixels, spec
    canvas = np.zeros((height, width, pixels.shape[2]), pixels.dtype)
    left, top = spec.x - x, spec.y - y
    canvas[top : top + spec.height, left : left + spec.width] = pixels
    spec.x, spec.y, spec.width, spec.height = x, y, width, height
    return canvas, spec


def _upright(pixels: Pixels, spec: oiio.ImageSpec) -> tuple[Pixels, oiio.ImageSpec]:
    """Applies a camera's orientation tag (EXIF, 1 to 8)."""
    orientation = spec.get_int_attribute("Orientation", 1)
    if not 2 <= orientation <= 8:
        return pixels, spec
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
        spec.width, spec.height = spec.height, spec.width
        spec.full_width, spec.full_height = spec.full_height, spec.full_width
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    spec["Orientation"] = 1
    return np.ascontiguousarray(pixels), spec


def channel_layout(spec: oiio.ImageSpec) -> tuple[tuple[int, int, int], int | None]:
    """The indices of red, green and blue (one index three times for grey), and of alpha or None."""
    names = [name.upper() for name in spec.channelnames]
    alpha = spec.alpha_channel if spec.alpha_channel >= 0 else (names.index("A") if "A" in names else None)
    if {"R", "G", "B"} <= set(names):
        return (names.index("R"), names.index("G"), names.index("B")), alpha
    colours = [index for index in range(spec.nchannels) if index != alpha]
    if len(colours) >= 3 and "Y" not in names:
        return (colours[0], colours[1], colours[2]), alpha
    grey = names.index("Y") if "Y" in names else colours[0] if colours else 0
    return (grey, grey, grey), alpha


def guess_colorspace(spec: oiio.ImageSpec, sample: str) -> str:
    """Float samples are scene-linear, in the primaries that the file states; integers are display-encoded ("")."""
    if sample not in ("half", "float"):
        return ""
    stated = spec.get_string_attribute("oiio:ColorSpace")
    chromaticities = spec.getattribute("chromaticities")
    if chromaticities is not None and len(chromaticities) >= 6:
        found = colour.from_chromaticities(tuple(float(value) for value in chromaticities))
        if found is not None:
            return found
    if colour.known(stated) and stated.lower() not in ("linear", "scene_linear"):
        return colour.check_colorspace(stated)
    return colour.SCENE_LINEAR


class SequenceReader:
    """Reads frames of a sequence of image files."""

    def __init__(self, sequence: ImageSequence, header: Header, colorspace: str) -> None:
        self._sequence = sequence
        self._header = header
        self._colorspace = colorspace

    def read_to(self, number: int) -> Iterator[ImagePlate]:
        """Yields the frame. Raises PaintoverError where it is missing, damaged or of another size."""
        path = self._sequence.path(number)
        pixels, spec = read_image(path)
        if pixels.shape[:2] != (self._header.height, self._header.width):
            raise differs(path, pixels.shape[1], pixels.shape[0], self._header)
        colours, alpha = channel_layout(spec)
        yield ImagePlate(number, pixels, colours, alpha, self._colorspace, spec)

    def close(self) -> None:
        """Nothing is held open between frames."""


def differs(path: Path, width: int, height: int, expected: Header) -> PaintoverError:
    """The error for a frame of another size than the first."""
    return PaintoverError(
        Code.INVALID_ARGUMENT,
        f"Frame '{path.name}' is {width}x{height} but the first frame is {expected.width}x{expected.height}; "
        "a shot's frames must agree in size.",
    )


def uploaded(folder: Path) -> ImageSequence | None:
    """The uploaded frames in a folder, None where it holds none."""
    if not folder.is_dir():
        return None
    found = on_disk(ImageSequence(folder, "", ".safetensors", 8, ()))
    return found if found.numbers else None


def uploaded_rate(folder: Path) -> Fraction | None:
    """Frames per second of uploaded frames, from `shot.json`, None where nobody said."""
    path = folder / "shot.json"
    if not path.is_file():
        return None
    try:
        numerator, denominator = json.loads(path.read_text())["rate"]
        return Fraction(int(numerator), int(denominator))
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise PaintoverError(Code.DATA_LOSS, f"'{path}' does not hold a rate such as [24, 1].") from error


_TENSOR_SAMPLES = {"U8": "uint8", "U16": "uint16", "F16": "half", "F32": "float"}


def uploaded_header(path: Path) -> Header:
    """Size and samples of an uploaded frame."""
    try:
        with safe_open(str(path), framework="np") as file:
            part = file.get_slice("frame")
            shape, dtype = part.get_shape(), part.get_dtype()
    except (SafetensorError, OSError) as error:
        message = f"The uploaded frame '{path.name}' cannot be read; send it again."
        raise PaintoverError(Code.DATA_LOSS, message) from error
    if len(shape) != 3 or not 1 <= shape[2] <= 4 or dtype not in _TENSOR_SAMPLES or 0 in shape:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The uploaded frame '{path.name}' is {dtype} {list(shape)}; send (height, width, 1 to 4 channels) "
            "in uint8, uint16, float16 or float32.",
        )
    return Header(shape[1], shape[0], shape[2], _TENSOR_SAMPLES[dtype])


class UploadedReader:
    """Reads uploaded frames."""

    def __init__(self, sequence: ImageSequence, header: Header, colorspace: str) -> None:
        self._sequence = sequence
        self._header = header
        self._colorspace = colorspace

    def read_to(self, number: int) -> Iterator[ImagePlate]:
        """Yields the frame. Raises PaintoverError where it is missing, damaged or of another size."""
        path = self._sequence.path(number)
        header = uploaded_header(path)
        if header != self._header:
            raise differs(path, header.width, header.height, self._header)
        with safe_open(str(path), framework="np") as file:
            pixels: Any = file.get_tensor("frame")
        colours = (0, 1, 2) if header.channels >= 3 else (0, 0, 0)
        alpha = header.channels - 1 if header.channels in (2, 4) else None
        yield ImagePlate(number, pixels, colours, alpha, self._colorspace)

    def close(self) -> None:
        """Nothing is held open between frames."""
