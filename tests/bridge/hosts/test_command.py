"""How hosts run the command: what they hear, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
from paintover_bridge.hosts.command import Event, Run, find_command

REPLAY_COMMAND = Path(__file__).with_name("replay_command.py")


def environment(folder: Path, *events: dict[str, object]) -> dict[str, str]:
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return {
        **os.environ,
        "REPLAYED_EVENTS": str(folder / "events.jsonl"),
        "RECORDED_ARGUMENTS": str(folder / "arguments.jsonl"),
    }


def test_events_come_in_order_and_chatter_is_left_out(tmp_path: Path) -> None:
    events: list[Event] = []
    replay = environment(tmp_path, {"event": "saved"}, {"no": "event"}, {"stderr": "a warning"}, {"event": "done"})
    run = Run([sys.executable, str(REPLAY_COMMAND)], ["paint"], events.append, replay)
    assert run.wait(20) and not run.running
    assert [one["event"] for one in events] == ["saved", "done", "ended"]


def test_a_host_that_ends_takes_its_command_along(tmp_path: Path) -> None:
    code = (
        "import sys, time; from paintover_bridge.hosts.command import Run\n"
        "run = Run(sys.argv[1:], [], lambda event: None)\n"
        "print(run._process.pid, flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, sys.executable, str(REPLAY_COMMAND)],
        env=environment(tmp_path, {"sleep": 60}),
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    pid = int(done.stdout)
    if psutil.pid_exists(pid):
        assert psutil.wait_procs([psutil.Process(pid)], timeout=20)[1] == []


def test_the_command_is_what_an_installer_wrote_down(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("PAINTOVER_COMMAND", raising=False)
    (tmp_path / "paintover-command.json").write_text('{"command": ["/opt/a b/python", "-m", "paintover_bridge"]}')
    assert find_command(tmp_path) == ["/opt/a b/python", "-m", "paintover_bridge"]
    monkeypatch.setenv("PAINTOVER_COMMAND", "'/opt/c d/paintover' --data-dir /x")
    assert find_command(tmp_path) == ["/opt/c d/paintover", "--data-dir", "/x"]
