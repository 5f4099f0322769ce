"""What the daemon measures, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from paintover_engine.jobs.devices import gauges
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.entities import JobState


async def metrics(engine: Engine) -> str:
    """Jobs by state, bytes on disk, memory of devices."""
    measured = await gauges()

    def lines() -> Iterator[str]:
        yield "# HELP paintover_jobs Jobs in the queue, by state."
        yield "# TYPE paintover_jobs gauge"
        for state in JobState:
            yield f'paintover_jobs{{state="{state.name.lower()}"}} {engine.queue.count(state)}'
        usage = engine.storage.usage()
        sizes = {"stages": usage.cache, "views": usage.views, "orphans": usage.orphans, "results": usage.results}
        yield "# HELP paintover_disk_bytes Bytes in the data folder, by what they are."
        yield "# TYPE paintover_disk_bytes gauge"
        for kind, size in sizes.items():
            yield f'paintover_disk_bytes{{kind="{kind}"}} {size}'
        yield "# HELP paintover_disk_free_bytes Bytes free on the data folder's disk."
        yield "# TYPE paintover_disk_free_bytes gauge"
        yield f"paintover_disk_free_bytes {shutil.disk_usage(engine.folder.root).free}"
        yield "# HELP paintover_device_memory_used_bytes Memory in use, by device."
        yield "# TYPE paintover_device_memory_used_bytes gauge"
        for gauge in measured:
            yield f'paintover_device_memory_used_bytes{{device="{gauge.device}"}} {gauge.used}'

    return "\n".join(lines()) + "\n"
