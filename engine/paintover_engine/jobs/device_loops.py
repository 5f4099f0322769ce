"""Serves every device in a task of its own, those too that join while the queue runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from paintover_engine.jobs.device_worker import DeviceWorker


class DeviceLoops:
    """workers: the devices, ascending by when they came. serve: one step for a device; returns the seconds to wait
    before the next, None: until it is woken."""

    def __init__(
        self, workers: Sequence[DeviceWorker], serve: Callable[[DeviceWorker], Awaitable[float | None]]
    ) -> None:
        self.workers = list(workers)
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Serves them until cancelled; raises what serving one raised."""
        self._failure = asyncio.get_running_loop().create_future()
        for worker in self.workers:
            self._begin(worker)
        try:
            await self._failure
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, worker: DeviceWorker) -> None:
        """Serves another device, too."""
        self.workers.append(worker)
        if self._failure:
            self._begin(worker)

    def remove(self, worker: DeviceWorker) -> None:
        """Serves a device no longer, once its step has ended."""
        self.workers.remove(worker)
        worker.wake.set()

    def wake(self) -> None:
        """Has every device look at the queue again."""
        for worker in self.workers:
            worker.wake.set()

    def _begin(self, worker: DeviceWorker) -> None:
        task = asyncio.ensure_future(self._loop(worker))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    async def _loop(self, worker: DeviceWorker) -> None:
        while worker in self.workers:
            worker.wake.clear()
            pause = await self._serve(worker)
            if pause is None:
                await worker.wake.wait()
            elif pause:
                try:
                    await asyncio.wait_for(worker.wake.wait(), pause)
                except asyncio.TimeoutError:
                    continue

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and self._failure and not self._failure.done():
            self._failure.set_exception(error)
