"""What writers of a result have in common: files are staged beside their place, and moved there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import filelock

from paintover_engine.durable import replace_files
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.plate import Plate


class Sink(ABC):
    """Writes the frames of a shot, given in ascending order, into a staging folder beside the output, then renames.

    A context manager: it aborts where its block raises. OSErrors are raised as PaintoverErrors (see `failed`).

    path: the output as the user named it. overwrite: whether `stage` may name files that exist.
    guard: called before any file is replaced; raises PaintoverError where one is an input of the job.
    notes: sentences for the user about what the output's format cannot hold.
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
        with contextlib.suppress(OSError, NotImplementedError):  # some network shares do not support locks
            self._lock.acquire(timeout=0)

    @abstractmethod
    def write(self, plate: Plate) -> None:
        """Adds a frame. Raises PaintoverError where it cannot be written."""

    @abstractmethod
    def _finish(self) -> None:
        """Writes the frames that are still buffered and completes the staged files. Raises OSError."""

    @abstractmethod
    def _close(self) -> None:
        """Closes files and ends threads without completing the staged files; may be called twice."""

    @abstractmethod
    def _renames(self) -> list[tuple[Path, Path]]:
        """Pairs of a staged file and its final path, whose folder exists.

        Raises PaintoverError where a final path exists and must not be replaced."""

    def note(self, sentence: str) -> None:
        """Adds a sentence to `notes` unless it is there."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def stage(self) -> list[tuple[Path, Path]]:
        """Completes the staged files and returns pairs of a staged file and its final path.

        The caller renames them, then calls `abort`, which removes the staging folder. Raises PaintoverError."""
        try:
            self._finish()
            self._close()
            self._guard()
            return self._renames()
        except OSError as error:
            raise failed(self.path, error) from error

    def stage_beside(self, final: Path, text: str) -> tuple[Path, Path]:
        """Stages a small file to be published with the staged ones; returns its path and the final one. For after
        `stage`. Raises PaintoverError."""
        staged = self._staging / final.name
        try:
            staged.write_text(text, encoding="utf-8")
        except OSError as error:
            raise failed(final, error) from error
        return staged, final

    def commit(self) -> None:
        """Moves all files to their final paths. Raises PaintoverError, and leaves none, where that fails."""
        try:
            replace_files(self.stage())
        except OSError as error:
            raise failed(self.path, error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Closes the output, and removes the staging folder with every file that was not renamed."""
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


LOCK = ".lock"  # a file of the staging folder, locked by its writer


def _lock(staging: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(staging / LOCK, thread_local=False)


def _clear_abandoned(path: Path) -> None:
    """Removes staging folders of the same output whose writer was killed: their locks are free."""
    for staging in path.parent.glob(f".{glob.escape(path.name)}-*.partial"):
        if not (staging / LOCK).exists():
            continue
        with contextlib.suppress(OSError, NotImplementedError, filelock.Timeout):
            with _lock(staging).acquire(timeout=0):
                pass
            shutil.rmtree(staging, ignore_errors=True)


def failed(path: Path, error: Exception | str) -> PaintoverError:
    """The error for an output that cannot be written.

    error: an OSError, whose errno chooses the code and the sentence, or the reason as text.
    """
    if holds_no_files(path.parent):
        return PaintoverError(Code.INVALID_ARGUMENT, f"'{path.parent}' takes no files; choose another place.")
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or _full(path):
        message = f"The disk that '{path}' is written to is full; make room there."
        return PaintoverError(Code.RESOURCE_EXHAUSTED, message)
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PaintoverError(Code.PERMISSION_DENIED, f"'{path.parent}' cannot be written to; choose another place.")
    reason = os.strerror(number) if number else " ".join(str(error).split()).rstrip(".")
    return PaintoverError(Code.INTERNAL, f"'{path}' cannot be written: {reason}.")


def holds_no_files(folder: Path) -> bool:
    """Whether a folder lies on a file system without storage, such as /proc."""
    try:
        return shutil.disk_usage(folder).total == 0
    except OSError:
        return False


def _full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < 64 * 1024
    except OSError:
        return False
