"""The queue of a real daemon with real workers; the methods of tests/slow stand in for long renders."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from paintover.v1 import frame_pb2, job_pb2
from paintover_bridge.client import Client, ClientError, connect
from paintover_engine.jobs.folders import DataFolder

from tests.conftest import SmallShot
from tests.journeys.test_crash import worker_pids

DONE, FAILED = job_pb2.JOB_STATE_DONE, job_pb2.JOB_STATE_FAILED
SECONDS = 60.0


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def kill_with_workers(engine: int) -> None:
    """Kills an engine and its workers, and returns when none is left: a worker would go on until it sees the end of
    its input. engine: its process number."""
    processes = [psutil.Process(engine), *psutil.Process(engine).children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert psutil.wait_procs(processes, SECONDS)[1] == []


def running(client: Client, job: job_pb2.Job, stages: int = 1) -> bool:
    progress = client.get_job(job.name).progress
    return progress.stages_done >= stages


def log(client: Client) -> list[dict[str, object]]:
    return [json.loads(line) for line in (client.endpoint.folder / "logs" / "engine.jsonl").read_text().splitlines()]


def started(client: Client) -> list[int]:
    """The jobs of the stages that were started, in order."""
    return [r["job"] for r in log(client) if str(r["message"]).endswith(" starts")]  # type: ignore[misc]


def number(job: job_pb2.Job) -> int:
    return int(job.name.removeprefix("jobs/"))


def test_draft_overtakes_a_running_final(slow: Client, shot: str) -> None:
    final = slow.create_job(
        shot, method="slow-final", parameters={"stages": "8", "seed": "1"}, model="small-svd", priority=9
    )
    wait_until(lambda: running(slow, final, 2))
    draft = slow.create_job(shot, method="slow-draft", parameters={"stages": "2", "seed": "2"})
    assert slow.wait_until_finished(draft.name, SECONDS)
    assert slow.get_job(final.name).state == job_pb2.JOB_STATE_RUNNING
    assert slow.wait_until_finished(final.name, SECONDS)
    assert {slow.get_job(job.name).state for job in (final, draft)} == {DONE}
    order = started(slow)
    first, last = order.index(number(draft)), len(order) - 1 - order[::-1].index(number(draft))
    assert number(final) not in order[first:last]
    assert len(order) == 1 + 8 + 1 + 2  # nothing was run twice


def test_moved_jobs_run_in_their_order(slow: Client, shot: str) -> None:
    first = slow.create_job(shot, method="slow-draft", parameters={"seed": "1"})
    jobs = [slow.create_job(shot, method="slow-draft", parameters={"seed": str(n), "stages": "1", "seconds": "0"})
            for n in range(2, 6)]  # fmt: skip
    slow.update_job(jobs[3].name, before=jobs[0].name)
    slow.update_job(jobs[1].name, before="")
    slow.update_job(jobs[2].name, priority=1)
    for job in [first, *jobs]:
        assert slow.wait_until_finished(job.name, SECONDS)
    order = list(dict.fromkeys(started(slow)))
    order.remove(number(first))
    assert order == [number(jobs[2]), number(jobs[3]), number(jobs[0]), number(jobs[1])]


def test_only_transient_errors_are_retried(slow: Client, shot: str, tmp_path: Path) -> None:
    parameters = {"fails": "1", "seconds": "0", "stages": "1"}
    passing = slow.create_job(
        shot, method="slow-draft", parameters={**parameters, "marks": str(tmp_path / "a"), "code": "UNAVAILABLE"}
    )
    lasting = slow.create_job(
        shot, method="slow-draft", parameters={**parameters, "marks": str(tmp_path / "b"), "code": "INVALID_ARGUMENT"}
    )
    messages = set()
    for event in slow.watch(passing.name):
        messages.add(event.job.message)
    assert "The server of the plates does not answer. It is tried again by itself." in messages
    assert slow.get_job(passing.name).state == DONE
    assert slow.wait_until_finished(lasting.name, SECONDS)
    assert slow.get_job(lasting.name).state == FAILED
    assert (tmp_path / "b").read_text() == "x"


@pytest.fixture
def slow_publication(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Daemons that start from here on publish slowly: longer than what halts a job takes to start."""
    monkeypatch.setenv("SLOW_PUBLICATION", "0.5" if how == "cancel" else "0.1")


