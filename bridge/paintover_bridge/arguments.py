"""What people type, read before any engine is asked: frame numbers, pictures, ranges, parameters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paintover_bridge.errors import bad_input

if TYPE_CHECKING:
    from paintover_bridge.messages import DragPoint

_RANGE = re.compile(r"(-?\d+)-(-?\d+)")
_FRAME_IMAGE = re.compile(r"([+-]?\d+)=(.+)", re.DOTALL)
_DRAG = re.compile(r"([+-]?\d+)=([^,:]+),([^,:]+):([^,:]+),([^,:]+)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", re.IGNORECASE)
_JOB = re.compile(r"(?:jobs/)?(\d+)")
_PATTERN = re.compile(r"%0?\d*d|#|@")


@dataclass(frozen=True)
class KeyframeFile:
    """A painted frame as given: its number, its picture, and the matte that says where the edit applies, if any; or a
    correction, whose picture is a matte, or which has no picture but the points of a drag, each x, y, to_x, to_y. kind:
    "paint", "holdout", "roto" or "drag"."""

    frame: int
    picture: str | None
    matte: str | None
    kind: str = "paint"
    drag: tuple[DragPoint, ...] = ()


def parse_frame_images(option: str, given: Iterable[str]) -> dict[int, str]:
    """FRAME=IMAGE texts by frame number.

    Raises ClientError for a malformed text, a frame given twice, or an image file that is not there."""
    images: dict[int, str] = {}
    for text in given:
        match = _FRAME_IMAGE.fullmatch(text)
        if not match:
            raise bad_input(f"{option} '{text}' is not FRAME=IMAGE; write it like {option} 12=painted.png.")
        frame, image = int(match[1]), os.path.expanduser(match[2])
        if frame in images:
            raise bad_input(f"{option} gives frame {frame} twice, {images[frame]} and {image}; keep one of them.")
        if not os.path.isfile(image):
            wrong = "is a folder" if os.path.isdir(image) else "does not exist"
            raise bad_input(f"The image {image} of {option} {frame} {wrong}; give the path of an image file.")
        images[frame] = image
    return images


def parse_keyframes(pictures: Iterable[str], mattes: Iterable[str]) -> list[KeyframeFile]:
    """The keyframes of `--keyframe` and `--matte`, by ascending frame. Raises ClientError as `parse_frame_images`,
    and for a matte without its keyframe."""
    by_frame = parse_frame_images("--keyframe", pictures)
    matte_by_frame = parse_frame_images("--matte", mattes)
    for frame in matte_by_frame:
        if frame not in by_frame:
            frames = ", ".join(map(str, sorted(by_frame)))
            others = f"; keyframes are at {frames}" if frames else ""
            raise bad_input(f"--matte gives frame {frame}, which no --keyframe gives{others}.")
    return [KeyframeFile(frame, by_frame[frame], matte_by_frame.get(frame)) for frame in sorted(by_frame)]


def parse_drags(given: Iterable[str]) -> dict[int, list[DragPoint]]:
    """FRAME=X,Y:X,Y texts, the points by frame number. Raises ClientError for a malformed text."""
    drags: dict[int, list[DragPoint]] = {}
    for text in given:
        match = _DRAG.fullmatch(text.replace(" ", ""))
        try:
            if match is None:
                raise ValueError(text)
            x, y, to_x, to_y = (float(number) for number in match.groups()[1:])
        except ValueError:
            raise bad_input(
                f"--drag '{text}' is not FRAME=X,Y:X,Y; write it like --drag 12=410,220:418,224, in pixels."
            ) from None
        drags.setdefault(int(match[1]), []).append((x, y, to_x, to_y))
    return drags


def parse_corrections(
    holdouts: Iterable[str], rotos: Iterable[str], drags: Iterable[str], keyframes: Iterable[KeyframeFile]
) -> list[KeyframeFile]:
    """The corrections of `--hold`, `--roto` and `--drag`, by ascending frame. Raises ClientError as
    `parse_frame_images` and `parse_drags`, for a frame that has two of them, and for the frame of a keyframe."""
    held, drawn = parse_frame_images("--hold", holdouts), parse_frame_images("--roto", rotos)
    dragged = parse_drags(drags)
    by_option = {"--hold": held.keys(), "--roto": drawn.keys(), "--drag": dragged.keys()}
    painted = {keyframe.frame for keyframe in keyframes}
    for frame in sorted({*held, *drawn, *dragged}):
        options = [option for option, frames in by_option.items() if frame in frames]
        if len(options) > 1:
            raise bad_input(f"Frame {frame} has a {' and a '.join(options)}; give one of them.")
        if frame in painted:
            raise bad_input(
                f"{options[0]} gives frame {frame}, which is a keyframe: say where it is painted with --matte, or "
                "correct another frame."
            )
    given = [KeyframeFile(frame, image, None, "holdout") for frame, image in held.items()]
    given += [KeyframeFile(frame, image, None, "roto") for frame, image in drawn.items()]
    given += [KeyframeFile(frame, None, None, "drag", tuple(points)) for frame, points in dragged.items()]
    return sorted(given, key=lambda each: each.frame)


def parse_range(text: str, option: str = "--range") -> tuple[int, int]:
    """ "10-20", also with negative numbers ("-5-10", "-10--5"). Raises ClientError for anything else."""
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if not match:
        raise bad_input(
            f"{option} '{text}' is not FIRST-LAST; write it like {option} 10-48, or -5-10 from frame -5 on."
        )
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise bad_input(f"{option} {text} ends at frame {last}, before it starts at {first}; write {last}-{first}.")
    return first, last


def parse_parameters(given: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE texts. Raises ClientError for a malformed text or a name given twice."""
    parameters: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise bad_input(f"-p '{text}' is not NAME=VALUE; see `paintover methods` for the names.")
        if name in parameters:
            raise bad_input(f"-p gives {name} twice, {parameters[name]} and {value.strip()}; keep one of them.")
        parameters[name] = value.strip()
    return parameters


