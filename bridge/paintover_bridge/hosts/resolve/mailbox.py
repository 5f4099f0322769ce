"""The folder through which Resolve's Lua scripts send requests to the runner, and read events from Lua files.

requests/ID.json    one request, by scripts that may write files and start programs
taken.lua           `event{run = ID}`: a request was taken
clips/CLIP.lua      all that happened to one clip, in order
results.lua         what each result was written of
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paintover_local.private_files import writable_by_others

from paintover_bridge.hosts.command import HostError
from paintover_bridge.hosts.resolve import lua_text

log = logging.getLogger(__name__)

OLD_SECONDS = 120.0  # a request that waited longer is from another day
_TAKEN_BYTES = 2**16
_CLIP = re.compile(r"[\w-]{1,80}", re.ASCII)
_PACKED = re.compile(rb"paintover1:([0-9-]{1,60}):((?:[0-9a-f]{2})+)")
_VERBS = ("paint", "propagate", "monitor", "tell")


@dataclass(frozen=True)
class ScriptRequest:
    """A request of a script. clip: the name of the clip's event log, "" for a request about no clip. given: all fields
    of the request's JSON object."""

    id: str
    verb: str
    clip: str
    given: Mapping[str, Any]


def parse(text: bytes) -> ScriptRequest:
    """A request from its JSON text. Raises HostError for anything that Paintover's scripts do not write."""
    try:
        given = json.loads(text.decode("utf-8", "surrogateescape"))
        request = ScriptRequest(str(given["id"]), str(given["do"]), str(given.get("clip", "")), given)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"A request of Resolve cannot be read ({error}).") from error
    if request.verb not in _VERBS:
        raise HostError(f"Resolve asked for '{request.verb}', which this version does not know; install it again.")
    if request.clip and not _CLIP.fullmatch(request.clip):
        raise HostError("A request of Resolve names no clip that could be one.")
    return request


class Mailbox:
    """The folder. Lines are appended whole, so that several runners can write while scripts read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("requests", "clips"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def take(self, request: ScriptRequest) -> None:
        """Records that a request was received, for the script that waits for it."""
        path = self.folder / "taken.lua"
        if path.exists() and path.stat().st_size > _TAKEN_BYTES:
            path.unlink()
        _append(path, {"run": request.id})

    def was_taken(self, request: ScriptRequest) -> bool:
        """Whether any runner has received the request, also one that has ended since."""
        path = self.folder / "taken.lua"
        return path.exists() and _event({"run": request.id}) in path.read_text("ascii")

    def tell(self, request: ScriptRequest, what: str, **facts: Any) -> None:
        """Appends an event to the log of the request's clip."""
        if request.clip:
            _append(self._clip(request.clip), {"what": what, "run": request.id, "at": int(time.time()), **facts})

    def remember_result(self, request: ScriptRequest, output: str) -> None:
        """Records what a result was made from, so that painting on it paints on its source."""
        facts = {name: request.given.get(name, "") for name in ("name", "source", "first", "last", "colorspace")}
        _append(self.folder / "results.lua", {"output": output, "clip": request.clip, **facts})

    def is_replaced(self, request: ScriptRequest) -> bool:
        """Whether a later request asks for the same of the same frame of the clip."""
        try:
            lines = self._clip(request.clip).read_text("ascii").splitlines()
        except (OSError, UnicodeError):
            return False
        same = f'verb="{request.verb}",' + (f"frame={request.given['frame']}," if "frame" in request.given else "")
        started = [line for line in lines if 'what="started"' in line and same in line]
        return bool(started) and f'run="{request.id}"' not in started[-1]

    def _clip(self, clip: str) -> Path:
        return self.folder / "clips" / f"{clip}.lua"


def _append(path: Path, facts: Mapping[str, Any]) -> None:
    """Adds a line `event{…}`. A line that a crash cut short is taken away first: no script could read past it."""
    with open(path, "a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 2**16))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)
        file.write(_event(facts).encode("ascii"))


def _event(facts: Mapping[str, Any]) -> str:
    return f"event{_lua(facts)}\n"


def _lua(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nil"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}={_lua(one)}" for name, one in value.items()) + "}"
    return lua_text(str(value))


# Requests by Fusion's preferences.


def preference_files() -> list[Path]:
    """The files of Fusion's preferences in Resolve, one a profile."""
    home = Path.home()
    fusion = {
        "darwin": home / "Library/Application Support/Blackmagic Design/DaVinci Resolve/Fusion",
        "win32": Path(os.environ.get("APPDATA", home)) / "Blackmagic Design/DaVinci Resolve/Support/Fusion",
    }.get(sys.platform, home / ".local/share/DaVinciResolve/Fusion")
    return sorted(fusion.glob("Profiles/*/Fusion.prefs"))


def requests_in(preferences: Path, now: float) -> Iterator[ScriptRequest]:
    """The requests in a preferences file that are not older than `OLD_SECONDS`. now: seconds since the epoch.

    Raises HostError where other users of the machine can write the file."""
    for _, packed in _PACKED.findall(_read_own(preferences)):
        try:
            request = parse(bytes.fromhex(packed.decode("ascii")))
        except HostError as error:  # it stays in the preferences for a while, and others come behind it
            log.warning("%s", error)
            continue
        at = request.given.get("at")
        if isinstance(at, (int, float)) and abs(now - at) <= OLD_SECONDS:
            yield request


def read_request(path: Path) -> ScriptRequest:
    """The request in a file that a script has just written.

    Raises HostError for what no script of ours wrote, or where other users of the machine can write the file."""
    return parse(_read_own(path))


def _read_own(path: Path) -> bytes:
    """The bytes of a file that only this user can have written: what is in it makes the runner start programs.

    Resolve leaves its preferences writable by everybody, so a closed folder on the way to them has to do."""
    if opening := writable_by_others(path):
        raise HostError(
            f"Others on this machine can write {path}, so its requests are not followed; close {opening} to them."
        )
    return path.read_bytes()
