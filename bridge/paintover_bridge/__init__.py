"""Paintover's light client: how notebooks, pipelines, hosts' scripts and the `paintover` command use the engine.

    from paintover_bridge import Paintover

Imports nothing by itself: what it names is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paintover_bridge.api import ClientError, Paintover

__all__ = ["ClientError", "Paintover", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("paintover_bridge.api"), name)
