"""What a user does with the methods that run on Wan, on folders of its true layouts with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tests.conftest import SmallShot, make_small_shot
from tests.engine import wan_folders
from tests.journeys.test_propagate import paintover, read

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("method", "layout", "how", "parameters"),
    [
        ("flowedit", "i2v", {}, ["start=draft"]),
        ("flowedit", "a14b", {"variant": "fp16"}, []),
        ("videoshop", "ti2v", {"max_shard_size": "40KB"}, ["strength=0.5"]),
        ("vace", "vace", {}, []),
    ],
    ids=["flowedit", "flowedit in halves", "videoshop in shards", "vace"],
)
def test_every_layout_runs_from_the_command_line(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    layout: str,
    how: dict[str, str],
    parameters: list[str],
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shot = make_small_shot(tmp_path / "shot", count=7, key=3, width=64, height=48)
    model = wan_folders.save(layout, data_dir / "models" / f"tiny-{layout}", **how)
    out, mattes = tmp_path / "out", tmp_path / "mattes"
    run = paintover(
        "propagate", shot.source, "-k", f"3={shot.keyframe}", "--method", method, "--model", model.name,
        "-p", "steps=4", *(f"-p{parameter}" for parameter in parameters), "--write-mattes", mattes, "-o", out,
        timeout=250,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for number in range(shot.count):
        frame, outside = read(out / f"{number:05d}.png"), read(mattes / f"{number:05d}.png") == 0
        assert outside.any() and not outside.all()
        assert np.array_equal(frame[outside], shot.plate(number)[outside])


def test_model_that_is_not_here_names_what_to_download(data_dir: Path, tmp_path: Path) -> None:
    shot: SmallShot = make_small_shot(tmp_path / "shot", count=3, key=0, width=64, height=48)
    run = paintover(
        "propagate", shot.source, "-k", f"0={shot.keyframe}", "--method", "flowedit", "-o", tmp_path / "out",
        "--model", "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
    )  # fmt: skip
    assert run.returncode != 0
    for part in ("hf download Wan-AI/Wan2.2-I2V-A14B-Diffusers", "69 GB", "Apache 2.0"):
        assert part in run.stderr.replace("\n", " ")
