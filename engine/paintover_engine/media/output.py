"""Where a result may be written, and by which writer: what an output path asks for is checked before any work."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import sequence
from paintover_engine.media.image_sink import IMAGE_SUFFIXES, ImageSink, output_names
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.inputs import refuse_inputs
from paintover_engine.media.sink import Sink, failed, holds_no_files
from paintover_engine.media.video_sink import VIDEO_SUFFIXES, VideoSink


def kind_of(path: Path, text: str) -> str:
    """What an output path names: "video" (by its suffix), "pattern" (numbered images) or "folder".

    text: the path as the user wrote it; a trailing slash marks a folder, which `path` has lost.
    Raises PaintoverError for one image without a number, and for a suffix that no writer has.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or text.endswith(("/", os.sep)):
        return "folder"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    pattern = sequence.parse_pattern(str(path))
    if pattern is not None and pattern.extension in IMAGE_SUFFIXES:
        return "pattern"
    if not suffix:
        return "folder"
    if suffix in IMAGE_SUFFIXES and pattern is None:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"'{path}' names one image; give a folder or a pattern such as '{path.stem}.####{path.suffix}'.",
        )
    valid = ", ".join(VIDEO_SUFFIXES + IMAGE_SUFFIXES)
    raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' cannot be written: '{suffix}' is not one of {valid}.")


SIDECAR = ".paintover.json"
"""What the name of an output's sidecar ends with."""


def sidecar_path(path: str | os.PathLike[str], info: SourceInfo) -> Path:
    """Where the sidecar of an output lies: "edited.mov.paintover.json" beside that video, "sh010.exr.paintover.json"
    beside the images sh010.####.exr, "paintover.json" in a folder."""
    out = _absolute(path)
    kind = kind_of(out, os.fspath(path))
    if kind == "video":
        return out.with_name(out.name + SIDECAR)
    if kind == "folder":
        return out / SIDECAR.lstrip(".")
    names = output_names(out, True, info)
    stem = names.prefix.rstrip("._- ") or "frames"
    return names.folder / f"{stem}{names.suffix}{SIDECAR}"


def check_sidecar(path: str | os.PathLike[str], info: SourceInfo, overwrite: bool) -> Path:
    """The path of an output's sidecar. Raises PaintoverError where a file of that name must not be replaced."""
    sidecar = sidecar_path(path, info)
    if sidecar.exists() and not overwrite:
        raise PaintoverError(
            Code.ALREADY_EXISTS, f"'{sidecar}' exists; add --overwrite, or choose another name for the output."
        )
    return sidecar


def check_output(
    path: str | os.PathLike[str], info: SourceInfo, overwrite: bool = False, paintings: Sequence[str] = ()
) -> list[Path]:
    """Checks that an output can be written, without opening or creating a file; returns its files' paths.

    paintings: paths of keyframes and mattes. They and the source are never overwritten.
    Raises PaintoverError where the path is of no known kind, its folder is missing or not writable, the output exists
    (unless `overwrite`), or one of its files is an input of the job.
    """
    out = _absolute(path)
    kind = kind_of(out, os.fspath(path))
    folder = _source_folder(info)
    if kind == "folder" and out.is_dir() and folder.is_dir() and out.samefile(folder):
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{out}' is the source itself; write to another place.")
    parent = out.parent
    if not parent.is_dir():
        raise PaintoverError(Code.NOT_FOUND, f"There is no folder '{parent}' to write '{out.name}' to; make it first.")
    if holds_no_files(parent):
        raise failed(out, "")
    for folder in (parent, out):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            message = f"'{folder}' cannot be written to; choose another place."
            raise PaintoverError(Code.PERMISSION_DENIED, message)
    if kind == "folder" and out.exists() and not out.is_dir():
        raise PaintoverError(Code.ALREADY_EXISTS, f"'{out}' is a file, not a folder; choose another name.")
    targets = _targets(out, kind, info)
    refuse_inputs(targets, info, paintings)
    if not overwrite and _exists(out, kind):
        raise PaintoverError(Code.ALREADY_EXISTS, f"'{out}' exists; add --overwrite or choose another name.")
    return targets


def _targets(out: Path, kind: str, info: SourceInfo) -> list[Path]:
    """The files that the frames of a shot are written to."""
    if kind == "video":
        return [out]
    names = output_names(out, kind == "pattern", info)
    return [names.path(number) for number in range(info.first, info.last + 1)]


def _source_folder(info: SourceInfo) -> Path:
    """The folder of a source's files."""
    source = Path(info.path)
    return source if source.is_dir() else source.parent


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(os.path.expanduser(os.fspath(path))))


def _exists(out: Path, kind: str) -> bool:
    if kind == "pattern":
        pattern = sequence.parse_pattern(str(out))
        return pattern is not None and pattern.folder.is_dir() and bool(sequence.on_disk(pattern).numbers)
    if kind == "folder":
        return out.is_dir() and bool(sequence.in_folder(out))
    return out.exists()


def open_sink(
    path: str | os.PathLike[str], info: SourceInfo, overwrite: bool = False, paintings: Sequence[str] = ()
) -> Sink:
    """Opens the writer of an output path, for frames in order from `info.first` to `info.last`.

    Parameters and errors are those of `check_output`.
    """
    targets = check_output(path, info, overwrite, paintings)
    out = _absolute(path)
    kind = kind_of(out, os.fspath(path))
    guard = functools.partial(refuse_inputs, targets, info, paintings)  # links may be made while frames are written
    if kind == "video":
        return VideoSink(out, info, overwrite, guard)
    return ImageSink(out, kind == "pattern", info, overwrite, guard)
