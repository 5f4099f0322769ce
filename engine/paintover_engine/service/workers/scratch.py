"""What a machine that joined keeps on its disk: outputs that its stages read and wrote, keyframes, copies of plates."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
import weakref
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path

from paintover.v1 import worker_pb2

from paintover_engine.durable import replace_file
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.cache import Cache
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.remote_device import POLL_SECONDS, SHOWN_SECONDS
from paintover_engine.jobs.store import Store
from paintover_engine.service.workers.wire import FileWriter, parts_of

Parts = AsyncIterable[worker_pb2.FilePart]


class Scratch:
    """The data folder of a machine's devices, which all of them share. Least recently used first, what does not fit
    the budget is removed; nothing that is in use, and nothing of a folder that is shared with the engine.

    budget: bytes. shared_identity: of that folder; "": there is none."""

    def __init__(self, folder: DataFolder, budget: int) -> None:
        self.folder = folder
        self._outputs = Store(folder)
        self._plates = Store(folder.own, results=folder.views)
        self.shared_identity = self._outputs.identity() if folder.shared else ""
        self._cache = Cache(folder.own, budget)
        self._cache.take(self._cache.scan())
        self._in_use: Counter[str] = Counter()
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    @contextlib.contextmanager
    def using(self, *keys: str) -> Iterator[None]:
        """Outputs and plates of these keys stay while the block lasts."""
        self._in_use.update(keys)
        try:
            yield
        finally:
            self._in_use.subtract(keys)
            self._in_use += Counter()

    async def is_shown(self, key: str) -> bool:
        """Whether an output is in the folder that is shared with the engine, which may show it late."""
        if not self.shared_identity:
            return False
        for _ in range(int(SHOWN_SECONDS / POLL_SECONDS)):
            if self._outputs.has(key, publishes=False):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def fetch_output(self, key: str, parts: Parts) -> None:
        """Stores an output that is not here yet. Raises PaintoverError where it does not come whole."""
        await self._fetch(self._outputs, key, False, parts)
        if not await asyncio.to_thread(self._outputs.is_whole, key, False):
            self._outputs.remove(key, publishes=False)
            raise PaintoverError(Code.DATA_LOSS, "What a stage reads came damaged.")

    async def fetch_plate(self, content: str, parts: Parts) -> Path:
        """The folder of a copy of a plate; it is fetched where there is none. content: the plate's digest."""
        await self._fetch(self._plates, content, True, parts)
        return self._plates.path(content, publishes=True)

    async def fetch_keyframe(self, digest: str, parts: Parts) -> None:
        """Stores a keyframe that is not here yet."""
        path = self.folder.keyframes / f"{digest}.safetensors"
        async with self._turn(digest):
            if path.exists():
                return
            partial = self.folder.temporary / f"keyframe-{uuid.uuid4().hex}"
            partial.mkdir()
            try:
                writer = FileWriter(partial)
                async for part in parts:
                    await asyncio.to_thread(writer.write, part)
                if writer.names != [path.name]:
                    raise PaintoverError(Code.DATA_LOSS, "A keyframe did not come whole.")
                await asyncio.to_thread(replace_file, partial / path.name, path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    async def parts_of_output(self, key: str, publishes: bool) -> AsyncIterator[worker_pb2.FilePart]:
        """The files of an output that is here, in pieces."""
        parts = parts_of(sorted(self._outputs.path(key, publishes).iterdir()))
        while part := await asyncio.to_thread(next, parts, None):
            yield part

    def stored(self, key: str, publishes: bool) -> None:
        """Counts an output that a worker wrote."""
        self._count(self._outputs, key, publishes)

    def _turn(self, key: str) -> asyncio.Lock:
        return self._turns.setdefault(key, asyncio.Lock())

    async def _fetch(self, store: Store, key: str, publishes: bool, parts: Parts) -> None:
        async with self._turn(key):
            if not store.has(key, publishes):
                async with contextlib.AsyncExitStack() as stack:
                    folder = stack.enter_context(store.writing(key, publishes))
                    writer = FileWriter(folder)
                    async for part in parts:
                        await asyncio.to_thread(writer.write, part)
                    if not writer.names:
                        raise PaintoverError(Code.NOT_FOUND, "The engine no longer has what a stage reads.")
            self._count(store, key, publishes)

    def _count(self, store: Store, key: str, publishes: bool) -> None:
        self._cache.used(store.path(key, publishes))
        if self._cache.over_budget:
            self._cache.evict(self._cache.budget, set(self._in_use), set)
