"""I2VEdit against its published code, on the same network, noise and pictures: two windows, the second attending to the
first (skip-interval cross-attention)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("peft")

from paintover_engine.diffusion import i2vedit, matching, sarp, svd, training  # noqa: E402
from paintover_engine.diffusion.lora import Adapters  # noqa: E402

from tests.parity.vectors import (  # noqa: E402
    TINY_SVD,
    Vectors,
    assert_close,
    assert_levels_close,
    pictures,
    tensor,
    vectors,
)

NOISE_AUG = 0.02
INVERSION_IDS = (8.0, 127.0, 0.02)  # the published code's, whose frame rate differs from the denoising's
WINDOWS = (1, 2)
Conditions = dict[int, svd.Condition]


@pytest.fixture(scope="module")
def reference() -> Vectors:
    return vectors("i2vedit")


@pytest.fixture(scope="module")
def model() -> svd.VideoModel:
    torch.set_num_threads(1)
    return svd.load(TINY_SVD, "cpu")


@pytest.fixture(scope="module")
def sigmas(model: svd.VideoModel, reference: Vectors) -> Any:
    return model.config.sigmas(len(reference["sigmas"]) - 1)


@pytest.fixture(scope="module")
def sources(model: svd.VideoModel, reference: Vectors) -> Conditions:
    """The condition of each window's source."""
    found = {}
    for k in WINDOWS:
        picture = pictures(reference[f"window{k}_condition_picture"][None])
        noisy = picture + NOISE_AUG * tensor(reference[f"window{k}_condition_noise"])
        latent = model.encode(noisy)[:, 0] / model.config.scale
        condition = model.condition(picture, noise_aug=NOISE_AUG, latent=latent)
        found[k] = dataclasses.replace(condition, time_ids=torch.tensor([INVERSION_IDS]))
    return found


@pytest.fixture(scope="module")
def edits(model: svd.VideoModel, reference: Vectors) -> Conditions:
    """The condition of each window's edited first frame: the keyframe's, then latents handed over."""
    found = {}
    for k in WINDOWS:
        picture = pictures(reference[f"window{k}_edited_picture"][None])
        clean = model.encode(picture)[:, 0] if k == 1 else tensor(reference["window1_edit"][-1, -1:])
        noise = tensor(reference[f"window{k}_edited_condition_noise"])
        latent = clean / model.config.scale + NOISE_AUG * noise
        found[k] = model.condition(picture, noise_aug=NOISE_AUG, latent=latent)
    return found


def adapter(reference: Vectors, k: int) -> dict[str, Any]:
    """A window's motion adapter under peft's names."""
    weights = {}
    for key, value in reference.items():
        if key.startswith(f"window{k}_adapter|"):
            _, layer, part = key.split("|")
            weights[f"base_model.model.{layer}.lora_{part}.weight"] = tensor(value)
    return weights


def test_noise_levels_equal_the_published_code(sigmas: Any, reference: Vectors) -> None:
    assert_close(sigmas, reference["sigmas"], 1e-6)


def test_flat_areas_equal_the_published_code(reference: Vectors) -> None:
    frames = pictures(reference["frames"][: len(reference["perturbation_mask"])])
    assert (sarp.smooth_mask(frames)[:, 0].numpy() == reference["perturbation_mask"]).all()
    ramps = sarp.smooth_mask(tensor(reference["ramp"]))[:, 0].numpy()
    inside = (..., slice(1, -1), slice(1, -1))  # the published code pads the border with grey
    assert (ramps[inside] == reference["ramp_mask"][inside]).all()


