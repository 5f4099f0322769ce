"""The small Wan model's training on tiny networks: it learns, goes on where it was cut off, and its folder loads."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import models, wan
from safetensors.torch import load_file

pytestmark = pytest.mark.timeout(600)

FOLDER = Path(__file__).resolve().parents[2] / "training"


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with networks that learn in seconds."""
    monkeypatch.syspath_prepend(str(FOLDER))
    torch.set_num_threads(1)
    networks, module = (importlib.import_module(name) for name in ("small_wan_models", "small_wan"))

    def tiny_vae() -> object:
        return networks.AutoencoderKLWan(
            base_dim=4, z_dim=16, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[True, True],
            scale_factor_spatial=4,
        )  # fmt: skip

    def tiny_transformer() -> object:
        return networks.WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16, text_dim=networks.TEXT,
            freq_dim=16, ffn_dim=48, num_layers=1, rope_max_seq_len=64,
        )  # fmt: skip

    for name, build in (("build_vae", tiny_vae), ("build_transformer", tiny_transformer)):
        monkeypatch.setattr(networks, name, build)
        monkeypatch.setattr(module, name, build)
    return module


def test_clips_stay_inside_and_move(training: ModuleType) -> None:
    for seed in range(20):
        clip = training.wan_clip(np.random.default_rng(seed))
        shown = clip.render()
        assert shown.shape == (training.FRAMES, training.SIZE, training.SIZE, 3)
        covered = clip.matte().sum((1, 2))
        assert covered.min() > 0.97 * covered.max()


def test_training_learns_resumes_and_exports(
    training: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for run in (whole, cut):
        run.mkdir()
    errors = list(training.train_vae(whole, 16, 1, batch=1))
    assert np.mean(errors[-4:]) < 0.95 * np.mean(errors[:4])
    cut.joinpath("vae.safetensors").write_bytes(whole.joinpath("vae.safetensors").read_bytes())

    files = list(training.encode_clips(whole, 8, 1))
    assert len(files) == 1 and load_file(files[0])["latents"].shape == (8, 2, 16, 5, 12, 12)
    assert list(training.encode_clips(whole, 8, 1)) == files  # nothing is encoded twice
    cut.joinpath(files[0].name).write_bytes(files[0].read_bytes())

    losses = list(training.train_flow(whole, 60, 1, batch=4))
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:10])

    save = training.Checkpoint.save
    monkeypatch.setattr(training.Checkpoint, "save", lambda point, now=False: save(point, now=True))
    assert list(itertools.islice(training.train_flow(cut, 60, 1, batch=4), 20)) == losses[:20]
    monkeypatch.setattr(training.Checkpoint, "save", save)
    assert list(training.train_flow(cut, 60, 1, batch=4)) == losses[20:]
    assert load_file(cut / "flow.safetensors").keys() == load_file(whole / "flow.safetensors").keys()

    folder = tmp_path / "small-wan"
    training.export(whole, folder)
    model = wan.load(models.locate(str(folder), "wan").path, "wan", "cpu")
    clip = training.pictures([training.wan_clip(np.random.default_rng(3))])[0].transpose(0, 1)
    latents = model.encode(clip)
    assert latents.shape == (1, 5, 16, 12, 12)
    assert 0.5 < float(latents.std()) < 2  # normalised by what was measured
    text = torch.zeros(1, 512, training.TEXT)
    velocity = model.velocity(model.condition(clip[:1], 17), text)(torch.randn_like(latents), torch.tensor(0.7))
    assert torch.isfinite(velocity).all() and velocity.std() > 0.1
