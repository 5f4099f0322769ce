"""Storage: what lies in the data folder, and how to make room."""

from __future__ import annotations

import asyncio

from paintover_engine.jobs.cache import Usage
from paintover_engine.jobs.resources.keyframes import Keyframes
from paintover_engine.jobs.resources.state import EngineState


class Storage:
    """The space that outputs and keyframes take."""

    def __init__(self, state: EngineState, keyframes: Keyframes) -> None:
        self._state = state
        self._keyframes = keyframes

    def usage(self) -> Usage:
        """Bytes on disk by what they are."""
        return self._state.cache.usage(self._state.queue.shown_keys())

    def cache_usage(self) -> dict[str, int]:
        """Bytes of what may be evicted, and its budget; quick, for gauges."""
        return {"used": self._state.cache.used_bytes, "budget": self._state.cache.budget}

    async def prune(self, budget: int) -> int:
        """Removes outputs that can be computed again, least recently used first, until the rest takes no more than
        `budget` bytes, and keyframes that nothing uses; returns the bytes that this freed."""
        cache = self._state.cache
        cache.take(await asyncio.to_thread(cache.scan))
        freed = cache.evict(budget, self._state.scheduler.needed(), self._state.queue.shown_keys)
        return freed + await self._keyframes.remove_unused()
