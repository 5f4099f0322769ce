"""A device and the worker process that computes on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.worker_client import WorkerClient


@dataclass(eq=False)
class DeviceWorker:
    """One device, which runs one job's stages at a time. wake: set when the queue is to be looked at again."""

    device: Device
    client: WorkerClient
    wake: asyncio.Event = field(default_factory=asyncio.Event)
