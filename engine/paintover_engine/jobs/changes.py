"""Wakes those who wait for the queue to change."""

from __future__ import annotations

import asyncio


class ChangeSignal:
    """Each announcement wakes everybody who waits, once.

    Take `next` before looking at the queue, and wait for it after: then no change goes unseen in between.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def announce(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """Set by the next announcement."""
        return self._event
