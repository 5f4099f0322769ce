"""Where a result is written: checked before any work, staged beside its place, moved there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import filelock

from paintover_engine.durable import replace_files
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import sequence
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.inputs import refuse_inputs
from paintover_engine.media.plate import Plate

VIDEOS = (".mov", ".mp4", ".mkv")
IMAGES = (".exr", ".png", ".tif", ".tiff", ".dpx")


class Sink(ABC):
    """Takes frames in ascending order. As a context manager it aborts when an exception passes.

    guard: raises PaintoverError where a file would be replaced that must not be; called before any is.
    notes: sentences that the user should read about what the output cannot hold.
    """

    def __init__(self, path: Path, overwrite: bool, guard: Callable[[], None]) -> None:
        self.path = path
        self.notes: list[str] = []
        self._overwrite = overwrite
        self._guard = guard
        try:
            _clear_abandoned(path)
            self._staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".partial", dir=path.parent))
        except OSError as error:
            raise failed(path, error) from error
        self._lock = _lock(self._staging)
        with contextlib.suppress(OSError, NotImplementedError):  # some shares know no locks
            self._lock.acquire(timeout=0)

    @abstractmethod
    def write(self, plate: Plate) -> None:
        """Adds a frame. Raises PaintoverError where it cannot be written."""

    @abstractmethod
    def _finish(self) -> None:
        """Writes what is still held back, so that the staged files are whole."""

    @abstractmethod
    def _close(self) -> None:
        """Lets go of files and threads, without finishing."""

    @abstractmethod
    def _renames(self) -> list[tuple[Path, Path]]:
        """The staged files and their final paths, whose folder exists. Raises PaintoverError where one is taken."""

    def note(self, sentence: str) -> None:
        """Adds a sentence to `notes` once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def stage(self) -> list[tuple[Path, Path]]:
        """Finishes the files and returns them with their final paths, for whoever renames them; then call `abort`."""
        try:
            self._finish()
            self._close()
            self._guard()
            return self._renames()
        except OSError as error:
            raise failed(self.path, error) from error

    def commit(self) -> None:
        """Makes the output appear. Raises PaintoverError, and leaves nothing, where that fails."""
        try:
            replace_files(self.stage())
        except OSError as error:
            raise failed(self.path, error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Removes the staged files that were not renamed."""
        self._close()
        self._lock.release()
        shutil.rmtree(self._staging, ignore_errors=True)

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()


LOCK = ".lock"  # in a staging folder, held while it is written


def _lock(staging: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(staging / LOCK, thread_local=False)


def _clear_abandoned(path: Path) -> None:
    """Removes what a killed writer of the same output left: nobody holds its lock any more."""
    for staging in path.parent.glob(f".{glob.escape(path.name)}-*.partial"):
        if not (staging / LOCK).exists():
            continue
        with contextlib.suppress(OSError, NotImplementedError, filelock.Timeout):
            with _lock(staging).acquire(timeout=0):
                pass
            shutil.rmtree(staging, ignore_errors=True)


def failed(path: Path, error: Exception | str) -> PaintoverError:
    """The error for an output that cannot be written."""
    if _virtual(path.parent):
        return PaintoverError(Code.INVALID_ARGUMENT, f"'{path.parent}' takes no files; choose another place.")
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or _full(path):
        message = f"The disk that '{path}' is written to is full; make room there."
        return PaintoverError(Code.RESOURCE_EXHAUSTED, message)
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PaintoverError(Code.PERMISSION_DENIED, f"'{path.parent}' cannot be written to; choose another place.")
    reason = os.strerror(number) if number else " ".join(str(error).split()).rstrip(".")
    return PaintoverError(Code.INTERNAL, f"'{path}' cannot be written: {reason}.")


def _virtual(folder: Path) -> bool:
    """Whether a folder is of a file system without any room, such as /proc."""
    try:
        return shutil.disk_usage(folder).total == 0
    except OSError:
        return False


def _full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 64 * 1024
    except OSError:
        return False


def kind_of(path: Path, text: str) -> str:
    """ "video", "pattern" or "folder": what an output path asks for. Raises PaintoverError where it is none of them."""
    suffix = path.suffix.lower()
    if path.is_dir() or text.endswith(("/", os.sep)):
        return "folder"
    if suffix in VIDEOS:
        return "video"
    pattern = sequence.parse_pattern(str(path))
    if pattern is not None and pattern.extension in IMAGES:
        return "pattern"
    if not suffix:
        return "folder"
    if suffix in IMAGES and pattern is None:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"'{path}' names one image; give a folder or a pattern such as '{path.stem}.####{path.suffix}'.",
        )
    valid = ", ".join(VIDEOS + IMAGES)
    raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' cannot be written: '{suffix}' is not one of {valid}.")


def check_output(
    path: str | os.PathLike[str], info: SourceInfo, overwrite: bool = False, paintings: Sequence[str] = ()
) -> list[Path]:
    """Checks, cheaply and before any work, that an output can be written where it is asked for; returns its files.

    paintings: the paths of keyframes and mattes, which are never overwritten.
    Raises PaintoverError where the kind is unknown, the folder missing or not writable, the output there already
    (unless `overwrite`), or a file that the job reads.
    """
    out = _absolute(path)
    kind = kind_of(out, os.fspath(path))
    folder = _source_folder(info)
    if kind == "folder" and out.is_dir() and folder.is_dir() and out.samefile(folder):
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{out}' is the source itself; write to another place.")
    parent = out.parent
    if not parent.is_dir():
        raise PaintoverError(Code.NOT_FOUND, f"There is no folder '{parent}' to write '{out.name}' to; make it first.")
    if _virtual(parent):
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
    """The files that an output of the shot's frames consists of."""
    from paintover_engine.media.image_sink import output_names

    if kind == "video":
        return [out]
    names = output_names(out, kind == "pattern", info)
    return [names.path(number) for number in range(info.first, info.last + 1)]


def _source_folder(info: SourceInfo) -> Path:
    """The folder that holds a source's files."""
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
    """Opens an output for the frames of a shot, written in order from `info.first` to `info.last`.

    Raises PaintoverError as `check_output` does.
    """
    from paintover_engine.media.image_sink import ImageSink
    from paintover_engine.media.video_sink import VideoSink

    targets = check_output(path, info, overwrite, paintings)
    out = _absolute(path)
    kind = kind_of(out, os.fspath(path))
    guard = functools.partial(refuse_inputs, targets, info, paintings)  # links may be made while frames are written
    if kind == "video":
        return VideoSink(out, info, overwrite, guard)
    return ImageSink(out, kind == "pattern", info, overwrite, guard)
