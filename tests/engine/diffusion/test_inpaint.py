from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import ddim, inpaint, memory, models
from paintover_engine.diffusion.cloning import Cloning, quarters
from paintover_engine.errors import Code, PaintoverError
from paintover_evaluation import grids

from tests.engine.diffusion.faults import failing

NAME = "small-inpaint"
needs_model = pytest.mark.skipif(NAME not in models.found("inpaint"), reason="the small model is not in this checkout")


@functools.cache
def small_model() -> inpaint.InpaintModel:
    torch.set_num_threads(1)
    folder = models.locate(NAME, "inpaint")
    return inpaint.load(folder.path, models.locate_clip(folder))


def pictures(count: int, edited: bool = False) -> torch.Tensor:
    worlds = grids.sample(np.random.default_rng(11), count)
    frames = grids.render(worlds, np.full(count, 0.3, np.float32))
    return torch.from_numpy(frames.edited if edited else frames.source).permute(0, 3, 1, 2).float() * 2 - 1


def copy_of_the_model(folder: Path) -> Path:
    shutil.copytree(models.locate(NAME, "inpaint").path, folder)
    return folder


@needs_model
def test_pictures_survive_the_code() -> None:
    there = small_model().encode(pictures(6))
    assert there.shape == (6, 4, 12, 12)
    error = (small_model().decode(there) - pictures(6)).square().mean()
    assert 10 * torch.log10(4 / error) > 25


@needs_model
def test_cells_are_encoded_independently() -> None:
    together, alone = small_model().encode(pictures(3)), small_model().encode(pictures(3)[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@needs_model
def test_an_unedited_pair_is_told_by_the_empty_prompt() -> None:
    picture = pictures(1)
    shown = small_model().exemplar(picture, picture, 0.7, "offset")
    assert torch.equal(shown.prompt, shown.null)
    assert torch.equal(shown.source, shown.edited)


@needs_model
def test_network_predicts_the_added_noise() -> None:
    model, (source, edited) = small_model(), (pictures(2), pictures(2, edited=True))
    cells = [model.encode(cell) for cell in (source, edited, source, edited)]
    whole = inpaint.grid(*cells)
    masked = inpaint.grid(*cells[:3], model.encode(torch.zeros(1, 3, 24, 24)))
    noise = torch.randn(whole.shape, generator=torch.Generator().manual_seed(3))
    before = model.evaluations
    for t in (100, 500, 900):
        a = float(model.alphas[t])
        z = a**0.5 * whole + (1 - a) ** 0.5 * noise
        predicted = model.noise(z, t, masked, model.text.hidden.expand(2, -1, -1))
        clean = ddim.consistent(z, predicted, a)
        assert (clean - whole).square().mean() < 0.3 * whole.square().mean()
    assert model.evaluations - before == 6


@needs_model
def test_epsilon_prediction_models_are_supported(tmp_path: Path) -> None:
    folder = copy_of_the_model(tmp_path / "model")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "epsilon"}))
    model = inpaint.InpaintModel(folder, folder / "clip", torch.device("cpu"), torch.float32)
    z = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(1))
    plain = model.noise(z, 500, z, model.text.hidden)
    turned = small_model().noise(z, 500, z, model.text.hidden)
    a = float(model.alphas[500])
    assert torch.allclose(turned, a**0.5 * plain + (1 - a) ** 0.5 * z, atol=1e-5)


