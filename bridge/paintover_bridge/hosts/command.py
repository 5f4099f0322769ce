"""Runs the `paintover` command beside a host program, never inside it, and tells what it says, line by line."""

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
    """Something that the artist can mend; one sentence."""


def find_command(beside: Path | None = None) -> list[str]:
    """What runs `paintover`: $PAINTOVER_COMMAND, else what an installer wrote down in the folder `beside`, else the
    command on the search path.

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
    """This process's environment without what its host set for its own Python and libraries, which break other ones.

    host: the host program's folder.  [default: where its Python says the program is]"""
    folder = Path(sys.executable).resolve().parent if host is None else host
    kept = {name: value for name, value in os.environ.items() if name not in _OF_THE_HOST}
    for name in _LIBRARY_PATHS:
        if name in kept:
            paths = [path for path in kept[name].split(os.pathsep) if path and not _is_below(Path(path), folder)]
            kept[name] = os.pathsep.join(paths)
            if not paths:
                del kept[name]
    return kept


def _is_below(path: Path, folder: Path) -> bool:
    return folder == path or folder in path.parents


def make_room(output: str) -> None:
    """Makes the folder that an output goes into: the engine makes none that it was not asked for.

    Raises HostError where it cannot."""
    folder = Path(output).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"The folder {folder} for the result cannot be made: {error.strerror or error}.") from error


class Run:
    """One `paintover` command under way. Events come on a thread of its own: a host's interface must hand them over
    to its main thread.

    arguments: without the program, without `--json`.
    Raises HostError when the program cannot be started."""

    def __init__(
        self,
        command: Sequence[str],
        arguments: Sequence[str],
        on_event: Callable[[Event], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._on_event = on_event
        self._said: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        self._told_why = False
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
        atexit.register(self.stop)  # nobody would hear it any more
        self._errors = threading.Thread(target=self._read_errors, name="paintover-errors", daemon=True)
        self._thread = threading.Thread(target=self._read, name="paintover", daemon=True)
        self._errors.start()
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it ended, all events told, within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Asks the command to end as Ctrl-C would: its unfinished jobs are cancelled."""
        self._stopped = True
        if self._process.poll() is None:
            self._process.terminate()

    def _read_errors(self) -> None:
        assert self._process.stderr
        with self._process.stderr as lines:
            for line in lines:
                self._said.append(line.decode("utf-8", "replace").strip())

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._hear(line)
        status = self._process.wait()
        atexit.unregister(self.stop)
        self._errors.join(5)
        if status != 0 and not self._told_why and not self._stopped:
            last = next((line for line in reversed(self._said) if line), f"it ended with status {status}")
            self._on_event({"event": "error", "message": last[len("paintover: ") :] if last.startswith("paintover: ")
                            else f"The paintover command failed: {last.rstrip('.')}."})  # fmt: skip
        self._on_event({"event": "ended", "exit_code": status})

    def _hear(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # a library's own chatter
        if isinstance(event, dict) and "event" in event and not (self._stopped and event["event"] == "error"):
            self._told_why |= event["event"] == "error"
            self._on_event(event)
