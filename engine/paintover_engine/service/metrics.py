"""What the daemon measures, in Prometheus' text format."""

from __future__ import annotations

import shutil

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from paintover_engine.jobs.devices import gauges
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.entities import JobState


async def metrics(engine: Engine) -> bytes:
    """Jobs by state, bytes on disk, memory of devices, as they are now."""
    registry = CollectorRegistry()
    jobs = Gauge("paintover_jobs", "Jobs in the queue, by state.", ["state"], registry=registry)
    for state in JobState:
        jobs.labels(state.name.lower()).set(engine.queue.count(state))
    usage = engine.storage.usage()
    disk = Gauge("paintover_disk_bytes", "Bytes in the data folder, by what they are.", ["kind"], registry=registry)
    for kind, size in {
        "stages": usage.cache, "views": usage.views, "orphans": usage.orphans, "results": usage.results,
    }.items():  # fmt: skip
        disk.labels(kind).set(size)
    free = Gauge("paintover_disk_free_bytes", "Bytes free on the data folder's disk.", registry=registry)
    free.set(shutil.disk_usage(engine.folder.root).free)
    memory = Gauge("paintover_device_memory_used_bytes", "Memory in use, by device.", ["device"], registry=registry)
    for gauge in await gauges():
        memory.labels(gauge.device).set(gauge.used)
    return generate_latest(registry)
