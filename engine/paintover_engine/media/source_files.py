"""The files of a source as they were when its shot was made, so that a change under a job is noticed.

A file is taken for unchanged while its size, its modification time and its change time are what they were. The change
time (`st_ctime`) is set by the file system at every write, rename and change of attributes, and no program can set it:
content that was replaced in place is noticed even where size and modification time are the same. On Windows, where it
is the time of creation, modification time and size alone tell.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.plate import Plate

_SAMPLE = 64 * 1024  # bytes


class Reader(Protocol):
    """Reads frames by number; what it meets on the way to one it yields too. concurrent: several threads may read at a
    time."""

    @property
    def concurrent(self) -> bool: ...

    def read_to(self, number: int) -> Iterator[Plate]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class FileState:
    """size in bytes; modified, changed: nanoseconds since 1970."""

    size: int
    modified: int
    changed: int


class SourceFiles:
    """The files that a shot's frames are read from.

    path: what the shot names. files: by frame number; of a video one file, which has all frames."""

    def __init__(self, path: str, files: Mapping[int, Path] | Path) -> None:
        self._path = path
        self._files = files
        self._states = {number: _state(file) for number, file in self._all().items()}

    def _all(self) -> Mapping[int, Path]:
        return {0: self._files} if isinstance(self._files, Path) else self._files

    def fingerprint(self, *identity: object) -> str:
        """64 hex digits of the files' states and of what else tells the source from others."""
        states = [(number, state.size, state.modified, state.changed) for number, state in self._states.items()]
        return hashlib.sha256(repr((*identity, states)).encode()).hexdigest()

    def content_digest(self) -> str:
        """64 hex digits of the files' sizes, beginnings and ends, which are the same wherever they are copied to.

        Raises PaintoverError where a file cannot be read."""
        found = hashlib.sha256()
        for number, file in self._all().items():
            size = self._states[number].size
            found.update(f"{number} {size} ".encode())
            try:
                with open(file, "rb") as opened:
                    found.update(opened.read(_SAMPLE))
                    opened.seek(max(0, size - _SAMPLE))
                    found.update(opened.read(_SAMPLE))
            except OSError as error:
                raise PaintoverError(
                    Code.PERMISSION_DENIED, f"The file '{file}' of the source cannot be read ({error.strerror})."
                ) from error
        return found.hexdigest()

    def check(self, number: int) -> None:
        """Raises PaintoverError where the file of a frame is not what it was. After a read it says whether what was
        read is that."""
        key = 0 if isinstance(self._files, Path) else number
        file = self._all()[key]
        if _state(file) != self._states[key]:
            raise changed(self._path, f"'{file.name}'" if file != Path(self._path) else "")


class CheckedReader:
    """A reader of a source's frames that yields none of a file that has changed."""

    def __init__(self, reader: Reader, files: SourceFiles) -> None:
        self._reader = reader
        self._files = files
        self.concurrent = reader.concurrent

    def read_to(self, number: int) -> Iterator[Plate]:
        """Yields what the reader does. Raises PaintoverError where a frame's file is not what it was, or as the reader
        does."""
        try:
            for plate in self._reader.read_to(number):
                self._files.check(plate.number)
                yield plate
        except PaintoverError:
            self._files.check(number)  # a file that is being written again is not damaged
            raise

    def close(self) -> None:
        self._reader.close()


def changed(path: str, file: str = "") -> PaintoverError:
    """The error for a source that is not what it was. file: which of its files that was seen at, quoted."""
    where = f" (at {file})" if file else ""
    return PaintoverError(
        Code.FAILED_PRECONDITION, f"'{path}' has changed{where} since the shot was made; make the shot anew."
    )


def _state(file: Path) -> FileState:
    try:
        status = os.stat(file)
    except OSError as error:
        raise PaintoverError(Code.NOT_FOUND, f"The file '{file}' of the source is missing; check the path.") from error
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
