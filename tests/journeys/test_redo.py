"""`paintover jobs retry --frames`: some frames of a finished job anew, the others as they were."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import cv2
import pytest
from paintover.v1 import job_pb2
from paintover_bridge.client import Client
from paintover_bridge.errors import ClientError

from tests.conftest import SmallShot, make_small_shot

SECONDS = 60.0
COMMAND = str(Path(sysconfig.get_path("scripts")) / "paintover")


@pytest.fixture
def shot(tmp_path: Path) -> SmallShot:
    return make_small_shot(tmp_path / "shot", count=24, key=2)


@pytest.fixture
def done(client: Client, shot: SmallShot, tmp_path: Path) -> job_pb2.Job:
    """A finished job of that shot."""
    name = client.create_shot(shot.source).name
    client.put_keyframe(name, shot.key, shot.keyframe)
    job = client.create_job(name, output=tmp_path / "out", versioned=True)
    assert client.wait_until_finished(job.name, SECONDS)
    return client.get_job(job.name)


def second_keyframe(shot: SmallShot, path: Path) -> Path:
    """Frame 14 with another disc."""
    picture = shot.plate(14)
    cv2.circle(picture, (30, 30), 9, (220, 30, 30), -1, cv2.LINE_AA)
    cv2.imwrite(str(path), picture)
    return path


def frames(folder: Path) -> dict[int, bytes]:
    return {int(path.stem): path.read_bytes() for path in sorted(folder.glob("*.png"))}


def test_frames_are_redone_and_the_others_kept(
    client: Client, shot: SmallShot, done: job_pb2.Job, tmp_path: Path
) -> None:
    key = f"14={second_keyframe(shot, tmp_path / 'second.png')}"
    command = [COMMAND, "jobs", "retry", "1", "--frames", "12-17", "-k", key]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert ran.returncode == 0, ran.stderr
    assert f"Wrote {tmp_path}/out/v002" in ran.stdout
    before, after = frames(tmp_path / "out" / "v001"), frames(tmp_path / "out" / "v002")
    assert set(after) == set(before) == set(range(shot.count))
    assert {number for number in after if after[number] != before[number]} == set(range(12, 18))
    redone = client.get_job("jobs/2")
    assert [frame.number for frame in redone.frames] == list(range(shot.count))
    whole = client.create_job(done.spec.shot, output=tmp_path / "whole")  # what both keyframes give everywhere
    assert client.wait_until_finished(whole.name, SECONDS)
    assert {number: after[number] for number in range(12, 18)} == {
        number: data for number, data in frames(tmp_path / "whole").items() if 12 <= number <= 17
    }
    assert client.get_job(whole.name).progress.stages_total > redone.progress.stages_total
    sidecar = json.loads((tmp_path / "out" / "v002" / "paintover.json").read_text())
    assert sum(each["last"] - each["first"] + 1 for each in sidecar["kept"]) == shot.count - 6


def test_kept_frames_outlive_their_job(client: Client, shot: SmallShot, done: job_pb2.Job, tmp_path: Path) -> None:
    client.put_keyframe(done.spec.shot, 14, second_keyframe(shot, tmp_path / "second.png"))
    redone = client.redo_frames(done.name, (12, 17))
    client.delete_job(done.name)
    assert client.wait_until_finished(redone.name, SECONDS)
    job = client.get_job(redone.name)
    assert (job.state, len(job.frames)) == (job_pb2.JOB_STATE_DONE, shot.count), job.message


@pytest.mark.parametrize(
    ("chosen", "sentence"), [((12, 17), "would come out as they are"), ((12, 99), "which has frames 0 to 23")]
)
def test_useless_redo_is_a_sentence(client: Client, done: job_pb2.Job, chosen: tuple[int, int], sentence: str) -> None:
    with pytest.raises(ClientError, match=sentence):
        client.redo_frames(done.name, chosen)
