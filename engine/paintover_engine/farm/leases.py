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
from typing import Protocol

from paintover_engine.errors import PaintoverError
from paintover_engine.jobs.objects import Objects

LEASE_SECONDS = 12.0
RENEWALS = 4  # in that time


class LeaseFiles(Protocol):
    """Where leases lie. Ages are by the clock of the place alone: those of machines may differ."""

    def create(self, key: str) -> bool:
        """Creates a lease; False where there is one."""

    def renew(self, key: str) -> None: ...

    def age(self, key: str) -> float | None:
        """Seconds since a lease was renewed; None where there is none."""

    def remove(self, key: str) -> bool:
        """Removes a lease; False where another process was quicker."""


class FolderLeases:
    """Leases in a folder that machines share."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder

    def create(self, key: str) -> bool:
        try:
            os.close(os.open(self._folder / key, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        return True

    def renew(self, key: str) -> None:
        with contextlib.suppress(OSError):  # taken over: what both compute is the same
            os.utime(self._folder / key)

    def age(self, key: str) -> float | None:
        try:
            with open(self._folder / key, "rb") as file:  # opening makes a network file system look at the server's
                renewed = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        clock = self._folder / f".clock-{uuid.uuid4().hex[:12]}"
        clock.touch()
        now = clock.stat().st_mtime
        clock.unlink(missing_ok=True)
        return now - renewed

    def remove(self, key: str) -> bool:
        aside = self._folder / f".{key}-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):
            (self._folder / key).rename(aside)
            aside.unlink()
            return True
        return False


class ObjectLeases:
    """Leases in an object store. Two processes that take over one at the same moment may both get it, which costs
    work and does no harm."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._clock = f"leases/.clock-{uuid.uuid4().hex[:12]}"

    def create(self, key: str) -> bool:
        return self._objects.create(f"leases/{key}", b"1")

    def renew(self, key: str) -> None:
        with contextlib.suppress(PaintoverError):  # the store does not answer just now
            self._objects.write(f"leases/{key}", b"1")

    def age(self, key: str) -> float | None:
        renewed = self._objects.modified(f"leases/{key}")
        if renewed is None:
            return None
        self._objects.write(self._clock, b"1")
        now = self._objects.modified(self._clock)
        self._objects.remove(self._clock)
        return None if now is None else now - renewed

    def remove(self, key: str) -> bool:
        self._objects.remove(f"leases/{key}")
        return True


class Leases:
    """Leases of one process. Renews what it holds until it is closed."""

    def __init__(self, files: LeaseFiles) -> None:
        self._files = files
        self._held: set[str] = set()
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
        for key in self._held:
            self._files.remove(key)

    def take(self, key: str) -> bool:
        """Claims a stage; False where another process has it."""
        if not self._files.create(key):
            age = self._files.age(key)
            if age is not None and (age <= LEASE_SECONDS or not self._files.remove(key)):
                return False
            if not self._files.create(key):
                return False
        self._held.add(key)
        return True

    def release(self, key: str) -> None:
        """Gives a claim up: the stage is stored, or failed."""
        self._held.discard(key)
        self._files.remove(key)

    def _renew(self) -> None:
        while not self._closed.wait(LEASE_SECONDS / RENEWALS):
            for key in list(self._held):
                self._files.renew(key)
