"""The trainings of the small models on tiny networks: one that was cut off ends where one that was not does."""

from __future__ import annotations

import functools
import importlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from diffusers import UNet2DConditionModel, UNetSpatioTemporalConditionModel, WanTransformer3DModel
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

FOLDER = Path(__file__).resolve().parents[2] / "training"
STEPS, CUT = 4, 2


class CutOff(BaseException):
    pass


class Clock:
    """Passes a second a step."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.syspath_prepend(str(FOLDER))
    torch.set_num_threads(1)
    clock = Clock()
    monkeypatch.setattr(importlib.import_module("checkpoints"), "time", clock)
    return clock


def cut_after(monkeypatch: pytest.MonkeyPatch, module: Any, steps: int, clock: Clock) -> None:
    """The module's training is cut off in the step after so many; each takes a minute."""
    descend = getattr(module.descend, "replaced", module.descend)
    done: list[int] = []

    def step(*given: Any) -> Any:
        if len(done) == steps:
            raise CutOff
        done.append(1)
        clock.now += 60
        return descend(*given)

    step.replaced = descend  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "descend", step)


def ends_alike(
    train: Callable[[Path], object],
    name: str,
    module: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
) -> None:
    """Compares the last checkpoint of a training with that of one that was cut off and went on."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for run in (whole, broken):
        for file in tmp_path.glob("*.safetensors"):
            run.mkdir(exist_ok=True)
            (run / file.name).write_bytes(file.read_bytes())
        run.mkdir(exist_ok=True)
    cut_after(monkeypatch, module, STEPS, clock)
    train(whole)
    cut_after(monkeypatch, module, CUT, clock)
    with pytest.raises(CutOff):
        train(broken)
    clock.now += 12345
    cut_after(monkeypatch, module, STEPS - CUT, clock)
    train(broken)
    expected, found = (load_file(run / name) for run in (whole, broken))
    assert set(found) == set(expected)
    for key in expected:
        assert torch.equal(found[key], expected[key]), key


def tiny_tower(side: int) -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=8, intermediate_size=16, projection_dim=8, num_hidden_layers=1, num_attention_heads=2,
            image_size=side, patch_size=side // 2,
        )
    )  # fmt: skip


def tiny_video_unet(linear: torch.Tensor | None = None, token: int = 8) -> UNetSpatioTemporalConditionModel:
    return UNetSpatioTemporalConditionModel(
        sample_size=16, in_channels=8, out_channels=4, block_out_channels=(32, 32),
        down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=24, layers_per_block=1,
        cross_attention_dim=token,
        num_attention_heads=(1, 1), num_frames=14,
    )  # fmt: skip


def test_resumed_video_training_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    small_svd = importlib.import_module("small_svd")
    monkeypatch.setattr(small_svd, "build_clip", lambda: tiny_tower(224))
    monkeypatch.setattr(small_svd, "build_unet", tiny_video_unet)
    monkeypatch.setattr(small_svd, "best_linear", lambda batches: None)
    ends_alike(
        lambda run: small_svd.train_clip(run, STEPS, 0, "cpu"),
        "clip.safetensors", small_svd, tmp_path, monkeypatch, clock,
    )  # fmt: skip
    recipe = small_svd.Recipe(batch=1)
    ends_alike(
        lambda run: small_svd.train_unet(run, STEPS, 2, 0, "cpu", recipe),
        "unet.safetensors", small_svd, tmp_path, monkeypatch, clock,
    )  # fmt: skip


def tiny_proof(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The proof model's training with a tiny network of the same blocks, without a compiler."""
    proof_svd = importlib.import_module("proof_svd")
    clip = proof_svd.motions.random_clip(np.random.default_rng(1))
    code = proof_svd.linear_code(clip.render())

    def tiny() -> UNetSpatioTemporalConditionModel:
        return UNetSpatioTemporalConditionModel(
            sample_size=16, in_channels=8, out_channels=4, block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlockSpatioTemporal",) * 2,
            up_block_types=("CrossAttnUpBlockSpatioTemporal",) * 2,
            addition_time_embed_dim=8, projection_class_embeddings_input_dim=24, layers_per_block=1,
            cross_attention_dim=proof_svd.TOKEN, num_attention_heads=(1, 1), num_frames=8,
        )  # fmt: skip

    monkeypatch.setattr(proof_svd, "world_code", lambda: code)
    monkeypatch.setattr(proof_svd, "build_unet", tiny)
    monkeypatch.setattr(proof_svd, "CHECKPOINT_SECONDS", 60.0)
    return proof_svd


@pytest.fixture
def uncompiled() -> Iterator[None]:
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


@pytest.mark.usefixtures("uncompiled")
def test_resumed_proof_training_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    proof_svd = tiny_proof(monkeypatch)
    recipe = proof_svd.Recipe(batch=1)
    ends_alike(
        lambda run: proof_svd.train(run, STEPS, 2, 0, recipe),
        "unet.safetensors", proof_svd, tmp_path, monkeypatch, clock,
    )  # fmt: skip


@pytest.mark.usefixtures("uncompiled")
def test_exported_weights_begin_a_new_proof_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    proof_svd = tiny_proof(monkeypatch)
    first, second, folder = tmp_path / "first", tmp_path / "second", tmp_path / "proof-svd"
    first.mkdir()
    second.mkdir()
    proof_svd.train(first, 2, 2, 0, proof_svd.Recipe(batch=1))
    proof_svd.export(first, folder)
    exported = folder / "unet" / "diffusion_pytorch_model.safetensors"
    proof_svd.train(second, 0, 2, 0, proof_svd.Recipe(batch=1), exported)  # no step
    assert not (second / "unet.safetensors").exists()
    proof_svd.train(second, 1, 1, 0, proof_svd.Recipe(batch=1, rate=0.0), exported)
    weights, averaged = (load_file(path) for path in (second / "unet.safetensors", exported))
    assert all(torch.equal(weights[f"model/{key}"], value.float()) for key, value in averaged.items())


