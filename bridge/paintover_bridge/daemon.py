"""Finds a running engine, or starts one.

An engine that runs says so in its data folder: `engine.json` (address, pid), `token`, `logs/engine.log`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paintover_local.processes import detached

from paintover_bridge.errors import ClientError, unavailable

START_SECONDS = 10.0
FOLDER_TAKEN = 75  # the engine's exit status when another one has the data folder (EX_TEMPFAIL: it may end soon)
_ENGINE_SAYS = "paintover-engine: "
_POLL_SECONDS = 0.02
_TAKEN_SECONDS = 0.5
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
    """Where a started engine's log lies."""
    return folder / "logs" / "engine.log"


def read_token(folder: Path) -> str:
    """The secret that every call carries.

    Raises ClientError when it is missing or belongs to another user."""
    path = folder / "token"
    try:
        return path.read_text("ascii").strip()
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
    """What `engine.json` says, believed only so far as that the process may live: it outlasts a crash."""
    try:
        said = json.loads((folder / "engine.json").read_text("utf-8"))
        endpoint = Endpoint(str(said["address"]), int(said["pid"]), folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return endpoint if _may_live(endpoint.pid) else None


def _may_live(pid: int) -> bool:
    if os.name != "posix":
        return True  # os.kill would end the process there; the health check decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def is_serving(address: str, seconds: float = _HEALTH_SECONDS) -> bool:
    """Whether grpc.health.v1 answers SERVING there. The two messages are small enough to need no generated code:
    an empty request, and a response whose field 1 is 1."""
    import grpc

    from paintover_bridge.channel import OPTIONS

    with grpc.insecure_channel(address, OPTIONS) as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        try:
            return check(b"", timeout=seconds) == b"\x08\x01"
        except grpc.RpcError:
            return False


def find(folder: Path) -> Endpoint | None:
    """The engine that runs on this data folder, if one answers."""
    endpoint = read_endpoint(folder)
    return endpoint if endpoint and is_serving(endpoint.address) else None


def engine_command() -> list[str]:
    """What starts the engine: $PAINTOVER_ENGINE, else this Python where the engine is installed beside the bridge.

    Raises ClientError when there is neither."""
    given = os.environ.get("PAINTOVER_ENGINE")
    if given:
        return shlex.split(given, posix=os.name == "posix")
    if importlib.util.find_spec("paintover_engine") is None:
        raise unavailable(
            "Paintover's engine is not installed in this Python; install paintover-engine, "
            "or set PAINTOVER_ENGINE to the command that starts it."
        )
    return [sys.executable, "-m", "paintover_engine.service"]


def service_command(folder: Path, listen: str, ephemeral: bool) -> list[str]:
    """The whole command line of an engine on this data folder. An ephemeral one ends when nobody needs it any more."""
    return [
        *engine_command(),
        *("--data-dir", str(folder), "--listen", listen),
        *(["--ephemeral"] if ephemeral else []),
    ]


def start(folder: Path, *, ephemeral: bool, listen: str = "127.0.0.1:0", seconds: float = START_SECONDS) -> Endpoint:
    """Starts an engine that outlives this process, and returns once it answers.

    Another process may be starting one at the same moment: whichever answers first is returned.
    Raises ClientError when it dies (with the last line it said) or does not answer within `seconds`."""
    command, log = service_command(folder, listen, ephemeral), log_path(folder)
    deadline = time.monotonic() + seconds
    said_before, process = _spawn(command, log)
    while time.monotonic() < deadline:
        status = process.poll()  # asked before looking, or an answer between the two would be missed
        endpoint = find(folder)
        if endpoint:
            return endpoint
        if status == FOLDER_TAKEN:  # by one that starts, and will answer, or one that stops, and makes room
            time.sleep(_TAKEN_SECONDS)
            if find(folder) is None:
                said_before, process = _spawn(command, log)
        elif status is not None:
            raise unavailable(_last_words(log, status, said_before))
        time.sleep(_POLL_SECONDS)
    raise unavailable(f"The engine did not answer within {seconds:.0f} s of starting; see {log}.")


def _spawn(command: list[str], log: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """The engine's process, and how long its log was before it wrote to it."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as sink:
            said_before = sink.tell()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, **detached())
    except OSError as error:
        raise unavailable(f"The engine cannot be started ({error}); see `paintover doctor`.") from error
    # Reaps it: to others, a zombie of a host that outlives its engine would seem to live.
    threading.Thread(target=process.wait, name="paintover-engine", daemon=True).start()
    return said_before, process


def _last_words(log: Path, status: int, said_before: int) -> str:
    """The sentence with which the engine gave up, or the last line of its traceback."""
    with open(log, "rb") as file:
        file.seek(said_before)
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit status {status}"
    if last.startswith(_ENGINE_SAYS):
        return last[len(_ENGINE_SAYS) :]
    return f"The engine ended while starting: {last.rstrip('.')}; its log is {log}."


def find_or_start(folder: Path, *, ephemeral: bool) -> Endpoint:
    """The engine that runs on this data folder, or a new one."""
    return find(folder) or start(folder, ephemeral=ephemeral)


def serve(folder: Path, listen: str, options: Sequence[str] = ()) -> int:
    """Runs the engine in this terminal until it ends. On POSIX this process becomes the engine.

    options: further ones of the engine's own command line."""
    command = [*service_command(folder, listen, ephemeral=False), *options]
    try:
        if os.name == "posix":
            os.execvp(command[0], command)
        return subprocess.call(command)
    except OSError as error:
        raise unavailable(f"The engine's command {command[0]} cannot be run: {error.strerror}.") from error


def terminate(endpoint: Endpoint) -> None:
    """Asks the engine's process to end: at once, but in good order where the platform knows such a thing."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(endpoint.pid, signal.SIGTERM)


def wait_until_gone(endpoint: Endpoint, seconds: float) -> bool:
    """Whether that engine's process ended within `seconds`, so that its data folder is free."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not _may_live(endpoint.pid) or (os.name != "posix" and not is_serving(endpoint.address)):
            return True
        time.sleep(_POLL_SECONDS)
    return False
