"""Faults of the machine, raised where they come out."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator
from typing import Any

ALWAYS = range(1, 10**9)


@contextlib.contextmanager
def failing(module: Any, error: Exception, calls: Container[int] = ALWAYS) -> Iterator[None]:
    """A network raises an error in some of its calls, counted from 1."""
    count, raised = 0, 0

    def fail(*_: object) -> None:
        nonlocal count, raised
        count += 1
        if count in calls:
            raised += 1
            raise error

    handle = module.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()
    assert raised, "the error was never raised"
