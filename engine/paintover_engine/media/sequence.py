"""Numbered images on disk, and uploaded frames: finding them, checking them, reading one."""

from __future__ import annotations

import dataclasses
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
from safetensors import SafetensorError, safe_open

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.image import Header, read_image
from paintover_engine.media.plate import ImagePlate, overlap

EXTENSIONS = frozenset({
    ".bmp", ".cin", ".dpx", ".exr", ".hdr", ".jp2", ".jpeg", ".jpg", ".jxl", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".sgi", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip


_WIDEST_STEP = 16  # between numbers; what is farther apart shows no motion


@dataclass(frozen=True)
class ImageSequence:
    """Files of one folder that share a name but for a number.

    folder, prefix, suffix: the parts around the number; suffix holds the extension.
    padding: digits that numbers are padded to with zeros.
    numbers: those on disk, ascending.
    sign_is_padding: a minus counts as one of the digits, as in C ("-004" beside "0004"); else it comes before them
        ("-0004", Blender).
    """

    folder: Path
    prefix: str
    suffix: str
    padding: int
    numbers: tuple[int, ...]
    sign_is_padding: bool = True

    @property
    def extension(self) -> str:
        """ ".exr": the end of the suffix, in lower case."""
        return os.path.splitext("_" + self.suffix)[1].lower()

    def name(self, number: int) -> str:
        """File name of a frame."""
        sign = "-" if number < 0 else ""
        digits = self.padding - len(sign) if self.sign_is_padding else self.padding
        return f"{self.prefix}{sign}{abs(number):0{max(digits, 1)}d}{self.suffix}"

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


def _is_sign(prefix: str, numbers: Sequence[int]) -> bool:
    """Whether a minus before numbers is their sign: beside numbers without one, or after a separator.

    `frame-0001.png` alone is frame 1 behind a dash."""
    return numbers[-1] >= 0 or not prefix or prefix[-1] in "._-"


def _without_minus(found: ImageSequence) -> ImageSequence:
    if _is_sign(found.prefix, found.numbers):
        return found
    numbers = tuple(-number for number in reversed(found.numbers))
    return ImageSequence(found.folder, found.prefix + "-", found.suffix, found.padding - 1, numbers)


def _with_negatives(found: list[ImageSequence]) -> list[ImageSequence]:
    """Puts numbers below zero ("-0004") to those from zero on of the same name ("0004"): fileseq takes the minus for a
    digit, so that they come apart."""
    below = {(s.prefix, s.suffix, s.padding - 1): s for s in found if s.numbers[-1] < 0}
    merged = []
    for each in found:
        negative = below.get((each.prefix, each.suffix, each.padding)) if each.numbers[-1] >= 0 else None
        if negative is not None and each.numbers[0] >= 0:
            found_below = below.pop((each.prefix, each.suffix, each.padding))
            each = dataclasses.replace(each, numbers=found_below.numbers + each.numbers, sign_is_padding=False)
        merged.append(each)
    left = {id(s) for s in below.values()}
    return [_without_minus(s) for s in merged if s.numbers[-1] >= 0 or id(s) in left]


def in_folder(folder: Path) -> list[ImageSequence]:
    """The sequences of images in a folder, by name; files without a number are left out."""
    found = fileseq.findSequencesOnDisk(str(folder), pad_style=fileseq.PAD_STYLE_HASH1)
    images = [_from_fileseq(f) for f in found if f.frameSet() and f.extension().lower() in EXTENSIONS]
    return sorted(_with_negatives(images), key=lambda s: s.pattern)


_NUMBER = re.compile(r"%(?:0(?P<digits>\d+))?d|#+|@+")


def parse_pattern(path: str) -> ImageSequence | None:
    """A sequence pattern without its numbers ("shot.%05d.exr", "shot.####.exr", "shot.@@@.exr"); None if it is none."""
    return next(iter(_readings(path)), None)


def _readings(path: str) -> list[ImageSequence]:
    """What a pattern may mean, the likeliest first: a name may itself hold %, # or @ ("take#2.####.exr").

    A padded printf form is meant before a run of signs, that before %d, that before a single sign; of equals, the
    last."""
    folder, name = os.path.split(path)
    found = [(match["digits"], match[0], match.start(), match.end()) for match in _NUMBER.finditer(name)]
    found.sort(key=lambda place: (place[0] is not None, place[1][:2] in ("##", "@@"), place[1] == "%d", place[2]))
    found.reverse()
    return [
        ImageSequence(
            Path(folder or "."), name[:start], name[end:], int(digits or 1) if sign[0] == "%" else len(sign), ()
        )
        for digits, sign, start, end in found
    ]


def on_disk(pattern: ImageSequence) -> ImageSequence:
    """A pattern with the numbers of its files that are there."""
    name = re.compile(rf"{re.escape(pattern.prefix)}(-?\d+){re.escape(pattern.suffix)}")
    styles = {style: dataclasses.replace(pattern, sign_is_padding=style) for style in (True, False)}
    numbers: dict[bool, set[int]] = {True: set(), False: set()}
    for entry in os.scandir(pattern.folder):
        match = name.fullmatch(entry.name)
        for style, names in styles.items():
            if match and entry.name == names.name(int(match[1])):
                numbers[style].add(int(match[1]))
    style = len(numbers[True]) >= len(numbers[False])
    found = tuple(sorted(numbers[style]))
    if found and not _is_sign(pattern.prefix, found):
        found = ()
    return dataclasses.replace(styles[style], numbers=found)


def find(path: str) -> ImageSequence:
    """The sequence that a folder or a pattern names.

    Raises PaintoverError where there is none, or several in a folder.
    """
    if os.path.isdir(path):
        return _only(path, in_folder(Path(path)))
    readings = _readings(path)
    if not readings:
        raise _not_numbered(path)
    pattern = readings[0]
    if not pattern.folder.is_dir():
        raise PaintoverError(Code.NOT_FOUND, f"There is no folder '{pattern.folder}'; check the path of '{path}'.")
    if pattern.extension not in EXTENSIONS:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{path}' is no pattern of images that can be read; valid: {_extension_names()}."
        )
    for reading in readings:
        found = on_disk(reading)
        if found.numbers:
            return found
    others = [s.pattern for s in in_folder(pattern.folder)][:5]
    hint = f" The folder holds {', '.join(others)}." if others else ""
    raise PaintoverError(Code.NOT_FOUND, f"No file matches the pattern '{path}'.{hint}")


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


def gaps(numbers: Sequence[int], first: int, last: int) -> Iterator[tuple[int, int]]:
    """First and last of every run of numbers in `first`..`last` that the ascending numbers leave out. Takes no time for
    how long those are: a name may end in a time of day, and so may the next."""
    after = first
    for start, end in runs(numbers):
        if start > after:
            yield after, start - 1
        after = end + 1
    if after <= last:
        yield after, last


def step_of(numbers: Sequence[int]) -> int:
    """How far apart ascending numbers are, all alike ("on twos": 2); 1 where they are not, or too few to tell."""
    apart = {after - before for before, after in itertools.pairwise(numbers)}
    return apart.pop() if len(apart) == 1 and len(numbers) > 2 and max(apart) <= _WIDEST_STEP else 1


def written(run: tuple[int, int]) -> str:
    """ "4" or "4-9"."""
    return str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}"


