"""One job on several devices: two processes that compute on the CPU."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from paintover.v1 import job_pb2
from paintover_bridge.client import Client, connect

from tests.conftest import SmallShot, make_small_shot
from tests.journeys.test_crash import StageLog, worker_pids

DONE = job_pb2.JOB_STATE_DONE
SECONDS = 60.0


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons that start from here on compute in two processes."""
    monkeypatch.setenv("PAINTOVER_CPU_WORKERS", "2")


def busiest(data: Path, job: str) -> int:
    """How many devices ran stages of a job at once, at most, by the engine's log."""
    number, now, most = int(job.removeprefix("jobs/")), 0, 0
    for line in (data / "logs" / "engine.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record.get("job") == number and str(record["message"]).startswith("stage "):
            now += 1 if record["message"].endswith(" starts") else -1
            most = max(most, now)
    return most


def test_one_job_runs_on_every_device(two_workers: None, slow: Client, shot: str, data_dir: Path) -> None:
    given = {"stages": "12", "seconds": "0.7"}  # longer than a process takes to start
    job = slow.create_job(shot, method="slow-final", model="small-svd", parameters=given)
    assert slow.wait_until_finished(job.name, SECONDS)
    done = slow.get_job(job.name)
    assert (done.state, done.progress.stages_done, done.progress.stages_total) == (DONE, 13, 13), done.message
    assert len(done.frames) == 12
    assert len(worker_pids(slow.endpoint.pid)) >= 2
    assert busiest(data_dir, job.name) == 2


def test_paused_job_stops_on_every_device(two_workers: None, slow: Client, shot: str, data_dir: Path) -> None:
    given = {"stages": "12", "seconds": "0.4"}
    job = slow.create_job(shot, method="slow-final", model="small-svd", parameters=given)
    for event in slow.watch(job.name):
        if event.job.progress.stages_done >= 4:
            break
    slow.update_job(job.name, paused=True)
    log = data_dir / "logs" / "engine.jsonl"
    before = log.read_text().count(" starts")
    draft = slow.create_job(shot, method="slow-draft", parameters={"stages": "2", "seconds": "0"})
    assert slow.wait_until_finished(draft.name, SECONDS)
    assert log.read_text().count(" starts") <= before + 3
    slow.update_job(job.name, paused=False)
    assert slow.wait_until_finished(job.name, SECONDS)
    assert slow.get_job(job.name).state == DONE
    assert len(slow.get_job(job.name).frames) == 12


def test_frames_do_not_depend_on_the_devices(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a killed worker costs its stage alone."""
    shot = make_small_shot(tmp_path / "shot", count=40, key=12)
    for workers in (1, 2):
        monkeypatch.setenv("PAINTOVER_CPU_WORKERS", str(workers))
        with connect(data_dir / str(workers), ephemeral=False) as client:
            name = client.create_shot(shot.source).name
            client.put_keyframe(name, shot.key, shot.keyframe)
            job = client.create_job(name, output=tmp_path / f"out{workers}")
            stage_log = StageLog(data_dir / str(workers))
            if workers == 2:
                for event in client.watch(job.name):
                    if event.job.progress.stages_done >= 6:
                        break
                victims = worker_pids(client.endpoint.pid)
                os.kill(victims[-1], signal.SIGKILL)
                stage_log.record_kill()
            assert client.wait_until_finished(job.name, SECONDS)
            done = client.get_job(job.name)
            assert (done.state, len(done.frames)) == (DONE, shot.count), done.message
            assert stage_log.repeated() == set()
            client.stop_engine(when_idle=False)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / f"out{n}").glob("*.png")} for n in (1, 2))
    assert one == two


def test_shared_stages_are_run_once(two_workers: None, client: Client, small_shot: SmallShot, data_dir: Path) -> None:
    name = client.create_shot(small_shot.source).name
    client.put_keyframe(name, small_shot.key, small_shot.keyframe)
    jobs = [client.create_job(name, parameters={"softness": str(softness)}) for softness in (1, 5, 9)]
    for job in jobs:
        assert client.wait_until_finished(job.name, SECONDS)
        assert client.get_job(job.name).state == DONE
    lines = [json.loads(line) for line in (data_dir / "logs" / "engine.jsonl").read_text().splitlines()]
    started = [line["stage"] for line in lines if str(line["message"]).endswith(" starts")]
    assert len(started) == len(set(started))