def test_perturbation_equals_the_published_code(
    model: svd.VideoModel, reference: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = pictures(reference["frames"][: len(reference["perturbation_mask"])])
    monkeypatch.setattr(torch, "randn", lambda *shape, **named: tensor(reference["perturbation_noise"]))
    perturbed = sarp.perturb(frames, seed=0, clamp=True)
    assert_close(perturbed, reference["perturbation_pictures"], 1e-6)
    assert_close(perturbed - frames, reference["perturbation_pictures"] - frames.numpy(), 1e-5)
    assert_close(model.encode(perturbed)[0], reference["perturbation_latents"], 7e-6)


@pytest.mark.parametrize("k", WINDOWS)
def test_conditions_equal_the_published_code(
    sources: Conditions, edits: Conditions, reference: Vectors, k: int
) -> None:
    assert_close(sources[k].latent, reference[f"window{k}_condition"], 7e-6)
    assert_close(sources[k].token[0], reference[f"window{k}_token"], 3e-5)
    assert_close(edits[k].latent, reference[f"window{k}_edited_condition"], 7e-6)
    assert_close(edits[k].token[0], reference[f"window{k}_edited_token"], 3e-5)


@pytest.mark.parametrize("k", WINDOWS)
def test_inversion_equals_the_published_code(
    model: svd.VideoModel, sigmas: Any, sources: Conditions, reference: Vectors, k: int
) -> None:
    z = tensor(reference[f"window{k}_latents"])[None]
    first = i2vedit.SourceWindow(tensor(reference["window1_inversion"]), sources[1]) if k == 2 else None
    states = i2vedit.invert(model, z, sources[k], sigmas, first=first)
    assert_levels_close(states, reference[f"window{k}_inversion"], 1e-5)


@pytest.mark.parametrize("k", WINDOWS)
def test_denoising_equals_the_published_code(
    model: svd.VideoModel,
    sigmas: Any,
    sources: Conditions,
    edits: Conditions,
    reference: Vectors,
    k: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks: list[Any] = []
    match = matching.match

    def recording(*given: Any) -> Any:
        matched = match(*given)
        masks.append(matched.mask.flatten())
        return matched

    monkeypatch.setattr(matching, "match", recording)
    states = {n: i2vedit.SourceWindow(tensor(reference[f"window{n}_inversion"]), sources[n]) for n in WINDOWS}
    first = i2vedit.EditedWindow(states[1], edits[1], tensor(reference["window1_edit"])) if k == 2 else None
    settings = i2vedit.EditSettings(
        threshold=float(reference[f"window{k}_threshold"]), coarse="reference", lower_source_level=True
    )
    motion = {n: adapter(reference, n) for n in WINDOWS}
    with Adapters(model.unet, next(iter(motion[1].values())).shape[0]) as adapters:
        adapters.add("window", motion[k])
        if first:
            adapters.add("first", motion[1])
        edit = i2vedit.denoise(model, states[k], edits[k], sigmas, settings, adapters=adapters, first=first)
    assert_levels_close(edit, reference[f"window{k}_edit"], 3e-5)
    steps, layers = len(sigmas) - 1, len(reference["mask_shapes"])
    each = len(masks) // steps  # calls of a step: with a first window, those on it come first
    recorded = [name for name in reference if name.startswith(f"window{k}_masks_step")]
    assert recorded
    for name in recorded:
        step = int(name.rpartition("step")[2])
        own = masks[each * step : each * (step + 1)][-layers:]
        assert_close(torch.cat(own), reference[name], 2e-5)


def test_training_levels_equal_the_published_code(reference: Vectors) -> None:
    drawn = training.interpolated_cosine(1 - tensor(reference["training_u"]))  # whose u counts from the highest level
    assert_levels_close(drawn[:, None], reference["training_sigmas"][:, None], 2e-5)


def test_loss_and_gradients_equal_the_published_code(model: svd.VideoModel, reference: Vectors) -> None:
    condition = svd.Condition(
        tensor(reference["loss_token"])[None],
        tensor(reference["loss_condition"]),
        tensor(reference["loss_time_ids"]),
    )
    weights = adapter(reference, 1)
    with Adapters(model.unet, next(iter(weights.values())).shape[0]) as adapters:
        adapters.add("window", weights)
        adapters.act({"window": [1.0]})
        adapters.train("window")
        loss = training.loss_of(
            lambda x, sigma: model.raw(x, sigma, [condition]),
            tensor(reference["window1_latents"])[None],
            tensor(reference["loss_noise"]),
            tensor(reference["loss_sigma"]),
        )
        loss.backward()
        assert_close(loss[None], reference["loss"][None], 1e-6)
        recorded = [key for key in reference if key.startswith("loss_gradient|")]
        assert recorded
        for key in recorded:
            _, layer, part = key.split("|")
            gradient = getattr(model.unet.get_submodule(layer), f"lora_{part}")["window"].weight.grad
            assert_close(gradient, reference[key], 3e-5)


def test_coarse_layers_equal_the_published_code(reference: Vectors) -> None:
    kinds = ("CrossAttn{}BlockSpatioTemporal",) * 3 + ("{}BlockSpatioTemporal",)
    with torch.device("meta"):
        unet = diffusers.UNetSpatioTemporalConditionModel(
            block_out_channels=(32, 32, 32, 32),
            layers_per_block=2,
            num_attention_heads=1,
            cross_attention_dim=8,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
            down_block_types=tuple(kind.format("Down") for kind in kinds),
            up_block_types=tuple(kind.format("Up") for kind in kinds[::-1]),
        )
    assert matching.coarse_blocks(unet, "reference") == [str(name) for name in reference["coarse_layers"]]
