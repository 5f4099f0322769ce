"""Which device works on which stage, for all jobs: none is computed twice at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from paintover_engine.jobs.device_worker import DeviceWorker


class Claims:
    """The stages that devices run, and those that they were asked to begin beside them, by key."""

    def __init__(self) -> None:
        self._running: dict[str, DeviceWorker] = {}
        self._begun: dict[str, DeviceWorker] = {}

    def take(self, worker: DeviceWorker, key: str) -> None:
        """A device runs a stage."""
        self._running[key] = worker

    def end(self, key: str) -> None:
        """It does so no longer."""
        self._running.pop(key, None)
        self._begun.pop(key, None)

    def begin_beside(self, worker: DeviceWorker, keys: Iterable[str], most: int) -> list[str]:
        """The first stages, at most so many, that no device has: that device may begin them beside the one that it
        runs."""
        mine = [key for key, holder in self._begun.items() if holder is worker]
        free = (key for key in keys if key not in self._running and self._begun.get(key, worker) is worker)
        chosen = list(itertools.islice(free, most))
        for key in {*mine} - {*chosen}:
            del self._begun[key]
        self._begun.update(dict.fromkeys(chosen, worker))
        return chosen

    def may_have(self, worker: DeviceWorker, key: str) -> bool:
        """Whether a device was asked to begin a stage, and may have finished it."""
        return self._begun.get(key) is worker

    def is_free_for(self, worker: DeviceWorker, key: str) -> bool:
        """Whether no other device runs a stage or, being busy, may have begun it."""
        holder = self._begun.get(key, worker)
        return key not in self._running and (holder is worker or holder not in self._running.values())

    def holders(self) -> set[DeviceWorker]:
        """The devices that were asked to begin stages."""
        return set(self._begun.values())

    def forget(self, worker: DeviceWorker) -> None:
        """The device's process is another one: what it had begun is lost."""
        self._begun = {key: holder for key, holder in self._begun.items() if holder is not worker}
