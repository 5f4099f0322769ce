"""Finds a running engine, or starts one.

A running engine describes itself in its data folder: `engine.json` (address, pid), `token`, `logs/engine.log`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paintover_local.private_files import TRUSTED, NotPrivate, claim_folder, read_private
from paintover_local.processes import detached, module_command
from paintover_local.proof import CHALLENGE, PROOF, is_proof, new_challenge

from paintover_bridge.errors import ClientError, unavailable

START_SECONDS = 10.0
FOLDER_TAKEN = 75  # the engine's exit status when another one has the data folder (EX_TEMPFAIL: it may end soon)
_ENGINE_SAYS = "paintover-engine: "
_POLL_SECONDS = 0.02
_FOLDER_TAKEN_SECONDS = 0.5
_FULL_DISK_BYTES = 10**5
_HEALTH_SECONDS = 2.0


@dataclass(frozen=True)
class Endpoint:
    """Where an engine answers: a gRPC target ("127.0.0.1:43211", "unix:/run/engine.sock"), and whose it is."""

    address: str
    pid: int
    folder: Path

    @property
    def log(self) -> Path:
        return log_path(self.folder)


def data_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder given, else $PAINTOVER_DATA, else the platform's per-user data folder; absolute."""
    chosen = given or os.environ.get("PAINTOVER_DATA")
    if not chosen:
        import platformdirs

        chosen = platformdirs.user_data_dir("paintover", appauthor=False)
    return Path(os.path.abspath(os.path.expanduser(chosen)))


def log_path(folder: Path) -> Path:
    """The log file of an engine that this module starts."""
    return folder / "logs" / "engine.log"


def read_token(folder: Path) -> str:
    """The secret that every call carries.

    Raises ClientError when it is missing or belongs to another user."""
    path = folder / "token"
    try:
        return read_private(path).decode("ascii").strip()
    except NotPrivate as error:
        raise ClientError("PERMISSION_DENIED", str(error)) from error
    except PermissionError as error:
        raise ClientError(
            "PERMISSION_DENIED",
            f"The engine's token {path} cannot be read: it belongs to another user; choose another --data-dir.",
        ) from error
    except (OSError, UnicodeError) as error:
        raise unavailable(
            f"The engine's token {path} is missing or unreadable; stop the engine and start it again."
        ) from error


