"""Starts the monitor's server when it is first opened: a daemon without it does not load the HTTP library."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import secrets
from typing import TYPE_CHECKING

from paintover_local.private_files import read_private, write_private

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.folders import DataFolder

if TYPE_CHECKING:
    from paintover_engine.service.monitor.app import Monitor

log = logging.getLogger(__name__)

KEY_BYTES = 32


class LazyMonitor:
    """The monitor of one data folder, on the port that it had before where that is free."""

    def __init__(self, engine: Engine, folder: DataFolder, token: str, with_metrics: bool) -> None:
        self._engine = engine
        self._folder = folder
        self._token = token
        self._was_open = folder.monitor.exists()
        self._last_port, self._key = self._read()
        if self._was_open:
            self._write(port=0)  # nobody is to be shown this daemon's token at a port that another program may have
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
        if self._with_metrics or self._was_open:
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
                        f"The monitor's server cannot be loaded ({error}); install paintover again.",
                    ) from error
                monitor: Monitor = module.Monitor(
                    self._engine, module.Access(self._token, self._key), self._with_metrics
                )
                port = await monitor.start(self._last_port)
                self._last_port = port
                self._write(port)
                log.info("the monitor answers at 127.0.0.1:%d", port)
                self._monitor = monitor
            return self._monitor

    def _write(self, port: int) -> None:
        record = {"port": port, "last_port": self._last_port, "key": self._key.hex()}
        write_private(self._folder.monitor, json.dumps(record).encode())

    def _read(self) -> tuple[int, bytes]:
        """The port and the key that the page had before; a file that is damaged or not private gives neither."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(read_private(self._folder.monitor))
            port, key = int(record["last_port"]), bytes.fromhex(record["key"])
            if len(key) == KEY_BYTES:
                return port, key
        return 0, secrets.token_bytes(KEY_BYTES)
