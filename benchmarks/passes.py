"""Counts how often a method has its network compute, while it works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

NETWORKS = (
    "WanTransformer3DModel",
    "WanVACETransformer3DModel",
    "UNetSpatioTemporalConditionModel",
    "UNet2DConditionModel",
)


@contextmanager
def counting() -> Iterator[list[int]]:
    """The items of each call's batch of a network, as they come."""
    counted: list[int] = []

    def count(module: torch.nn.Module, given: tuple[Any, ...]) -> None:
        real = type(module).__name__ in NETWORKS and next(module.parameters()).device.type != "meta"
        if real:  # not where memory is counted from shapes
            counted.append(len(given[0]) if given else 1)  # Wan's is given by name, one clip at a time

    hook = register_module_forward_pre_hook(count)
    try:
        yield counted
    finally:
        hook.remove()
