"""A card that its driver lists and PyTorch cannot use: the commonest fault there is, as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover_bridge import daemon

from tests.conftest import SmallShot

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for nvidia-smi"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch can use a GPU here"),
]

NVIDIA_SMI = """#!/bin/sh
case "$1" in
  *utilization*) echo "0, 1024, 24576, 7" ;;
  *) echo "0, GPU-8a1f0000, NVIDIA RTX 3090, 24576, 470.82.01" ;;
esac
"""


def paintover(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paintover_bridge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


@pytest.fixture
def engine(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`paintover serve --gpu-memory 8G` beside such a card."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8a1f")
    serving = subprocess.Popen(
        [sys.executable, "-m", "paintover_bridge", "serve", "--gpu-memory", "8G"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while daemon.find(data_dir) is None:
            assert serving.poll() is None
        yield
    finally:
        paintover("stop", "--now")
        serving.wait(60)


@pytest.mark.retry("the card is tried by a cold start of PyTorch, beside the rest of the suite")
def test_unusable_card_is_named_and_small_jobs_say_so(engine: None, small_shot: SmallShot) -> None:
    doctor = paintover("doctor", "--json")
    (gpu,) = [check for line in doctor.stdout.splitlines() for check in [json.loads(line)] if check["name"] == "GPU"]
    assert not gpu["ok"]
    assert gpu["found"].startswith(f"NVIDIA RTX 3090 (25.8 GB, driver 470.82.01): PyTorch {torch.__version__}: ")
    assert "install a PyTorch" in gpu["remedy"]
    assert doctor.returncode == 1
    status = json.loads(paintover("status", "--json").stdout)
    assert [device["kind"] for device in status["devices"]] == ["cpu", "cuda"]
    assert status["devices"][1]["problem"]
    out = small_shot.source.parent / "out"
    run = paintover(
        "propagate", small_shot.source, "-k", f"{small_shot.key}={small_shot.keyframe}", "--method", "vp4",
        "--model", "small-inpaint", "-p", "steps=2", "-o", out,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "NVIDIA RTX 3090, driver 470.82.01 cannot be used; computed on the CPU" in run.stdout + run.stderr
