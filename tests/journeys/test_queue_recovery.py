"""What a daemon finds when it starts: a killed one, damaged files, an older queue, a folder that is read-only."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from paintover.v1 import frame_pb2, job_pb2
from paintover_bridge.client import Client, ClientError, connect
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.queue import Queue

from tests.conftest import SmallShot
from tests.journeys.test_queue import DONE, FAILED, SECONDS, kill_with_workers, log, running, wait_until


def test_damaged_queue_is_restored_from_records(slow: Client, shot: str, data_dir: Path, tmp_path: Path) -> None:
    done = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0"}, output=tmp_path / "out.mkv")
    assert slow.wait_until_finished(done.name, SECONDS)
    pixels = bytes(slow.get_frame(done.name, 3).pixels())
    waiting = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0", "seed": "5"}, priority=-3)
    slow.update_job(waiting.name, paused=True)
    os.kill(slow.endpoint.pid, signal.SIGKILL)
    folder = DataFolder(data_dir)
    for suffix in ("-wal", "-shm"):
        Path(f"{folder.database}{suffix}").unlink(missing_ok=True)
    folder.database.write_bytes(b"\x00garbage" * 4096)
    engine = slow.get_engine()  # starts another
    assert "queue-damaged-1.sqlite" in " ".join(engine.notes)
    assert (data_dir / "queue-damaged-1.sqlite").read_bytes().startswith(b"\x00garbage")
    again = slow.get_job(done.name)
    assert (again.state, len(again.frames)) == (DONE, 12)
    assert bytes(slow.get_frame(done.name, 3).pixels()) == pixels
    kept = slow.get_job(waiting.name)
    assert (kept.state, kept.priority) == (job_pb2.JOB_STATE_PAUSED, -3)
    slow.update_job(waiting.name, paused=False)
    assert slow.wait_until_finished(waiting.name, SECONDS)
    assert slow.get_job(waiting.name).state == DONE
    assert slow.create_job(shot, method="slow-draft", parameters={"seed": "6"}).name == "jobs/3"


@pytest.mark.parametrize("cpu_workers", [1, 2], indirect=True)
def test_result_damaged_by_a_crash_is_recomputed(cpu_workers: int, slow: Client, shot: str, data_dir: Path) -> None:
    job = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0.2"})
    wait_until(lambda: slow.get_job(job.name).progress.frames_done)
    os.kill(slow.endpoint.pid, signal.SIGKILL)
    frames = sorted(DataFolder(data_dir).results.rglob("*.safetensors"))
    whole = frames[0].read_bytes()
    frames[0].write_bytes(whole[:-4] + b"\xff\xff\xff\xff")
    assert slow.wait_until_finished(job.name, SECONDS)
    assert len(slow.get_job(job.name).frames) == 12
    assert frames[0].read_bytes()[-32:] == whole[-32:]


@pytest.mark.parametrize(("cpu_workers", "name"), [(1, "out.mkv"), (2, "out/")], indirect=["cpu_workers"])
def test_kill_between_publishing_and_done(
    cpu_workers: int, slow: Client, shot: str, data_dir: Path, tmp_path: Path, name: str
) -> None:
    output = tmp_path / name
    job = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0"}, output=f"{tmp_path}/{name}")
    assert slow.wait_until_finished(job.name, SECONDS)
    files = {path: path.stat().st_mtime_ns for path in ([*output.iterdir()] if output.is_dir() else [output])}
    os.kill(slow.endpoint.pid, signal.SIGKILL)
    with sqlite3.connect(DataFolder(data_dir).database) as db:  # as if it had been killed before it wrote "done"
        db.execute("UPDATE jobs SET state = 'running', ended = NULL")
    db.close()
    assert slow.wait_until_finished(job.name, SECONDS)
    done = slow.get_job(job.name)
    assert done.state == DONE, done.message
    assert {path: path.stat().st_mtime_ns for path in files} == files
    slow.delete_job(job.name)
    assert list(DataFolder(data_dir).publications.iterdir()) == []


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("cpu_workers", [1, 2], indirect=True)
def test_damaged_input_is_recomputed_by_its_job(cpu_workers: int, slow: Client, shot: str, data_dir: Path) -> None:
    job = slow.create_job(shot, method="slow-draft", parameters={"stages": "3", "seconds": "1"})
    wait_until(lambda: running(slow, job))
    (prepared,) = DataFolder(data_dir).cache.rglob("tensors.safetensors")
    kill_with_workers(slow.endpoint.pid)  # the next worker reads the file, whatever this one has in memory
    flip_last_byte(prepared)
    assert slow.wait_until_finished(job.name, SECONDS)
    done = slow.get_job(job.name)
    assert done.state == DONE, done.message
    assert any("was damaged on disk" in str(line["message"]) for line in log(slow))


def test_damaged_result_is_found_and_retried(slow: Client, shot: str, data_dir: Path) -> None:
    job = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0"})
    assert slow.wait_until_finished(job.name, SECONDS)
    pixels = bytes(slow.get_frame(job.name, 3).pixels())
    for path in DataFolder(data_dir).results.rglob("*.safetensors"):
        flip_last_byte(path)
    with pytest.raises(ClientError, match=r"frame 3 is damaged on disk; retry the job"):
        slow.get_frame(job.name, 3)
    assert slow.get_job(job.name).state == FAILED
    slow.retry_job(job.name)
    assert slow.wait_until_finished(job.name, SECONDS)
    assert slow.get_job(job.name).state == DONE
    assert bytes(slow.get_frame(job.name, 3).pixels()) == pixels


def test_cache_stays_within_its_budget(
    slow_methods: None, data_dir: Path, small_shot: SmallShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"{sys.executable} -m paintover_engine.service --cache-size 1k"
    monkeypatch.setenv("PAINTOVER_ENGINE", command)
    with connect(data_dir, ephemeral=False) as client:
        name = client.create_shot(small_shot.source).name
        client.put_keyframe(name, small_shot.key, small_shot.keyframe)
        job = client.create_job(name)
        assert client.wait_until_finished(job.name, SECONDS)
        assert client.get_job(job.name).state == DONE, client.get_job(job.name).message
        assert len(client.get_job(job.name).frames) == small_shot.count
        other = client.create_job(name, method="slow-draft", parameters={"seconds": "0"})
        assert client.wait_until_finished(other.name, SECONDS)
        cache = client.get_cache()
        assert cache.stages_bytes + cache.views_bytes < 2000
        assert cache.results_bytes > 0
        for frame in range(small_shot.count):
            client.get_frame(job.name, frame)
            client.get_frame(job.name, frame, view=frame_pb2.VIEW_PLATE)
        assert client.get_cache().views_bytes < 100_000  # one plate: the one just made
        freed = client.prune_cache()
        assert freed.freed_bytes > 0
        assert freed.cache.stages_bytes + freed.cache.views_bytes == 0
        assert freed.cache.results_bytes == cache.results_bytes
        client.stop_engine(when_idle=False)


def test_queue_of_version_1_is_migrated(data_dir: Path) -> None:
    from paintover_engine.jobs.database import MIGRATIONS

    folder = DataFolder(data_dir)
    folder.create()
    with sqlite3.connect(folder.database) as db:
        db.executescript(MIGRATIONS[0])
        db.execute("INSERT INTO shots VALUES ('abcdefabcdef', '/gone.mov', 1, 2, '', 0, NULL, 1.0)")
        for number in (4, 5):
            spec = {"method": "draft", "parameters": {}, "model": "", "keyframes": [], "output": "", "overwrite": False,
                    "mattes": "", "prepare_only": False}  # fmt: skip
            db.execute(
                "INSERT INTO jobs VALUES (?, 'abcdefabcdef', ?, 'done', 0, 'as it was', '', '{}', 1.0, 1.0, 2.0, 7)",
                (number, json.dumps(spec)),
            )
        db.execute("PRAGMA user_version = 1")
    db.close()
    with connect(data_dir, ephemeral=False) as client:
        jobs = client.list_jobs()
        assert [job.name for job in jobs] == ["jobs/4", "jobs/5"]
        assert [job.message for job in jobs] == ["as it was"] * 2
        client.stop_engine(when_idle=False)


def test_second_daemon_names_the_first(slow: Client, data_dir: Path) -> None:
    command = [sys.executable, "-m", "paintover_engine.service", "--data-dir", str(data_dir)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 75
    assert f"pid {slow.endpoint.pid}" in second.stderr
    assert slow.get_engine().pid == slow.endpoint.pid


def drop_override_capability() -> None:
    """Takes from the program that is run next what lets root write to read-only files (prctl(2), CAPBSET_DROP)."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="drops a capability of Linux")
@pytest.mark.parametrize("name", ["temporary", "queue.sqlite"])
def test_read_only_data_folder_is_one_sentence(tmp_path: Path, name: str) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    Queue(folder.database).close()
    (folder.root / name).chmod(0o555)
    command = [sys.executable, "-m", "paintover_engine.service", "--data-dir", str(folder.root)]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=drop_override_capability
    )
    assert run.returncode == 2, run.stderr
    assert str(folder.root) in run.stderr
    assert "--data-dir" in run.stderr
    assert "Traceback" not in run.stderr
