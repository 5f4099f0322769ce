"""Claims on stages that are being computed, on a folder that several machines share.

A lease only saves work: stages are pure and are published whole or not at all, so two machines that compute the same
one do no harm. It is a file that is created exclusively and whose modification time its holder renews. A lease that was
not renewed for `LEASE_SECONDS` is of a machine that died, and is taken over.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from pathlib import Path
from types import TracebackType

LEASE_SECONDS = 12.0
RENEWALS = 4  # in that time


class Leases:
    """Leases of one process. folder: on the shared store. Renews what it holds until it is closed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._clock = folder / f".clock-{uuid.uuid4().hex[:12]}"
        self._held: set[Path] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)
        self._thread.start()

    def __enter__(self) -> Leases:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        for path in [*self._held, self._clock]:
            path.unlink(missing_ok=True)

    def take(self, key: str) -> bool:
        """Claims a stage; False where another process has it."""
        path = self._folder / key
        if not self._create(path) and not (self._is_stale(path) and self._remove(path) and self._create(path)):
            return False
        self._held.add(path)
        return True

    def release(self, key: str) -> None:
        """Gives a claim up: the stage is stored, or failed."""
        path = self._folder / key
        self._held.discard(path)
        path.unlink(missing_ok=True)

    @staticmethod
    def _create(path: Path) -> bool:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        return True

    def _is_stale(self, path: Path) -> bool:
        """By the file server's clock alone: those of machines may differ."""
        try:
            with open(path, "rb") as file:  # opening makes a network file system look at the server's file
                renewed = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return True
        self._clock.touch()
        return self._clock.stat().st_mtime - renewed > LEASE_SECONDS

    @staticmethod
    def _remove(path: Path) -> bool:
        """Removes a stale lease; False where another process was quicker."""
        aside = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
            aside.unlink()
            return True
        return False

    def _renew(self) -> None:
        while not self._closed.wait(LEASE_SECONDS / RENEWALS):
            for path in list(self._held):
                with contextlib.suppress(OSError):  # taken over: what both compute is the same
                    os.utime(path)
