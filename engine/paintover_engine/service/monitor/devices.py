"""The devices of all machines, as the page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import Device, Gauge


def shown_devices(workers: Iterable[DeviceWorker], own: Sequence[Gauge]) -> list[dict[str, Any]]:
    """Every device with its name, bytes of memory used and in all, and what is computed on it. own: the loads of this
    machine's; the others tell theirs."""
    grouped: dict[tuple[str, Device], list[DeviceWorker]] = {}
    for worker in workers:
        grouped.setdefault((worker.machine, worker.device), []).append(worker)
    loads = {gauge.device: gauge for gauge in own}
    shown = []
    for (machine, device), group in grouped.items():
        load = None if machine else loads.get(device.id)
        shown.append(
            {
                "name": f"{machine}: {device.name}" if machine else device.name,
                "used": load.used if load else max(worker.memory_used for worker in group),
                "total": load.total if load else device.memory,
                "running": [worker.running for worker in group if worker.running],
            }
        )
    return shown
