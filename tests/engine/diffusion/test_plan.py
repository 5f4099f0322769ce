"""What I2VEdit takes, counted from shapes: of the full-size model's configuration, and of a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from paintover_engine.diffusion import plan  # noqa: E402
from paintover_engine.diffusion.memory import GB, TIERS, Needs  # noqa: E402

FULL = plan.Shape(14, (72, 128), (40, 64), 32, "block", matches=True, follows=True)
"""14 frames of 1024x576, trained at 512x320."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Video Diffusion's configuration, without weights."""
    folder = tmp_path_factory.mktemp("full")
    with torch.device("meta"):
        unet = diffusers.UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20), num_frames=14)
    unet.save_config(folder / "unet")
    assert sum(weight.numel() for weight in unet.parameters()) == pytest.approx(1524.6e6, rel=1e-4)
    return folder


def test_files_of_a_full_size_window_under_150_mb(full: Path) -> None:
    files = plan.files(full, FULL, steps=25, dtype=torch.bfloat16, picture=(1024, 576))
    assert files["motion adapter"] == 2 * 16_099_328
    assert files["source at every noise level"] == 25 * 14 * 4 * 72 * 128 * 2 + 14 * 4 * 72 * 128 * 4
    assert sum(files.values()) < 150e6
    training = files["source and edited latents"] + files["source at every noise level"]
    assert training + plan.CHECKPOINT * 16_099_328 < 150e6


def test_the_first_windows_keys_and_values_are_counted(full: Path) -> None:
    """2.91 GB a step and item in float32, of 16 layers (methods.md 3.5's records)."""
    assert plan._keys_and_values(full, torch.float32, FULL) == pytest.approx(2.91e9, rel=0.01)


def test_smaller_tiers_take_no_more_memory(tiny_svd: Path) -> None:
    shape = plan.Shape(6, (16, 16), (16, 16), 4, "block", matches=True, follows=True)
    needs = Needs(
        {"unet": 10**6, "encoder": 10**5, "decoder": 10**5}, {"unet": 10**6, "encoder": 10**5, "decoder": 10**5}
    )
    peaks = plan.peaks(tiny_svd, torch.float32, needs, shape)
    assert list(peaks) == [tier.name for tier in TIERS]
    assert max(peaks.values()) == peaks[TIERS[0].name] > 0.6 * GB
    without = plan.peaks(tiny_svd, torch.float32, needs, plan.Shape(6, (16, 16), (16, 16), 0, "block", False, False))
    assert all(without[name] < peaks[name] for name in peaks)


def test_the_image_encoders_weights_are_counted(tiny_svd: Path) -> None:
    from safetensors import safe_open

    needs = plan.with_image_encoder(Needs({}, {}), tiny_svd, torch.float32)
    with safe_open(tiny_svd / "image_encoder" / "model.safetensors", framework="pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert needs.weights["image_encoder"] == 4 * stored
    assert json.loads((tiny_svd / "paintover.json").read_text())["frames"] == 6
