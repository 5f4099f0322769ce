"""Runs the `paintover` command as a child process of a host program, and reports its events."""

from __future__ import annotations

import atexit
import collections
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paintover_local.processes import detached

Event = Mapping[str, Any]
"""One JSON line of the command: `{"event": "done", "output": …}`. The last one of all is `{"event": "ended",
"exit_code": …}`."""

SETTINGS = "paintover-command.json"  # an installer's: {"command": [program, argument, …]}
_OF_THE_HOST = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "QT_PLUGIN_PATH")
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH")
_LAST_LINES = 20


class HostError(Exception):
    """An error that the artist can correct; the message is one sentence."""


def find_command(beside: Path | None = None) -> list[str]:
    """The command that runs `paintover`: $PAINTOVER_COMMAND, else the one that the installer wrote into the folder
    `beside`, else the one on the search path.

    Raises HostError where there is none."""
    given = os.environ.get("PAINTOVER_COMMAND")
    if given:
        return shlex.split(given, posix=os.name == "posix")
    if beside is not None and (beside / SETTINGS).is_file():
        try:
            command = json.loads((beside / SETTINGS).read_text("utf-8"))["command"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HostError(f"{beside / SETTINGS} cannot be read ({error}); run `paintover install` again.") from error
        return [str(part) for part in command]
    found = shutil.which("paintover")
    if found is None:
        raise HostError("The paintover command is not found; run `paintover install` again, or set PAINTOVER_COMMAND.")
    return [found]


def clean_environment(host: Path | None = None) -> dict[str, str]:
    """This process's environment without the variables by which the host finds its own Python and libraries.

    host: the host program's folder.  [default: where its Python says the program is]"""
    folder = Path(sys.executable).resolve().parent if host is None else host
    environment = {name: value for name, value in os.environ.items() if name not in _OF_THE_HOST}
    for name in _LIBRARY_PATHS:
        if name in environment:
            paths = [path for path in environment[name].split(os.pathsep) if path and not _is_below(Path(path), folder)]
            environment[name] = os.pathsep.join(paths)
            if not paths:
                del environment[name]
    return environment


def _is_below(path: Path, folder: Path) -> bool:
    return folder == path or folder in path.parents


def make_output_folder(output: str) -> None:
    """Creates the folder of an output, which the engine does not do. Raises HostError where it cannot be created."""
    folder = Path(output).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"The folder {folder} for the result cannot be made: {error.strerror or error}.") from error


class Run:
    """One running `paintover` command. `on_event` is called from a thread of its own; a host's interface must pass the
    events on to its main thread.

    command: the program and its first arguments. arguments: the rest, without `--json`.
    environment: None: `clean_environment()`.
    Raises HostError when the program cannot be started."""

    def __init__(
        self,
        command: Sequence[str],
        arguments: Sequence[str],
        on_event: Callable[[Event], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._on_event = on_event
        self._last_errors: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        self._error_reported = False
        self._stopped = False
        try:
            self._process = subprocess.Popen(
                [*command, *arguments, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(clean_environment() if environment is None else environment),
                **detached(),
            )
        except (OSError, ValueError) as error:
            raise HostError(f"The command {command[0]} cannot be started: {error}.") from error
        atexit.register(self.stop)  # the host is exiting
        self._errors = threading.Thread(target=self._read_errors, name="paintover-errors", daemon=True)
        self._thread = threading.Thread(target=self._read, name="paintover", daemon=True)
        self._errors.start()
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for the end of the command and of its events; returns whether it came within `seconds`."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Terminates the command, which cancels its unfinished jobs, as Ctrl-C does."""
        self._stopped = True
        if self._process.poll() is None:
            self._process.terminate()

    def _read_errors(self) -> None:
        assert self._process.stderr
        with self._process.stderr as lines:
            for line in lines:
                self._last_errors.append(line.decode("utf-8", "replace").strip())

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._handle_line(line)
        status = self._process.wait()
        atexit.unregister(self.stop)
        self._errors.join(5)
        if status != 0 and not self._error_reported and not self._stopped:
            last = next((line for line in reversed(self._last_errors) if line), f"it ended with status {status}")
            self._on_event({"event": "error", "message": last[len("paintover: ") :] if last.startswith("paintover: ")
                            else f"The paintover command failed: {last.rstrip('.')}."})  # fmt: skip
        self._on_event({"event": "ended", "exit_code": status})

    def _handle_line(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # printed by a library
        if isinstance(event, dict) and "event" in event and not (self._stopped and event["event"] == "error"):
            self._error_reported |= event["event"] == "error"
            self._on_event(event)
