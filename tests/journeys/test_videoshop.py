"""What a user does with Videoshop, on the small model that comes with the engine.

PAINTOVER_CRASH_STAGES names the stages in which the worker is killed: encode,reconstruct,invert,denoise,decode,result.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from paintover.v1 import job_pb2
from paintover_bridge.client import Client

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from paintover_engine.diffusion import models

from tests.conftest import SmallShot, make_small_shot
from tests.journeys.test_crash import assert_kills_cost_one_stage
from tests.journeys.test_propagate import paintover, read

MODEL = "small-svd"
STEPS = ("-p", "steps=6")
KILLED = os.environ.get("PAINTOVER_CRASH_STAGES", "denoise").split(",")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(MODEL not in models.found("svd"), reason="the small model is not in this checkout"),
]


@pytest.fixture
def shot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallShot:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return make_small_shot(tmp_path / "shot", count=8, key=0, width=64, height=48)


def test_an_edit_is_painted_into_every_frame_and_a_second_one_starts_at_denoising(
    shot: SmallShot, client: Client, data_dir: Path, tmp_path: Path
) -> None:
    name = client.create_shot(shot.source).name
    prepared = client.prepare_shot(name, "videoshop", parameters={"steps": "6"}, model=MODEL)
    assert client.wait_until_finished(prepared, 200)
    assert client.get_job(prepared).state == job_pb2.JOB_STATE_DONE

    results = []
    for number, colour in enumerate(((40, 40, 230), (230, 200, 40))):
        keyframe = tmp_path / f"key{number}.png"
        painted = shot.plate(0)
        cv2.circle(painted, (32, 24), 12, colour, -1, cv2.LINE_AA)
        cv2.imwrite(str(keyframe), painted)
        out = tmp_path / f"out{number}"
        run = paintover(
            "propagate", shot.source, "-k", f"0={keyframe}", "--method", "videoshop", "--model", MODEL, *STEPS,
            "--write-mattes", tmp_path / f"mattes{number}", "-o", out, timeout=200,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        results.append([read(out / f"{n:05d}.png") for n in range(shot.count)])
        assert (np.abs(results[-1][0].astype(int) - painted) > 1).mean() < 0.05  # all but the palest
        for n in range(shot.count):
            outside = read(tmp_path / f"mattes{number}" / f"{n:05d}.png") == 0
            assert np.array_equal(results[-1][n][outside], shot.plate(n)[outside])
    newest = max(client.list_jobs(), key=lambda job: job.create_time)
    assert newest.progress.stages_found >= client.get_job(prepared).progress.stages_total / 2
    started = {stage.partition(" ")[0] for stage in stages_started(data_dir)[-1]}
    assert started >= {"denoise", "decode", "result"}
    assert not started & {"encode", "reconstruct", "invert", "flow"}
    apart = np.abs(results[0][-1].astype(int) - results[1][-1]).max(-1)
    assert (apart > 20).sum() > 50  # the two edits are seen in the last frame


def stages_started(data_dir: Path) -> list[list[str]]:
    """The labels of the stages that each job ran, job by job, as the engine's log tells."""
    jobs: dict[object, list[str]] = {}
    for line in (data_dir / "logs" / "engine.jsonl").read_text().splitlines():
        record = json.loads(line)
        message = record["message"]
        if message.startswith("stage ") and message.endswith(" starts"):
            jobs.setdefault(record.get("job"), []).append(message.removeprefix("stage ").removesuffix(" starts"))
    return list(jobs.values())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
def test_a_worker_killed_in_a_stage_costs_that_stage_alone(shot: SmallShot, client: Client, data_dir: Path) -> None:
    assert_kills_cost_one_stage(
        client, data_dir, shot, KILLED, method="videoshop", parameters={"steps": "6"}, model=MODEL
    )
