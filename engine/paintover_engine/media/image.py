"""One image file: its header, its layers and its samples.

Only EXR has a display window (what the picture shows) apart from its data window (which pixels the file holds; OpenEXR:
Technical Introduction, "Windows"). Everywhere else the pixels are the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import colour, exr_layers
from paintover_engine.media.bounds import Bounds
from paintover_engine.media.exr_layers import ImageLayer
from paintover_engine.media.plate import Pixels

MAX_PIXELS = 2**28  # 16K by 16K, twice a stereo dome; what is larger is damaged or hostile
_DTYPES = {"uint8": np.uint8, "uint16": np.uint16, "half": np.float16, "float": np.float32}
_CONFIG = oiio.ImageSpec()
_CONFIG["oiio:UnassociatedAlpha"] = 1  # straight alpha stays straight, so that samples come back bit for bit
# TIFF 6.0 and its supplement, PhotometricInterpretation.
_CONVERTED = {5: "CMYK", 8: "L*a*b*", 9: "L*a*b*", 10: "L*a*b*"}

oiio.attribute("limits:imagesize_MB", 16384)


@dataclass(frozen=True)
class Header:
    """What all frames of a sequence must share, read without their pixels.

    width, height: of what the picture shows, upright.
    sample: "uint8", "uint10", "uint12", "uint16", "half" or "float".
    """

    width: int
    height: int
    channels: int
    sample: str


@dataclass(frozen=True)
class Stored:
    """What an image file says of itself.

    spec: the header of the part that is read. layer: the channels that are the picture. layers: all pictures in it.
    window: x, y, width and height of the file's pixels, upright, from the top left of what the picture shows.
    """

    header: Header
    spec: oiio.ImageSpec
    layer: ImageLayer
    layers: list[ImageLayer]
    window: Bounds


def read_stored(path: Path, layer: str = "", prefer: str = "") -> Stored:
    """What an image file says of itself. layer: a name as the user gives it; "": the one called `prefer` where there is
    one, else the beauty.

    Raises PaintoverError where it cannot be read, or the layer is not clear."""
    image = _open(path)
    try:
        return _stored(path, image, layer, prefer)
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it holds text that is no UTF-8, {_text(error)!r}") from error
    finally:
        image.close()


def read_image(path: Path, layer: str = "") -> tuple[Pixels, Stored]:
    """An image file's samples (h, w, C) uint8, uint16, float16 or float32, upright, of all its data window; and
    what it says of itself, with a header made to fit them.

    Raises PaintoverError where the file cannot be read or ends early."""
    image = _open(path)
    try:
        stored = _stored(path, image, layer)
        spec = stored.spec
        dtype = _DTYPES.get(stored.header.sample, np.uint16)
        kind = oiio.TypeDesc(np.dtype(dtype).name.replace("float16", "half"))
        pixels = image.read_image(stored.layer.part, 0, 0, spec.nchannels, kind)
        failed = image.has_error
        reason = _reason(image.geterror)
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it holds text that is no UTF-8, {_text(error)!r}") from error
    finally:
        image.close()
    if pixels is None or failed:
        raise _damaged(path, reason)
    samples = np.asarray(pixels, dtype=dtype).reshape(spec.height, spec.width, spec.nchannels)
    return _upright(samples, spec), stored


def _open(path: Path) -> oiio.ImageInput:
    if not path.is_file():  # a fifo or a device would block or never end
        raise PaintoverError(Code.NOT_FOUND, f"The image '{path}' is missing or is no regular file.")
    image = oiio.ImageInput.open(str(path), _CONFIG)
    if image is None:
        reason = _reason(oiio.geterror)
        if "ubsampled" in reason:
            raise _luminance_chroma(path)
        raise PaintoverError(Code.DATA_LOSS, f"The image '{path}' cannot be read: {reason}.")
    return image


def _stored(path: Path, image: oiio.ImageInput, name: str, prefer: str = "") -> Stored:
    specs = _specs(path, image)
    layers = exr_layers.layers_of(specs) if _is_exr(path) else []
    if {"Y", "RY", "BY"} <= set(specs[0].channelnames):
        raise _luminance_chroma(path)
    preferred = exr_layers.find_layer(layers, prefer) if prefer and not name else None
    layer = preferred or exr_layers.choose_layer(path.name, layers, name) or _plain(specs[0])
    spec = oiio.ImageSpec(specs[layer.part])
    shown = _shown(spec) if _is_exr(path) else (spec.x, spec.y, spec.width, spec.height)
    window = (spec.x - shown[0], spec.y - shown[1], spec.width, spec.height)
    width, height = shown[2:]
    if spec.get_int_attribute("Orientation", 1) >= 5:
        width, height, window = height, width, (0, 0, spec.height, spec.width)
    return Stored(Header(width, height, spec.nchannels, sample_of(spec)), spec, layer, layers, window)


def _specs(path: Path, image: oiio.ImageInput) -> list[oiio.ImageSpec]:
    """The headers of a file's parts; of formats other than EXR, the first alone."""
    specs: list[oiio.ImageSpec] = []
    while (_is_exr(path) or not specs) and image.seek_subimage(len(specs), 0):
        spec = image.spec()
        if spec.deep:
            raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' is a deep image; flatten it first.")
        for width, height in ((spec.width, spec.height), (spec.full_width, spec.full_height)):
            if width * height > MAX_PIXELS or spec.nchannels < 1 or spec.depth > 1:
                raise PaintoverError(
                    Code.INVALID_ARGUMENT, f"'{path}' says that it is {width}x{height} pixels, which is too large."
                )
        specs.append(oiio.ImageSpec(spec))
    _reason(image.geterror)  # that there is no further part is no error
    return specs


