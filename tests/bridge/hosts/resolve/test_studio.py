"""The Studio's Python module does what the Lua scripts do: it is held against the same stand-in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paintover_bridge.hosts.command import HostError
from paintover_bridge.hosts.resolve import LUA, RESOLVE_MODULE, studio

from tests.bridge.hosts.resolve.standin import LUAS, REFUSED, REPLAY_COMMAND, START, Connection, Timeline, clip

pytestmark = pytest.mark.skipif(
    not LUAS, reason="SKIPPED: RESOLVE'S PYTHON IS NOT TESTED, luajit AND lua5.1 ARE MISSING"
)

Open = Callable[[Timeline], Connection]


@pytest.fixture
def open_resolve(tmp_path: Path) -> Iterator[Open]:
    connections: list[Connection] = []

    def open_one(timeline: Timeline) -> Connection:
        timeline.more.setdefault("deaf", 0)
        connections.append(Connection(tmp_path, timeline))
        return connections[-1]

    yield open_one
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(("timeline", "message"), REFUSED)
def test_it_refuses_what_the_scripts_refuse(open_resolve: Open, timeline: Timeline, message: str) -> None:
    if "whole path" in message:
        return  # where results go is the caller's here
    with pytest.raises(HostError) as caught:
        studio.current_clip(open_resolve(timeline).resolve, wait=0)
    assert message in str(caught.value) and str(caught.value).endswith(".")


def test_it_reads_what_the_scripts_read(open_resolve: Open) -> None:
    found = studio.current_clip(open_resolve(Timeline([[clip("/plates/sh010.[1001-1400].exr")]])).resolve)
    assert found.source == "/plates/sh010.%04d.exr"
    assert (found.frame, found.first, found.last, found.start) == (1106, 1101, 1148, START)


def test_it_says_what_the_scripts_say() -> None:
    lua = (LUA / RESOLVE_MODULE).read_text("utf-8").replace('"\n      .. "', "").replace('\\"', '"').replace("%%", "%")
    for sentence in studio._KINDS.values():
        assert sentence in lua
    for space in studio._COLOURS.values():
        assert f'"{space}"' in lua


def test_a_result_becomes_a_take_once(open_resolve: Open, tmp_path: Path) -> None:
    output = tmp_path / "sh010_v001.mov"
    output.touch()
    connection = open_resolve(Timeline(more={"open_bin": True}))
    found = studio.current_clip(connection.resolve)
    assert studio.bring(connection.resolve, found, str(output)) == "take 2"
    assert studio.bring(connection.resolve, found, str(output)) == "take 2"
    state = connection.state()
    [[item]] = state["tracks"]
    assert item["takes"] == ["/media/sh010.mov", str(output)]
    assert state["calls"].count("ImportMedia") == 1 and state["open_bin"] == "Rushes"


def test_a_result_goes_on_a_track_of_its_own(open_resolve: Open) -> None:
    connection = open_resolve(Timeline([[clip("/plates/a.[1001-1400].exr")]]))
    found = studio.current_clip(connection.resolve)
    assert studio.bring(connection.resolve, found, "/out/v001/a.%04d.exr", as_track=True) == "track 2"
    state = connection.state()
    [placed] = state["tracks"][1]
    assert (placed["path"], placed["start"], placed["duration"]) == ("/out/v001/a.[1101-1148].exr", START, 48)


@pytest.mark.parametrize(
    ("more", "as_track", "message"),
    [({"locked": True}, False, "adds no take"), ({"imported": 47}, False, "reads 47 frames"),
     ({"take_length": 40}, False, "would have changed the length"), ({"dropped": True}, True, "did not put")],
)  # fmt: skip
def test_what_resolve_does_otherwise_is_noticed(
    open_resolve: Open, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], as_track: bool, message: str
) -> None:
    monkeypatch.setattr(studio, "EDIT_SECONDS", 0.0)
    connection = open_resolve(Timeline([[clip("/plates/a.[1001-1400].exr")]], more=more))
    found = studio.current_clip(connection.resolve)
    with pytest.raises(HostError, match=message):
        studio.bring(connection.resolve, found, "/out/v001/a.%04d.exr", as_track=as_track)
    assert connection.state()["tracks"][0][0]["duration"] == 48


def test_a_trimmed_clip_is_not_covered(open_resolve: Open) -> None:
    connection = open_resolve(Timeline())
    found = replace(studio.current_clip(connection.resolve), last=160)
    with pytest.raises(HostError, match="was trimmed"):
        studio.bring(connection.resolve, found, "/out/a.mov")


def test_studio_runs_the_command_and_gets_its_events(
    open_resolve: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDED_ARGUMENTS", str(tmp_path / "arguments.jsonl"))
    monkeypatch.setenv("REPLAYED_EVENTS", str(tmp_path / "events.jsonl"))
    (tmp_path / "events.jsonl").write_text('{"event": "done", "output": "/out/a_v001.mov"}\n')
    found = studio.current_clip(open_resolve(Timeline()).resolve)
    events: list[Any] = []
    run = studio.propagate(
        found, {105: "/p/a.psd"}, "/out/a.mov", events.append, command=[sys.executable, str(REPLAY_COMMAND)]
    )
    assert run.wait(20)
    assert [one["event"] for one in events] == ["done", "ended"]
    assert '"-k", "105=/p/a.psd", "--range=100-147", "-o", "/out/a.mov"' in (tmp_path / "arguments.jsonl").read_text()


def test_without_resolve_it_says_what_to_set() -> None:
    code = "from paintover_bridge.hosts.resolve import studio; studio.connect()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RESOLVE_SCRIPT_API" in done.stderr.splitlines()[-1]
