"""`paintover doctor`: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from paintover.v1 import engine_pb2
from paintover_local.processes import code_command

from paintover_bridge import daemon
from paintover_bridge.client import Client, connect
from paintover_bridge.errors import ClientError
from paintover_bridge.tables import device_line, model_line, size

OLDEST_PYTHON = (3, 9)
LITTLE_ROOM = 2e9
_MEDIA_LIBRARIES = {
    "numpy": "numpy",
    "OpenCV": "cv2",
    "PyAV": "av",
    "OpenImageIO": "OpenImageIO",
    "OpenColorIO": "PyOpenColorIO",
}
_IMPORT_SECONDS = 60
_TRIAL_SECONDS = 100


@dataclass(frozen=True)
class Check:
    """One thing looked at. remedy: what to do when it is not ok. needed: whether Paintover is broken without it."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def examine(folder: Path) -> Iterator[Check]:
    """Every check, in the order in which things depend on each other."""
    yield _python()
    command, check = _engine()
    yield check
    if command:
        yield from _libraries(command)
    room = _room(folder)
    yield room
    yield _token(folder)
    if command and room.ok:
        yield from _methods(folder)
    yield from examine_installed(folder)


def examine_installed(folder: Path) -> Iterator[Check]:
    """Whether what `paintover install` brought is still there, and what it starts can be started."""
    from paintover_bridge.install_manifest import InstallManifest

    try:
        installed = InstallManifest(folder / "install")
    except ClientError as error:
        yield Check("installed", False, error.message, "install again")
        return
    for target in installed.targets:
        gone = installed.missing(target)
        found = f"{gone[0]} is gone or was changed" if gone else "in place"
        yield Check(f"installed {target}", not gone, found, f"run `paintover install {target}` again")
    if installed.targets:
        yield _started(folder / "service.json")


def _started(path: Path) -> Check:
    """The commands that hosts start, as the installer wrote them down."""
    try:
        commands = list(json.loads(path.read_text("utf-8")).values())
        lost = [command[0] for command in commands if shutil.which(command[0]) is None]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return Check("started by hosts", False, f"{path} cannot be read", "run `paintover install` again")
    found = f"{lost[0]} is gone" if lost else " ".join(commands[0])
    return Check("started by hosts", not lost, found, "run `paintover install` again")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check("Python", sys.version_info >= OLDEST_PYTHON, version, f"use Python {wanted} or newer")


def _engine() -> tuple[list[str] | None, Check]:
    try:
        command = daemon.engine_command()
    except ClientError as error:
        return None, Check("engine", False, "not found", error.message)
    program = shutil.which(command[0])
    remedy = "correct PAINTOVER_ENGINE" if os.environ.get("PAINTOVER_ENGINE") else "install paintover again"
    return (command if program else None), Check("engine", bool(program), " ".join(command), remedy)


def _libraries(command: list[str]) -> Iterator[Check]:
    """Each library is imported by a Python of its own: a broken one can end the process that imports it."""
    if not {"-m", "-c"} & set(command):
        return  # a program of its own: it has its libraries with it
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield from pool.map(lambda item: _library(command[0], *item), _MEDIA_LIBRARIES.items())


def _library(python: str, name: str, module: str) -> Check:
    code = f"import {module} as m; print(getattr(m, '__version__', 'found'))"
    try:
        ran = subprocess.run(code_command(python, code), capture_output=True, text=True, timeout=_IMPORT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, f"cannot be tried ({error})", "see that the engine's Python starts")
    if ran.returncode == 0:
        return Check(name, True, ran.stdout.strip())
    errors = ran.stderr.strip().splitlines()
    found = errors[-1] if errors else f"ended with status {ran.returncode}"
    return Check(name, False, found, f"install paintover again: its Python ({python}) cannot import {module}")


def _room(folder: Path) -> Check:
    """The data folder, or the nearest folder above it that exists: it must take files, and many."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        remedy = "make it writable, or choose another with --data-dir or PAINTOVER_DATA"
        return Check("data folder", False, f"{folder} cannot be written ({error.strerror})", remedy)
    found = f"{folder}, {size(free)} free"
    return Check("data folder", free >= LITTLE_ROOM, found, "free some room, or choose another disk with --data-dir")


def _token(folder: Path) -> Check:
    path = folder / "token"
    if not path.exists():
        return Check("token", True, "made when the engine first starts")
    try:
        daemon.read_token(folder)
    except ClientError as error:
        return Check("token", False, error.message, f"remove {path}; the engine makes a new one")
    return Check("token", True, f"{path}, readable by you alone")


def _gpus(client: Client) -> Iterator[Check]:
    """Each GPU that a driver lists, once the engine has tried it."""
    waited, gpus = time.monotonic() + _TRIAL_SECONDS, _listed_gpus(client)
    while any(not gpu.tried and not gpu.problem for gpu in gpus) and time.monotonic() < waited:
        time.sleep(0.5)
        gpus = _listed_gpus(client)
    if not gpus:
        yield Check("GPU", True, "none: drafts need none, models compute on the CPU")
    for gpu in gpus:
        name = f"{gpu.name} ({size(gpu.memory_bytes)}" + (f", driver {gpu.driver})" if gpu.driver else ")")
        found = gpu.problem or gpu.tried or "is still being tried"
        yield Check("GPU", not gpu.problem, f"{name}: {found}", gpu.remedy)


def _listed_gpus(client: Client) -> list[engine_pb2.Device]:
    return [device for device in client.get_engine().devices if device.kind != "cpu" and not device.machine]


def _models(client: Client) -> Iterator[Check]:
    """Each model on this machine, whether a GPU of it holds it, and what a final is carried by."""
    waited, engine = time.monotonic() + _TRIAL_SECONDS, client.get_engine()
    while not engine.final.sure and time.monotonic() < waited:
        time.sleep(0.5)
        engine = client.get_engine()
    for model in engine.found_models:
        yield Check(f"model {model.name}", True, model_line(model, engine.devices))
    yield Check("method for finals", True, engine.final.why)


def _joined(engine: engine_pb2.Engine) -> Iterator[Check]:
    """The devices of other machines."""
    if engine.workers_address:
        yield Check("workers join at", True, engine.workers_address)
    for device in engine.devices:
        if device.machine:
            yield Check(f"machine {device.machine}", True, device_line(device))


def _methods(folder: Path) -> Iterator[Check]:
    """The engine that runs, or one started for the question; and the methods that it has."""
    running = daemon.find(folder)
    try:
        with connect(folder) as client:
            engine = client.get_engine()
            where = f"running, process {engine.pid}" if running else "none is running; one starts when needed"
            yield Check("engine answers", True, f"{engine.version}, protocol {engine.protocol} ({where})")
            yield from _gpus(client)
            yield from _joined(engine)
            yield from _models(client)
            for method in client.list_methods():
                needs = "; ".join(method.needs) or "nothing beyond the engine"
                can_run = not method.unavailable
                found = f"can run (needs {needs})" if can_run else f"cannot run here (needs {needs})"
                yield Check(f"method {method.name}", can_run, found, method.unavailable, needed=False)
    except ClientError as error:
        yield Check("engine answers", False, error.message, f"read {daemon.log_path(folder)}")
