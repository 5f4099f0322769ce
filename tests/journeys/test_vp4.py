"""What a user does with VP4, on the small model that comes with the engine.

PAINTOVER_CRASH_VP4_STAGES names the stages in which the worker is killed: encode,exemplar,sample,consistency,decode,
result.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from paintover_bridge.client import Client

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from paintover_engine.diffusion import models

from tests.conftest import make_small_shot
from tests.journeys.test_crash import assert_kills_cost_one_stage
from tests.journeys.test_propagate import paintover, read

MODEL = "small-inpaint"
KILLED = os.environ.get("PAINTOVER_CRASH_VP4_STAGES", "sample").split(",")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(MODEL not in models.found("inpaint"), reason="the small model is not in this checkout"),
]


def test_an_edit_reaches_every_frame_and_only_inside_its_matte(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shot = make_small_shot(tmp_path / "shot", count=6, key=0, width=64, height=48)
    keyframe, out, mattes = tmp_path / "key.png", tmp_path / "out", tmp_path / "mattes"
    painted = shot.plate(0)
    cv2.circle(painted, (32, 24), 12, (40, 40, 230), -1, cv2.LINE_AA)
    cv2.imwrite(str(keyframe), painted)
    run = paintover(
        "propagate", shot.source, "-k", f"0={keyframe}", "--method", "vp4", "--model", MODEL, "-p", "steps=6",
        "--write-mattes", mattes, "-o", out, timeout=200,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for number in range(shot.count):
        result, plate = read(out / f"{number:05d}.png"), shot.plate(number)
        outside = read(mattes / f"{number:05d}.png") == 0
        assert np.array_equal(result[outside], plate[outside])
        assert (result != plate).any()


def test_a_model_that_is_not_here_is_told_at_once(data_dir: Path, tmp_path: Path) -> None:
    shot = make_small_shot(tmp_path / "shot", count=3, key=0, width=64, height=48)
    run = paintover(
        "propagate", shot.source, "-k", f"0={shot.keyframe}", "--method", "vp4", "--model", "nobody/nothing",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert run.returncode != 0
    assert "nobody/nothing" in run.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
@pytest.mark.parametrize("cpu_workers", [2], indirect=True)  # with one: tests/journeys/test_videoshop.py
def test_a_worker_killed_in_a_stage_costs_that_stage_alone(
    cpu_workers: int, client: Client, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shot = make_small_shot(tmp_path / "shot", count=3, key=0, width=64, height=48)
    assert_kills_cost_one_stage(client, data_dir, shot, KILLED, method="vp4", parameters={"steps": "4"}, model=MODEL)
