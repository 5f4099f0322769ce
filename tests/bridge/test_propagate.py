"""The command's own part of a propagation: interrupts, engines that die, jobs left in the queue."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paintover_bridge import daemon
from paintover_bridge.client import connect

pytest.importorskip("paintover_engine")

from tests.conftest import SmallShot, make_small_shot

Run = Callable[..., "subprocess.CompletedProcess[str]"]
FRAMES = 120


@pytest.fixture
def long_shot(tmp_path: Path) -> SmallShot:
    """Some seconds of work."""
    return make_small_shot(tmp_path / "long", count=FRAMES, key=60, width=192, height=128)


def arguments(shot: SmallShot, out: Path) -> list[str]:
    return ["propagate", str(shot.source), "--keyframe", f"{shot.key}={shot.keyframe}", "-o", str(out)]


@contextlib.contextmanager
def running(shot: SmallShot, out: Path) -> Iterator[subprocess.Popen[str]]:
    """The command at work on a long shot, with some frames made. Its further lines are there to read."""
    command = [sys.executable, "-m", "paintover_bridge", *arguments(shot, out), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if json.loads(line).get("frames_done", 0) >= 10:
                break
        yield process


def events(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    assert process.stdout
    return [json.loads(line) for line in process.stdout]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_cancels_the_job_without_output(
    folder: Path, long_shot: SmallShot, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    with running(long_shot, out) as process:
        process.send_signal(number)
        last = events(process)[-1]
        assert process.wait() == 130
        assert process.stderr
        assert process.stderr.read().startswith("paintover: jobs/1 was cancelled")
    assert (last["event"], last["code"], last["exit_code"]) == ("error", "CANCELLED", 130)
    assert not out.exists()
    with connect(folder) as client:
        assert [daemon_job.end_time > 0 for daemon_job in client.list_jobs()] == [True]


def test_a_job_outlives_the_engine_under_the_command(folder: Path, long_shot: SmallShot, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(long_shot, out) as process:
        first = daemon.find(folder)
        assert first
        os.kill(first.pid, signal.SIGKILL)
        seen = events(process)
        assert process.wait() == 0
    assert seen[-1]["event"] == "done"
    assert seen[-1]["frames"] == FRAMES
    done = [event["frames_done"] for event in seen if event["event"] == "progress"]
    assert done[0] >= 10  # it goes on, it does not begin again
    assert len(list(out.glob("*.png"))) == FRAMES


def test_an_engine_started_for_a_command_ends_after_it(
    paintover: Run, folder: Path, small_shot: SmallShot, tmp_path: Path
) -> None:
    ran = paintover(*arguments(small_shot, tmp_path / "out"))
    assert ran.returncode == 0, ran.stderr
    assert f"Wrote {tmp_path / 'out'} ({small_shot.count} frames in " in ran.stdout
    while daemon.read_endpoint(folder):
        time.sleep(0.1)  # the test's own time limit is the limit


def test_a_running_engine_is_used_and_stays(
    paintover: Run, engine: daemon.Endpoint, small_shot: SmallShot, tmp_path: Path
) -> None:
    assert paintover(*arguments(small_shot, tmp_path / "out")).returncode == 0
    assert daemon.find(engine.folder) == engine
    with connect(engine.folder, start=False) as client:
        assert len(client.list_jobs()) == 1


def test_detached_job_is_watched_shown_and_removed(
    paintover: Run, folder: Path, small_shot: SmallShot, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    left = paintover(*arguments(small_shot, out), "--detach")
    assert (left.returncode, left.stdout) == (0, "Queued jobs/1; see `paintover jobs watch 1`.\n")
    watched = paintover("jobs", "watch", "1")
    assert watched.returncode == 0, watched.stderr
    assert f"Wrote {out}" in watched.stdout
    assert paintover("jobs", "list").stdout.splitlines()[1].split()[:3] == ["1", "done", "100%"]
    shown = paintover("jobs", "show", "1").stdout
    assert f"{small_shot.count} of {small_shot.count}" in shown
    assert str(out) in shown
    removed = paintover("jobs", "remove", "1", "--json")
    assert json.loads(removed.stdout) == {"job": "jobs/1", "removed": True}
    assert paintover("jobs").stdout == "No jobs.\n"
    assert len(list(out.glob("*.png"))) == small_shot.count


def test_job_is_paused_resumed_cancelled_and_retried(
    paintover: Run, folder: Path, long_shot: SmallShot, tmp_path: Path
) -> None:
    assert paintover(*arguments(long_shot, tmp_path / "out"), "--detach").returncode == 0
    for action, state in (("pause", "paused"), ("resume", None), ("cancel", "cancelled"), ("retry", None)):
        ran = paintover("jobs", action, "1", "--json")
        assert ran.returncode == 0, (action, ran.stderr)
        if state:
            assert json.loads(ran.stdout)["state"] == state
    assert paintover("jobs", "watch", "1").returncode == 0
    again = paintover("jobs", "retry", "1")
    assert again.returncode == 2
    assert "done" in again.stderr
