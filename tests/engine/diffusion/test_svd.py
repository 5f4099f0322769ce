"""The SVD adapter against diffusers' own pipeline, and how it works in less memory."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch
from paintover_engine.diffusion import memory, sampling, schedule, svd
from paintover_engine.diffusion.svd import VideoModel
from paintover_engine.errors import Code, PaintoverError

from tests.engine.diffusion.faults import failing

FRAMES, SIDE = 6, 32


@pytest.fixture(scope="module")
def model(tiny_svd: Path) -> VideoModel:
    return svd.load(tiny_svd, "cpu")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def as_tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in the library's scheduler
def test_sampling_equals_the_diffusers_pipeline(tiny_svd: Path, model: VideoModel, picture: np.ndarray) -> None:
    pipeline = diffusers.StableVideoDiffusionPipeline.from_pretrained(tiny_svd)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn((1, FRAMES, 4, SIDE // 2, SIDE // 2), generator=torch.Generator().manual_seed(1))
    theirs = pipeline(
        PIL.Image.fromarray(picture),
        height=SIDE,
        width=SIDE,
        num_inference_steps=4,
        noise_aug_strength=0.1,
        generator=torch.Generator().manual_seed(9),
        latents=noise,
        output_type="pt",
    ).frames[0]

    sigmas = model.config.sigmas(4)
    condition = model.condition(as_tensor(picture), noise_aug=0.1, seed=9)
    denoiser = model.denoiser(condition, torch.linspace(1, 3, FRAMES))
    latents = sampling.euler(denoiser, noise * schedule.initial_scale(sigmas[0]), sigmas)
    ours = (model.decode(latents) / 2 + 0.5).clamp(0, 1)

    assert ours.std() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_folded_cross_attention_changes_nothing(tiny_svd: Path, model: VideoModel) -> None:
    plain = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(tiny_svd / "unet").eval()
    generator = torch.Generator().manual_seed(4)
    x = torch.randn((2, FRAMES, 8, 16, 12), generator=generator)
    token, ids = torch.randn((2, 1, 16), generator=generator), torch.tensor([[6.0, 127.0, 0.02], [6.0, 127.0, 0.2]])
    with torch.no_grad():
        full = plain(x, torch.tensor([0.3, -0.5]), token, ids).sample
        folded = model.unet(x, torch.tensor([0.3, -0.5]), token, ids).sample
    assert full.std() > 0.01
    assert float((full - folded).abs().max()) < 1e-5


def test_the_weights_keep_their_names(tiny_svd: Path, model: VideoModel) -> None:
    plain = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(tiny_svd / "unet")
    unread = {name for name in plain.state_dict() if ".norm2." in name and "transformer" in name}
    assert set(model.unet.state_dict()) == set(plain.state_dict()) - unread


def test_items_are_independent_of_each_other(model: VideoModel, picture: np.ndarray) -> None:
    condition = model.condition(as_tensor(picture), noise_aug=0.1)
    conditions = [condition.unconditional(), condition]
    x = torch.randn((2, FRAMES, 4, 16, 16), generator=torch.Generator().manual_seed(4))
    together = model.raw(x, torch.tensor([3.0, 0.5]), conditions)
    alone = [model.raw(x[n : n + 1], level, [conditions[n]]) for n, level in enumerate((3.0, 0.5))]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_one_item_at_a_time_gives_what_a_batch_gives(model: VideoModel, picture: np.ndarray) -> None:
    denoiser = model.denoiser(model.condition(as_tensor(picture), noise_aug=0.1), guidance=3.0)
    x = torch.randn((1, FRAMES, 4, 16, 16), generator=torch.Generator().manual_seed(4))
    batched = denoiser(x, 2.0)
    with tier_of(model, memory.TIERS[-1]):
        assert torch.allclose(denoiser(x, 2.0), batched, atol=1e-5)


def test_guidance_of_one_skips_the_unconditional_item(
    model: VideoModel, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    items: list[int] = []
    forward = model.unet.forward
    monkeypatch.setattr(model.unet, "forward", lambda x, *rest, **kw: items.append(len(x)) or forward(x, *rest, **kw))
    condition = model.condition(as_tensor(picture), noise_aug=0.1)
    x = torch.zeros((1, FRAMES, 4, 16, 16))
    model.denoiser(condition)(x, 2.0)
    model.denoiser(condition, 1.5)(x, 2.0)
    assert items == [1, 2]


def test_coding_in_parts_changes_little(model: VideoModel) -> None:
    frames = torch.rand((FRAMES, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(4)) * 2 - 1
    latents = model.encode(frames)
    assert latents.shape == (1, FRAMES, 4, SIDE // 2, SIDE // 2)
    whole = model.decode(latents)
    with tier_of(model, dataclasses.replace(memory.TIERS[-1], encode_frames=1, decode_frames=3)):
        assert torch.allclose(model.encode(frames), latents, atol=1e-5)
        parts = model.decode(latents)
    assert parts.shape == whole.shape == frames.shape
    assert (parts - whole).std() < 0.5 * whole.std()


def test_vae_encodes_in_float32(tiny_svd: Path, picture: np.ndarray) -> None:
    half = VideoModel(tiny_svd, torch.device("cpu"), torch.bfloat16)
    assert next(half.unet.parameters()).dtype == next(half.vae.decoder.parameters()).dtype == torch.bfloat16
    assert next(half.vae.encoder.parameters()).dtype == torch.float32
    latents = half.encode(as_tensor(picture))
    assert latents.dtype == torch.float32
    x = torch.randn((1, FRAMES, 4, 16, 16), generator=torch.Generator().manual_seed(4))
    found = half.denoiser(half.condition(as_tensor(picture), noise_aug=0.1), 2.0)(x, 1.0)
    assert found.dtype == torch.float32
    assert torch.isfinite(half.decode(latents)).all()


def test_condition_noise_depends_on_its_seed_only(model: VideoModel, picture: np.ndarray) -> None:
    first, same, other = (model.condition(as_tensor(picture), noise_aug=0.2, seed=seed).latent for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


def test_out_of_memory_drops_a_tier_and_is_noted(model: VideoModel, picture: np.ndarray) -> None:
    denoiser = model.denoiser(model.condition(as_tensor(picture), noise_aug=0.1), 2.0)
    x = torch.randn((1, FRAMES, 4, 16, 16), generator=torch.Generator().manual_seed(4))
    expected = denoiser(x, 2.0)
    short = torch.OutOfMemoryError("CUDA out of memory.")

    def more_than_one(_: object, args: tuple[torch.Tensor, ...]) -> None:
        if len(args[0]) > 1:
            raise short

    handle = model.unet.register_forward_pre_hook(more_than_one)
    with tier_of(model, memory.TIERS[0]):
        assert torch.allclose(denoiser(x, 2.0), expected, atol=1e-5)
        assert model.tier == memory.TIERS[-1]
        assert len(model.notes) == 4
    handle.remove()
    with (
        tier_of(model, memory.TIERS[0]),
        failing(model.unet, short),
        pytest.raises(PaintoverError, match="smallest tier.*finished stages are kept"),
    ):
        denoiser(x, 2.0)


@pytest.mark.parametrize(
    "failure",
    [
        torch.AcceleratorError("CUDA error: unspecified launch failure\nmore words"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_gpu_failure_is_an_error_then_ends_the_process(
    model: VideoModel, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(memory, "_broken", "")
    with failing(model.vae.decoder, failure), pytest.raises(PaintoverError) as told:
        model.decode(torch.zeros((1, FRAMES, 4, 16, 16)))
    assert told.value.code is Code.UNAVAILABLE
    assert str(failure).splitlines()[0] in told.value.message
    assert "restart the computer or renew the GPU's driver" in told.value.message
    with pytest.raises(SystemExit, match="The GPU failed: "):
        model.decode(torch.zeros((1, FRAMES, 4, 16, 16)))


def test_gpu_without_kernel_image_is_not_retried(model: VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_broken", "")
    failure = torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device")
    with failing(model.vae.decoder, failure), pytest.raises(PaintoverError, match="not built for this GPU") as told:
        model.decode(torch.zeros((1, FRAMES, 4, 16, 16)))
    assert told.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_out_of_memory_message_is_recognised(model: VideoModel, failure: Exception) -> None:
    latents = torch.zeros((1, FRAMES, 4, 16, 16))
    with tier_of(model, memory.TIERS[0]):
        with failing(model.vae.decoder, failure, {1}):
            assert model.decode(latents).shape == (FRAMES, 3, SIDE, SIDE)
        assert model.tier == memory.TIERS[1]
        assert model.notes == ["The computer's memory ran out; going on in the tier for 24 GB."]


def test_programming_errors_are_not_gpu_failures(model: VideoModel) -> None:
    with (
        failing(model.vae.decoder, RuntimeError("shapes cannot be multiplied")),
        pytest.raises(RuntimeError, match="^s"),
    ):
        model.decode(torch.zeros((1, FRAMES, 4, 16, 16)))


def test_pictures_that_are_no_numbers_are_told(model: VideoModel) -> None:
    with pytest.raises(PaintoverError, match="no numbers"):
        model.decode(torch.full((1, FRAMES, 4, 16, 16), torch.nan))


def test_too_little_memory_is_refused_at_the_start(model: VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "free", lambda: 1e6)
    with pytest.raises(PaintoverError, match=r"6 frames of 32x32 take 0\.0 GB .* 0\.0 GB are free; close other"):
        model.fit(FRAMES, SIDE, SIDE)
    monkeypatch.setattr(model, "free", lambda: 1e12)
    assert model.fit(FRAMES, SIDE, SIDE + 4) == memory.TIERS[0]


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder"])
def test_a_damaged_part_is_named(tiny_svd: Path, tmp_path: Path, part: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_svd, folder)
    weights = next((folder / part).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PaintoverError, match=f"broken is damaged \\({part}: .*get it again"):
        svd.load(folder, "cpu")


@contextlib.contextmanager
def tier_of(model: VideoModel, tier: memory.Tier) -> Iterator[None]:
    before, model.tier = model.tier, tier
    try:
        yield
    finally:
        model.tier = before
        model.notes.clear()
