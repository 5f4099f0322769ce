"""What devices found since the queue last changed, so that of many idle devices of a kind one alone looks."""

from __future__ import annotations

from collections.abc import Callable

from paintover_engine.jobs.device_worker import DeviceWorker


class IdleDevices:
    """Which kinds of devices have nothing to do. `changed` forgets it.

    special: devices that may find work where others of their kind find none."""

    def __init__(self, special: Callable[[], set[DeviceWorker]]) -> None:
        self._find_special = special
        self._special: set[DeviceWorker] | None = None
        self._pauses: dict[tuple[str, bool], float | None] = {}

    def changed(self) -> None:
        """The queue, a plan or a claim is another."""
        self._special = None
        self._pauses.clear()

    def found_nothing(self, worker: DeviceWorker, pause: float | None) -> None:
        """A device has nothing to do. pause: seconds after which it may; None: until something changes."""
        if not self._is_special(worker):
            self._pauses[_kind(worker)] = pause

    def is_idle(self, worker: DeviceWorker) -> bool:
        """Whether a device need not look."""
        return _kind(worker) in self._pauses and not self._is_special(worker)

    def pause(self, worker: DeviceWorker) -> float | None:
        """What `found_nothing` was told for its kind."""
        return self._pauses[_kind(worker)]

    def _is_special(self, worker: DeviceWorker) -> bool:
        if self._special is None:
            self._special = self._find_special()
        return worker in self._special


def _kind(worker: DeviceWorker) -> tuple[str, bool]:
    return worker.device.kind, worker.is_remote
