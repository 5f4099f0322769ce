"""Reading the picture that an artist painted, as values that compare with the plate's."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from psd_tools import PSDImage

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import colour, layers, sequence
from paintover_engine.media.export import plate_profile
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.plate import ImagePlate, Plate, straight, unit

_PHOTOSHOP = (".psd", ".psb")
_LARGEST = 16  # times the plate's pixels; a larger picture is refused before it is read
_ANOTHER_PLATE = 0.5  # share of changed pixels from which a plate's layer is no longer this plate, painted on
_SMALLEST = 1 / 8  # of the plate's sides; a smaller one is a thumbnail, not a painting
_PROFILE_STEP = 2.0 / 255.0  # a profile that changes no colour by more than this is sRGB
_MODES = {
    "P": "has a palette; it is converted to RGB",
    "1": "is black and white; it is converted to RGB",
    "L": "is grey; it is converted to RGB",
    "LA": "is grey; it is converted to RGB",
    "I;16": "is grey; it is converted to RGB",
    "CMYK": "is CMYK; it is converted to RGB",
    "YCCK": "is CMYK; it is converted to RGB",
    "LAB": "is L*a*b*; it is converted to RGB",
}


@dataclass(frozen=True, eq=False)
class Keyframe:
    """The edited picture of one frame.

    frame: its number in the shot.
    working: (H, W, 3) float32, in the same encoding and size as `Plate.working`; the plate's own value wherever the
        picture differs by no more than rounding, and wherever the matte is 0.
    matte: (H, W) float32 0..1 where the artist gave one, else None.
    notes: what was converted, in sentences.
    digest: hex digest of all of it.
    """

    frame: int
    working: NDArray[np.float32]
    matte: NDArray[np.float32] | None
    notes: tuple[str, ...]
    digest: str


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture as its file holds it.

    rgb: (H, W, 3) float32, straight; alpha: (H, W) float32 or None.
    step: size of one step of its samples, 0 for float ones.
    """

    rgb: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    step: float
    icc: bytes
    notes: list[str]


def load_keyframe(
    path: str | os.PathLike[str],
    frame: int,
    plate: Plate,
    info: SourceInfo,
    matte_path: str | os.PathLike[str] | None = None,
) -> Keyframe:
    """Reads the edited picture of a frame, and the matte that comes with it.

    path: PNG, TIFF, JPEG, EXR, DPX, PSD and what else OpenImageIO reads; of the plate's size, or of its aspect.
    plate: the untouched frame.
    matte_path: a picture whose grey (or alpha, where it has one) is the matte: white is where the edit applies.
    Raises PaintoverError where the picture cannot be read, has another shape, or shows no edit.
    """
    file = Path(os.path.abspath(os.path.expanduser(os.fspath(path))))
    picture = _read_painting(file, frame, plate, info)
    notes = picture.notes
    rgb, alpha = picture.rgb, picture.alpha
    if alpha is not None and _same_alpha(alpha, plate, picture.step):
        alpha = None
    rgb, step = _to_srgb(file, picture, plate, notes)
    rgb = _fitted(file, rgb, plate, notes)
    matte = None if alpha is None else _fitted(file, alpha, plate, [])
    if matte_path is not None:
        matte = _read_matte(Path(os.path.abspath(os.path.expanduser(os.fspath(matte_path)))), plate, notes)
    elif matte is not None and file.suffix.lower() not in _PHOTOSHOP:  # there, it is what layers are for
        notes.append(f"'{file.name}' is partly transparent; its alpha is the matte.")
    painted_as_seen = picture.step > 0 and info.scene_linear
    working = rgb if painted_as_seen else colour.to_working(rgb, info.colorspace)
    if painted_as_seen:
        notes.append(f"'{file.name}' has integer samples, which are taken as sRGB-encoded: the shot is scene-linear.")
    working = _unedited_restored(working, plate.working(), step, _plate_step(info), matte)
    _check_edit(file, frame, working, plate, matte)
    digest = hashlib.sha256(repr((frame, working.shape)).encode())
    digest.update(np.ascontiguousarray(working).data)
    if matte is not None:
        digest.update(np.ascontiguousarray(matte).data)
    return Keyframe(frame, working, matte, tuple(notes), digest.hexdigest())


def _plate_step(info: SourceInfo) -> float:
    return 0.0 if info.sample in ("half", "float") else 1.0 / (2**info.bits - 1)


