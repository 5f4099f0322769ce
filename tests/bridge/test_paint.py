"""`paintover paint` as a process: a frame out, saves in, and what a person and a program read of it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paintover.v1 import job_pb2
from paintover_bridge import daemon
from paintover_bridge.client import Client, connect
from paintover_bridge.job_request import JobRequest
from paintover_bridge.output import CommandOutput
from paintover_bridge.paint import PaintOptions, PaintSession, frames_to_judge
from psd_tools import PSDImage

from tests.conftest import SmallShot, make_small_shot

SECONDS = 60.0
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


class PaintProcess:
    """A running command, read line by line."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "paintover_bridge", "paint", *arguments, "--editor", "none", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.events: list[dict[str, Any]] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._said: list[str] = []
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr
        self._said += list(self.process.stderr)

    def until(self, kind: str) -> dict[str, Any]:
        """The next event of a kind."""
        while True:
            line = self._lines.get(timeout=SECONDS)
            assert line is not None, f"ended before '{kind}': {self._said}"
            event: dict[str, Any] = json.loads(line)
            self.events.append(event)
            if event["event"] == kind:
                return event
            assert event["event"] != "error" or kind == "error", event

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        status = self.process.wait(SECONDS)
        for thread in self._threads:
            thread.join(SECONDS)
        while (line := self._lines.get(timeout=SECONDS)) is not None:
            self.events.append(json.loads(line))
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        return status

    def kinds(self) -> list[str]:
        return [event["event"] for event in self.events]


Start = Callable[..., PaintProcess]


@pytest.fixture
def paint(folder: Path) -> Iterator[Start]:
    running: list[PaintProcess] = []

    def start(*arguments: str) -> PaintProcess:
        running.append(PaintProcess(*map(str, arguments)))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.ended()
    with contextlib.suppress(Exception), connect(folder, start=False) as client:
        client.stop_engine(when_idle=False)


def save(picture: Path, shot: SmallShot, radius: int = 12, colour: tuple[int, int, int] = (40, 40, 230)) -> None:
    """What an editor that writes flat pictures does."""
    painted = shot.plate(shot.key)
    cv2.circle(painted, (48, 32), radius, colour, -1, cv2.LINE_AA)
    cv2.imwrite(str(picture), painted)


