"""The kinds of device that models compute on, in one table: how each is found, its memory, and what it lacks.

A method asks here and nowhere else, so that one more kind is one more row.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

Kind = Literal["cuda", "rocm", "mps", "cpu"]


@dataclass(frozen=True)
class Accelerator:
    """One kind of device.

    type: PyTorch's name of it; AMD's ROCm goes by "cuda" there. owner: whose memory it is, at the beginning of a
    sentence. dtype: that models compute in where the user sets none. present: whether this PyTorch has one.
    available: bytes that this process may take, with what it holds already; None where unknown. release: gives cached
    memory back. fused: whether the Triton kernels run on it. tile: scores of attention that are in memory at once."""

    kind: Kind
    type: str
    owner: str
    dtype: torch.dtype
    present: Callable[[], bool]
    available: Callable[[torch.device], float | None]
    release: Callable[[], None]
    fused: bool
    tile: int


def _cuda_available(device: torch.device) -> float:
    free, total = torch.cuda.mem_get_info(device)
    allowed = total * torch.cuda.get_per_process_memory_fraction(device)
    return min(free + torch.cuda.memory_reserved(device), allowed)


def _computer_available(device: torch.device) -> float | None:
    """What the system can give; of what the process holds already, nothing is known."""
    with contextlib.suppress(OSError, StopIteration):  # only Linux says
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(float(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return None


TABLE = (
    Accelerator(
        "rocm", "cuda", "The GPU's", torch.float16,
        lambda: torch.version.hip is not None and torch.cuda.is_available(),
        _cuda_available, lambda: torch.cuda.empty_cache(), fused=False, tile=2**24,
    ),
    Accelerator(
        "cuda", "cuda", "The GPU's", torch.float16,
        lambda: torch.version.hip is None and torch.cuda.is_available(),
        _cuda_available, lambda: torch.cuda.empty_cache(), fused=True, tile=2**24,
    ),
    Accelerator(
        "mps", "mps", "The GPU's", torch.float16,
        lambda: torch.backends.mps.is_available(),
        lambda device: float(torch.mps.recommended_max_memory()), lambda: torch.mps.empty_cache(),
        fused=False, tile=2**22,
    ),
    Accelerator(
        "cpu", "cpu", "The computer's", torch.float32,
        lambda: True, _computer_available, lambda: None, fused=False, tile=2**19,
    ),
)  # fmt: skip
"""Best first."""


def best() -> Accelerator:
    """The kind that this process was given (`PAINTOVER_ACCELERATOR`), where PyTorch can use it; else the CPU. Where
    none was given, the best that PyTorch has."""
    given = os.environ.get("PAINTOVER_ACCELERATOR")
    rows = [row for row in TABLE if given in (None, row.kind) or row.kind == "cpu"]
    return next(row for row in rows if row.present())


def unusable() -> str:
    """The GPU, in words, that this process was given and that PyTorch cannot use; empty where there is none such."""
    given = os.environ.get("PAINTOVER_ACCELERATOR")
    if given is None or best().kind == given:
        return ""
    return os.environ.get("PAINTOVER_ACCELERATOR_NAME") or "A GPU"


def of(device: torch.device) -> Accelerator:
    """The kind of a device of PyTorch's; of "meta", on which a GPU's memory is counted, CUDA."""
    rows = [row for row in TABLE if row.type == ("cuda" if device.type == "meta" else device.type)]
    return next((row for row in rows if row.present()), rows[-1])


def chosen(device: str) -> Accelerator:
    """The kind that "auto" or a name of PyTorch's stands for."""
    return best() if device == "auto" else of(torch.device(device))
