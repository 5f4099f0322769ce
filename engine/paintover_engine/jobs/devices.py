"""The devices of this machine, found without loading a library that computes on them: the daemon stays light."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass

_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class Device:
    """A device that stages run on. kind: "cpu" or "cuda"; index: CUDA's number of it; memory: bytes, 0: unknown."""

    name: str
    kind: str
    index: int
    memory: int

    @property
    def id(self) -> str:
        """ "cpu", "cuda:0"."""
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


@dataclass(frozen=True)
class Gauge:
    """A device's load now. used, total: bytes of its memory; busy: 0 to 1, -1: unknown."""

    device: str
    used: int
    total: int
    busy: float


def find_cpu() -> Device:
    """The processor and the memory of the machine."""
    return Device(f"{os.cpu_count()} CPU cores", "cpu", 0, _memory())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


async def find_gpus() -> list[Device]:
    """NVIDIA's devices, as their driver lists them; those that CUDA_VISIBLE_DEVICES names, where it is set."""
    found = [
        Device(row[1], "cuda", int(row[0]), int(row[2]) * 2**20)
        for row in await _query("index,name,memory.total")
        if row[0].isdigit() and row[2].isdigit()
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    return [device for device in found if str(device.index) in visible.split(",")]


async def gauges() -> list[Gauge]:
    """The load of the CPU and of every GPU."""
    total = _memory()
    found = [Gauge("cpu", total - _available(total), total, _load())] if total else []
    for row in await _query("index,memory.used,memory.total,utilization.gpu"):
        if all(value.isdigit() for value in row):
            index, used, size, busy = map(int, row)
            found.append(Gauge(f"cuda:{index}", used * 2**20, size * 2**20, busy / 100))
    return found


def _available(total: int) -> int:
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/meminfo", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("MemAvailable")).split()[1]) * 1024
    return total


def _load() -> float:
    return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) if hasattr(os, "getloadavg") else -1.0


async def _query(fields: str) -> list[list[str]]:
    """The rows that nvidia-smi prints for some fields; none where there is no NVIDIA driver."""
    program = shutil.which("nvidia-smi")
    if not program:
        return []
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        process = await asyncio.create_subprocess_exec(
            program, f"--query-gpu={fields}", "--format=csv,noheader,nounits",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT)
        except asyncio.TimeoutError:
            process.kill()
            raise
        if process.returncode == 0:
            return [[part.strip() for part in line.split(",")] for line in output.decode().splitlines()]
    return []