class SequenceReader:
    """Reads frames of a sequence of image files. layer: the name of the one that is the picture."""

    concurrent = True  # each frame is a file of its own

    def __init__(self, sequence: ImageSequence, header: Header, colorspace: str, layer: str = "") -> None:
        self._sequence = sequence
        self._header = header
        self._colorspace = colorspace
        self._layer = layer

    def read_to(self, number: int) -> Iterator[ImagePlate]:
        """Yields the frame. Raises PaintoverError where it is missing, damaged or of another size."""
        yield read_plate(self._sequence.path(number), number, self._header, self._colorspace, self._layer)

    def close(self) -> None:
        """Nothing is held open between frames."""


def read_plate(
    path: Path, number: int = 0, expected: Header | None = None, colorspace: str = "", layer: str = ""
) -> ImagePlate:
    """An image file as a plate. expected: what the other frames have. Raises PaintoverError where the file is missing,
    damaged or of another size."""
    data, stored = read_image(path, layer)
    width, height = stored.header.width, stored.header.height
    if expected is not None and (width, height) != (expected.width, expected.height):
        raise differs(path, width, height, expected)
    colours, alpha = stored.layer.colours, stored.layer.alpha
    if stored.window == (0, 0, width, height):
        return ImagePlate(number, data, colours, alpha, colorspace, stored.spec)
    shown, held = overlap(stored.window, (height, width))
    if data[held].shape[:2] == (height, width):
        pixels = data[held]
    else:
        pixels = np.zeros((height, width, data.shape[2]), data.dtype)
        pixels[shown] = data[held]
    return ImagePlate(number, pixels, colours, alpha, colorspace, stored.spec, data, stored.window)


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

    concurrent = True  # each frame is a file of its own

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
