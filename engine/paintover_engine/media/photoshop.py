"""Reading Photoshop's files: flattened, or what was painted on their layers.

psd-tools takes longer to import than all else that a worker starts with: this module is imported where such a file is
read.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from psd_tools import PSDImage
from psd_tools.constants import ColorMode

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import layers
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.picture import Picture, converted, of_lab, read_picture, unreadable
from paintover_engine.media.placement import other_size
from paintover_engine.media.plate import Plate, unit

_ANOTHER_PLATE = 0.5  # share of changed pixels from which a plate's layer is no longer this plate, painted on


def read_flattened(file: Path) -> Picture:
    """The flattened picture; the layers put together where the file was saved without one.

    Raises PaintoverError where neither can be had."""
    return _flattened(file, _open(file))


def read_painting(file: Path, frame: int, plate: Plate, info: SourceInfo) -> Picture:
    """What the layers above the plate hold in a file that `export_frame` wrote for that frame, whose size was checked.

    Where those cannot stand alone, the flattened picture: then what differs from the plate is the edit."""
    document = _open(file)
    try:
        painted = layers.read_layers(document, file, frame, plate, info)
    except layers.Damaged as damage:
        raise unreadable(file) from damage
    if painted is None:
        return _flattened(file, document)
    if (document.width, document.height) != (plate.width, plate.height):
        raise other_size(file, document.width, document.height, plate)
    return _of_layers(file, painted, document, plate, info)


def _open(file: Path) -> PSDImage:
    try:
        return layers.open_document(file)
    except layers.Damaged as damage:
        raise unreadable(file) from damage


def _of_layers(
    file: Path, painted: layers.PaintedLayers, document: PSDImage, plate: Plate, info: SourceInfo
) -> Picture:
    empty = painted.alpha is not None and not painted.alpha.any()
    changed = layers.painted_on_plate(painted, plate, info)
    if not painted.plate_shows and (painted.rgb is None or painted.blended):
        raise PaintoverError(
            Code.FAILED_PRECONDITION, f"The plate's layer of '{file.name}' is hidden; show it, opaque, and save again."
        )
    if painted.rgb is None or painted.alpha is None:
        return _flattened_as(file, document, painted.reason)
    if changed > 0 and (empty or changed < _ANOTHER_PLATE):
        return _flattened_as(file, document, "its plate layer was painted on")
    if empty:
        raise PaintoverError(
            Code.NOT_FOUND,
            f"Nothing is painted in '{file.name}' yet; paint on the layer above the plate, and save.",
        )
    notes = []
    if changed > 0:
        notes.append(f"The plate's layer of '{file.name}' shows another picture than the shot does now; it is ignored.")
    if not painted.blended:
        return Picture(painted.rgb, painted.alpha, painted.step, painted.icc, notes)
    if changed > 0 or not document.has_preview():
        return _flattened_as(file, document, "a layer's blend mode needs it")
    # What shows is plate · (1 - alpha) + paint · alpha, whatever the modes: that paint is what the edit is.
    shown = read_picture(file).rgb
    cover = np.where(painted.alpha > 0, painted.alpha, 1.0)[..., None]
    paint = np.clip(painted.plate + (shown - painted.plate) / cover, 0.0, 1.0).astype(np.float32)
    return Picture(paint, painted.alpha, painted.step, painted.icc, notes)


def _flattened_as(file: Path, document: PSDImage, reason: str) -> Picture:
    """The flattened picture, opaque, and why it is taken."""
    picture = _flattened(file, document)
    picture.notes.append(f"The edit in '{file.name}' is what differs from the plate: {reason}.")
    return replace(picture, alpha=None)


def _flattened(file: Path, document: PSDImage) -> Picture:
    if not document.has_preview():
        return _composited(file, document)
    if document.color_mode in (ColorMode.RGB, ColorMode.GRAYSCALE, ColorMode.INDEXED, ColorMode.BITMAP):
        try:
            return read_picture(file)
        except PaintoverError as error:
            if error.code is not Code.INVALID_ARGUMENT:
                raise
    return _read_with_psd_tools(file, document)


def _composited(file: Path, document: PSDImage) -> Picture:
    try:
        flattened = document.composite(force=True)
    except MemoryError:
        raise
    except ImportError as error:  # of what psd-tools needs for kinds of layers that are no pixels
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"'{file}' was saved without a flattened picture, and has an adjustment, fill, shape or effect, which only "
            "its own program can put together; save it with 'Maximize Compatibility', or as PNG.",
        ) from error
    except Exception as error:  # psd-tools raises many kinds on damaged files
        raise unreadable(file) from error
    pixels = unit(np.asarray(flattened.convert("RGBA")))
    notes = [f"'{file.name}' was saved without a flattened picture; its layers are put together with 8 bits."]
    profile = flattened.info.get("icc_profile") or b""
    return Picture(np.ascontiguousarray(pixels[..., :3]), pixels[..., 3].copy(), 1.0 / 255.0, profile, notes)


def _read_with_psd_tools(file: Path, document: PSDImage) -> Picture:
    """The flattened picture of a Photoshop file in a mode, or of a kind, that OpenImageIO does not read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # psd-tools warns, and gives black, where it cannot unpack
            samples, alpha = document.numpy("color"), document.numpy("shape")
    except MemoryError:
        raise
    except Exception as error:  # psd-tools raises many kinds on damaged files
        raise unreadable(file) from error
    if samples is None:
        raise unreadable(file)
    mode, step = document.color_mode, 0.0 if document.depth == 32 else 1.0 / (2**document.depth - 1)
    icc = bytes(document.image_resources.get_data(1039) or b"")
    notes = [f"'{file.name}' is {mode.name.replace('_', ' ').upper()}; it is converted to RGB."]
    if mode is ColorMode.CMYK:
        ink = np.ascontiguousarray(1.0 - samples[..., :4], np.float32)  # Photoshop stores what is not covered
        if icc:
            return converted(file, ink, step, icc, notes)
        return Picture((1.0 - ink[..., :3]) * (1.0 - ink[..., 3:4]), None, step, b"", notes)
    if mode is ColorMode.LAB:
        depth = np.uint8 if document.depth == 8 else np.uint16
        stored = np.rint(samples[..., :3] * np.iinfo(depth).max).astype(depth)
        return of_lab(stored, False, step, notes)
    if mode is ColorMode.MULTICHANNEL or samples.shape[2] < 1:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{file}' is MULTICHANNEL; convert it to RGB and save it again.")
    if samples.shape[2] < 3:  # grey; of a duotone the grey that its inks print
        rgb = np.repeat(samples[..., :1], 3, axis=2)
    else:
        rgb, notes = samples[..., :3], []
    shape = None if alpha is None else np.ascontiguousarray(alpha[..., 0], np.float32)
    return Picture(np.ascontiguousarray(rgb, np.float32), shape, step, icc, notes)
