"""Reports each save of a picture once, when its file is complete.

Editors save in many ways: in place and in pieces; into a temporary file that is then renamed; under another extension.
Every picture file with the watched stem in the watched folder counts.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paintover_bridge.errors import ClientError
from paintover_bridge.native_files import NATIVE, ZIPPED

PICTURES = (".psd", ".psb", ".png", ".tif", ".tiff", ".exr", ".jpg", ".jpeg")
UNREADABLE = (".afphoto", ".af", ".clip", ".procreate")
SETTLED_SECONDS = 0.15  # a complete file that has not changed for so long is a save
INCOMPLETE_SECONDS = 2.0  # an incomplete file is reported after so long; the engine then names what is wrong with it
POLL_SECONDS = 0.5  # network folders send no notifications
_TICK_SECONDS = 0.05
_BLOCK = 1 << 20

FileState = tuple[int, int, int]
"""A file's inode, size in bytes, and modification time in nanoseconds."""


@dataclass
class _PendingSave:
    """A changed file that may still be being written. since: when it was first seen in this state,
    `time.monotonic()`."""

    state: FileState
    since: float


class SaveWatcher:
    """Watches the folder of a picture, from a thread that calls the callbacks.

    on_save(path): for each save, with the file that holds it.
    on_unreadable(path): once for each file of the picture's stem in a format that the engine cannot read.
    on_error(error): when the folder cannot be watched any more; the watcher then ends.
    existing_known: True reports only saves from now on; False reports the newest file that exists now as well.
    """

    def __init__(
        self,
        picture: Path,
        on_save: Callable[[Path], None],
        on_unreadable: Callable[[Path], None],
        on_error: Callable[[ClientError], None],
        *,
        existing_known: bool,
    ) -> None:
        self._folder, self._stem = picture.parent, picture.stem
        self._on_save, self._on_unreadable, self._on_error = on_save, on_unreadable, on_error
        self._stopped = threading.Event()
        self._changed = threading.Event()
        self._finished: dict[Path, FileState] = {}
        self._digests: dict[Path, str] = {}
        self._pending: dict[Path, _PendingSave] = {}
        self._reported: set[Path] = set()
        existing = sorted(self._files(), key=lambda file: file[1][2])  # by time
        self._finished = dict(existing if existing_known else existing[:-1])
        self._digests = {path: digest(path) for path in self._finished}
        self._observer = _observe(self._folder, self._changed.set)
        self._thread = threading.Thread(target=self._run, name="paintover-saves", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends watching."""
        self._stopped.set()
        self._changed.set()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(2)
        self._thread.join(2)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._scan()
            except OSError as error:
                self._on_error(
                    ClientError(
                        "NOT_FOUND",
                        f"The folder {self._folder} cannot be watched any more ({error.strerror or error}).",
                    )
                )
                return
            self._changed.clear()
            self._changed.wait(_TICK_SECONDS if self._pending else POLL_SECONDS)

    def _files(self) -> list[tuple[Path, FileState]]:
        """The files of the picture's stem and their present states."""
        files = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                name = Path(entry.name)
                if name.stem != self._stem or name.suffix.lower() not in (*PICTURES, *NATIVE, *UNREADABLE):
                    continue
                try:
                    status = os.stat(entry.path)
                except FileNotFoundError:
                    continue  # renamed since the listing
                if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                    continue
                files.append((Path(entry.path), (status.st_ino, status.st_size, status.st_mtime_ns)))
        return files

    def _scan(self) -> None:
        now = time.monotonic()
        files = dict(self._files())
        for path in [path for path in self._pending if path not in files]:
            del self._pending[path]
        for path, state in files.items():
            if self._finished.get(path) == state:
                self._pending.pop(path, None)
                continue
            if path.suffix.lower() in UNREADABLE:
                if path not in self._reported:
                    self._reported.add(path)
                    self._on_unreadable(path)
                continue
            seen = self._pending.get(path)
            if seen is None or seen.state != state:
                self._pending[path] = _PendingSave(state, now)
            elif self._is_settled(path, now - seen.since):
                self._finish(path, state)

    def _is_settled(self, path: Path, seconds: float) -> bool:
        try:
            return seconds >= INCOMPLETE_SECONDS or (seconds >= SETTLED_SECONDS and is_whole(path))
        except OSError:
            return False  # locked by the editor

    def _finish(self, path: Path, state: FileState) -> None:
        try:
            found = digest(path)
        except OSError:
            return  # gone or locked: the next scan decides
        del self._pending[path]
        self._finished[path] = state
        if self._digests.get(path) == found:
            return  # saved without a change
        self._digests[path] = found
        self._on_save(path)


def _observe(folder: Path, changed: Callable[[], None]) -> Any:
    """A started watchdog observer that calls `changed`; None where the system has no notifications or no watches
    left."""
    try:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type in ("created", "modified", "moved", "closed"):
                    changed()

        observer = Observer()
        observer.schedule(Handler(), str(folder))
        observer.start()
    except (ImportError, OSError, RuntimeError):
        return None
    return observer


def digest(path: Path) -> str:
    """The BLAKE2b digest of a file's contents, hexadecimal."""
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def is_whole(path: Path) -> bool:
    """Whether a picture file is complete, judged by its structure without decoding it. A format whose end cannot be
    recognised counts as complete once the file is not empty."""
    size = os.path.getsize(path)
    if size == 0:
        return False
    if path.suffix.lower() in ZIPPED:
        return zipfile.is_zipfile(path)  # its directory, which is written last
    with open(path, "rb") as file:
        start = file.read(8)
        if start[:4] == b"8BPS":
            return _whole_psd(file, size)
        if start == b"\x89PNG\r\n\x1a\n":
            file.seek(max(0, size - 12))
            return file.read(12)[4:8] == b"IEND"
        if start[:4] in (b"II*\0", b"MM\0*"):
            first: int
            (first,) = struct.unpack("<I" if start[:1] == b"I" else ">I", start[4:8])
            return 8 <= int(first) < size  # the first directory, which writers put last
        if start[:2] == b"\xff\xd8":
            file.seek(max(0, size - 2))
            return file.read(2) == b"\xff\xd9"
    return True


def _whole_psd(file: Any, size: int) -> bool:
    """Whether a Photoshop file holds all its sections, up to the last row of the flattened image."""
    try:
        file.seek(4)
        version, channels, height, width, depth = struct.unpack(">H6xHIIH", file.read(20))
        position = 26
        for wide in (False, False, version == 2):
            file.seek(position)
            (length,) = struct.unpack(">Q" if wide else ">I", file.read(8 if wide else 4))
            position += length + (8 if wide else 4)
        file.seek(position)
        (compression,) = struct.unpack(">H", file.read(2))
        position += 2
        rows = height * channels
        if rows > size:
            return False
        if compression == 0:
            return bool(position + rows * ((width * depth + 7) // 8) <= size)
        if compression == 1:
            counts = file.read(rows * 2 * version)
            written = struct.unpack(f">{rows}{'I' if version == 2 else 'H'}", counts)
            return bool(position + len(counts) + sum(written) <= size)
        return position < size
    except struct.error:
        return False
