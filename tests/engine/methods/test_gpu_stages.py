"""All stages of whole jobs on a GPU that is only pretended, in half precision, as a worker runs them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import inpaint, models, svd
from paintover_engine.methods import i2vedit
from paintover_engine.methods.parameters import I2VEditParameters

from tests.engine.diffusion import pretend_gpu
from tests.engine.methods import test_videoshop, test_vp4
from tests.engine.methods.shots import MemoryShot, composed, refs

pytestmark = pytest.mark.timeout(400)


def videoshop_plan(shot: Any) -> Any:
    return shot.plan(strength=0.5)


def i2vedit_plan(shot: Any) -> Any:
    """Without training, whose gradients cannot be had here."""
    parameters = I2VEditParameters(steps=4, adapters=False)
    return i2vedit.plan(shot.info, refs(shot.keys), parameters, str(shot.model))


@pytest.mark.parametrize("plan", [videoshop_plan, i2vedit_plan], ids=["videoshop", "i2vedit"])
def test_video_jobs_run_on_a_gpu(tiny_svd: Path, plan: Callable[[Any], Any]) -> None:
    on_cpu, on_gpu = (test_videoshop.Shot(tiny_svd, 3, (0,)) for _ in range(2))
    expected = on_cpu.run_stages(plan(on_cpu))
    svd.load(tiny_svd, "cuda", "fp16")  # what the worker's first stage does; kept for the others
    with pretend_gpu.present() as pretended:
        found = on_gpu.run_stages(plan(on_gpu))
        assert pretended.operations > 1000
    assert_near(on_gpu, found, expected)


def test_picture_jobs_run_on_a_gpu() -> None:
    on_cpu, on_gpu = test_vp4.Shot(2), test_vp4.Shot(2)
    expected = on_cpu.run(steps=2, matte="whole")
    folder = models.locate(test_vp4.MODEL, "inpaint")
    inpaint.load(folder.path, models.locate_clip(folder), "cuda")
    with pretend_gpu.present() as pretended:
        found = on_gpu.run(steps=2, matte="whole")
        assert pretended.operations > 500
    assert_near(on_gpu, found, expected)


def assert_near(shot: MemoryShot, found: dict[int, Any], expected: dict[int, Any]) -> None:
    """Frames in half precision against those in single, in 8-bit levels."""
    assert sorted(found) == sorted(expected)
    for number, frame in found.items():
        one, other = (composed(shot.plates[number], each).astype(int) for each in (frame, expected[number]))
        assert np.abs(one - other).mean() < 2
    assert any((composed(shot.plates[n], f) != shot.plates[n]).any() for n, f in found.items())
    assert torch.get_default_dtype() is torch.float32
