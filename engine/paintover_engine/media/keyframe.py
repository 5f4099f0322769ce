"""Reading the picture that an artist painted, as values that compare with the plate's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import colour, conform, profiles
from paintover_engine.media.export import plate_profile
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.palette import without_palette
from paintover_engine.media.picture import (
    PHOTOSHOP,
    Picture,
    check_file,
    picture_sizes,
    read_picture,
)
from paintover_engine.media.placement import Placement, check_size, place
from paintover_engine.media.plate import ImagePlate, Plate, overlap
from paintover_engine.media.recompression import is_lossy, without_compression

Array = NDArray[np.float32]

_FEW = 0.01  # share of transparent pixels up to which a picture is opaque but for an accident
_OPAQUE = 0.9  # alpha of such a picture above which its pixel counts
_EVERYWHERE = 0.5  # share of the pixels outside a data window from which a picture is no paint there


@dataclass(frozen=True, eq=False)
class Keyframe:
    """The edited picture of one frame.

    frame: its number in the shot.
    working: (H, W, 3) float32, in the same encoding and size as `Plate.working`; the plate's own value wherever the
        picture differs by no more than rounding, and wherever the matte is 0.
    matte: (H, W) float32 0..1 where the artist gave one, else None.
    notes: what was converted, in sentences.
    digest: hex digest of all of it.
    compressed: its file's format compresses with losses.
    """

    frame: int
    working: NDArray[np.float32]
    matte: NDArray[np.float32] | None
    notes: tuple[str, ...]
    digest: str
    compressed: bool = False


def load_keyframe(
    path: str | os.PathLike[str],
    frame: int,
    plate: Plate,
    info: SourceInfo,
    matte_path: str | os.PathLike[str] | None = None,
    neighbour: Callable[[int], Plate] | None = None,
) -> Keyframe:
    """Reads the edited picture of a frame, and the matte that comes with it.

    path: PNG, TIFF, JPEG, EXR, DPX, PSD and what else OpenImageIO reads; of the plate's size, or of its aspect.
    plate: the untouched frame.
    neighbour: reads another frame of the shot, by which it is told whether the picture belongs to this one.
    matte_path: a picture whose grey (or alpha, where it has one) is the matte: white is where the edit applies.
    Raises PaintoverError where the picture cannot be read, has another shape, or shows no edit.
    """
    file = absolute(path)
    picture = _read_painting(file, frame, plate, info)
    notes, compressed = picture.notes, is_lossy(file)
    alpha, holes = _matte_of(picture, plate)
    working, step = _to_working(file, picture, plate, info)
    placement = place(file, working, plate, plate.working())
    if placement.words:
        notes.append(f"'{file.name}' {placement.words}.")
    _say_what_is_outside(file, working, placement, plate, step, notes)
    working = _without_what_is_nowhere(file, placement.put(working, plate.working()), plate, step, notes)
    if alpha is None and neighbour is not None:
        working, read = _belonging(file, frame, working, plate, info, step, neighbour, notes), working
        if working is read and picture.original is None and not info.scene_linear:
            working = without_compression(file, working, plate.working())
            indexed = working
            working = without_palette(indexed, plate.working())
            compressed = compressed or working is not indexed
    if holes is not None:
        opaque = placement.put(1 - holes, np.zeros((plate.height, plate.width), np.float32)) > _OPAQUE
        working = np.where(opaque[..., None], working, plate.working())
    matte = None if alpha is None else placement.put(alpha, np.zeros((plate.height, plate.width), np.float32))
    if matte_path is not None:
        matte = read_matte(absolute(matte_path), plate, notes)
    elif matte is not None and file.suffix.lower() not in PHOTOSHOP:  # there, it is what layers are for
        notes.append(f"'{file.name}' is partly transparent; its alpha is the matte.")
    working = _unedited_restored(working, plate, step, _plate_step(info), matte)
    _check_edit(file, frame, working, plate, matte)
    digest = hashlib.sha256(repr((frame, working.shape, compressed)).encode())
    digest.update(np.ascontiguousarray(working).data)
    if matte is not None:
        digest.update(np.ascontiguousarray(matte).data)
    return Keyframe(frame, working, matte, tuple(notes), digest.hexdigest(), compressed)


def _belonging(
    file: Path,
    frame: int,
    working: Array,
    plate: Plate,
    info: SourceInfo,
    step: float,
    neighbour: Callable[[int], Plate],
    notes: list[str],
) -> Array:
    """The picture, checked to be of this frame, with what was done to the whole of it undone."""

    def other(number: int) -> Array | None:
        return neighbour(number).working() if info.first <= number <= info.last else None

    own = plate.working()
    if not (np.isfinite(working).all() and np.isfinite(own).all()):
        return working
    if said := conform.check_frame(file, working, frame, own, other):
        notes.append(said)
        return working
    working, said_of = conform.conformed(file, working, own, step)
    notes += said_of
    if conform.covers_everything(working, own):
        notes.append(f"'{file.name}' differs from frame {frame} nearly everywhere; the edit is of the whole frame.")
    return working


def absolute(path: str | os.PathLike[str]) -> Path:
    """The path with ~ expanded and from the root on; links stay."""
    return Path(os.path.abspath(os.path.expanduser(os.fspath(path))))


def _plate_step(info: SourceInfo) -> float:
    return 0.0 if info.sample in ("half", "float") else 1.0 / (2**info.bits - 1)


def _unedited_restored(
    working: NDArray[np.float32],
    plate: Plate,
    step: float,
    plate_step: float,
    matte: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Takes the plate's own values where the picture holds the same as nearly as its samples can.

    That is: within half a step of the coarser samples; where the picture is clipped at 0 or 1 and the plate is beyond,
    so that values above 1 survive where nobody painted; and where the plate itself holds no number, and the picture
    what some program made of that."""
    own = plate.working()
    same = np.abs(working - own) <= 0.5 * max(step, plate_step) + 1e-5
    if step:
        same |= (working >= 1.0 - 0.5 * step) & (own >= 1.0)
        same |= (working <= 0.5 * step) & (own <= 0.0)
    same |= ~np.isfinite(working) & ~np.isfinite(plate.rgb())
    if matte is not None:
        same |= (matte <= 0.0)[..., None]
    return np.where(same, own, working).astype(np.float32)


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


