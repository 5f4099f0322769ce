"""What a process may use of the machine at a time: memory, and stages beside one another."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PICTURES = 12  # float pictures of the plate's size that a stage of the draft holds at most: what it composites
_SHARE = 0.5  # of the memory for all stages together


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container, has."""
    total: int = psutil.virtual_memory().total
    for path in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max": none
            total = min(total, int(Path(path).read_text()))
    return total


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stages_at_a_time(width: int, height: int) -> int:
    """How many stages of a draft of a plate (pixels) run at a time: one a core, as far as memory holds their pictures;
    at least two."""
    return max(2, min(cores(), int(_SHARE * machine_memory() / (_PICTURES * 12 * width * height))))