@pytest.mark.parametrize(
    ("cpu_workers", "how"),
    [(1, "cancel"), (1, "pause"), (1, "killed worker"), (2, "killed worker")],
    indirect=["cpu_workers"],
)
def test_job_halted_while_publishing_is_done(
    cpu_workers: int, slow_publication: None, slow: Client, shot: str, data_dir: Path, tmp_path: Path, how: str
) -> None:
    """It ended cancelled, with its whole output under its final name."""
    output = tmp_path / "out"
    output.mkdir()
    job = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0"}, output=output / "frame.####.png")
    wait_until(lambda: any(output.glob("frame.*.png")))
    if how == "killed worker":
        for pid in worker_pids(slow.endpoint.pid):
            os.kill(pid, signal.SIGKILL)
    if how == "pause":
        assert slow.update_job(job.name, paused=True).state == DONE
    else:
        said = cli(data_dir, "jobs", "cancel", str(number(job)))
        assert (said.returncode, said.stdout) == (0, f"{job.name} is done: its output was being published.\n")
    done = slow.get_job(job.name)
    assert done.state == DONE and done.progress.fraction == 1
    assert len(list(output.glob("frame.*.png"))) == 12
    assert not [path for path in output.iterdir() if "partial" in path.name]
    assert [event.job.state for event in slow.watch(job.name)][-1] == DONE


def test_job_without_keyframe_prepares_and_waits(slow: Client, small_shot: SmallShot) -> None:
    name = slow.create_shot(small_shot.source).name
    job = slow.create_job(name, method="slow-draft", parameters={"seconds": "0"}, await_keyframe=True)
    wait_until(lambda: slow.get_job(job.name).state == job_pb2.JOB_STATE_WAITING_FOR_KEYFRAME)
    waiting = slow.get_job(job.name)
    assert waiting.progress.prepared == pytest.approx(1 / 5)  # one of five stages needs no keyframe
    slow.put_keyframe(name, small_shot.key, small_shot.keyframe)
    assert slow.wait_until_finished(job.name, SECONDS)
    done = slow.get_job(job.name)
    assert done.state == DONE
    assert done.progress.stages_found == 1
    assert len(done.frames) == small_shot.count


def test_prepare_jobs_run_last(slow: Client, shot: str) -> None:
    first = slow.create_job(shot, method="slow-draft", parameters={"stages": "2", "seed": "1"})
    prepared = slow.prepare_shot(shot, "slow-final", parameters={"seed": "2", "seconds": "0"}, model="small-svd")
    final = slow.create_job(
        shot, method="slow-final", parameters={"seed": "3", "stages": "1"}, model="small-svd", priority=-99
    )
    for name in (first.name, prepared, final.name):
        assert slow.wait_until_finished(name, SECONDS)
    order = list(dict.fromkeys(started(slow)))
    assert order == [number(first), number(final), int(prepared.removeprefix("jobs/"))]


