"""Writing one frame of a shot as the file that an artist paints on."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import OpenImageIO as oiio
from numpy.typing import NDArray

from paintover_engine.durable import sync_file, sync_folder
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import sink
from paintover_engine.media.bounds import Bounds
from paintover_engine.media.image_sink import write_image
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.plate import ImagePlate, Pixels, Plate, encoded

if TYPE_CHECKING:
    from paintover_engine.media.psd_file import Group, Layer

# psd_file is imported where it is used: it takes longer than all else that a worker starts with.

FORMATS = (".psd", ".png", ".tif", ".tiff", ".exr")
PAINT_LAYER = "Paint"
_LEAST_SHOWN = 0.02  # opacity of a result from which on it is seen
_LARGEST_PSD = 30000  # pixels a side, by Adobe's specification of the format
_PLATE_LAYER = re.compile(r"Plate \((?P<source>.+), frame (?P<frame>-?\d+)\)")


@dataclass(frozen=True)
class ResultFrame:
    """A frame of a result to export. name: of its group; bounds: outside them the result is the plate. matte: (h, w)
    float16 0..1, of the bounds."""

    name: str
    plate: Plate
    result: Plate
    bounds: Bounds
    matte: NDArray[np.float16]


def export_frame(
    path: str | os.PathLike[str],
    plate: Plate,
    info: SourceInfo,
    overwrite: bool = False,
    result: ResultFrame | None = None,
) -> list[str]:
    """Writes a frame for painting: whole or not at all. Returns notes for the user.

    path: ends with .psd (the plate as a locked layer, an empty layer above it), .png, .tif or .exr.
    result: the frame's; it stands on the layer to paint on, to be corrected (.psd alone).
    Integer samples are 8-bit for 8-bit shots, else 16-bit; those of a scene-linear shot are sRGB-encoded and clipped.
    Raises PaintoverError where the file is there already, cannot be written, or cannot hold the frame.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if result is not None and kind != ".psd":
        raise PaintoverError(Code.INVALID_ARGUMENT, f"A result is corrected on a layer; name '{file.stem}.psd'.")
    _check(file, kind, plate, info, overwrite)
    with _published(file, overwrite) as partial:
        if kind == ".psd":
            from paintover_engine.media.psd_file import Layer, write_psd

            samples = plate_samples(plate, info)
            paint = Layer(PAINT_LAYER, None) if result is None else _layer_to_correct(result, info)
            layers = [Layer(plate_layer_name(info, plate.number), samples, locked=True), paint]
            write_psd(partial, samples, layers, _profile(plate, info))
        elif kind == ".exr":
            _write_image(partial, file, plate.native_rgb(), info, b"")
        else:
            _write_image(partial, file, plate_samples(plate, info), info, _profile(plate, info))
    return _notes(file, kind, info)


def export_results(path: str | os.PathLike[str], info: SourceInfo, frames: Sequence[ResultFrame]) -> None:
    """Writes frames of a result as groups of one Photoshop file, whole or not at all; replaces what is there.

    path: ends with .psd. frames: from the top down; 8-bit pictures to look at, whatever the shot's depth.
    Raises PaintoverError where the file cannot be written, or cannot hold the frames."""
    from paintover_engine.media.psd_file import write_psd

    file = Path(path)
    if file.suffix.lower() != ".psd":
        raise PaintoverError(Code.INVALID_ARGUMENT, f"Frames go into a Photoshop file; name '{file.stem}.psd'.")
    plate = frames[0].plate
    _check(file, ".psd", plate, info, overwrite=True)
    groups = [_result_group(frame, info) for frame in reversed(frames)]
    with _published(file, overwrite=True) as partial:
        write_psd(partial, plate_samples(frames[0].result, info, 8), groups, _profile(plate, info))


def _result_group(frame: ResultFrame, info: SourceInfo) -> Group:
    from paintover_engine.media.psd_file import Group, Layer

    layers = [Layer("Plate", plate_samples(frame.plate, info, 8))]
    x, y, width, height = frame.bounds
    if width and height:
        painted = plate_samples(frame.result, info, 8)[y : y + height, x : x + width]
        layers.append(Layer("Result", painted, origin=(x, y)))
    return Group(frame.name, layers)


def _layer_to_correct(frame: ResultFrame, info: SourceInfo) -> Layer:
    """The layer to paint on with a result as it looks: opaque where it changes the plate visibly."""
    from paintover_engine.media.psd_file import Layer

    pixels = plate_samples(frame.result, info)
    x, y, width, height = frame.bounds
    opaque = np.zeros(pixels.shape[:2], np.bool_)
    opaque[y : y + height, x : x + width] = frame.matte >= _LEAST_SHOWN
    return Layer(PAINT_LAYER, pixels, opaque=opaque) if opaque.any() else Layer(PAINT_LAYER, None)


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


@contextlib.contextmanager
def _published(file: Path, overwrite: bool) -> Iterator[Path]:
    """A hidden file beside it to write to, which takes its name at the end, or is removed."""
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial{file.suffix.lower()}")
    try:
        yield partial
        _publish(partial, file, overwrite)
    except OSError as error:
        raise sink.failed(file, error) from error
    finally:
        partial.unlink(missing_ok=True)


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
    """The ICC profile of an exported picture: the plate's own. Without one every program takes the values for sRGB;
    with an sRGB profile in the file, GIMP would ask whether to convert to its own sRGB before it opens."""
    return b"" if info.scene_linear else plate_profile(plate)


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
