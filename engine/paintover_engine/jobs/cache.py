"""Keeps outputs that can be computed again within a budget of bytes: stages' tensors, and pictures to look at.

Nothing is stored about them but the files: sizes are read when the daemon starts, and the order of use is that of the
folders' modification times, so that it survives a restart. A clock that jumps only disturbs that order.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.folders import DataFolder

log = logging.getLogger(__name__)

DEFAULT_BUDGET = 50 * 10**9  # bytes
START_BYTES = 4 * 10**6  # the queue's journal, a record of each job that changes, the log
FULL = (errno.ENOSPC, errno.EDQUOT)  # no room on the disk, or in the user's share of it
_BLOCK = bytes(10**5)


@dataclass(frozen=True)
class Usage:
    """Bytes on disk. orphans: results that no job shows; budget: what cache, views and orphans may take together."""

    cache: int
    views: int
    orphans: int
    results: int
    budget: int


class Cache:
    """What may be evicted: the folders `cache` and `views`, least recently used first, and results that no job shows.

    budget: bytes."""

    def __init__(self, folder: DataFolder, budget: int = DEFAULT_BUDGET) -> None:
        self.budget = budget
        self._folder = folder
        self._sizes: dict[Path, int] = {}  # ascending by last use
        self._results: dict[Path, int] = {}

    def scan(self) -> tuple[dict[Path, int], dict[Path, int]]:
        """Sizes in bytes of evictable outputs, ascending by last use, and of results. Slow: for a thread."""
        return (
            _sizes_by_use([self._folder.cache, self._folder.views]),
            _sizes_by_use([self._folder.results]),
        )

    def take(self, scanned: tuple[dict[Path, int], dict[Path, int]]) -> None:
        """Takes over what a scan found; outputs used during the scan stay the most recent."""
        used, self._sizes = self._sizes, scanned[0]
        for path, size in used.items():
            self._sizes.pop(path, None)
            self._sizes[path] = size
        self._results = {**scanned[1], **self._results}

    def used(self, path: Path) -> None:
        """Marks an output as just written or read; results are counted, not ordered."""
        if path.is_relative_to(self._folder.results):
            self._results[path] = _size(path)
            return
        size = self._sizes.pop(path, None)
        self._sizes[path] = _size(path) if size is None else size
        with contextlib.suppress(OSError):
            os.utime(path)

    def usage(self, shown: Set[str]) -> Usage:
        """Bytes by kind. shown: keys of results that jobs show."""
        views = sum(size for path, size in self._sizes.items() if path.is_relative_to(self._folder.views))
        orphans = sum(size for path, size in self._results.items() if path.name not in shown)
        return Usage(
            cache=sum(self._sizes.values()) - views,
            views=views,
            orphans=orphans,
            results=sum(self._results.values()) - orphans,
            budget=self.budget,
        )

    @property
    def used_bytes(self) -> int:
        """Bytes of cache and views."""
        return sum(self._sizes.values())

    @property
    def over_budget(self) -> bool:
        return self.used_bytes > self.budget

    def evict(self, budget: int, needed: Set[str], shown: Callable[[], Set[str]]) -> int:
        """Removes the least recently used outputs until the rest fits the budget; returns the bytes that this freed.

        needed: keys that a planned job reads or writes, never removed; shown: keys of results that jobs show."""
        in_use = shown() | needed
        for path in [path for path in self._results if not path.exists()]:
            del self._results[path]  # removed with its job
        orphans = {path: size for path, size in self._results.items() if path.name not in in_use}
        total, freed = sum(self._sizes.values()) + sum(orphans.values()), 0
        for sizes, path in [(self._results, path) for path in orphans] + [(self._sizes, path) for path in self._sizes]:
            if total - freed <= budget:
                break
            if path.name not in needed and self._remove(path):
                freed += sizes.pop(path)
        if freed:
            log.info("evicted %d MB from the cache", freed // 10**6)
        if total - freed > budget:
            log.warning("jobs under way need %d MB of cache, more than its budget", (total - freed) // 10**6)
        return freed

    def make_room_to_start(self) -> int:
        """Removes outputs, least recently used first, until the daemon's own files find room on a full disk; returns
        how many bytes. For before anything runs: nothing is needed yet.

        Raises PaintoverError where nothing is left to remove."""
        freed, outputs = 0, None
        while not self._has_room():
            outputs = outputs or iter(self.scan()[0].items())
            path, size = next(outputs, (None, 0))
            if path is None:
                raise PaintoverError(
                    Code.RESOURCE_EXHAUSTED,
                    f"The disk of the data folder {self._folder.root} is full, and nothing of its cache is left to "
                    f"remove; free {START_BYTES // 10**6} MB there, or choose another folder with --data-dir.",
                )
            if self._remove(path):
                freed += size
        return freed

    def _has_room(self) -> bool:
        try:
            with tempfile.TemporaryFile(dir=self._folder.root) as probe:
                for _ in range(START_BYTES // len(_BLOCK)):
                    probe.write(_BLOCK)
                probe.flush()
                return True
        except OSError as error:
            if error.errno in FULL:
                return False
            raise

    def _remove(self, path: Path) -> bool:
        """Removes an output, whole; False where another program has it open (on Windows)."""
        folder = self._folder if path.is_relative_to(self._folder.stages) else self._folder.own
        doomed = folder.temporary / f"removed-{uuid.uuid4().hex[:8]}"
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        shutil.rmtree(doomed, ignore_errors=True)
        return True


def _sizes_by_use(roots: list[Path]) -> dict[Path, int]:
    found: list[tuple[float, Path, int]] = []
    for root in roots:
        for output in root.glob("??/*"):
            with contextlib.suppress(OSError):  # removed meanwhile
                found.append((output.stat().st_mtime, output, _size(output)))
    return {path: size for _, path, size in sorted(found, key=lambda entry: entry[0])}


def _size(folder: Path) -> int:
    """Bytes that an output takes; a file with several hard links counts in equal parts to each."""
    with contextlib.suppress(OSError):
        statuses = [os.stat(entry) for entry in os.scandir(folder)]
        return sum(status.st_size // max(1, status.st_nlink) for status in statuses)
    return 0