def parse_size(text: str) -> int:
    """Bytes for "500M", "10G", "0" (decimal units, as disks are sold). Raises ClientError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise bad_input(f"'{text}' is no size; write it like 500M or 10G.")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))


def parse_job(text: str) -> str:
    """ "jobs/3" for "3" or "jobs/3". Raises ClientError for anything else."""
    match = _JOB.fullmatch(text)
    if not match:
        raise bad_input(f"'{text}' is no job; give its number, as `paintover jobs` lists it.")
    return f"jobs/{int(match[1])}"


def check_output(output: str, *, may_exist: bool) -> None:
    """Makes the last folder that OUT needs, where the one above is there. may_exist: OUT is replaced or versioned.

    Raises ClientError for an OUT that plainly cannot be written; the engine judges all else."""
    path = os.path.abspath(os.path.expanduser(output))
    if not may_exist and os.path.isfile(path):
        raise bad_input(f"'{path}' exists; add --overwrite or choose another name.")
    folder = os.path.dirname(path)
    if os.path.isdir(folder):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise bad_input(f"'{folder}' cannot be written to; choose another place.")
        return
    try:
        os.mkdir(folder)
    except FileNotFoundError as error:
        above = os.path.dirname(folder)
        raise bad_input(
            f"There is no folder '{folder}' to write to, and none '{above}' to make it in; check the path."
        ) from error
    except OSError as error:
        raise bad_input(f"The folder '{folder}' cannot be made ({error.strerror}); choose another place.") from error


def check_source(source: str) -> None:
    """Raises ClientError for a source that plainly is not there; the engine judges all else."""
    if not os.path.exists(os.path.expanduser(source)) and not _PATTERN.search(source):
        raise bad_input(
            f"The source {source} does not exist; "
            "give a video file, a folder of numbered images, or a pattern such as shot.%04d.exr."
        )
