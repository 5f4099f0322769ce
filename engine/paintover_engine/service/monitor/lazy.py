"""Starts the monitor's server when it is first opened: a daemon without it does not load the HTTP library."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from typing import TYPE_CHECKING

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.folders import DataFolder

if TYPE_CHECKING:
    from paintover_engine.service.monitor.app import Monitor

log = logging.getLogger(__name__)


class LazyMonitor:
    """The monitor of one data folder, on the port that it had before where that is free."""

    def __init__(self, engine: Engine, folder: DataFolder, token: str, with_metrics: bool) -> None:
        self._engine = engine
        self._folder = folder
        self._token = token
        self._with_metrics = with_metrics
        self._starting = asyncio.Lock()
        self._monitor: Monitor | None = None
        self._task: asyncio.Task[Monitor] | None = None

    async def open(self) -> str:
        """A link to the page that works once. Raises PaintoverError where the HTTP library is missing."""
        return (await self._started()).url()

    @property
    def is_watched(self) -> bool:
        """Whether a browser shows the page now."""
        return self._monitor is not None and self._monitor.open_pages > 0

    def start_again(self) -> None:
        """Serves the page of a folder whose page was opened before: a browser may still show it."""
        if self._with_metrics or self._folder.monitor.exists():
            self._task = asyncio.create_task(self._started())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._monitor:
            await self._monitor.stop()

    async def _started(self) -> Monitor:
        async with self._starting:
            if self._monitor is None:
                try:
                    module = await asyncio.to_thread(importlib.import_module, "paintover_engine.service.monitor.app")
                except ImportError as error:
                    raise PaintoverError(
                        Code.FAILED_PRECONDITION,
                        f"The monitor's server cannot be loaded ({error}); install paintover-engine again.",
                    ) from error
                monitor: Monitor = module.Monitor(self._engine, self._token, self._with_metrics)
                port = await monitor.start(self._port())
                self._folder.monitor.write_text(json.dumps({"port": port}))
                log.info("the monitor answers at 127.0.0.1:%d", port)
                self._monitor = monitor
            return self._monitor

    def _port(self) -> int:
        try:
            return int(json.loads(self._folder.monitor.read_text())["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0