def _unedited_restored(
    working: NDArray[np.float32],
    plate: NDArray[np.float32],
    step: float,
    plate_step: float,
    matte: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Takes the plate's own values where the picture holds the same as nearly as its samples can.

    That is: within half a step of the coarser samples, and where the picture is clipped at 0 or 1 and the plate is
    beyond; so values above 1 survive where nobody painted.
    """
    same = np.abs(working - plate) <= 0.5 * max(step, plate_step) + 1e-5
    if step:
        same |= (working >= 1.0 - 0.5 * step) & (plate >= 1.0)
        same |= (working <= 0.5 * step) & (plate <= 0.0)
    if matte is not None:
        same |= (matte <= 0.0)[..., None]
    return np.where(same, plate, working).astype(np.float32)


def _check_edit(
    file: Path, frame: int, working: NDArray[np.float32], plate: Plate, matte: NDArray[np.float32] | None
) -> None:
    if not np.isfinite(working).all():
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{file}' holds values that are no numbers; save it again.")
    if matte is not None and not matte.any():
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"The matte for '{file.name}' is black everywhere; white is edited."
        )
    if np.array_equal(working, plate.working()):
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{file}' is the same as frame {frame} of the shot: there is nothing to propagate."
        )


def _same_alpha(alpha: NDArray[np.float32], plate: Plate, step: float) -> bool:
    """True where an alpha says nothing about the edit: opaque everywhere, or the plate's own."""
    tolerance = max(step, 1.0 / 255.0) * 0.75
    if np.all(alpha >= 1.0 - tolerance):
        return True
    own = plate.alpha()
    return own is not None and own.shape == alpha.shape and bool(np.abs(own - alpha).max() <= tolerance)


def _fitted(file: Path, pixels: NDArray[np.float32], plate: Plate, notes: list[str]) -> NDArray[np.float32]:
    """Pixels at the plate's size. Raises PaintoverError where their aspect is another."""
    height, width = pixels.shape[:2]
    _check_aspect(file, width, height, plate)
    if (width, height) == (plate.width, plate.height):
        return pixels
    notes.append(f"'{file.name}' is {width}x{height}; it is rescaled to the shot's {plate.width}x{plate.height}.")
    method = cv2.INTER_AREA if width > plate.width else cv2.INTER_CUBIC
    resized = cv2.resize(pixels, (plate.width, plate.height), interpolation=method)
    fitted: NDArray[np.float32] = np.clip(resized, pixels.min(), pixels.max())
    return fitted


def _check_aspect(file: Path, width: int, height: int, plate: Plate) -> None:
    """Accepts what scaling the plate by any one factor, and rounding both sides to whole pixels, can give; of a shot
    whose pixels are not square, also what players show."""
    shown = plate.width * float(plate.pixel_aspect)  # which players round to a whole or an even number
    if not any(
        _same_shape(width, height, (across, plate.height), by) for across, by in ((plate.width, 0.5), (shown, 1))
    ):
        raise _other_size(file, width, height, plate)


def _same_shape(width: int, height: int, shape: tuple[float, float], rounding: float) -> bool:
    """Whether scaling a shape (width, height) by any one factor, and rounding its sides by so many pixels, gives
    `width` by `height`."""
    low = max((width - rounding) / shape[0], (height - 0.5) / shape[1])
    high = min((width + rounding) / shape[0], (height + 0.5) / shape[1])
    return low <= high and high >= _SMALLEST


def _other_size(file: Path, width: int, height: int, plate: Plate) -> PaintoverError:
    return PaintoverError(
        Code.INVALID_ARGUMENT,
        f"'{file}' is {width}x{height} but the shot is {plate.width}x{plate.height}; "
        "save the keyframe at the shot's size.",
    )


def _check_file(file: Path) -> None:
    if not file.exists():
        raise PaintoverError(Code.NOT_FOUND, f"There is no picture '{file}'; check the path.")
    if not file.is_file():
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{file}' is not a regular file; name a picture.")
    if not os.access(file, os.R_OK):
        raise PaintoverError(Code.PERMISSION_DENIED, f"'{file}' may not be read by this user; check its permissions.")


def _check_size(file: Path, width: int, height: int, plate: Plate) -> None:
    """Refuses what would not be used anyway, before memory is taken for it."""
    if width < 1 or height < 1 or width * height > max(_LARGEST * plate.width * plate.height, 2**24):
        raise _other_size(file, width, height, plate)
    _check_aspect(file, width, height, plate)


def _read(file: Path, plate: Plate) -> _Picture:
    _check_file(file)
    return _read_photoshop(file, plate) if file.suffix.lower() in _PHOTOSHOP else _read_image(file, plate)


def _unreadable(file: Path) -> PaintoverError:
    return PaintoverError(
        Code.INVALID_ARGUMENT, f"'{file}' cannot be read as a picture: it is damaged or of a kind that is not read."
    )


def _read_image(file: Path, plate: Plate) -> _Picture:
    try:
        header, _ = sequence.read_header(file)
        _check_size(file, header.width, header.height, plate)
        pixels, spec = sequence.read_image(file)
    except PaintoverError as error:
        raise _unreadable(file) if error.code is Code.DATA_LOSS else error from error
    notes = [f"'{file.name}' {_MODES[mode]}." for mode in [_mode(file)] if mode in _MODES]
    colours, alpha_channel = sequence.channel_layout(spec)
    image = ImagePlate(0, pixels, colours, alpha_channel, "", spec)
    if image.grey and not notes:
        notes.append(f"'{file.name}' is grey; it is converted to RGB.")
    rgb, alpha = image.rgb(), image.alpha()
    if pixels.dtype == np.uint16:
        notes.append(f"'{file.name}' has 16-bit samples; they are kept.")
    if alpha is not None and not spec.get_int_attribute("oiio:UnassociatedAlpha", 0):
        rgb = straight(rgb, alpha)
    bits = spec.get_int_attribute("oiio:BitsPerSample", 0) if header.sample in ("uint10", "uint12") else 0
    step = 1.0 / (2**bits - 1) if bits else _step(pixels)
    profile = spec.getattribute("ICCProfile")
    icc = np.asarray(profile, np.uint8).tobytes() if profile is not None else b""
    return _Picture(rgb, alpha, step, icc, notes)


def _step(pixels: NDArray[Any]) -> float:
    return 1.0 / np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 0.0


def _mode(file: Path) -> str:
    """The file's own colour mode in Pillow's words, "" where Pillow does not read it; reads only the header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                return image.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


def _read_photoshop(file: Path, plate: Plate, document: PSDImage | None = None) -> _Picture:
    """The flattened picture of a Photoshop file; its layers put together where it was saved without one.

    document: the file, where it is open already."""
    document = document or _open_photoshop(file, plate)
    if document.has_preview():
        return _read_image(file, plate)
    try:
        flattened = document.composite(force=True)
    except MemoryError:
        raise
    except Exception as error:  # psd-tools raises many kinds on damaged files
        raise _unreadable(file) from error
    pixels = unit(np.asarray(flattened.convert("RGBA")))
    notes = [f"'{file.name}' was saved without a flattened picture; its layers are put together with 8 bits."]
    profile = flattened.info.get("icc_profile") or b""
    return _Picture(np.ascontiguousarray(pixels[..., :3]), pixels[..., 3].copy(), 1.0 / 255.0, profile, notes)


def _open_photoshop(file: Path, plate: Plate) -> PSDImage:
    try:
        header = layers.read_header(file)
        _check_size(file, header.width, header.height, plate)
        return layers.open_document(file)
    except layers.Damaged as damage:
        raise _unreadable(file) from damage


def _read_painting(file: Path, frame: int, plate: Plate, info: SourceInfo) -> _Picture:
    """The picture of a keyframe; of a Photoshop file that `export_frame` wrote, what its layers above the plate hold.

    Where those cannot stand alone, the flattened picture: then what differs from the plate is the edit."""
    _check_file(file)
    if file.suffix.lower() not in _PHOTOSHOP:
        return _read_image(file, plate)
    document = _open_photoshop(file, plate)
    try:
        painted = layers.read_layers(document, file, frame, plate, info)
    except layers.Damaged as damage:
        raise _unreadable(file) from damage
    if painted is None:
        return _read_photoshop(file, plate, document)
    if (document.width, document.height) != (plate.width, plate.height):
        raise _other_size(file, document.width, document.height, plate)
    return _of_layers(file, painted, document, plate, info)


def _of_layers(file: Path, painted: layers.Layers, document: PSDImage, plate: Plate, info: SourceInfo) -> _Picture:
    empty = painted.alpha is not None and not painted.alpha.any()
    changed = layers.painted_on_plate(painted, plate, info)
    if not painted.plate_shows and (painted.rgb is None or painted.blended):
        raise PaintoverError(
            Code.FAILED_PRECONDITION, f"The plate's layer of '{file.name}' is hidden; show it, opaque, and save again."
        )
    if painted.rgb is None or painted.alpha is None:
        return _flattened(file, document, plate, painted.reason)
    if changed > 0 and (empty or changed < _ANOTHER_PLATE):
        return _flattened(file, document, plate, "its plate layer was painted on")
    if empty:
        raise PaintoverError(
            Code.NOT_FOUND,
            f"Nothing is painted in '{file.name}' yet; paint on the layer above the plate, and save.",
        )
    notes = []
    if changed > 0:
        notes.append(f"The plate's layer of '{file.name}' shows another picture than the shot does now; it is ignored.")
    if not painted.blended:
        return _Picture(painted.rgb, painted.alpha, painted.step, painted.icc, notes)
    if changed > 0 or not document.has_preview():
        return _flattened(file, document, plate, "a layer's blend mode needs it")
    # What shows is plate · (1 - alpha) + paint · alpha, whatever the modes: that paint is what the edit is.
    shown = _read_image(file, plate).rgb
    cover = np.where(painted.alpha > 0, painted.alpha, 1.0)[..., None]
    paint = np.clip(painted.plate + (shown - painted.plate) / cover, 0.0, 1.0).astype(np.float32)
    return _Picture(paint, painted.alpha, painted.step, painted.icc, notes)


def _flattened(file: Path, document: PSDImage, plate: Plate, reason: str) -> _Picture:
    """The flattened picture, opaque, and why it is taken."""
    picture = _read_photoshop(file, plate, document)
    picture.notes.append(f"The edit in '{file.name}' is what differs from the plate: {reason}.")
    return replace(picture, alpha=None)


def _to_srgb(file: Path, picture: _Picture, plate: Plate, notes: list[str]) -> tuple[NDArray[np.float32], float]:
    """Colours converted from the picture's own profile to sRGB, and the step of the result.

    Nothing is done where the profile is sRGB, or the plate's own: then both mean the same.
    """
    if not picture.icc or picture.icc == plate_profile(plate):
        return picture.rgb, picture.step
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
        name = (ImageCms.getProfileDescription(profile) or "unnamed").strip()
        transform = _srgb_transform(profile)
        if transform is None:
            return picture.rgb, picture.step
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append(f"'{file.name}' has a colour profile that cannot be used; its values are taken as sRGB.")
        return picture.rgb, picture.step
    if picture.step < 1.0 / 255.0:
        notes.append(
            f"'{file.name}' has more than 8 bits and the colour profile '{name}', which is converted for 8 bits only; "
            "its values are taken as they are."
        )
        return picture.rgb, picture.step
    notes.append(f"'{file.name}' is converted from its colour profile '{name}' to sRGB.")
    image = Image.fromarray(np.rint(np.clip(picture.rgb, 0.0, 1.0) * 255.0).astype(np.uint8), "RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return unit(np.asarray(converted)), _PROFILE_STEP


def _srgb_transform(profile: ImageCms.ImageCmsProfile) -> ImageCms.ImageCmsTransform | None:
    """A transform from an RGB profile to sRGB, None where it would change nothing worth it."""
    transform = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        "RGB",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    levels = np.linspace(0, 255, 9, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(9, 81, 3)
    converted = ImageCms.applyTransform(Image.fromarray(cube, "RGB"), transform)
    if converted is None or np.abs(np.asarray(converted).astype(int) - cube).max() <= _PROFILE_STEP * 255.0:
        return None
    return transform


def _read_matte(file: Path, plate: Plate, notes: list[str]) -> NDArray[np.float32]:
    """(H, W) 0..1 from a picture's alpha where that says anything, else from its grey."""
    picture = _read(file, plate)
    alpha = picture.alpha
    if alpha is not None and np.ptp(alpha) > 0:
        matte = alpha
    else:
        matte = picture.rgb.mean(axis=2, dtype=np.float32)
    return np.clip(_fitted(file, np.ascontiguousarray(matte), plate, notes), 0.0, 1.0)