def _is_exr(path: Path) -> bool:
    return path.suffix.lower() == ".exr"


def _luminance_chroma(path: Path) -> PaintoverError:
    return PaintoverError(
        Code.INVALID_ARGUMENT,
        f"'{path}' holds luminance and subsampled chroma (Y, RY, BY), which is not read; save it as RGB.",
    )


def _damaged(path: Path, reason: str) -> PaintoverError:
    return PaintoverError(Code.DATA_LOSS, f"The image '{path}' is damaged: {reason}.")


def _reason(error: Callable[[], str]) -> str:
    """OpenImageIO's message, which may hold text of the file, in whatever encoding."""
    try:
        text = error()
    except UnicodeDecodeError as undecodable:
        text = _text(undecodable)
    return " ".join(text.split()).rstrip(".") or "its format is not known"


def _text(error: UnicodeDecodeError) -> str:
    """Text that is no UTF-8, with \\xff for what cannot be read."""
    return error.object.decode("utf-8", "backslashreplace")


def sample_of(spec: oiio.ImageSpec) -> str:
    """ "uint8", "uint10", "uint12", "uint16", "half" or "float": the samples of an image's file."""
    bits = spec.get_int_attribute("oiio:BitsPerSample", 0)
    name = str(spec.format)
    if spec.channelformats:  # channels of several types are held in the one that holds them all
        name = "float" if len({str(f) for f in spec.channelformats}) > 1 else str(spec.channelformats[0])
    if name in ("uint16", "int16") and bits in (10, 12):
        return f"uint{bits}"
    return {"uint8": "uint8", "int8": "uint8", "uint16": "uint16", "int16": "uint16", "half": "half"}.get(name, "float")


def converted_from(spec: oiio.ImageSpec) -> str:
    """ "CMYK" or "L*a*b*" where a file's samples are such, and OpenImageIO gives them as RGB; else ""."""
    if spec.get_string_attribute("oiio:ColorSpace").lower() == "cmyk":
        return "CMYK"
    named = spec.get_string_attribute("tiff:ColorSpace") or spec.get_string_attribute("jpeg:ColorSpace")
    if "cmyk" in named.lower() or "ycck" in named.lower():
        return "CMYK"
    return _CONVERTED.get(spec.get_int_attribute("tiff:PhotometricInterpretation", 0), "")


def _shown(spec: oiio.ImageSpec) -> Bounds:
    """x, y, width, height of the display window; of the pixels where a file states none."""
    if spec.full_width > 0 and spec.full_height > 0:
        return spec.full_x, spec.full_y, spec.full_width, spec.full_height
    return spec.x, spec.y, spec.width, spec.height


def _upright(pixels: Pixels, spec: oiio.ImageSpec) -> Pixels:
    """Applies a camera's orientation tag (EXIF, 1 to 8), and takes it from the header."""
    orientation = spec.get_int_attribute("Orientation", 1)
    if not 2 <= orientation <= 8:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
        spec.width, spec.height = spec.height, spec.width
        spec.full_width, spec.full_height = spec.full_height, spec.full_width
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    spec["Orientation"] = 1
    return np.ascontiguousarray(pixels)


def _plain(spec: oiio.ImageSpec) -> ImageLayer:
    """The picture of a file without layers: red, green and blue; else its first three channels; else grey."""
    names = [name.upper() for name in spec.channelnames]
    alpha = spec.alpha_channel if spec.alpha_channel >= 0 else (names.index("A") if "A" in names else None)
    if {"R", "G", "B"} <= set(names):
        return ImageLayer("", 0, (names.index("R"), names.index("G"), names.index("B")), alpha, "")
    colours = [index for index in range(spec.nchannels) if index != alpha]
    if len(colours) >= 3 and "Y" not in names:
        return ImageLayer("", 0, (colours[0], colours[1], colours[2]), alpha, "")
    grey = names.index("Y") if "Y" in names else colours[0] if colours else 0
    return ImageLayer("", 0, (grey, grey, grey), alpha, "")


def stated_colorspace(spec: oiio.ImageSpec) -> str:
    """The colour space that a file's header names by its primaries or its name; "" where it says nothing of use."""
    stated = spec.get_string_attribute("oiio:ColorSpace")
    chromaticities = spec.getattribute("chromaticities")
    if chromaticities is not None and len(chromaticities) >= 6:
        found = colour.from_chromaticities(tuple(float(value) for value in chromaticities))
        if found is not None:
            return found
    if colour.known(stated) and stated.lower() not in ("linear", "scene_linear"):
        return colour.check_colorspace(stated)
    return ""


def guess_colorspace(spec: oiio.ImageSpec, sample: str) -> str:
    """Float samples are scene-linear, in the primaries that the file states; integers are display-encoded ("")."""
    if sample not in ("half", "float"):
        return ""
    return stated_colorspace(spec) or colour.SCENE_LINEAR
