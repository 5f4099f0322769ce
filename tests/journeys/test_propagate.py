"""What a user does: one command, a real daemon, real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover.v1 import frame_pb2, job_pb2
from paintover_bridge.client import Client, connect
from paintover_bridge.frames import UploadFrame

from tests.conftest import SmallShot, make_small_shot


def paintover(*arguments: object, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paintover_bridge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, path
    return picture


def red(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the painted disc is."""
    return np.all(np.abs(picture.astype(int) - (40, 40, 230)) < 40, axis=-1)


def test_a_painted_disc_follows_the_shot_and_the_rest_stays_the_plate(data_dir: Path, small_shot: SmallShot) -> None:
    out, mattes = small_shot.source.parent / "out", small_shot.source.parent / "mattes"
    run = paintover(
        "propagate", small_shot.source, "--keyframe", f"{small_shot.key}={small_shot.keyframe}",
        "--write-mattes", mattes, "-o", out,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    frames = [f"{number:05d}.png" for number in range(small_shot.count)]
    assert sorted(path.name for path in out.iterdir()) == [*frames, "paintover.json"]
    for number in range(small_shot.count):
        plate, result = small_shot.plate(number), read(out / f"{number:05d}.png")
        matte = read(mattes / f"{number:05d}.png")
        changed = np.any(plate != result, axis=-1)
        assert not changed[matte == 0].any()
        ys, xs = np.nonzero(red(result))
        assert 300 < len(xs) < 520  # a disc of radius 12 has 452 pixels
        assert abs(xs.mean() - (48 + 2 * (small_shot.key - number))) < 1
        assert abs(ys.mean() - 32) < 1
    np.testing.assert_allclose(
        read(out / f"{small_shot.key:05d}.png").astype(int), read(small_shot.keyframe).astype(int), atol=1
    )


def test_drag_moves_the_paint_and_is_found_again(client: Client, small_shot: SmallShot, tmp_path: Path) -> None:
    given = ["propagate", small_shot.source, "-k", f"4={small_shot.keyframe}", "--drag", "8=40,32:46,28"]
    run = paintover(*given, "-o", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    ys, xs = np.nonzero(red(read(tmp_path / "out" / "00008.png")))
    assert (abs(xs.mean() - 46) < 1, abs(ys.mean() - 28) < 1) == (True, True)
    hold = tmp_path / "hold.png"
    cv2.imwrite(str(hold), np.full((64, 96), 255, np.uint8))
    run = paintover(
        "propagate", small_shot.source, "--hold", f"11={hold}", "-o", tmp_path / "held"
    )  # with what was given before
    assert run.returncode == 0, run.stderr
    corrections = json.loads((tmp_path / "held" / "paintover.json").read_text())["corrections"]
    assert [(each["frame"], each["kind"]) for each in corrections] == [(8, "drag"), (11, "holdout")]
    run = paintover("propagate", small_shot.source, "--drag", "8=40,32:140,28", "-o", tmp_path / "x")
    assert run.returncode == 2
    assert "The drag of frame 8 from 40,32 to 140,28 leaves the picture; its pixels are 0,0 to 95,63." in run.stderr


def test_holdout_is_carried_on_found_again_and_never_replaced(
    client: Client, small_shot: SmallShot, tmp_path: Path
) -> None:
    """The disc moves to the left, two pixels a frame; its right half is held out in frame 8."""
    hold, out = tmp_path / "hold.0008.png", tmp_path / "out"
    drawn = np.zeros((64, 96), np.uint8)
    drawn[:, 40:] = 255
    cv2.imwrite(str(hold), drawn)
    given = ["propagate", small_shot.source, "-k", f"4={small_shot.keyframe}"]
    first = paintover(*given, "-o", tmp_path / "first")
    run = paintover("propagate", small_shot.source, "--hold", f"8={hold}", "-o", out)  # with the keyframe of before
    assert (first.returncode, run.returncode) == (0, 0), run.stderr
    for number in (8, 11):
        xs = np.nonzero(red(read(out / f"{number:05d}.png")))[1]
        assert 150 < len(xs) < 260
        assert xs.max() <= 40 + 2 * (8 - number)
    np.testing.assert_array_equal(read(out / "00008.png")[:, 40:], small_shot.plate(8)[:, 40:])
    for number in range(8):  # in the span of frame 8 too
        np.testing.assert_array_equal(read(out / f"{number:05d}.png"), read(tmp_path / "first" / f"{number:05d}.png"))
    corrections = json.loads((out / "paintover.json").read_text())["corrections"]
    assert [(each["frame"], each["kind"]) for each in corrections] == [(8, "holdout")]
    job = client.list_jobs()[-1]
    assert [name.rpartition("/")[2].partition("-")[0] for name in job.spec.corrections] == ["8"]
    again = paintover(*given, "--hold", f"8={hold}", "--overwrite", "-o", out)
    assert again.returncode == 0, again.stderr
    assert client.list_jobs()[-1].progress.stages_found == job.progress.stages_total
    for refused, words in (
        (["--hold", f"4={hold}", "-o", tmp_path / "x"], "is a keyframe"),
        (["--roto", f"99={hold}", "-o", tmp_path / "x"], "frame 99 does not exist: the shot has frames 0 to 11"),
        (["--hold", f"8={hold}", "--overwrite", "-o", tmp_path / "hold.####.png"], "never overwritten"),
    ):
        run = paintover(*given, *refused)
        assert run.returncode == 2
        assert words in run.stderr
    assert hold.stat().st_size


def test_json_lines_tell_the_whole_story(data_dir: Path, small_shot: SmallShot) -> None:
    out = small_shot.source.parent / "out.mkv"
    run = paintover(
        "propagate", small_shot.source / "%05d.png", "--keyframe", f"4={small_shot.keyframe}", "--json", "-o", out
    )
    assert run.returncode == 0, run.stderr
    events = [json.loads(line) for line in run.stdout.splitlines()]
    kinds = [event["event"] for event in events if event["event"] not in ("progress", "note")]
    frames = [event["number"] for event in events if event["event"] == "frame"]
    assert sorted(frames) == list(range(12))
    assert kinds == ["shot", "keyframe", "job", *["frame"] * len(frames), "done"]
    assert out.is_file()


def test_a_second_run_redoes_no_finished_stage(client: Client, small_shot: SmallShot, tmp_path: Path) -> None:
    jobs = []
    for name in ("one", "two"):
        run = paintover("propagate", small_shot.source, "--keyframe", f"4={small_shot.keyframe}", "-o", tmp_path / name)
        assert run.returncode == 0, run.stderr
        jobs.append(client.list_jobs()[-1])
    first, second = (job.progress for job in jobs)
    assert first.stages_found == 0
    assert second.stages_found == second.stages_total == first.stages_total


def test_a_prepared_shot_starts_after_its_flow(client: Client, small_shot: SmallShot) -> None:
    shot = client.create_shot(small_shot.source)
    prepared = client.prepare_shot(shot.name, "draft")
    assert client.wait_until_finished(prepared, 60)
    client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
    job = client.create_job(shot.name)
    assert client.wait_until_finished(job.name, 60)
    assert client.get_job(job.name).progress.stages_found == client.get_job(prepared).progress.stages_total > 0


LONG = 48


def start_long_job(client: Client, tmp_path: Path) -> job_pb2.Job:
    """A job of some seconds, running, with some of its LONG frames made."""
    small_shot = make_small_shot(tmp_path / "long", count=LONG, key=LONG // 2, width=224, height=168)
    shot = client.create_shot(small_shot.source)
    client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
    job = client.create_job(shot.name, output=tmp_path / "long.mkv")
    for event in client.watch(job.name):
        assert not event.job.message
        if event.job.progress.frames_done >= 10:
            return event.job
    raise AssertionError("the job ended")


def worker_pids(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"jobs.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")


@needs_proc
@pytest.mark.parametrize("cpu_workers", [1, 2], indirect=True)
def test_a_killed_worker_costs_one_stage(cpu_workers: int, client: Client, tmp_path: Path) -> None:
    job = start_long_job(client, tmp_path)
    for pid in worker_pids(client.get_engine().pid):
        os.kill(pid, signal.SIGKILL)
    assert client.wait_until_finished(job.name, 60)
    done = client.get_job(job.name)
    assert done.state == job_pb2.JOB_STATE_DONE, done.message
    assert len(done.frames) == LONG
    assert (tmp_path / "long.mkv").is_file()


@needs_proc
@pytest.mark.parametrize("cpu_workers", [2], indirect=True)  # with one: tests/journeys/test_crash.py
def test_a_killed_daemon_goes_on_where_it_was(cpu_workers: int, client: Client, tmp_path: Path) -> None:
    job = start_long_job(client, tmp_path)
    os.kill(client.get_engine().pid, signal.SIGKILL)
    time.sleep(0.2)
    before = client.get_job(job.name)  # the client starts another daemon on the same data folder
    assert before.progress.frames_done >= 10
    assert client.wait_until_finished(job.name, 60)
    done = client.get_job(job.name)
    assert done.state == job_pb2.JOB_STATE_DONE, done.message
    assert done.progress.stages_found >= job.progress.stages_done
    assert (tmp_path / "long.mkv").is_file()


def test_a_cancelled_job_leaves_no_file_and_can_be_retried(client: Client, tmp_path: Path) -> None:
    job = start_long_job(client, tmp_path)
    assert client.cancel_job(job.name).state == job_pb2.JOB_STATE_CANCELLED
    assert {path.name for path in tmp_path.iterdir()} == {"data", "long"}
    client.retry_job(job.name)
    assert client.wait_until_finished(job.name, 60)
    assert client.get_job(job.name).state == job_pb2.JOB_STATE_DONE
    assert (tmp_path / "long.mkv").is_file()


def test_a_paused_job_waits_until_it_is_resumed(client: Client, tmp_path: Path) -> None:
    job = start_long_job(client, tmp_path)
    paused = client.update_job(job.name, paused=True)
    time.sleep(0.5)
    still = client.get_job(job.name)
    assert still.state == job_pb2.JOB_STATE_PAUSED
    assert still.progress.frames_done == paused.progress.frames_done
    client.update_job(job.name, paused=False)
    assert client.wait_until_finished(job.name, 60)
    assert client.get_job(job.name).state == job_pb2.JOB_STATE_DONE


def test_frames_stream_in_order_while_the_job_runs_inline_and_mapped_alike(client: Client, tmp_path: Path) -> None:
    job = start_long_job(client, tmp_path)
    numbers, pixels = [], {}
    for frame in client.stream_frames(job.name, mapped=True):
        numbers.append(frame.number)
        pixels[frame.number] = bytes(frame.pixels())
    assert numbers == list(range(LONG))
    for frame in client.stream_frames(job.name, mapped=False, from_number=LONG - 10):
        assert bytes(frame.pixels()) == pixels[frame.number]
    result = client.get_frame(job.name, LONG // 2)
    matte = client.get_frame(job.name, LONG // 2, view=frame_pb2.VIEW_MATTE)
    assert np.frombuffer(matte.pixels(), np.float16).tolist() == (
        np.frombuffer(result.pixels(), np.float16)[3::4].tolist()
    )


def test_a_second_client_watches_the_same_job(client: Client, data_dir: Path, tmp_path: Path) -> None:
    job = start_long_job(client, tmp_path)
    watch = paintover("jobs", "watch", job.name, "--json")
    assert watch.returncode == 0, watch.stderr
    events = [json.loads(line) for line in watch.stdout.splitlines()]
    assert [event["event"] for event in events if event["event"] == "done"]


def test_an_uploaded_shot_gives_what_the_same_files_give(client: Client, small_shot: SmallShot) -> None:
    def frames() -> object:
        for number in range(small_shot.count):
            rgb = np.ascontiguousarray(small_shot.plate(number)[..., ::-1])
            yield UploadFrame(number, rgb.shape[1], rgb.shape[0], 3, "uint8", rgb.tobytes())

    uploaded = client.create_uploaded_shot("clip", (0, small_shot.count - 1), rate=(24, 1))
    assert client.upload_frames(uploaded.name, frames()) == small_shot.count  # type: ignore[arg-type]
    results = []
    for shot in (uploaded, client.create_shot(small_shot.source)):
        client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
        job = client.create_job(shot.name)
        assert client.wait_until_finished(job.name, 60)
        assert not client.get_job(job.name).message
        results.append([bytes(frame.pixels()) for frame in client.stream_frames(job.name)])
    assert results[0] == results[1]


BAD = {
    "missing source": (["nowhere"], "nowhere"),
    "empty folder": (["empty"], "empty"),
    "not a picture": (["text.mp4"], "text.mp4"),
    "unknown method": (["plate", "--method", "drafft"], "Did you mean 'draft'"),
    "unknown parameter": (["plate", "-p", "softnes=1"], "Did you mean 'softness'"),
    "a value out of range": (["plate", "-p", "softness=-1"], "softness"),
    "unknown colour space": (["plate", "--colorspace", "ACEScgg"], "ACEScg"),
    "a model for draft": (["plate", "--model", "svd"], "model"),
    "frames that are not there": (["plate", "--range", "3-99"], "99"),
}


@pytest.fixture(scope="module")
def one_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One daemon for all commands of the tests that use it, on the data folder that they have by default."""
    with pytest.MonkeyPatch.context() as patch:
        data = tmp_path_factory.mktemp("data")
        patch.setenv("PAINTOVER_DATA", str(data))
        with connect(data, ephemeral=False) as client:
            yield
            client.stop_engine(when_idle=False)


@pytest.mark.parametrize("given", BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    one_engine: None, small_shot: SmallShot, given: tuple[list[str], str]
) -> None:
    arguments, expected = given
    folder = small_shot.source.parent
    (folder / "empty").mkdir()
    (folder / "text.mp4").write_text("no video")
    run = paintover(
        "propagate",
        folder / arguments[0],
        *arguments[1:],
        "--keyframe",
        f"4={small_shot.keyframe}",
        "-o",
        folder / "out",
    )
    assert run.returncode == 2
    assert expected in run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    assert len(run.stderr.strip().splitlines()) == 1
    assert not (folder / "out").exists()


def test_a_keyframe_that_changes_nothing_is_told(one_engine: None, small_shot: SmallShot) -> None:
    same = small_shot.source / "00004.png"
    run = paintover("propagate", small_shot.source, "--keyframe", f"4={same}", "-o", small_shot.source.parent / "out")
    assert run.returncode == 2
    assert "nothing to propagate" in run.stderr


def test_a_keyframe_of_a_frame_that_is_not_there_is_told(one_engine: None, small_shot: SmallShot) -> None:
    run = paintover(
        "propagate",
        small_shot.source,
        "--keyframe",
        f"77={small_shot.keyframe}",
        "-o",
        small_shot.source.parent / "out",
    )
    assert run.returncode == 2
    assert "77" in run.stderr and "0 to 11" in run.stderr


def test_what_is_there_is_not_overwritten_unasked(one_engine: None, small_shot: SmallShot) -> None:
    out = small_shot.source.parent / "out.mkv"
    out.write_text("precious")
    arguments = ["propagate", small_shot.source, "--keyframe", f"4={small_shot.keyframe}", "-o", out]
    refused = paintover(*arguments)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert out.read_text() == "precious"
    assert paintover(*arguments, "--overwrite").returncode == 0
    assert out.stat().st_size > 1000


def test_the_source_is_never_the_output(one_engine: None, small_shot: SmallShot) -> None:
    before = {path.name: path.read_bytes() for path in small_shot.source.iterdir()}
    run = paintover(
        "propagate", small_shot.source, "--keyframe", f"4={small_shot.keyframe}", "--overwrite", "-o", small_shot.source
    )
    assert run.returncode == 2
    assert {path.name: path.read_bytes() for path in small_shot.source.iterdir()} == before
