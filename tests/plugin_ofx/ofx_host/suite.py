"""A suite: a table of functions that the plugin calls. Variadic ones are declared with fixed arguments."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_char_p, c_int, c_void_p
from typing import Any, ClassVar

from tests.plugin_ofx.ofx_host.quirks import ERR_BAD_HANDLE, Value
from tests.plugin_ofx.ofx_host.state import HostState

Entry = tuple[str, list[Any], Callable[..., int] | None]
handle, text, out = c_void_p, c_char_p, c_void_p


class Suite:
    """One suite of a host's: its entries are name, arguments' types and function, in the standard's order."""

    NAME: ClassVar[tuple[str, int]]

    def __init__(self, host: HostState) -> None:
        self.host = host
        self._functions = [
            CFUNCTYPE(c_int, *types)(_safe(function))
            if function and entry not in host.quirks.missing_functions
            else None
            for entry, types, function in self.entries()
        ]
        self.table = (c_void_p * len(self._functions))(
            *[ctypes.cast(function, c_void_p) if function else None for function in self._functions]
        )

    def entries(self) -> list[Entry]:
        """The suite's functions."""
        raise NotImplementedError


def _safe(function: Callable[..., int]) -> Callable[..., int]:
    def call(*arguments: Any) -> int:
        try:
            return function(*arguments)
        except (KeyError, AttributeError, TypeError):
            return ERR_BAD_HANDLE

    return call


def store(address: int, kind: Any, value: Value) -> None:
    """Writes a C value where a pointer points."""
    kind.from_address(address).value = value