def test_versioned_outputs_never_replace_a_file(slow: Client, shot: str, tmp_path: Path) -> None:
    (tmp_path / "out_v001.mkv").write_text("precious")
    jobs = [
        slow.create_job(shot, method="slow-draft", parameters={"seed": str(n), "seconds": "0"}, versioned=True,
                        output=tmp_path / "out.mkv") for n in range(2)
    ]  # fmt: skip
    assert [Path(job.spec.output.path).name for job in jobs] == ["out_v002.mkv", "out_v003.mkv"]
    again = slow.create_job(shot, method="slow-draft", parameters={"seed": "1", "seconds": "0"}, versioned=True,
                            output=tmp_path / "out.mkv")  # fmt: skip
    for job in jobs:
        assert slow.wait_until_finished(job.name, SECONDS)
        assert slow.get_job(job.name).state == DONE, slow.get_job(job.name).message
    assert again.name == jobs[1].name or Path(again.spec.output.path).name == "out_v004.mkv"
    assert (tmp_path / "out_v001.mkv").read_text() == "precious"
    folder = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0"}, versioned=True,
                             output=tmp_path / "frames")  # fmt: skip
    assert slow.wait_until_finished(folder.name, SECONDS)
    assert slow.get_job(folder.name).state == DONE, slow.get_job(folder.name).message
    assert len(list((tmp_path / "frames" / "v001").glob("*.png"))) == 12


def test_vanished_source_fails_its_job_alone(slow: Client, shot: str, small_shot: SmallShot, tmp_path: Path) -> None:
    job = slow.create_job(shot, output=tmp_path / "out.mkv")
    small_shot.source.rename(tmp_path / "away")
    assert slow.wait_until_finished(job.name, SECONDS)
    failed = slow.get_job(job.name)
    assert failed.state == FAILED
    assert str(small_shot.source) in failed.message
    assert "Internal" not in failed.message
    (tmp_path / "away").rename(small_shot.source)
    slow.retry_job(job.name)
    assert slow.wait_until_finished(job.name, SECONDS)
    assert slow.get_job(job.name).state == DONE, slow.get_job(job.name).message


def test_export_has_settings_log_and_machine(slow: Client, shot: str) -> None:
    job = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0"})
    assert slow.wait_until_finished(job.name, SECONDS)
    report = json.loads(slow.export_job(job.name))
    assert report["job"]["spec"]["method"] == "slow-draft"
    assert len(report["frames"]) == 12
    assert any("starts" in line["message"] for line in report["log"])
    token = (slow.endpoint.folder / "token").read_text().strip()
    assert token not in slow.export_job(job.name)
    with pytest.raises(ClientError, match="no job 99"):
        slow.export_job("jobs/99")


def test_thousand_jobs_are_listed(slow: Client, shot: str) -> None:
    blocking = slow.create_job(shot, method="slow-draft", parameters={"stages": "10", "seconds": "50"})
    wait_until(lambda: slow.get_job(blocking.name).state == job_pb2.JOB_STATE_RUNNING)
    for seed in range(999):
        slow.create_job(shot, method="slow-draft", parameters={"seed": str(seed)})
    took = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(slow.list_jobs()) == 1000
        took.append(time.perf_counter() - start)
    print(f"1,000 jobs listed in {min(took) * 1000:.0f} ms")


NVIDIA_SMI = """#!/bin/sh
case "$1" in
  *utilization*) echo "0, 1024, 81559, 7" ;;
  *) echo "0, GPU-8a1f0000, NVIDIA Stand-in, 81559, 470.82.01" ;;
esac
"""


@pytest.fixture
def stand_in_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvidia-smi that lists one GPU; the methods of tests/slow compute nothing on it."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.retry("two workers must start within half a second of one another")
@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for nvidia-smi")
def test_gpu_and_cpu_jobs_run_concurrently(stand_in_gpu: None, slow: Client, shot: str) -> None:
    wait_until(lambda: len(slow.get_engine().devices) == 2)
    assert slow.get_engine().devices[1].name == "NVIDIA Stand-in"
    given = {"stages": "6", "seconds": "0.5", "seed": "1"}
    final = slow.create_job(shot, method="slow-final", parameters=given, model="small-svd")
    draft = slow.create_job(shot, method="slow-draft", parameters={**given, "stages": "2"})
    assert slow.wait_until_finished(draft.name, SECONDS)
    assert slow.get_job(final.name).state == job_pb2.JOB_STATE_RUNNING
    assert slow.wait_until_finished(final.name, SECONDS)
    assert {slow.get_job(job.name).state for job in (final, draft)} == {DONE}
    order = started(slow)
    assert len(order) == 1 + 6 + 2  # the stage that both need ran once
    places = [index for index, job in enumerate(order) if job == number(draft)]
    assert number(final) in order[min(places) : max(places) + 1]
    workers = {str(line["message"]).split()[1] for line in log(slow) if "started, pid" in str(line["message"])}
    assert {"job", "cuda:0"} <= workers


