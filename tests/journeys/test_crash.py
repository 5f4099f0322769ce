"""Kills daemon and workers at random moments of real jobs: every job ends well, and no finished stage runs again.

PAINTOVER_CRASH_SEED chooses other moments, PAINTOVER_CRASH_KILLS how many of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from paintover.v1 import job_pb2
from paintover_bridge.client import Client, connect
from paintover_bridge.errors import ClientError
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.store import Store

from tests.conftest import SmallShot, make_small_shot

SEED = int(os.environ.get("PAINTOVER_CRASH_SEED", "8"))
KILLS = int(os.environ.get("PAINTOVER_CRASH_KILLS", "28"))
PARTS = 2  # so that several processors share the work
LONGEST_WAIT = 0.8  # seconds between a daemon that answers and the next kill
IN_QUEUE = 3

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
def test_random_kills_lose_and_repeat_nothing(
    part: int, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAINTOVER_CPU_WORKERS", str(1 + part % 2))
    dice = random.Random(SEED * PARTS + part)
    shots = [make_small_shot(tmp_path / f"shot{n}", count=24, key=8 + n, width=160, height=120) for n in range(2)]
    stage_log = StageLog(data_dir)
    made: dict[str, Path] = {}
    with connect(data_dir, ephemeral=False) as client:
        for _ in range(KILLS // PARTS):
            while unfinished(client) < IN_QUEUE:
                output = tmp_path / f"out{len(made)}.mkv"
                made[submit(client, dice.choice(shots), dice.randrange(1, 20), output)] = output
            time.sleep(dice.uniform(0, LONGEST_WAIT))
            engine = client.endpoint.pid
            victims = [engine, *worker_pids(engine)]
            kill(dice.choice(victims))
            stage_log.record_kill()
            with contextlib.suppress(ClientError):  # a daemon killed while it answered: the next call starts another
                client.get_engine()
        for name in made:
            assert client.wait_until_finished(name, 300)
        jobs = {name: client.get_job(name) for name in made}
        assert {job.name for job in client.list_jobs()} == set(made)
        client.stop_engine(when_idle=False)

    for name, job in jobs.items():
        assert job.state == job_pb2.JOB_STATE_DONE, f"{name}: {job.message}"
        assert len(job.frames) == 24
        assert made[name].stat().st_size > 1000
    wanted = {name for path in made.values() for name in (path.name, f"{path.name}.paintover.json")}
    assert {path.name for path in tmp_path.iterdir()} == {"data", "shot0", "shot1"} | wanted
    store = Store(DataFolder(data_dir))
    results = [path.name for path in DataFolder(data_dir).results.glob("??/*")]
    assert results
    assert [key for key in results if not store.is_whole(key, publishes=True)] == []
    assert stage_log.repeated() == set()


def submit(client: Client, shot: SmallShot, softness: int, output: Path) -> str:
    """Creates a job that shares stages with some others and has some of its own."""
    name = client.create_shot(shot.source).name
    client.put_keyframe(name, shot.key, shot.keyframe)
    return client.create_job(name, parameters={"softness": str(softness)}, output=output).name


def unfinished(client: Client) -> int:
    done = (job_pb2.JOB_STATE_DONE, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)
    return sum(job.state not in done for job in client.list_jobs())


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def worker_pids(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if b"jobs.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


def assert_kills_cost_one_stage(
    client: Client, data_dir: Path, shot: SmallShot, stages: Sequence[str], **job: Any
) -> None:
    """Runs a job whose workers are killed once in each of some stages, by function: it ends, and no stage that had
    ended is run again."""
    stage_log, name = StageLog(data_dir), client.create_shot(shot.source).name
    client.put_keyframe(name, shot.key, shot.keyframe)
    made = client.create_job(name, **job).name
    wanted = list(stages)
    for event in client.watch(made):
        function = event.job.progress.stage.partition(" ")[0]
        if function in wanted:
            wanted.remove(function)
            for pid in worker_pids(client.endpoint.pid):
                os.kill(pid, signal.SIGKILL)
            stage_log.record_kill()
    done = client.get_job(made)
    assert done.state == job_pb2.JOB_STATE_DONE, done.message
    assert len(done.frames) == shot.count
    assert stage_log.repeated() == set()
    assert not wanted


class StageLog:
    """Which outputs were stored at each kill, and which stages the engine's log says were started after it."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._seen: list[tuple[int, set[str]]] = []

    def record_kill(self) -> None:
        keys = {path.name for root in ("cache", "results") for path in (self._data / root).glob("??/*")}
        self._seen.append((len(self._lines()), keys))

    def _lines(self) -> list[bytes]:
        path = self._data / "logs" / "engine.jsonl"
        return path.read_bytes().splitlines() if path.exists() else []

    def repeated(self) -> set[str]:
        lines = self._lines()
        return {
            key for start, finished in self._seen for key in _started(lines[start + 1 :]) if key in finished
        }  # the line after the kill may have been on its way


def _started(lines: list[bytes]) -> Iterator[str]:
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if record["message"].startswith("stage ") and record["message"].endswith(" starts"):
                yield record["stage"]
