"""A render farm: bundles run by the real `openjd` command and by `paintover render`, in processes on one store."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path
from typing import IO

import cv2
import pytest
from paintover_bridge.client import Client
from paintover_engine.farm.leases import LEASE_SECONDS

from tests.conftest import SmallShot, make_small_shot

SCRIPTS = Path(sysconfig.get_path("scripts"))
SECONDS = 90
STRANGER = 65534  # nobody


def bundle(shot: SmallShot, folder: Path, *options: str) -> Path:
    """A bundle of a small shot; returns its job file."""
    key = f"{shot.key}={shot.keyframe}"
    command = [str(SCRIPTS / "paintover"), "farm", "bundle", str(shot.source), "-k", key, "-o", str(folder), *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert ran.returncode == 0, ran.stderr
    return folder / "job.json"


def start(job: Path, *options: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [str(SCRIPTS / "paintover"), "render", str(job), *options]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


def rendered(job: Path, *options: str) -> tuple[int, str]:
    """The exit status of a task, and what it printed."""
    process = start(job, *options)
    text, errors = process.communicate(timeout=SECONDS)
    assert not errors, errors
    return process.returncode, text


def stages_run(*texts: str) -> Counter[str]:
    """How often each stage was run, by its label."""
    label = re.compile(r"^openjd_status: (\w+ \d[\d-]*)$", re.MULTILINE)
    return Counter(found for text in texts for found in label.findall(text))


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.fixture
def shot(tmp_path: Path) -> SmallShot:
    return make_small_shot(tmp_path / "shot", count=24, key=10)


def test_openjd_renders_what_the_daemon_does(client: Client, shot: SmallShot, tmp_path: Path) -> None:
    job = bundle(shot, tmp_path / "bundle")
    openjd, template = str(SCRIPTS / "openjd"), str(job.parent / "template.yaml")
    subprocess.run([openjd, "check", template], check=True, capture_output=True, timeout=SECONDS)
    parameters = ["-p", f"Command={SCRIPTS / 'paintover'}", "-p", "WindowsPerTask=2"]
    ran = subprocess.run(
        [openjd, "run", template, "--step", "Deliver", "--run-dependencies", *parameters],
        capture_output=True, text=True, check=False, timeout=SECONDS, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert "Chunks run: 5" in ran.stdout

    name = client.create_shot(shot.source).name
    client.put_keyframe(name, shot.key, shot.keyframe)
    made = client.create_job(name, output=tmp_path / "daemon")
    assert client.wait_until_finished(made.name, SECONDS)
    assert len(pictures(tmp_path / "daemon")) == shot.count
    assert pictures(job.parent / "result") == pictures(tmp_path / "daemon")
    sidecars = [
        json.loads((folder / "paintover.json").read_text()) for folder in (job.parent / "result", tmp_path / "daemon")
    ]
    for same in ("source", "keyframes", "confidence", "parameters", "notes", "frames"):
        assert sidecars[0][same] == sidecars[1][same]


def test_two_side_by_side_share_the_work(shot: SmallShot, tmp_path: Path) -> None:
    job = bundle(shot, tmp_path / "bundle", "--result", str(tmp_path / "out.mkv"))
    both = [start(job), start(job)]
    texts = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert set(stages_run(*texts).values()) == {1}
    before = (tmp_path / "out.mkv").stat()
    status, again = rendered(job)
    assert (status, stages_run(again)) == (0, Counter())
    after = (tmp_path / "out.mkv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_killed_task_goes_on_where_it_was(shot: SmallShot, tmp_path: Path) -> None:
    job = bundle(shot, tmp_path / "bundle")
    process = start(job)
    assert process.stdout
    read = ""
    while "propagate" not in read:
        read += process.stdout.readline()
    process.kill()
    process.communicate()
    stored = {path.name for root in ("cache", "results") for path in (tmp_path / "bundle/store" / root).glob("??/*")}
    started = time.monotonic()
    status, again = rendered(job)
    assert status == 0
    assert time.monotonic() - started < LEASE_SECONDS + SECONDS / 2
    lost = stages_run(read) & stages_run(again)
    assert len(stored) >= 4 and 1 <= sum(lost.values()) <= 2  # two run at a time
    assert len(pictures(tmp_path / "bundle" / "result")) == shot.count


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_cancelled_task_ends_with_notice(tmp_path: Path) -> None:
    shot = make_small_shot(tmp_path / "shot", count=60, width=480, height=270)
    job = bundle(shot, tmp_path / "bundle")
    process = start(job, "--stage", "prepare")
    assert process.stdout
    while not process.stdout.readline().startswith("openjd_status"):
        pass
    process.send_signal(signal.SIGTERM)
    text, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (130, "")
    assert "openjd_status: Cancelled; what was finished is kept." in text
    assert list((job.parent / "store" / "leases").iterdir()) == []


def test_some_frames_are_redone_on_the_same_store(shot: SmallShot, tmp_path: Path) -> None:
    first = bundle(shot, tmp_path / "first")
    assert rendered(first)[0] == 0
    second = tmp_path / "second.png"
    shutil.copyfile(shot.source / "00020.png", second)
    picture = cv2.imread(str(second))
    cv2.circle(picture, (30, 30), 9, (220, 30, 30), -1, cv2.LINE_AA)
    cv2.imwrite(str(second), picture)
    job = bundle(shot, tmp_path / "again", "-k", f"20={second}", "--frames", "18-22", "--keep", str(first))
    status, text = rendered(job)
    assert status == 2 and "are not in this store" in text
    assert rendered(job, "--store", str(first.parent / "store"))[0] == 0
    before, after = pictures(first.parent / "result"), pictures(job.parent / "result")
    changed = {int(Path(name).stem) for name in after if after[name] != before[name]}
    assert len(after) == shot.count and changed == set(range(18, 23))


def test_unrendered_windows_are_named(shot: SmallShot, tmp_path: Path) -> None:
    job = bundle(shot, tmp_path / "bundle")
    status, text = rendered(job, "--stage", "deliver")
    assert status == 2
    assert "openjd_fail: The windows 1, 2, 3 are not rendered yet; run the step propagate for them first." in text
    assert not (job.parent / "result").exists()


def as_stranger() -> list[str]:
    """Begins a command that runs as a user without a home; skips where this user cannot."""
    if not shutil.which("setpriv") or os.getuid() != 0:
        pytest.skip("only root runs commands as another user, by setpriv")
    command = ["setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups"]
    reading = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]  # where Python is in root's home
    for prefix in (command, [*command, *reading]):
        if subprocess.run([*prefix, sys.executable, "-c", ""], capture_output=True, check=False).returncode == 0:
            return prefix
    pytest.skip("other users cannot read this Python")


def test_bundle_moves_to_another_user_and_folder(shot: SmallShot, tmp_path: Path) -> None:
    stranger = as_stranger()
    job = bundle(shot, tmp_path / "bundle")
    farm = Path("/tmp") / f"paintover-farm-{os.getpid()}"  # the folder of tests is its owner's alone
    try:
        shutil.move(job.parent, farm / "bundle")
        shutil.move(shot.source, farm / "plates")
        rules = {
            "source_path_format": "POSIX",
            "source_path": str(shot.source),
            "destination_path": str(farm / "plates"),
        }
        (farm / "rules.json").write_text(json.dumps({"version": "pathmapping-1.0", "path_mapping_rules": [rules]}))
        for path in (farm, *farm.rglob("*")):
            os.chown(path, STRANGER, STRANGER)
        command = [sys.executable, "-m", "paintover_engine.farm", "render", str(farm / "bundle" / "job.json")]
        ran = subprocess.run(
            [*stranger, *command, "--path-mapping", str(farm / "rules.json")],
            cwd=farm, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert len(pictures(farm / "bundle" / "result")) == shot.count
        other = farm / "plates" / "00003.png"
        other.write_bytes(other.read_bytes()[:-1] + b"x")
        ran = subprocess.run([*command, "--path-mapping", str(farm / "rules.json")], capture_output=True, text=True,
                             check=False, timeout=SECONDS)  # fmt: skip
        assert ran.returncode == 2 and "is not the source that the job was made of" in ran.stdout
    finally:
        shutil.rmtree(farm, ignore_errors=True)
