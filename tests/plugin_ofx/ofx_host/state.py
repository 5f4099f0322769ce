"""What a host has handed out, and what the effect has done to it."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from tests.plugin_ofx.ofx_host.quirks import Quirks, Value


class HostState:
    """Handles and what tests look at. persistent: the message that stands at an effect, by its handle. lines: drawn by
    overlays. set_values: name, value, and whether a render set it."""

    def __init__(self, quirks: Quirks) -> None:
        self.quirks = quirks
        self.objects: dict[int, Any] = {}
        self._numbers = itertools.count(0x1000, 16)
        self.lock = threading.Lock()
        self.progress: list[float] = []
        self.cancel_at: float | None = None
        self.aborts = False
        self.released = 0
        self.handed_out = 0
        self.set_values: list[tuple[str, Value, bool]] = []
        self.persistent: dict[int, str] = {}
        self.goes_to: list[float] = []
        self.lines: list[tuple[tuple[float, float], tuple[float, float]]] = []
        self.redraws = 0
        self.rendering = threading.local()

    def number(self, thing: object) -> int:
        """A new number for a thing."""
        with self.lock:
            number = next(self._numbers)
            self.objects[number] = thing
            return number

    def handle(self, thing: Any) -> int:
        """The number by which the plugin knows a thing."""
        if not hasattr(thing, "_handle"):
            thing._handle = self.number(thing)
        return int(thing._handle)