def test_each_save_is_propagated_and_replaces_the_result(paint: Start, small_shot: SmallShot, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    running = paint(small_shot.source, "--frame", "4", "--format", "png", "-o", out)
    exported = running.until("exported")
    picture = Path(exported["path"])
    assert (exported["frame"], exported["resumed"]) == (4, False)
    np.testing.assert_array_equal(cv2.imread(str(picture)), small_shot.plate(4))
    running.until("editor")
    for radius in (12, 20):
        save(picture, small_shot, radius)
        assert running.until("saved")["path"] == str(picture)
        assert running.until("frame")["number"] == 4
        assert running.until("done")["output"] == str(out)
        draft = running.until("draft")
        assert draft["frames"][-2:] == [3, 5] and len(draft["frames"]) == 5
    groups = {group.name.partition(",")[0]: group for group in PSDImage.open(draft["path"])}
    assert list(groups) == [f"Frame {number}" for number in reversed(draft["frames"])]  # the first is the topmost
    shown = np.asarray(groups["Frame 5"].composite().convert("RGB"))
    assert shown[32, 46, 0] > 150 > 110 > shown[32, 46, 1]
    np.testing.assert_array_equal(shown[:8], small_shot.plate(5)[:8, :, ::-1])
    first = cv2.VideoCapture(str(out))
    frames = 0
    while first.read()[0]:
        frames += 1
    assert frames == small_shot.count
    assert running.end(signal.SIGINT) == 0
    assert "preparing" in running.kinds()


def test_least_certain_frames_lie_apart() -> None:
    confidences = {frame: 1 - frame / 100 for frame in range(48)}
    assert frames_to_judge(confidences, 20) == [47, 42, 37, 19, 21]
    assert frames_to_judge({0: 0.5}, 0) == []


def test_a_save_cancels_the_job_that_it_outdates(paint: Start, tmp_path: Path, folder: Path) -> None:
    shot = make_small_shot(tmp_path / "long", count=150, width=320, height=200)
    running = paint(shot.source, "--frame", "4", "--format", "png")
    picture = Path(running.until("exported")["path"])
    running.until("editor")
    save(picture, shot, 10)
    first = running.until("job")["name"]
    running.until("frame")
    save(picture, shot, 14)
    assert running.until("outdated")["job"] == first
    second = running.until("job")["name"]
    assert running.end(signal.SIGTERM) == 130
    with connect(folder, start=False) as client:
        states = {job.name: job.state for job in client.list_jobs()}
    assert first != second
    assert states[first] == states[second] == 8  # cancelled


def test_save_replaces_a_result_before_its_end_is_heard(
    client: Client, small_shot: SmallShot, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = tmp_path / "painted.png", tmp_path / "out.mkv"
    request = JobRequest(str(small_shot.source), output=str(out))
    session = PaintSession(client, request, PaintOptions(4, str(picture)), None, folder, CommandOutput(as_json=True))
    session._export()
    for radius in (10, 14):  # the first job's end stays in the session's queue of events
        save(picture, small_shot, radius)
        session._submit_save(picture)
        assert all(client.wait_until_finished(job.name, 60) for job in client.list_jobs())
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events].count("job") == 2
    assert all(job.state == job_pb2.JOB_STATE_DONE for job in client.list_jobs())


def test_ctrl_c_waits_for_the_last_save(paint: Start, small_shot: SmallShot, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    running = paint(small_shot.source, "--frame", "4", "--format", "png", "-o", out)
    picture = Path(running.until("exported")["path"])
    running.until("editor")
    save(picture, small_shot)
    running.until("job")
    assert running.end(signal.SIGINT) == 0
    assert running.kinds()[-1] == "done" or "done" in running.kinds()
    assert out.exists()


def test_a_bad_save_is_said_and_the_next_one_counts(paint: Start, small_shot: SmallShot, tmp_path: Path) -> None:
    running = paint(small_shot.source, "--frame", "4", "--format", "png", "--once")
    picture = Path(running.until("exported")["path"])
    running.until("editor")
    cv2.imwrite(str(picture), np.zeros((10, 50, 3), np.uint8))
    error = running.until("error")
    assert "50x10" in error["message"] and "96x64" in error["message"]
    save(picture, small_shot)
    running.until("done")
    assert running.ended() == 0


def test_existing_picture_is_resumed(paint: Start, small_shot: SmallShot, tmp_path: Path) -> None:
    picture = tmp_path / "mine.png"
    save(picture, small_shot)
    before = picture.read_bytes()
    running = paint(small_shot.source, "--frame", "4", "--picture", picture, "--once")
    assert running.until("exported")["resumed"]
    running.until("done")
    assert running.ended() == 0
    assert picture.read_bytes() == before


def test_unpainted_psd_is_resumed_without_an_error(
    paint: Start, client: Client, small_shot: SmallShot, tmp_path: Path
) -> None:
    picture = tmp_path / "k.psd"
    client.export_frame(client.create_shot(small_shot.source).name, 4, picture)
    running = paint(small_shot.source, "--frame", "4", "--picture", picture)
    running.until("saved")
    assert "Nothing is painted" in running.until("note")["message"]
    assert running.end(signal.SIGINT) == 0
    assert "error" not in running.kinds()


def test_other_keyframes_are_used_without_only(paint: Start, small_shot: SmallShot, folder: Path) -> None:
    with connect(folder, ephemeral=False) as client:
        shot = client.create_shot(small_shot.source)
        other = client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe).name
    for options, expected in (([], 2), (["--only"], 1)):
        running = paint(small_shot.source, "--frame", "9", "--format", "png", "--once", *options)
        picture = Path(running.until("exported")["path"])
        running.until("editor")
        painted = small_shot.plate(9)
        painted[20 + expected : 40, 20:40] = 255
        cv2.imwrite(str(picture), painted)
        keyframes = running.until("job")["spec"]["keyframes"]
        assert len(keyframes) == expected and (other in keyframes) == (expected == 2)
        running.until("done")
        assert running.ended() == 0
        picture.unlink()


def test_drafted_frame_is_corrected_instead_of_painted_anew(
    paintover: Callable[..., Any], client: Client, small_shot: SmallShot, tmp_path: Path
) -> None:
    arguments = (small_shot.source, "--frame", "9", "--fix", "--no-wait", "--picture", tmp_path / "k.psd")
    assert "Frame 9 has no result yet" in paintover("paint", *arguments).stderr
    shot = client.create_shot(small_shot.source)
    client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
    job = client.create_job(shot.name).name
    assert client.wait_until_finished(job, 60)
    run = paintover("paint", *arguments)
    assert run.returncode == 0, run.stderr
    assert client.put_keyframe(shot.name, 9, tmp_path / "k.psd").frame == 9  # something is painted, on that plate
    assert "is there already" in paintover("paint", *arguments).stderr


def test_what_is_wrong_is_said_before_the_editor_opens(
    engine: daemon.Endpoint, paintover: Callable[..., Any], small_shot: SmallShot, tmp_path: Path
) -> None:
    (tmp_path / "out.mkv").write_bytes(b"yesterday")
    for arguments, says in (
        (["--frame", "99"], "Frame 99 does not exist: the shot has frames 0 to 11."),
        (["--frame", "4", "--method", "drat"], "Did you mean 'draft'?"),
        (["--frame", "4", "-p", "softness=much"], "softness"),
        (["--frame", "4", "--format", "exr"], "display-encoded"),
        (["--frame", "4", "--picture", "k.gif"], "no picture that is read"),
        (["--frame", "4", "--picture", "no/such/k.psd"], "There is no folder"),
        (["--frame", "4", "-o", "no/such/out.mov"], "no/such"),
        (["--frame", "4", "-o", "out.mkv"], "out.mkv"),
        (["--frame", "4", "--editor", "no-such-editor"], "was not found"),
        (["--frame", "4", "--write-mattes", "m"], "give -o as well"),
    ):
        given = arguments if "--editor" in arguments else [*arguments, "--editor", "none"]
        ran = paintover("paint", str(small_shot.source), *given)
        assert ran.returncode == 2, arguments
        assert says in ran.stderr
        assert "Traceback" not in ran.stderr
    assert (tmp_path / "out.mkv").read_bytes() == b"yesterday"


def test_a_disk_that_takes_no_picture_is_said(
    paintover: Callable[..., Any], small_shot: SmallShot, tmp_path: Path
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    ran = paintover("paint", str(small_shot.source), "--frame", "4", "--editor", "none", "--picture", "locked/k.psd")
    assert ran.returncode == 2
    assert "locked" in ran.stderr


def test_the_first_save_is_the_first_version(paint: Start, small_shot: SmallShot, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pattern = tmp_path / "out" / "shot.####.png"
    running = paint(small_shot.source, "--frame", "4", "--format", "png", "-o", pattern, "--versioned")
    picture = Path(running.until("exported")["path"])
    running.until("editor")
    assert list((tmp_path / "out").iterdir()) == []
    for version in ("v001", "v002"):
        save(picture, small_shot, 10 + int(version[-1]))
        assert running.until("done")["output"] == str(tmp_path / "out" / version / "shot.####.png")
    assert running.end(signal.SIGINT) == 0
    assert [len(list(folder.glob("*.png"))) for folder in sorted((tmp_path / "out").iterdir())] == [12, 12]


def test_a_client_checks_a_job_without_making_it(client: Client, small_shot: SmallShot, tmp_path: Path) -> None:
    shot = client.create_shot(small_shot.source)
    client.create_job(shot.name, output=tmp_path / "out.mkv", validate_only=True)
    assert client.list_jobs() == []
    shutil.copy(small_shot.keyframe, tmp_path / "out.mkv")
    with pytest.raises(Exception, match="out.mkv"):
        client.create_job(shot.name, output=tmp_path / "out.mkv", validate_only=True)
