"""Tells when an editor has saved a picture: once per save, and not before the file is whole.

Editors save in many ways: over the old file in place, piece by piece; into another file that is then renamed; under
another name, or as another kind. All that ends as a picture of the watched name in the watched folder counts.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paintover_bridge.errors import ClientError

PICTURES = (".psd", ".psb", ".png", ".tif", ".tiff", ".exr", ".jpg", ".jpeg")
UNREADABLE = (".xcf", ".kra", ".afphoto", ".af", ".clip", ".ora", ".procreate")
SETTLED_SECONDS = 0.15  # a file that did not change for so long, and is whole, is saved
TORN_SECONDS = 2.0  # one that is not whole is taken for as it is after so long, for the engine to say what is wrong
POLL_SECONDS = 0.5  # folders on servers tell nothing: they are looked at
_TICK_SECONDS = 0.05
_BLOCK = 1 << 20

State = tuple[int, int, int]  # of a file: inode, size, nanoseconds of its last change


@dataclass
class _Seen:
    """A file that changed and may still be written. since: when it was first seen in this state, by the monotonic
    clock."""

    state: State
    since: float


class Saves:
    """Watches a picture's folder.

    taken(path): called from the watcher's thread for each save, with the file that holds it.
    foreign(path): called once for each file of the picture's name that is of an editor's own kind, which no one reads.
    failed(error): called when the folder cannot be watched any more.
    known: whether what lies there now was seen already, so that only later saves count.
    """

    def __init__(
        self,
        picture: Path,
        taken: Callable[[Path], None],
        foreign: Callable[[Path], None],
        failed: Callable[[ClientError], None],
        *,
        known: bool,
    ) -> None:
        self._folder, self._stem = picture.parent, picture.stem
        self._taken, self._foreign, self._failed = taken, foreign, failed
        self._stopped = threading.Event()
        self._stirred = threading.Event()
        self._finished: dict[Path, State] = {}
        self._digests: dict[Path, str] = {}
        self._pending: dict[Path, _Seen] = {}
        self._told: set[Path] = set()
        if known:
            self._finished = dict(self._files())
            self._digests = {path: digest(path) for path in self._finished}
        self._observer = _observe(self._folder, self._stirred.set)
        self._thread = threading.Thread(target=self._run, name="paintover-saves", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends watching."""
        self._stopped.set()
        self._stirred.set()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(2)
        self._thread.join(2)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._look()
            except OSError as error:
                self._failed(
                    ClientError(
                        "NOT_FOUND",
                        f"The folder {self._folder} cannot be watched any more ({error.strerror or error}).",
                    )
                )
                return
            self._stirred.clear()
            self._stirred.wait(_TICK_SECONDS if self._pending else POLL_SECONDS)

    def _files(self) -> list[tuple[Path, State]]:
        """The picture's files as they are now."""
        files = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                name = Path(entry.name)
                if name.stem != self._stem or name.suffix.lower() not in (*PICTURES, *UNREADABLE):
                    continue
                try:
                    status = os.stat(entry.path)
                except FileNotFoundError:
                    continue  # it was a name on the way to another one
                if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                    continue  # no picture, or none yet
                files.append((Path(entry.path), (status.st_ino, status.st_size, status.st_mtime_ns)))
        return files

    def _look(self) -> None:
        now = time.monotonic()
        files = dict(self._files())
        for path in [path for path in self._pending if path not in files]:
            del self._pending[path]
        for path, state in files.items():
            if self._finished.get(path) == state:
                self._pending.pop(path, None)
                continue
            if path.suffix.lower() in UNREADABLE:
                if path not in self._told:
                    self._told.add(path)
                    self._foreign(path)
                continue
            seen = self._pending.get(path)
            if seen is None or seen.state != state:
                self._pending[path] = _Seen(state, now)
            elif self._is_settled(path, now - seen.since):
                self._finish(path, state)

    def _is_settled(self, path: Path, seconds: float) -> bool:
        try:
            return seconds >= TORN_SECONDS or (seconds >= SETTLED_SECONDS and is_whole(path))
        except OSError:
            return False  # an editor that locks what it writes

    def _finish(self, path: Path, state: State) -> None:
        try:
            found = digest(path)
        except OSError:
            return  # gone, or locked: the next look tells
        del self._pending[path]
        self._finished[path] = state
        if self._digests.get(path) == found:
            return  # saved as it was
        self._digests[path] = found
        self._taken(path)


def _observe(folder: Path, stirred: Callable[[], None]) -> Any:
    """The system's own watch on a folder; None where there is none, or it is used up."""
    try:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type in ("created", "modified", "moved", "closed"):
                    stirred()

        observer = Observer()
        observer.schedule(Handler(), str(folder))
        observer.start()
    except (ImportError, OSError, RuntimeError):
        return None
    return observer


def digest(path: Path) -> str:
    """Of a file's contents."""
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def is_whole(path: Path) -> bool:
    """Whether a picture's file reaches to its end, as far as its structure tells without unpacking it. A kind whose end
    does not show is whole once it holds anything."""
    size = os.path.getsize(path)
    if size == 0:
        return False
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
            return 8 <= int(first) < size  # where its directory begins: the last that is written
        if start[:2] == b"\xff\xd8":
            file.seek(max(0, size - 2))
            return file.read(2) == b"\xff\xd9"
    return True


def _whole_psd(file: Any, size: int) -> bool:
    """Whether all sections of a Photoshop file are there, up to the last row of its flattened picture."""
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