@pytest.mark.usefixtures("uncompiled")
def test_quick_forward_equals_the_networks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output and gradients, in float32; only what attention to one token never uses has no gradient."""
    unet, quick_unet = tiny_proof(monkeypatch).build_unet(), importlib.import_module("quick_unet")
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    for weight in unet.parameters():
        weight.data.add_(0.05 * normal(*weight.shape))
    given = normal(2, 8, 8, 16, 16), normal(2), normal(2, 1, 64), normal(2, 3)
    wanted = normal(2, 8, 4, 16, 16)

    def judged(out: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
        unet.zero_grad()
        (out * wanted).mean().backward()
        return out.detach(), {name: weight.grad for name, weight in unet.named_parameters()}

    own, slopes = judged(unet(*given, return_dict=False)[0])
    quick, found = judged(quick_unet.forward(unet, *given))
    torch.testing.assert_close(quick, own, atol=2e-5, rtol=1e-4)
    largest = max(slope.abs().max() for slope in slopes.values() if slope is not None)
    for name, slope in slopes.items():
        assert slope is not None
        mine = found[name]
        if mine is None:
            assert "attn2.to_" in name or ".norm2." in name
            assert slope.abs().max() < 1e-6 * largest, name
        else:
            torch.testing.assert_close(mine, slope, atol=float(1e-5 * largest), rtol=1e-3)


def test_silent_weights_of_the_vae_are_shipped_as_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    proof_svd = tiny_proof(monkeypatch)
    vae = proof_svd.build_vae(proof_svd.world_code())
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand((2, 3, 8, 8), generator=generator) * 2 - 1

    def through() -> torch.Tensor:
        with torch.no_grad():
            return vae.decode(vae.encode(pictures).latent_dist.mode(), num_frames=2).sample

    before = through()
    proof_svd.clear_silent(vae)
    assert torch.equal(through(), before)
    weights = b"".join(weight.detach().half().numpy().tobytes() for weight in vae.parameters())
    assert len(zlib.compress(weights, 1)) < len(weights) / 8


def test_resumed_inpaint_training_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    small_inpaint = importlib.import_module("small_inpaint")

    def tiny() -> UNet2DConditionModel:
        return UNet2DConditionModel(
            sample_size=24, in_channels=9, out_channels=4, block_out_channels=(8, 8), norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=8, attention_head_dim=2,
        )  # fmt: skip

    class Examples(small_inpaint.Examples):  # type: ignore[misc, name-defined]
        """Without CLIP."""

        def __init__(self, out: Path) -> None:
            self.code = small_inpaint._patch_code()

        def batch(self, worlds: Any, rng: Any, hidden: float) -> dict[str, torch.Tensor]:
            shown = small_inpaint.grids.render(worlds, rng.uniform(size=len(worlds)), 24, 24)
            cells = [self.encode(part) for part in (shown.source, shown.edited) * 2]
            grid = small_inpaint.tile(*cells)
            return {"grid": grid, "start": grid.flip(0), "masked": grid, "prompt": torch.ones(len(worlds), 2, 8)}

    monkeypatch.setattr(small_inpaint, "make_unet", tiny)
    monkeypatch.setattr(small_inpaint, "Examples", Examples)
    ends_alike(
        lambda run: (torch.manual_seed(0), small_inpaint.train_unet(run, STEPS - 0.5, 2, 0.5)),
        "unet.safetensors", small_inpaint, tmp_path, monkeypatch, clock,
    )  # fmt: skip


def test_resumed_wan_training_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    small_wan = importlib.import_module("small_wan")

    def tiny() -> WanTransformer3DModel:
        return WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16, text_dim=small_wan.TEXT,
            freq_dim=16, ffn_dim=16, num_layers=1, rope_max_seq_len=64,
        )  # fmt: skip

    rng = np.random.default_rng(1)
    code = small_wan.linear_code(small_wan.pictures([small_wan.random_clip(rng) for _ in range(20)]))
    monkeypatch.setattr(small_wan, "world_code", lambda: code)
    monkeypatch.setattr(small_wan, "build_transformer", tiny)
    for train, name in ((small_wan.train_flow, "flow"), (small_wan.train_vae, "vae")):
        (tmp_path / name).mkdir()
        ends_alike(
            functools.partial(lambda train, run: list(train(run, STEPS - 0.5, 2, batch=1)), train),
            f"{name}.safetensors", small_wan, tmp_path / name, monkeypatch, clock,
        )  # fmt: skip


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip of pickles", b""])
def test_a_file_that_is_no_checkpoint_is_told(tmp_path: Path, content: bytes) -> None:
    checkpoints = importlib.import_module("checkpoints")
    (tmp_path / "unet.safetensors").write_bytes(content)
    with pytest.raises(SystemExit, match=r"unet\.safetensors is no checkpoint of this training.*another folder"):
        checkpoints.Checkpoint(tmp_path / "unet.safetensors", 0).load()
    with pytest.raises(SystemExit, match=r"clip\.safetensors is not there: train that part first"):
        checkpoints.load_part(tmp_path / "clip.safetensors", "model")