def read_endpoint(folder: Path) -> Endpoint | None:
    """The endpoint of `engine.json`; None without one, and where its process is gone, as after a crash."""
    try:
        record = json.loads(read_private(folder / "engine.json", TRUSTED))
        endpoint = Endpoint(str(record["address"]), int(record["pid"]), folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return endpoint if _may_be_alive(endpoint.pid) else None


def _may_be_alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # os.kill would end the process there; the health check decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def is_serving(endpoint: Endpoint, seconds: float = _HEALTH_SECONDS) -> bool:
    """Whether grpc.health.v1 answers SERVING there, and proves to be the folder's engine: another program may have its
    port. Encodes the two messages by hand, so that no generated code is loaded: an empty request, and a response whose
    field 1 is 1.

    Raises ClientError where the token that proves it cannot be read."""
    import grpc

    from paintover_bridge.channel import OPTIONS

    challenge = new_challenge()
    with grpc.insecure_channel(endpoint.address, OPTIONS) as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        try:
            answer, call = check.with_call(b"", timeout=seconds, metadata=((CHALLENGE, challenge),))
            proof = dict(call.initial_metadata()).get(PROOF, "")
        except grpc.RpcError:
            return False
    return answer == b"\x08\x01" and is_proof(proof, read_token(endpoint.folder), endpoint.address, challenge)


def find(folder: Path) -> Endpoint | None:
    """The endpoint of the engine that runs on this data folder; None if none answers."""
    endpoint = read_endpoint(folder)
    return endpoint if endpoint and is_serving(endpoint) else None


def engine_command() -> list[str]:
    """The command that starts the engine: $PAINTOVER_ENGINE, else this Python if it has the engine.

    Raises ClientError when there is neither."""
    given = os.environ.get("PAINTOVER_ENGINE")
    if given:
        return shlex.split(given, posix=os.name == "posix")
    if importlib.util.find_spec("paintover_engine") is None:
        raise unavailable(
            "Paintover's engine is not installed in this Python; pip install paintover brings it, "
            "or set PAINTOVER_ENGINE to the command that starts it."
        )
    return module_command("paintover_engine.service")


def farm_command(*arguments: str) -> list[str]:
    """The command line of the engine without a daemon, as a farm's tasks run it. Raises ClientError as
    `engine_module`."""
    return engine_module("paintover_engine.farm", *arguments)


def engine_module(module: str, *arguments: str) -> list[str]:
    """The command line of a module of the engine. Raises ClientError where this Python has no engine."""
    if importlib.util.find_spec("paintover_engine") is None:
        raise unavailable(
            "Paintover's engine is not installed in this Python; run the `paintover` command of the one that has it."
        )
    return [*module_command(module), *arguments]


def service_command(folder: Path, listen: str, ephemeral: bool) -> list[str]:
    """The command line of an engine on this data folder. ephemeral: it ends when it has no client and no job left.

    listen: "127.0.0.1:PORT", "unix:PATH", or "" for a socket in the data folder (a free port on Windows)."""
    return [
        *engine_command(),
        *("--data-dir", str(folder)),
        *(["--listen", listen] if listen else []),
        *(["--ephemeral"] if ephemeral else []),
    ]


def start(folder: Path, *, ephemeral: bool, listen: str = "", seconds: float = START_SECONDS) -> Endpoint:
    """Starts an engine that outlives this process, and returns once it answers.

    Another process may be starting one at the same moment: whichever answers first is returned.
    Raises ClientError when it dies (with the last line of its log) or does not answer within `seconds`."""
    command, log = service_command(folder, listen, ephemeral), log_path(folder)
    deadline = time.monotonic() + seconds
    log_offset, process = _spawn(command, folder)
    while time.monotonic() < deadline:
        status = process.poll()  # read before `find`, or an engine that answers between the two would be missed
        endpoint = find(folder)
        if endpoint:
            return endpoint
        if status == FOLDER_TAKEN:  # by one that starts, and will answer, or one that stops, and makes room
            time.sleep(_FOLDER_TAKEN_SECONDS)
            if find(folder) is None:
                log_offset, process = _spawn(command, folder)
        elif status is not None:
            raise unavailable(_startup_failure(log, status, log_offset))
        time.sleep(_POLL_SECONDS)
    raise unavailable(f"The engine did not answer within {seconds:.0f} s of starting; see {log}.")


def _spawn(command: list[str], folder: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """Starts the engine's process; returns the length of its log before that, in bytes, and the process."""
    log = log_path(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        claim_folder(folder)
        log.parent.mkdir(exist_ok=True)
        with open(log, "ab") as sink:
            log_offset = sink.tell()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, **detached())
    except NotPrivate as error:
        raise ClientError("PERMISSION_DENIED", str(error)) from error
    except OSError as error:
        raise unavailable(f"The engine cannot be started ({error}); see `paintover doctor`.") from error
    # Reaps the process, or in a long-lived host the zombie would look like a running engine.
    threading.Thread(target=process.wait, name="paintover-engine", daemon=True).start()
    return log_offset, process


def _startup_failure(log: Path, status: int, log_offset: int) -> str:
    """Why a start failed: the engine's own sentence, or the last line of its traceback.

    log_offset: where this start's output begins in the log, in bytes."""
    with open(log, "rb") as file:
        file.seek(log_offset)
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines and shutil.disk_usage(log.parent).free < _FULL_DISK_BYTES:
        return f"The disk of {log.parent.parent} is full, and the engine's log with it; make room there and try again."
    last = lines[-1] if lines else f"exit status {status}"
    if last.startswith(_ENGINE_SAYS):
        return last[len(_ENGINE_SAYS) :]
    return f"The engine ended while starting: {last.rstrip('.')}; its log is {log}."


def find_or_start(folder: Path, *, ephemeral: bool) -> Endpoint:
    """The engine that runs on this data folder, else a started one. Raises ClientError as `start`."""
    return find(folder) or start(folder, ephemeral=ephemeral)


def serve(folder: Path, listen: str, options: Sequence[str] = ()) -> int:
    """Runs the engine in this terminal until it ends; returns its exit status. On POSIX this process becomes the
    engine.

    options: further arguments of the engine's command line."""
    return become([*service_command(folder, listen, ephemeral=False), *options])


def become(command: list[str]) -> int:
    """Runs a command in place of this process, or, on Windows, waits for it and returns its exit status."""
    try:
        if os.name == "posix":
            os.execvp(command[0], command)
        return subprocess.call(command)
    except OSError as error:
        raise unavailable(f"The engine's command {command[0]} cannot be run: {error.strerror}.") from error


def terminate(endpoint: Endpoint) -> None:
    """Sends SIGTERM to the engine's process: on POSIX it shuts down in order, on Windows it is killed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(endpoint.pid, signal.SIGTERM)


def wait_until_gone(endpoint: Endpoint, seconds: float) -> bool:
    """Waits for the engine's process to end and its data folder to be free; returns whether it did within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not _may_be_alive(endpoint.pid) or (os.name != "posix" and not is_serving(endpoint)):
            return True
        time.sleep(_POLL_SECONDS)
    return False
