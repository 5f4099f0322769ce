"""A device and what computes on it: a process of this machine, or one of another machine that joined."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.protocol import DeliveryProgress, ReplyT, Request


class DeviceClient(Protocol):
    """Whoever answers the calls for a device.

    alive: whether what it was given before is still held; generation: raised whenever all of that was lost."""

    @property
    def alive(self) -> bool: ...

    @property
    def generation(self) -> int: ...

    async def call(
        self,
        request: Request[ReplyT],
        *,
        generation: int | None = None,
        progress: Callable[[DeliveryProgress], None] | None = None,
    ) -> ReplyT:
        """Makes a call and waits for its reply; cancelling the waiting task cancels the call's work.

        generation: which the call is for; None for any. Raises PaintoverError as the worker did, WorkerDied where it
        ended meanwhile."""

    async def stop(self) -> None:
        """Ends it; what it was writing stays unpublished."""


@dataclass(eq=False)
class DeviceWorker:
    """One device, which runs one job's stages at a time.

    machine: the name of the one that it is in; "": the engine's own. wake: set when the queue is to be looked at again.
    running: what it computes now, in words, "" for nothing. memory_used: bytes, 0: unknown.
    """

    device: Device
    client: DeviceClient
    machine: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    running: str = ""
    memory_used: int = 0

    @property
    def is_remote(self) -> bool:
        """Whether it sees no file of this machine: it plans no job and writes no output."""
        return bool(self.machine)