@needs_model
def test_out_of_memory_lowers_the_batch_and_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    model, generator = small_model(), torch.Generator().manual_seed(2)
    monkeypatch.setattr(model, "tier", memory.TIERS[0])
    monkeypatch.setattr(model, "notes", [])
    z, masked = (torch.randn(6, 4, 24, 24, generator=generator) for _ in range(2))
    prompt = model.text.hidden + torch.randn(6, 1, 1, generator=generator)
    expected, before = model.noise(z, 500, masked, prompt), model.evaluations
    sizes: list[int] = []

    def more_than_two(_: object, args: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = model.unet.register_forward_pre_hook(more_than_two)
    try:
        predicted = model.noise(z, 500, masked, prompt)
    finally:
        handle.remove()
    assert torch.allclose(predicted, expected, atol=1e-4)
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    assert model.evaluations - before == 6
    assert model.notes[-1] == "The computer's memory ran out; going on in the tier for 16 GB."


@needs_model
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_out_of_memory_in_smallest_tier_is_an_error(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    monkeypatch.setattr(model, "tier", memory.TIERS[-1])
    monkeypatch.setattr(model, "notes", [])
    latents = model.encode(pictures(2))
    with (
        failing(getattr(model.vae, part), torch.OutOfMemoryError("CUDA out of memory.")),
        pytest.raises(PaintoverError, match="in the smallest tier too; close other programs") as told,
    ):
        model.decode(latents) if part == "decoder" else model.encode(pictures(2))
    assert told.value.code is Code.RESOURCE_EXHAUSTED


@needs_model
def test_every_tier_encodes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    latents = model.encode(pictures(5))
    decoded = model.decode(latents)
    monkeypatch.setattr(model, "tier", memory.TIERS[-1])
    assert torch.allclose(model.encode(pictures(5)), latents, atol=1e-5)
    assert torch.allclose(model.decode(latents), decoded, atol=1e-4)


def test_quarters_are_the_cells_tokens() -> None:
    cells = torch.arange(24).reshape(4, 6)
    for predicted, part in zip(
        quarters(24, 4, 6), (cells[:2, :3], cells[:2, 3:], cells[2:, :3], cells[2:, 3:]), strict=True
    ):
        assert torch.equal(predicted, part.flatten())
    assert [len(part) for part in quarters(6 * 9, 24, 36)] == [3 * 4] * 4  # an odd row is left out


def test_cloned_scores_are_the_exemplars() -> None:
    scores = torch.randn(1, 2, 16, 16)
    predicted = Cloning(1.3, 4, 4).cloned(scores.clone())
    source, edited, question, answer = quarters(16, 4, 4)
    expected = scores.clone()
    expected[..., answer[:, None], edited] = 1.3 * scores[..., question[:, None], source]
    expected[..., edited[:, None], answer] = 1.3 * scores[..., source[:, None], question]
    assert torch.equal(predicted, expected)
    assert torch.equal(predicted[..., answer[:, None], answer], scores[..., answer[:, None], answer])


@needs_model
def test_cloning_changes_the_estimate_until_removed() -> None:
    model = small_model()
    z = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(2))
    plain = model.noise(z, 500, z, model.text.hidden)
    model.clone_attention(1.3, 24, 24)
    assert not torch.allclose(model.noise(z, 500, z, model.text.hidden), plain, atol=1e-3)
    model.clone_attention(0, 24, 24)
    assert torch.allclose(model.noise(z, 500, z, model.text.hidden), plain, atol=1e-5)


def test_missing_model_error_names_size_licence_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path))
    monkeypatch.setenv("PAINTOVER_MODELS", "")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PaintoverError, match=r"stable-diffusion-inpainting.*2\.1 GB.*Open RAIL.*models"):
        models.locate("stable-diffusion-v1-5/stable-diffusion-inpainting", "inpaint")
    bare = models.ModelFolder("sd", tmp_path, "", "inpaint")
    with pytest.raises(PaintoverError, match=r"hf download openai/clip-vit-large-patch14.*1\.7 GB.*MIT.*models"):
        models.locate_clip(bare)


@needs_model
def test_damaged_network_is_named(tmp_path: Path) -> None:
    folder = copy_of_the_model(tmp_path / "model")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut short")
    with pytest.raises(PaintoverError, match=r"model is damaged \(unet"):
        inpaint.load(folder, folder / "clip")
