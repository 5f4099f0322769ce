"""Reading any picture file that an artist may hand over, as straight RGB."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pi_heif  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image, ImageOps

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import image as images
from paintover_engine.media import profiles
from paintover_engine.media.plate import Pixels, straight, unit
from paintover_engine.media.sequence import read_plate

PHOTOSHOP = (".psd", ".psb")
_HEIF = (".heic", ".heif", ".hif")
_PILLOW = (*_HEIF, ".avif", ".gif")
_MODES = {
    "P": "has a palette; it is converted to RGB",
    "1": "is black and white; it is converted to RGB",
    "L": "is grey; it is converted to RGB",
    "LA": "is grey; it is converted to RGB",
    "I;16": "is grey; it is converted to RGB",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as its file holds it.

    rgb: (H, W, 3) float32, straight; alpha: (H, W) float32 or None.
    step: size of one step of its samples, 0 for float ones.
    icc: the colour profile that `rgb` is in; empty for none.
    colorspace: the OpenColorIO space that the file states, of float samples only; else "".
    original: what `rgb` was converted from; None where it is the file's own.
    whole: all pixels of an EXR file whose data window is another than its display window; else None.
    """

    rgb: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    step: float
    icc: bytes
    notes: list[str]
    colorspace: str = ""
    original: profiles.Original | None = None
    whole: Picture | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[1], self.rgb.shape[0]


def check_file(file: Path) -> None:
    """Raises PaintoverError where there is no file that may be read."""
    if not file.exists():
        raise PaintoverError(Code.NOT_FOUND, f"There is no picture '{file}'; check the path.")
    if not file.is_file():
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{file}' is not a regular file; name a picture.")
    if not os.access(file, os.R_OK):
        raise PaintoverError(Code.PERMISSION_DENIED, f"'{file}' may not be read by this user; check its permissions.")


def unreadable(file: Path) -> PaintoverError:
    """The error for what is no picture."""
    advice = "; save it as PNG" if file.suffix.lower() in _PILLOW else ""
    return PaintoverError(
        Code.INVALID_ARGUMENT,
        f"'{file}' cannot be read as a picture: it is damaged or of a kind that is not read{advice}.",
    )


def picture_sizes(file: Path, layer: str = "") -> list[tuple[int, int]]:
    """Width and height of what a picture shows, and of all its pixels where those are others; reads only headers.

    Raises PaintoverError where the file cannot be read."""
    check_file(file)
    if file.suffix.lower() in PHOTOSHOP:
        from paintover_engine.media import layers  # with psd-tools, which takes long to import

        try:
            header = layers.read_header(file)
        except layers.Damaged as damage:
            raise unreadable(file) from damage
        return [(header.width, header.height)]
    if file.suffix.lower() in _PILLOW:
        with _pillow(file) as opened:
            turned = opened.getexif().get(274, 1) >= 5
            return [opened.size[::-1] if turned else opened.size]
    with _readable(file):
        stored = images.read_stored(file, prefer=layer)
    shown = (stored.header.width, stored.header.height)
    return [shown] if stored.window[2:] == shown else [shown, stored.window[2:]]


def read_picture(file: Path, layer: str = "") -> Picture:
    """A picture file other than Photoshop's, whose size was checked. layer: taken where an EXR file has it.

    Raises PaintoverError where it cannot be read."""
    if file.suffix.lower() in _PILLOW:
        return _read_with_pillow(file)
    with _readable(file):
        stored = images.read_stored(file, prefer=layer)
        converted = images.converted_from(stored.spec)
        if converted:
            return _read_converted(file, converted, stored.spec)
        plate = read_plate(file, layer=stored.layer.name)
    assert plate.spec is not None
    notes = [f"'{file.name}' {_MODES[mode]}." for mode in [_mode(file)] if mode in _MODES]
    if plate.grey and not notes:
        notes.append(f"'{file.name}' is grey; it is converted to RGB.")
    if plate.pixels.dtype == np.uint16:
        notes.append(f"'{file.name}' has 16-bit samples; they are kept.")
    bits = plate.spec.get_int_attribute("oiio:BitsPerSample", 0) if stored.header.sample in ("uint10", "uint12") else 0
    step = 1.0 / (2**bits - 1) if bits else _step(plate.pixels)
    space = "" if step else images.stated_colorspace(plate.spec)
    premultiplied = not plate.spec.get_int_attribute("oiio:UnassociatedAlpha", 0)

    def picture(each: Any, whole: Picture | None = None) -> Picture:
        rgb, alpha = each.rgb(), each.alpha()
        if alpha is not None and premultiplied:
            rgb = straight(rgb, alpha)
        return Picture(rgb, alpha, step, _icc(each.spec), notes, space, whole=whole)

    return picture(plate, picture(plate.whole) if plate.data is not None else None)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Says of what cannot be decoded that it is no picture."""
    try:
        yield
    except PaintoverError as error:
        raise unreadable(file) if error.code is Code.DATA_LOSS else error from error


def _step(pixels: Pixels) -> float:
    return 1.0 / np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 0.0


def _icc(spec: oiio.ImageSpec) -> bytes:
    profile = spec.getattribute("ICCProfile")
    return np.asarray(profile, np.uint8).tobytes() if profile is not None else b""


def _mode(file: Path) -> str:
    """The file's own colour mode in Pillow's words, "" where Pillow does not read it; reads only the header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                return image.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


