"""Runs the Lua scripts in a real Lua against the stand-in of Resolve."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paintover_bridge.hosts import resolve as package
from paintover_bridge.hosts.resolve import lua_text

SERVE = Path(__file__).with_name("serve.lua")
STANDIN = Path(__file__).with_name("standin.lua")
REPLAY_COMMAND = Path(__file__).parents[1] / "replay_command.py"
LUAS = [lua for lua in ("luajit", "lua5.1") if shutil.which(lua)]
RUNNER = [sys.executable, "-m", "paintover_bridge.hosts.resolve"]

START = 86400  # 01:00:00:00 at 24 frames a second


def clip(path: str | None = "/media/sh010.mov", **facts: Any) -> dict[str, Any]:
    """An item of 48 frames at the timeline's start, from frame 100 of its file. properties: of its media."""
    properties = {"FPS": 24.0, "Frames": "400", **facts.pop("properties", {})}
    made = {"name": "sh010", "start": START, "duration": 48, "offset": 100, "properties": properties, **facts}
    return made if path is None else {**made, "path": path}


@dataclass
class Timeline:
    """What the stand-in starts with. The playhead stands on the item's sixth frame."""

    tracks: list[list[dict[str, Any]]] = field(default_factory=lambda: [[clip()]])
    rate: Any = 24.0
    playhead: int = START + 5
    timecode: str = "01:00:00:05"
    start_timecode: str = "01:00:00:00"
    start_frame: int = START
    more: dict[str, Any] = field(default_factory=dict)

    def lua(self) -> str:
        facts = {**vars(self), **self.more}
        del facts["more"]
        return f"return {to_lua(facts)}\n"


def to_lua(value: Any) -> str:
    """A Lua literal."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{lua_text(name)}] = {to_lua(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(to_lua, value)) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, (int, float)) else lua_text(str(value))


REFUSED: list[tuple[Timeline, str]] = [
    (Timeline(more={"no_project": True}), "No project is open."),
    (Timeline([[]]), "There is no clip under the playhead"),
    (Timeline([[clip(None)]]), "is a title or a generator"),
    (Timeline([[clip("", properties={"Type": "Compound"})]]), "is a compound clip; open it"),
    (Timeline([[clip("", properties={"Type": "Verbund"})]]), "has no media file of its own"),
    (Timeline([[clip("", properties={"Type": "Multicam"})]]), "is a multicam clip"),
    (Timeline([[clip("", properties={"Type": "Fusion Composition"})]]), "is a Fusion clip"),
    (Timeline([[clip("/a.png", properties={"Type": "Still"})]]), "is a still"),
    (Timeline([[clip(properties={"FPS": 25.0})]]), "has 25 frames a second in a timeline of 24"),
    (Timeline([[clip(properties={"FPS": ""})]]), "does not tell the frame rate"),
    (Timeline([[clip(source_start=100, source_end=195)]]), "is retimed"),
    (Timeline([[clip(source_start=147, source_end=100)]]), "is retimed"),
    (Timeline([[clip()]], more={"speed": 50}), "is retimed"),
    (Timeline([[clip(source_start=60, source_end=107)]]), "a subclip?"),
    (Timeline([[clip("/plates/a#1.[1001-1400].exr")]]), "holds %, # or @"),
    (Timeline([[clip("sh010.mov")]]), "has no whole path"),
    (Timeline(timecode="01:00:09:00"), "The playhead is not on"),
    (Timeline(timecode=""), "cannot be read"),
]
"""What could only be done wrong, and a part of the sentence that says so."""


@dataclass
class Resolve:
    """Resolve with Paintover installed: its scripts lie below `fusion`, the mailbox in `data`."""

    folder: Path
    lua: str
    runner: list[str] = field(default_factory=lambda: list(RUNNER))
    data_name: str = "data"
    fusion_folder: Path | None = None

    @property
    def fusion(self) -> Path:
        return self.fusion_folder or self.folder / "Fusion"

    @property
    def data(self) -> Path:
        return self.folder / self.data_name

    @property
    def mailbox(self) -> Path:
        return self.data / "resolve"

    @property
    def replayed_events(self) -> Path:
        return self.folder / "events.jsonl"

    def install(self) -> None:
        for path, text in package.files(self.fusion, self.data, self.runner).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PAINTOVER_DATA": str(self.data),
            "PAINTOVER_COMMAND": f"{sys.executable} '{REPLAY_COMMAND}'",
            "RECORDED_ARGUMENTS": str(self.folder / "arguments.jsonl"),
            "REPLAYED_EVENTS": str(self.replayed_events),
        }

    def says(self, *events: dict[str, Any]) -> None:
        """What the command will say."""
        self.replayed_events.write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")

    def recorded_arguments(self) -> list[list[str]]:
        """The arguments of every command that ran, without the data folder."""
        path = self.folder / "arguments.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [json.loads(line)[2:] for line in lines]

    def run(self, script: str, timeline: Timeline, environment: dict[str, str] | None = None) -> dict[str, Any]:
        """Runs one entry of the menu; how things stand after it."""
        description = self.folder / "description.lua"
        description.write_text(timeline.lua(), "utf-8")
        done = subprocess.run(
            [self.lua, STANDIN, description, self.fusion / package.MENU / f"{script}.lua"],
            capture_output=True,
            cwd=self.folder,
            env=environment or self.environment(),
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        state: dict[str, Any] = json.loads(done.stdout)
        assert state["failed"] == "", state["failed"]
        return state


class Far:
    """An object of the stand-in, called from Python: it seems to have every attribute, and those that it has not are
    None, as Resolve's are."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._number = number

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            given = "".join(f", {self._connection.lua(one)}" for one in arguments)
            found = f"object({self._number})"
            answer = self._connection.ask(f"{found}.{name}({found}{given})")
            if "missing" in answer:
                assert "has no" in answer["missing"], answer["missing"]
                raise TypeError("'NoneType' object is not callable")
            return self._connection.value(answer["value"])

        return call


class Connection:
    """The stand-in in a process of its own. `resolve` is Resolve's own object; `state` ends it."""

    def __init__(self, folder: Path, timeline: Timeline) -> None:
        description = folder / "description.lua"
        description.write_text(timeline.lua(), "utf-8")
        self._process = subprocess.Popen(
            [LUAS[0], STANDIN, description, SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        self.resolve = Far(self, 1)

    def ask(self, expression: str) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def lua(self, value: Any) -> str:
        if isinstance(value, Far):
            return f"object({value._number})"
        if isinstance(value, dict):
            return "{" + ", ".join(f"[{lua_text(name)}] = {self.lua(one)}" for name, one in value.items()) + "}"
        if isinstance(value, list):
            return "{" + ", ".join(map(self.lua, value)) + "}"
        return to_lua(value)

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.value(one) for one in value]
        if isinstance(value, dict):
            if "object" in value:
                return Far(self, value["object"])
            return {name: self.value(one) for name, one in value.items()}
        return value

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def state(self) -> dict[str, Any]:
        """How things stand; ends the stand-in."""
        told, _ = self._process.communicate(timeout=20)
        state: dict[str, Any] = json.loads(told)
        assert state["failed"] == "", state["failed"]
        return state
