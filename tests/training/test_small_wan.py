"""The small Wan model's training on tiny networks: its linear code, that it learns, and that its folder loads."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import models, wan
from paintover_evaluation.window_clips import random_clip

FOLDER = Path(__file__).resolve().parents[2] / "training"


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with a transformer that learns in seconds, and the code of few clips."""
    monkeypatch.syspath_prepend(str(FOLDER))
    torch.set_num_threads(1)
    networks, module = (importlib.import_module(name) for name in ("small_wan_models", "small_wan"))
    code = networks.linear_code(shown(module, range(40)))
    monkeypatch.setattr(module, "world_code", lambda: code)
    for each in (networks, module):
        monkeypatch.setattr(each, "build_transformer", lambda: tiny_transformer(networks))
    return module


def tiny_transformer(networks: Any) -> Any:
    return networks.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=36, out_channels=16, text_dim=networks.TEXT,
        freq_dim=16, ffn_dim=48, num_layers=1, rope_max_seq_len=64,
    )  # fmt: skip


def shown(module: ModuleType, seeds: range) -> np.ndarray[Any, np.dtype[np.float32]]:
    clips: np.ndarray[Any, np.dtype[np.float32]] = module.pictures(
        [random_clip(np.random.default_rng(seed)) for seed in seeds]
    )
    return clips


def test_encoder_is_the_linear_code(training: ModuleType) -> None:
    """In half precision, as it is stored; and the decoder starts as each latent's mean colour."""
    code, clips = training.world_code(), shown(training, range(100, 103))
    vae = training.build_vae(code).half().float()
    with torch.no_grad():
        mode = vae.encode(torch.from_numpy(clips).permute(0, 4, 1, 2, 3)).latent_dist.mode()
        decoded = vae.decode(mode).sample.permute(0, 2, 3, 4, 1).numpy()
    mean, deviation = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    assert np.allclose((mode - mean) / deviation, code.encode(clips), atol=0.01)
    assert np.square(decoded - clips).mean() / 4 < 10**-1.9


def test_latents_rebuild_the_clips(training: ModuleType) -> None:
    """By the best linear map: what the code throws away is little."""
    code = training.world_code()
    latents, clips = (code.encode(shown(training, range(200, 260))), shown(training, range(200, 260)))
    rows = np.concatenate([latents[:, :, 1:].transpose(0, 2, 3, 4, 1).reshape(-1, 16), np.ones((7680, 1))], axis=1)
    cells = clips[:, 1:].reshape(60, 2, 4, 8, 4, 8, 4, 3).transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, 192)
    error = cells - rows @ np.linalg.lstsq(rows, cells)[0]
    assert np.square(error).mean() / 4 < 10**-2.6


def test_training_learns_and_exports(training: ModuleType, tmp_path: Path) -> None:
    errors = list(itertools.islice(training.train_vae(tmp_path, 60, 1, batch=1), 6))
    assert errors[-1] < 0.25
    losses = list(itertools.islice(training.train_flow(tmp_path, 60, 1, batch=4), 40))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    for name, build in (("vae", training.build_vae(training.world_code())), ("flow", training.build_transformer())):
        training.Checkpoint(tmp_path / f"{name}.safetensors", 1, mean=build).save(now=True)

    training.export(tmp_path, tmp_path / "small-wan", training.world_code())
    model = wan.load(models.locate(str(tmp_path / "small-wan"), "wan").path, "wan", "cpu")
    clip = torch.from_numpy(shown(training, range(3, 4))[0]).permute(0, 3, 1, 2)
    latents = model.encode(clip)
    assert latents.shape == (1, 3, 16, 8, 8)
    assert 0.2 < float(latents.std()) < 2  # normalised by what was measured
    text = torch.zeros(1, 512, model.layout.text)
    velocity = model.velocity(model.condition(clip[:1], 9), text)(torch.randn_like(latents), torch.tensor(0.7))
    assert torch.isfinite(velocity).all() and velocity.std() > 0.01
