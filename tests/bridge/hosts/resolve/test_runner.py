"""What executes the requests of Resolve's scripts, with a notify-send that writes down what it would show."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from paintover_bridge.hosts.resolve.mailbox import Mailbox, ScriptRequest
from paintover_bridge.hosts.resolve.runner import RequestRunner

from tests.bridge.hosts.resolve.standin import REPLAY_COMMAND


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="notify-send is Linux desktops'")
def test_notification_says_how_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tmp_path / "shown"
    program = tmp_path / "bin" / "notify-send"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nfor word; do :; done\nprintf %s "$word" > {shown}.partial && mv {shown}.partial {shown}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    events = [{"event": "editor", "name": "GIMP", "saving": "File > Overwrite."}, {"until": str(shown)}]
    (tmp_path / "events").write_text("".join(json.dumps(event) + "\n" for event in events))
    monkeypatch.setenv("REPLAYED_EVENTS", str(tmp_path / "events"))
    monkeypatch.setenv("RECORDED_ARGUMENTS", str(tmp_path / "arguments"))
    given = {"source": "/s/a.mov", "frame": 7, "first": 0, "last": 9, "output": str(tmp_path / "out.mov")}
    runner = RequestRunner(Mailbox(tmp_path / "mailbox"), [sys.executable, str(REPLAY_COMMAND)])
    runner.execute(ScriptRequest("r1", "paint", "clip", given))
    assert shown.read_text() == "GIMP opens frame 7. To save there: File &gt; Overwrite."
