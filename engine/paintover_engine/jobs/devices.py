"""The devices of this machine, found without loading a library that computes on them: the daemon stays light.

Kinds of GPU stand in one table, `FINDERS`: who lists them, and by which variable a process is shown one alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class Device:
    """A device that stages run on.

    kind: "cpu", "cuda" (NVIDIA), "rocm" (AMD) or "mps" (Apple). index: the driver's number of it; part: of a GPU that
    is divided (MIG), which part, -1: the whole. memory: bytes, 0: unknown. visible: what its runtime is to be shown.
    tried: what PyTorch can do on it, once it was tried; problem, remedy: why it cannot, and what to do."""

    name: str
    kind: str
    index: int
    memory: int
    part: int = -1
    visible: str = ""
    driver: str = ""
    tried: str = ""
    problem: str = ""
    remedy: str = ""

    @property
    def id(self) -> str:
        """ "cpu", "cuda:0", "cuda:0.1" for a part."""
        if self.kind == "cpu":
            return self.kind
        return f"{self.kind}:{self.index}" + (f".{self.part}" if self.part >= 0 else "")

    @property
    def words(self) -> str:
        """ "NVIDIA RTX 3090, driver 470.82"."""
        return ", ".join(filter(None, [self.name, f"driver {self.driver}" if self.driver else ""]))


@dataclass(frozen=True)
class Gauge:
    """A device's load now. used, total: bytes of its memory; busy: 0 to 1, -1: unknown."""

    device: str
    used: int
    total: int
    busy: float


@dataclass(frozen=True)
class Finder:
    """variable: of the environment, by which a process sees one GPU of the kind alone; hidden: its value for none."""

    kind: str
    variable: str
    hidden: str
    listed: Callable[[], Awaitable[list[Device]]]


def find_cpu() -> Device:
    """The processor and the memory of the machine."""
    return Device(f"{os.cpu_count()} CPU cores", "cpu", 0, _memory())


async def find_gpus() -> list[Device]:
    """The GPUs of every kind that a driver lists; where the kind's variable is set, those that it names."""
    return [device for finder in FINDERS for device in await finder.listed()]


def show(kind: str, visible: str, environment: dict[str, str]) -> None:
    """Sets in a process's environment the one device that it is to compute on: `kind` "cpu" hides all GPUs."""
    environment["PAINTOVER_ACCELERATOR"] = kind
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts
    for finder in FINDERS:
        if finder.variable:
            environment[finder.variable] = visible if finder.kind == kind else finder.hidden


async def gauges() -> list[Gauge]:
    """The load of the CPU and of every NVIDIA GPU."""
    total = _memory()
    found = [Gauge("cpu", total - _available(total), total, _load())] if total else []
    for row in await _nvidia_rows("index,memory.used,memory.total,utilization.gpu"):
        if all(value.isdigit() for value in row):
            index, used, size, busy = map(int, row)
            found.append(Gauge(f"cuda:{index}", used * 2**20, size * 2**20, busy / 100))
    return found


# NVIDIA.


async def _nvidia() -> list[Device]:
    gpus: dict[str, Device] = {}
    for row in await _nvidia_rows("index,uuid,name,memory.total,driver_version"):
        if len(row) == 5 and row[0].isdigit() and row[3].isdigit():
            index, uuid, name, memory, driver = row
            gpus[uuid] = Device(name, "cuda", int(index), int(memory) * 2**20, visible=index, driver=driver)
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return list(gpus.values())
    named = [entry.strip() for entry in listed.split(",") if entry.strip()]
    parts = await _nvidia_parts(gpus) if any(entry.startswith("MIG-") for entry in named) else {}
    found: list[Device] = []
    for entry in named:
        device = _named(entry, gpus, parts)
        if device is None:
            break  # CUDA ignores what follows a name that it does not know
        found.append(device)
    return found


def _named(entry: str, gpus: Mapping[str, Device], parts: Mapping[str, Device]) -> Device | None:
    """The device of an entry of CUDA_VISIBLE_DEVICES: a number, the beginning of a UUID, or the name of a part."""
    if entry.isdigit():
        return next((device for device in gpus.values() if device.index == int(entry)), None)
    known = {**gpus, **parts}
    if entry.startswith("MIG-GPU-"):  # MIG-<UUID of the GPU>/<GPU instance>/<compute instance>, of older drivers
        whole = _named(entry.removeprefix("MIG-").split("/")[0], gpus, {})
        return whole and Device(f"{whole.name} MIG", "cuda", whole.index, 0, part=0, visible=entry, driver=whole.driver)
    matching = [device for uuid, device in known.items() if uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None


async def _nvidia_parts(gpus: Mapping[str, Device]) -> dict[str, Device]:
    """The parts of divided GPUs (MIG) by their UUIDs, as `nvidia-smi -L` lists them below their GPU."""
    parts: dict[str, Device] = {}
    whole: Device | None = None
    for line in (await _output("nvidia-smi", "-L")).splitlines():
        if gpu := re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line):
            whole = gpus.get(gpu[1])
        elif whole and (part := re.match(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)", line)):
            profile, number, uuid = part.groups()
            gigabytes = re.search(r"(\d+)gb", profile)
            memory = int(gigabytes[1]) * 2**30 if gigabytes else 0
            name = f"{whole.name} MIG {profile}"
            parts[uuid] = Device(name, "cuda", whole.index, memory, int(number), uuid, whole.driver)
    return parts


async def _nvidia_rows(fields: str) -> list[list[str]]:
    """The rows that nvidia-smi prints for some fields; none where there is no NVIDIA driver."""
    output = await _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    return [[part.strip() for part in line.split(",")] for line in output.splitlines()]


# AMD and Apple.


async def _amd() -> list[Device]:
    output = await _output("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--json")
    try:
        cards: dict[str, dict[str, Any]] = json.loads(output or "{}")
    except ValueError:
        return []
    driver = str(cards.get("system", {}).get("Driver version", ""))
    found = []
    for card, facts in cards.items():
        if number := re.fullmatch(r"card(\d+)", card):
            values = {name.lower(): str(value) for name, value in facts.items()}
            name = values.get("card series") or values.get("card model") or "AMD GPU"
            memory = values.get("vram total memory (b)", "0")
            index = int(number[1])
            found.append(
                Device(name, "rocm", index, int(memory) if memory.isdigit() else 0, visible=str(index), driver=driver)
            )
    listed = os.environ.get("HIP_VISIBLE_DEVICES")
    return found if listed is None else [device for device in found if device.visible in listed.split(",")]


async def _apple() -> list[Device]:
    """Apple's GPU, which shares the computer's memory."""
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return []
    name = (await _output("sysctl", "-n", "machdep.cpu.brand_string")).strip()
    return [Device(name or "Apple GPU", "mps", 0, _memory(), driver=f"macOS {platform.mac_ver()[0]}")]


FINDERS = (
    Finder("cuda", "CUDA_VISIBLE_DEVICES", "", _nvidia),
    Finder("rocm", "HIP_VISIBLE_DEVICES", "-1", _amd),
    Finder("mps", "", "", _apple),
)


# The machine.


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


def _available(total: int) -> int:
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/meminfo", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("MemAvailable")).split()[1]) * 1024
    return total


def _load() -> float:
    return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) if hasattr(os, "getloadavg") else -1.0


async def _output(name: str, *arguments: str) -> str:
    """What a program prints; nothing where it is not there, fails or does not end."""
    program = shutil.which(name)
    if not program:
        return ""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT)
        except asyncio.TimeoutError:
            process.kill()
            raise
        if process.returncode == 0:
            return output.decode(errors="replace")
    return ""
