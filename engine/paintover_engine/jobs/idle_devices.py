"""What devices found since the queue last changed, so that of many idle devices of a kind one alone looks."""

from __future__ import annotations

import time
from collections.abc import Callable

from paintover_engine.jobs.device_worker import DeviceWorker


class IdleDevices:
    """Which kinds of devices have nothing to do. `changed` forgets it.

    special: devices that may find work where others of their kind find none."""

    def __init__(self, special: Callable[[], set[DeviceWorker]]) -> None:
        self._find_special = special
        self._special: set[DeviceWorker] | None = None
        self._until: dict[tuple[str, bool], float | None] = {}  # on the monotonic clock; None: until something changes

    def changed(self) -> None:
        """The queue, a plan or a claim is another."""
        self._special = None
        self._until.clear()

    def found_nothing(self, worker: DeviceWorker, pause: float | None) -> None:
        """A device has nothing to do. pause: seconds after which it may; None: until something changes."""
        if not self._is_special(worker):
            self._until[_kind(worker)] = None if pause is None else time.monotonic() + pause

    def is_idle(self, worker: DeviceWorker) -> bool:
        """Whether a device need not look."""
        kind = _kind(worker)
        if kind not in self._until or self._is_special(worker):
            return False
        until = self._until[kind]
        return until is None or time.monotonic() < until

    def pause(self, worker: DeviceWorker) -> float | None:
        """The seconds after which an idle device may have something to do; None: until something changes."""
        until = self._until[_kind(worker)]
        return None if until is None else max(0.0, until - time.monotonic())

    def _is_special(self, worker: DeviceWorker) -> bool:
        if self._special is None:
            self._special = self._find_special()
        return worker in self._special


def _kind(worker: DeviceWorker) -> tuple[str, bool]:
    return worker.device.kind, worker.is_remote