def handles(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident(pid: int) -> int:
    """Bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_many_jobs_leak_no_memory_handles_or_files(slow: Client, shot: str, data_dir: Path, tmp_path: Path) -> None:
    """PAINTOVER_SOAK: how many rounds of jobs, each created, watched, read, cancelled or finished, and deleted."""
    rounds = int(os.environ.get("PAINTOVER_SOAK", "20"))
    pid, sizes = slow.endpoint.pid, []
    for turn in range(rounds):
        given = {"seconds": "0", "stages": "3", "seed": str(turn)}
        job = slow.create_job(shot, method="slow-draft", parameters=given, output=tmp_path / "out.mkv", overwrite=True)
        cancelled = slow.create_job(shot, method="slow-draft", parameters={**given, "stages": "4", "seconds": "30"})
        list(slow.watch(job.name))
        assert slow.get_job(job.name).state == DONE, slow.get_job(job.name).message
        slow.get_frame(job.name, 5, view=frame_pb2.VIEW_PLATE)
        slow.cancel_job(cancelled.name)
        for name in (job.name, cancelled.name):
            slow.delete_job(name)
        slow.prune_cache()
        files = sum(1 for path in data_dir.rglob("*") if path.is_file())
        sizes.append((resident(pid), sum(handles(one) for one in (pid, *worker_pids(pid))), files))
    early, last = sizes[min(9, rounds // 2)], sizes[-1]
    print(f"{rounds} rounds: {last[0] / 1e6:.0f} MB, {early[0] / 1e6:.0f} early; {last[1]} handles; {last[2]} files")
    assert last[0] < early[0] * 1.1 + 2e6
    assert last[1] <= early[1] + 2
    assert last[2] <= early[2] + 2


def cli(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paintover_bridge", *arguments, "--data-dir", str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_command_line_manages_the_queue(slow: Client, shot: str, data_dir: Path, tmp_path: Path) -> None:
    slow.create_job(shot, method="slow-draft", parameters={"seconds": "50"})
    first, second = (slow.create_job(shot, method="slow-draft", parameters={"seed": str(n)}) for n in (1, 2))
    moved = cli(data_dir, "jobs", "move", str(number(second)), "--before", str(number(first)))
    assert moved.returncode == 0, moved.stderr
    assert [job.name for job in slow.list_jobs()][-2:] == [second.name, first.name]
    assert cli(data_dir, "jobs", "move", "2", "--last", "--priority", "3").returncode == 2
    shown = cli(data_dir, "cache", "--json")
    assert json.loads(shown.stdout)["budget_bytes"] == 50 * 10**9
    assert "Gave back" in cli(data_dir, "cache", "prune", "--keep", "1G").stdout
    refused = cli(data_dir, "cache", "prune", "--keep", "lots")
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
    exported = cli(data_dir, "jobs", "export", str(number(first)), "-o", str(tmp_path / "job.json"))
    assert exported.returncode == 0, exported.stderr
    assert json.loads((tmp_path / "job.json").read_text())["job"]["id"] == number(first)
    opened = cli(data_dir, "monitor", "--no-browser")
    assert opened.stdout.startswith("http://127.0.0.1:")


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, where this user may mount one."""
    place = tmp_path / "little"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, check=False
    ) if shutil.which("mount") else None  # fmt: skip
    if mounted is None or mounted.returncode:
        pytest.skip("this user may mount no file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk_pauses_the_queue(slow_methods: None, little_disk: Path, small_shot: SmallShot) -> None:
    with connect(little_disk / "data", ephemeral=False) as client:
        name = client.create_shot(small_shot.source).name
        client.put_keyframe(name, small_shot.key, small_shot.keyframe)
        job = client.create_job(name, method="slow-draft", parameters={"stages": "12", "seconds": "0.2"})
        wait_until(lambda: client.get_job(job.name).progress.frames_done >= 2)
        ballast = little_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        time.sleep(3)
        stuck = client.get_job(job.name)
        assert stuck.progress.frames_done < 12
        with pytest.raises(ClientError, match="full"):
            for seed in range(1000):
                client.create_job(name, method="slow-draft", parameters={"seed": str(seed)}, priority=-1)
        ballast.unlink()
        end = time.monotonic() + SECONDS
        while client.get_job(job.name).state != DONE:
            assert time.monotonic() < end, client.get_job(job.name)
            if client.get_job(job.name).state == FAILED:
                assert "full" in client.get_job(job.name).message
                client.retry_job(job.name)
            time.sleep(0.2)
        assert len(client.get_job(job.name).frames) == 12
        client.stop_engine(when_idle=False)


def test_prune_removes_unused_keyframes(slow: Client, shot: str, small_shot: SmallShot, data_dir: Path) -> None:
    job = slow.create_job(shot, method="slow-draft", parameters={"seconds": "0"})
    assert slow.wait_until_finished(job.name, SECONDS)
    files = DataFolder(data_dir).keyframes
    (first,) = files.iterdir()
    other = small_shot.source / "00009.png"
    for frame in (1, 2):
        slow.put_keyframe(shot, frame, other)
    slow.delete_keyframe(slow.list_keyframes(shot)[0].name)
    assert len(list(files.iterdir())) == 3
    slow.prune_cache()
    assert first in files.iterdir() and len(list(files.iterdir())) == 2
    slow.delete_job(job.name)
    slow.delete_shot(shot)
    slow.prune_cache()
    assert list(files.iterdir()) == []


def test_clock_jumps_do_not_disturb_jobs(
    data_dir: Path, small_shot: SmallShot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "clock"))
    with connect(data_dir, ephemeral=False) as client:
        name = client.create_shot(small_shot.source).name
        client.put_keyframe(name, small_shot.key, small_shot.keyframe)
        jobs = [client.create_job(name, parameters={"softness": str(n)}, output=tmp_path / f"{n}.mkv") for n in (1, 2)]
        for job in jobs:
            assert client.wait_until_finished(job.name, SECONDS)
            assert client.get_job(job.name).state == DONE, client.get_job(job.name).message
            assert 0 <= client.get_job(job.name).progress.seconds_left < 3600
        made = [client.get_job(job.name).create_time for job in jobs]
        assert abs(made[0] - made[1]) > 3600 or abs(made[0] - time.time()) > 3600  # the clock did jump
        client.stop_engine(when_idle=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows tells no time of change")
def test_source_rendered_again_fails_the_job_under_way(
    slow: Client, shot: str, small_shot: SmallShot, tmp_path: Path
) -> None:
    given = {"seconds": "0.5"}
    job = slow.create_job(shot, method="slow-draft", parameters=given, output=tmp_path / "out.mkv")
    wait_until(lambda: running(slow, job, 2))
    frame = small_shot.source / "00000.png"  # composited by now: nothing reads it again
    before, content = frame.stat(), bytearray(frame.read_bytes())
    content[-20] ^= 1
    with open(frame, "r+b") as opened:
        opened.write(content)
    os.utime(frame, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert slow.wait_until_finished(job.name, SECONDS)
    failed = slow.get_job(job.name)
    assert failed.state == FAILED
    assert failed.message == f"'{small_shot.source}' has changed since the shot was made; make the shot anew."
    assert not (tmp_path / "out.mkv").exists()
