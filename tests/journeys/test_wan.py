"""What a user does with the methods that run on Wan, on folders of its true layouts with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from paintover_bridge.client import connect

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tests.conftest import SmallShot, make_small_shot
from tests.engine import wan_folders
from tests.journeys.test_propagate import paintover, read

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wan_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a daemon that all of these share: PyTorch is loaded once, and the shot tracked once."""
    folder = tmp_path_factory.mktemp("wan") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PAINTOVER_DATA", str(folder))
        with connect(folder, ephemeral=False) as client:
            yield folder
            client.stop_engine(when_idle=False)


@pytest.fixture(scope="module")
def wan_shot(tmp_path_factory: pytest.TempPathFactory) -> SmallShot:
    return make_small_shot(tmp_path_factory.mktemp("shot") / "shot", count=7, key=3, width=64, height=48)


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
    wan_data: Path,
    wan_shot: SmallShot,
    tmp_path: Path,
    method: str,
    layout: str,
    how: dict[str, str],
    parameters: list[str],
) -> None:
    shot, model = wan_shot, wan_folders.save(layout, wan_data / "models" / f"tiny-{layout}", **how)
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


def test_best_method_without_a_gpu_is_the_draft_and_is_named(
    wan_data: Path, wan_shot: SmallShot, tmp_path: Path
) -> None:
    run = paintover(
        "propagate", wan_shot.source, "-k", f"3={wan_shot.keyframe}", "--method", "best", "-o", tmp_path / "out"
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = (run.stdout + run.stderr).replace("\n", " ")
    assert "Carried by the method draft: no GPU" in said


def test_model_that_is_not_here_names_what_to_download(wan_data: Path, wan_shot: SmallShot, tmp_path: Path) -> None:
    shot = wan_shot
    run = paintover(
        "propagate", shot.source, "-k", f"3={shot.keyframe}", "--method", "flowedit", "-o", tmp_path / "out",
        "--model", "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
    )  # fmt: skip
    assert run.returncode != 0
    for part in ("hf download Wan-AI/Wan2.2-I2V-A14B-Diffusers", "69 GB", "Apache 2.0"):
        assert part in run.stderr.replace("\n", " ")