@contextmanager
def _pillow(file: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = pi_heif.open_heif(file).to_pillow() if file.suffix.lower() in _HEIF else Image.open(file)
        with opened as image:
            yield image
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError, Image.DecompressionBombError) as error:
        raise unreadable(file) from error


def _read_with_pillow(file: Path) -> Picture:
    """What OpenImageIO does not read, with 8 bits; of an animation the first picture."""
    with _pillow(file) as opened:
        icc = opened.info.get("icc_profile") or b""
        notes = []
        if getattr(opened, "n_frames", 1) > 1:
            notes.append(f"'{file.name}' is an animation; its first picture is taken.")
        if opened.mode in _MODES:
            notes.append(f"'{file.name}' {_MODES[opened.mode]}.")
        upright = ImageOps.exif_transpose(opened)
        alpha = upright.has_transparency_data
        pixels = unit(np.asarray(upright.convert("RGBA" if alpha else "RGB")))
    rgb = np.ascontiguousarray(pixels[..., :3])
    return Picture(rgb, pixels[..., 3].copy() if alpha else None, 1.0 / 255.0, icc, notes)


def _read_converted(file: Path, kind: str, spec: oiio.ImageSpec) -> Picture:
    """A CMYK or L*a*b* file: by its profile, or what its numbers mean without one."""
    icc = _icc(spec)
    note = f"'{file.name}' is {kind}; it is converted to RGB."
    if kind == "CMYK":
        if not icc:
            plate = read_plate(file)
            return Picture(plate.rgb(), None, _step(plate.pixels), b"", [note])
        samples, step = _ink(file)
        return converted(file, samples, step, icc, [note])
    raw, step = _raw(file)
    signed = spec.get_int_attribute("tiff:PhotometricInterpretation", 0) == 8
    return of_lab(raw, signed, step, [note])


def _raw(file: Path) -> tuple[Pixels, float]:
    """A file's samples, not converted to RGB."""
    config = oiio.ImageSpec()
    config["oiio:RawColor"] = 1
    config["oiio:UnassociatedAlpha"] = 1
    opened = oiio.ImageInput.open(str(file), config)
    if opened is None:
        raise unreadable(file)
    spec = opened.spec()
    kind = "uint16" if str(spec.format) == "uint16" else "uint8"
    pixels = opened.read_image(0, 0, 0, spec.nchannels, oiio.TypeDesc(kind))
    opened.close()
    if pixels is None:
        raise unreadable(file)
    samples = np.asarray(pixels).reshape(spec.height, spec.width, spec.nchannels)
    return samples, _step(samples)


def _ink(file: Path) -> tuple[NDArray[np.float32], float]:
    """(H, W, 4) coverage 0..1 of a CMYK file."""
    if file.suffix.lower() in (".jpg", ".jpeg"):
        with _pillow(file) as opened:
            return unit(np.asarray(opened.convert("CMYK"))), 1.0 / 255.0
    samples, step = _raw(file)
    return unit(samples)[..., :4], step


def of_lab(samples: Pixels, signed: bool, step: float, notes: list[str]) -> Picture:
    """From L*a*b* as files hold it: L over its whole range; a and b signed (TIFF's CIELab), or with 128 as their 0
    (ICCLab, Photoshop); with 16 bits in 1/256."""
    bits = samples.dtype.itemsize * 8
    opponent = samples[..., 1:3]
    if signed:
        chroma = opponent.view(np.int8 if bits == 8 else np.int16).astype(np.float32)
    else:
        chroma = opponent.astype(np.float32) - np.float32(2 ** (bits - 1))
    values = np.dstack([unit(samples[..., 0]) * np.float32(100.0), chroma / np.float32(2 ** (bits - 8))])
    rgb = np.clip(profiles.convert(values, profiles.lab(), profiles.srgb()), 0.0, 1.0)
    tolerance = np.array([100.0, 256.0, 256.0], np.float32) * np.float32(max(1.01 * step, 1e-4))
    original = profiles.Original(values, profiles.lab(), tolerance)
    return Picture(rgb, None, step, profiles.srgb(), notes, original=original)


def converted(file: Path, samples: NDArray[np.float32], step: float, icc: bytes, notes: list[str]) -> Picture:
    """By its profile, to sRGB."""
    try:
        profile = profiles.read_profile(icc)
        rgb = np.clip(profiles.convert(samples, profile, profiles.srgb()), 0.0, 1.0)
    except profiles.Unusable:
        notes.append(f"'{file.name}' has a colour profile that cannot be used; it is converted without.")
        rgb = (1.0 - samples[..., :3]) * (1.0 - samples[..., 3:4])
        return Picture(rgb, None, step, b"", notes)
    notes.append(f"'{file.name}' is converted from its colour profile '{profile.name}' to sRGB.")
    original = profiles.Original(samples, profile, np.full(samples.shape[2], 2.01 * step, np.float32))
    return Picture(rgb, None, step, profiles.srgb(), notes, original=original)