def _say_what_is_outside(
    file: Path, working: NDArray[np.float32], placement: Placement, plate: Plate, step: float, notes: list[str]
) -> None:
    """Whether something is painted around what the shot shows."""
    if not isinstance(plate, ImagePlate) or plate.data is None:
        return
    if (placement.x, placement.y, *placement.size) != plate.window:
        return
    own = plate.whole.working()
    changed = (np.abs(placement.resized(working) - own) > 0.5 * step + 1e-3).any(axis=2)
    changed[overlap(plate.window, (plate.height, plate.width))[1]] = False
    if changed.any():
        notes.append(f"'{file.name}' is painted outside the display window too; that is left out.")


def _without_what_is_nowhere(
    file: Path, working: NDArray[np.float32], plate: Plate, step: float, notes: list[str]
) -> NDArray[np.float32]:
    """Takes the plate's own values outside its data window, where the picture shows something else nearly everywhere:
    then it was rendered for a larger window, and nobody painted there."""
    if not isinstance(plate, ImagePlate) or plate.data is None:
        return working
    outside = np.ones((plate.height, plate.width), bool)
    outside[overlap(plate.window, (plate.height, plate.width))[0]] = False
    own = plate.working()
    changed = (np.abs(working - own) > 0.5 * step + 1e-3).any(axis=2)
    if not outside.any() or changed[outside].mean() <= _EVERYWHERE:
        return working
    notes.append(f"What '{file.name}' shows outside the frame's data window is left out.")
    return np.where(outside[..., None], own, working)


def _matte_of(picture: Picture, plate: Plate) -> tuple[Array | None, Array | None]:
    """The alpha (h, w) where it says where the edit is, else None; and 1 less the alpha of a picture that is opaque but
    for a few pixels or a border (h, w), else None: nothing is painted in those, and the rest is not what an artist
    chose."""
    if picture.alpha is None or _same_alpha(picture, plate):
        return None, None
    if float((picture.alpha < 1 - _tolerance(picture)).mean()) <= _FEW:
        return None, np.asarray(1 - picture.alpha, np.float32)
    return picture.alpha, None


def _tolerance(picture: Picture) -> float:
    """Of an alpha that is as good as 1."""
    return max(picture.step, 1.0 / 255.0) * 0.75


def _same_alpha(picture: Picture, plate: Plate) -> bool:
    """True where an alpha says nothing about the edit: opaque everywhere, or the plate's own."""
    alpha, tolerance = picture.alpha, _tolerance(picture)
    if alpha is None or np.all(alpha >= 1.0 - tolerance):
        return True
    owns = [plate.alpha()] + ([plate.whole.alpha()] if isinstance(plate, ImagePlate) else [])
    return any(
        own is not None and own.shape == alpha.shape and bool(np.nanmax(np.abs(own - alpha)) <= tolerance)
        for own in owns
    )


def _read(file: Path, plate: Plate, layer: str) -> Picture:
    """A picture whose size may be that of the plate. layer: the shot's, which an EXR file may have too."""
    sizes = picture_sizes(file, layer)
    check_size(file, sizes, plate)
    if file.suffix.lower() in PHOTOSHOP:
        from paintover_engine.media import photoshop

        return photoshop.read_flattened(file)
    picture = read_picture(file, layer)
    holds_window = isinstance(plate, ImagePlate) and plate.data is not None and sizes[-1] == plate.window[2:]
    return picture.whole if picture.whole is not None and holds_window else picture


