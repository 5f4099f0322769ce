"""The worker that reads sources and keyframes: apart from the devices' workers, so that no client waits for a stage."""

from __future__ import annotations

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import ReplyT, Request
from paintover_engine.jobs.worker_client import WorkerClient, WorkerDied


class MediaWorker:
    """Calls that read files which users gave."""

    def __init__(self, folder: DataFolder) -> None:
        self._client = WorkerClient("media", folder)

    async def call(self, request: Request[ReplyT]) -> ReplyT:
        """Makes a call. One that crashes the worker is not tried again: PaintoverError names the file."""
        try:
            return await self._client.call(request)
        except WorkerDied as death:
            file = getattr(request, "path", "") or getattr(request, "source", "") or "the source"
            raise PaintoverError(
                Code.INTERNAL, f"Reading {file} crashed the media worker ({death}); the file may be damaged."
            ) from death

    async def stop(self) -> None:
        await self._client.stop()
