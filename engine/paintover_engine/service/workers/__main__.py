"""`python -m paintover_engine.service.workers`: this machine's devices compute for an engine elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
from paintover_local.private_files import NotPrivate, claim_folder, read_private

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import device_probe
from paintover_engine.jobs.cache import DEFAULT_BUDGET
from paintover_engine.jobs.devices import Device, find_cpu, find_gpus, gauges
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.path_mapping import PathMap, read_rules
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.worker_client import WorkerClient
from paintover_engine.service.workers.connection import EngineAddress
from paintover_engine.service.workers.device_agent import DeviceAgent
from paintover_engine.service.workers.scratch import Scratch

GAUGE_SECONDS = 5.0
BAD_INPUT = 2


def main(given: Sequence[str] | None = None) -> int:
    """Computes until it is interrupted, and returns 0; 2 with one sentence where it cannot. given: the command line;
    None: this process's."""
    arguments = _parser().parse_args(given)
    folder = DataFolder(arguments.data_dir.absolute(), arguments.store and arguments.store.absolute())
    os.environ["PAINTOVER_DATA"] = str(folder.root)  # its `models` are looked for there
    try:
        engine = EngineAddress(
            re.sub(r"^localhost:", "127.0.0.1:", arguments.join),
            _token(arguments.token_file),
            re.sub(r"[:\s]", "", arguments.fingerprint).lower(),
        )
        with _claimed(folder):
            asyncio.run(_compute(arguments, folder, engine, read_rules(arguments.path_mapping)))
    except PaintoverError as error:
        sys.stderr.write(f"paintover-worker: {error.message}\n")
        return BAD_INPUT
    return 0


async def _compute(arguments: argparse.Namespace, folder: DataFolder, engine: EngineAddress, mapped: PathMap) -> None:
    devices = [find_cpu()] * arguments.cpu_workers
    for gpu in await find_gpus():
        found = await device_probe.tried(gpu)
        if found.problem:
            _say(f"{gpu.words} cannot be used: {found.problem}; {found.remedy}.")
        else:
            devices.append(found)
    if not devices:
        raise PaintoverError(
            Code.FAILED_PRECONDITION, "This machine has no GPU that can be used; offer its processor: --cpu-workers 1."
        )
    load = _Load()
    scratch = Scratch(folder, arguments.cache_size)
    workers = [WorkerClient(f"{device.id} {place}", folder, _arguments(device, arguments.gpu_memory))
               for place, device in enumerate(devices)]  # fmt: skip
    agents = [
        DeviceAgent(device, arguments.name, worker, scratch, engine, mapped, load.of(device), _say)
        for device, worker in zip(devices, workers, strict=True)
    ]
    await _until_interrupted([agent.run() for agent in agents] + [load.watch()], workers)


async def _until_interrupted(running: Sequence[Coroutine[Any, Any, object]], workers: Sequence[WorkerClient]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # on Windows; in a thread
            loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.ensure_future(each) for each in (*running, stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in workers))


class _Load:
    """Bytes of memory in use, by device, as they were measured last."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def of(self, device: Device) -> _DeviceLoad:
        return _DeviceLoad(self._used, device.id)

    async def watch(self) -> None:
        while True:
            self._used.update({gauge.device: gauge.used for gauge in await gauges()})
            await asyncio.sleep(GAUGE_SECONDS)


class _DeviceLoad:
    def __init__(self, used: dict[str, int], device: str) -> None:
        self._used = used
        self._device = device

    def __call__(self) -> int:
        return self._used.get(self._device, 0)


def _arguments(device: Device, memory: int) -> list[str]:
    if device.kind == "cpu":
        return []
    words = ["--device", device.kind, "--visible", device.visible, "--device-name", device.words]
    return [*words, "--gpu-memory", str(memory)]


@contextlib.contextmanager
def _claimed(folder: DataFolder) -> Iterator[None]:
    """This process's data folder, private, with nothing half-written in it."""
    try:
        folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        claim_folder(folder.root)
        with filelock.FileLock(folder.lock, timeout=0):
            folder.create()
            for each in (folder, folder.own):
                Store(each).clear_temporary()
            yield
    except NotPrivate as error:
        raise PaintoverError(Code.PERMISSION_DENIED, str(error)) from error
    except filelock.Timeout as error:
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"Another worker, or an engine, has the data folder {folder.root}; choose another --data-dir.",
        ) from error


def _token(path: Path) -> str:
    try:
        return read_private(path).decode("ascii").strip()
    except NotPrivate as error:
        raise PaintoverError(Code.PERMISSION_DENIED, str(error)) from error
    except (OSError, UnicodeError) as error:
        raise PaintoverError(
            Code.NOT_FOUND,
            f"The token file '{path}' cannot be read; bring the engine's here, as `paintover serve` says where it is.",
        ) from error


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paintover-worker")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--join", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--fingerprint", default="")
    parser.add_argument("--name", default=socket.gethostname())
    parser.add_argument("--cpu-workers", type=int, default=1)
    parser.add_argument("--gpu-memory", type=int, default=0)
    parser.add_argument("--cache-size", type=int, default=DEFAULT_BUDGET)
    parser.add_argument("--path-mapping", type=Path)
    parser.add_argument("--store", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