def _read_painting(file: Path, frame: int, plate: Plate, info: SourceInfo) -> Picture:
    """The picture of a keyframe; of a Photoshop file that `export_frame` wrote, what lies above the plate."""
    check_file(file)
    if file.suffix.lower() not in PHOTOSHOP:
        return _read(file, plate, info.layer)
    check_size(file, picture_sizes(file), plate)
    from paintover_engine.media import photoshop  # takes longer than all else that a worker starts with

    return photoshop.read_painting(file, frame, plate, info)


def _to_working(file: Path, picture: Picture, plate: Plate, info: SourceInfo) -> tuple[NDArray[np.float32], float]:
    """(h, w, 3) in the encoding of `Plate.working`, at the picture's size, and the step of the result. Adds to the
    picture's notes."""
    if not picture.step:
        return _float_to_working(file, picture, plate, info), 0.0
    rgb = _by_profile(file, picture, plate, info)
    if info.scene_linear:
        picture.notes.append(
            f"'{file.name}' has integer samples, which are taken as sRGB-encoded: the shot is scene-linear."
        )
        return rgb, picture.step
    return colour.to_working(rgb, info.colorspace), picture.step


def _by_profile(file: Path, picture: Picture, plate: Plate, info: SourceInfo) -> NDArray[np.float32]:
    """Colours converted from the picture's own profile to the plate's, or to sRGB where it has none; exactly the
    plate's wherever they come from those. Nothing is done where both mean the same."""
    target = b"" if info.scene_linear else plate_profile(plate)
    if not picture.icc or picture.icc == target:
        return picture.rgb
    into, name = profiles.srgb(), "sRGB"
    try:
        profile = profiles.read_profile(picture.icc)
        if target and (own := profiles.read_profile(target)).space == "rgb":
            into, name = target, f"the shot's '{own.name}'"
        rgb, original = picture.rgb, picture.original
        if not profiles.same(profile, into):
            samples = rgb[..., :1] if profile.space == "gray" else rgb
            rgb = np.clip(profiles.convert(samples, profile, into), 0.0, 1.0)
            tolerance = np.full(samples.shape[2], max(1.01 * picture.step, 1e-4), np.float32)
            original = original or profiles.Original(samples, profile, tolerance)
            picture.notes.append(f"'{file.name}' is converted from its colour profile '{profile.name}' to {name}.")
        if original is None or picture.size != (plate.width, plate.height):
            return rgb
        colours = np.clip(plate.working() if info.scene_linear else colour.finite(plate.rgb()), 0.0, 1.0)
        return np.where(original.holds(colours, into)[..., None], colours, rgb)
    except profiles.Unusable:
        picture.notes.append(f"'{file.name}' has a colour profile that cannot be used; its values are taken as {name}.")
        return picture.rgb


def _float_to_working(file: Path, picture: Picture, plate: Plate, info: SourceInfo) -> NDArray[np.float32]:
    """Float samples: of a scene-linear shot in its space, unless the file names another; of a display-encoded one
    scene-linear too, by the convention of all formats that hold them, unless they plainly agree with the plate as they
    are (a result that Paintover itself wrote as EXR)."""
    finite = np.isfinite(picture.rgb)
    stated = picture.colorspace
    if info.scene_linear:
        space = stated if stated and colour.is_scene_linear(stated) else info.colorspace
    else:
        space = stated or colour.SCENE_LINEAR
        as_it_is = colour.to_working(picture.rgb, info.colorspace)
        linear = colour.to_working(picture.rgb, space)
        own = plate.working()
        if _difference_from(as_it_is, own, file, plate) <= _difference_from(linear, own, file, plate):
            space = info.colorspace
    if space != info.colorspace:
        picture.notes.append(f"'{file.name}' is converted from {space} to the encoding of the shot.")
    return np.where(finite, colour.to_working(picture.rgb, space), np.nan).astype(np.float32)


def _difference_from(picture: NDArray[np.float32], own: NDArray[np.float32], file: Path, plate: Plate) -> float:
    """The median difference between a picture and the plate, both as small pictures."""
    size = (min(256, plate.width), min(256, plate.height))
    small, reference = (cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (picture, own))
    return float(np.median(np.abs(small - reference)))


def read_matte(file: Path, plate: Plate, notes: list[str]) -> NDArray[np.float32]:
    """(H, W) 0..1 from a picture's alpha where that says anything, else from its grey. Adds to `notes`.

    Raises PaintoverError where the picture cannot be read, or has neither the plate's size nor its aspect."""
    picture = _read(file, plate, "")
    alpha = picture.alpha
    if alpha is not None and np.ptp(alpha) > 0:
        matte = alpha
    else:
        matte = picture.rgb.mean(axis=2, dtype=np.float32)
    # What it is compared with does not tell a matte's place: the display window counts, where both are of its size.
    placement = place(file, np.repeat(matte[..., None], 3, axis=2), plate, plate.working())
    if placement.words:
        notes.append(f"'{file.name}' {placement.words}.")
    placed = placement.put(np.ascontiguousarray(matte), np.zeros((plate.height, plate.width), np.float32))
    return np.clip(placed, 0.0, 1.0)
