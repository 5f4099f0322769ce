"""Videoshop against its published code, on the same network, noise and pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from paintover_engine.diffusion import sampling, svd, videoshop  # noqa: E402

from tests.parity.vectors import (  # noqa: E402
    TINY_SVD,
    Vectors,
    assert_close,
    assert_levels_close,
    pictures,
    tensor,
    vectors,
)

STEPS, STRENGTH, GUIDANCE, NOISE_AUG = 25, 0.55, 4.0, 0.2


@dataclasses.dataclass(frozen=True)
class Variant:
    """Settings of the published code, and ours that equal them."""

    name: str
    extrapolates: bool
    normaliser: videoshop.Normaliser
    conditioning: videoshop.Conditioning


VARIANTS = [
    Variant("default", True, "frame", "code"),
    Variant("naive", False, "frame", "code"),
    Variant("plain", True, "none", "plain"),
]


@pytest.fixture(scope="module")
def reference() -> Vectors:
    return vectors("videoshop")


@pytest.fixture(scope="module")
def model() -> svd.VideoModel:
    torch.set_num_threads(1)
    return svd.load(TINY_SVD, "cpu")


@pytest.fixture(scope="module")
def sigmas(model: svd.VideoModel) -> Any:
    return videoshop.levels(model.config, STEPS, STRENGTH)


@pytest.fixture(scope="module")
def conditions(model: svd.VideoModel, reference: Vectors) -> dict[str, svd.Condition]:
    """Of the source's and of the edited first frame, with the reference's noise and CLIP embedding: the published code
    shrinks pictures for CLIP otherwise."""
    frames = {"source": pictures(reference["frames"][:1]), "edited": pictures(reference["edited"][None])}
    found = {}
    for name, picture in frames.items():
        noisy = picture + NOISE_AUG * tensor(reference[f"noise_{name}"]).permute(0, 3, 1, 2)
        latent = model.encode(noisy)[:, 0] / model.config.scale
        condition = model.condition(picture, noise_aug=NOISE_AUG, latent=latent)
        found[name] = dataclasses.replace(condition, token=tensor(reference[f"{name}_token"])[:, None])
    return found


def test_noise_levels_equal_the_published_code(model: svd.VideoModel, reference: Vectors) -> None:
    assert_close(model.config.sigmas(STEPS), reference["sigmas"], 1e-6)


def test_latents_equal_the_published_code(model: svd.VideoModel, reference: Vectors) -> None:
    assert_close(model.encode(pictures(reference["frames"]))[0], reference["latents"], 7e-6)
    assert_close(model.encode(pictures(reference["edited"][None]))[:, 0], reference["edited_latent"], 7e-6)


def test_conditions_equal_the_published_code(
    model: svd.VideoModel, conditions: dict[str, svd.Condition], reference: Vectors
) -> None:
    source = conditions["source"].latent
    assert_close(source, reference["source_condition_plain"], 7e-6)
    assert_close(videoshop.standardised_condition(source, model.config.scale), reference["source_condition"], 7e-6)
    assert_close(conditions["edited"].latent, reference["edited_condition"], 7e-6)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_inversion_equals_the_published_code(
    model: svd.VideoModel, sigmas: Any, conditions: dict[str, svd.Condition], reference: Vectors, variant: Variant
) -> None:
    z, epsilon = tensor(reference["latents"])[None], tensor(reference["noise_inversion"])
    normalisation = videoshop.Normalisation.of(z, variant.normaliser)
    condition = videoshop.conditioned(
        conditions["source"], normalisation, model.config.scale, variant.conditioning, inverting=True
    )
    denoiser, x0 = model.denoiser(condition), normalisation.apply(z)
    if variant.extrapolates:
        states = videoshop.extrapolated(denoiser, x0, sigmas, epsilon)
    else:
        states = videoshop.naive(denoiser, x0, sigmas)
    assert_levels_close(torch.cat(states), reference[f"{variant.name}_inversion"], 1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_denoising_equals_the_published_code(
    model: svd.VideoModel, sigmas: Any, conditions: dict[str, svd.Condition], reference: Vectors, variant: Variant
) -> None:
    denoiser = model.denoiser(conditions["edited"], GUIDANCE)
    x, states = tensor(reference[f"{variant.name}_inversion"][:1]), []
    for index in range(len(sigmas) - 1):
        x = sampling.euler(denoiser, x, sigmas[index : index + 2])
        states.append(x[0])
    assert_levels_close(states, reference[f"{variant.name}_denoising"], 2.5e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_rescaling_equals_the_published_code(reference: Vectors, variant: Variant) -> None:
    normalisation = videoshop.Normalisation.of(tensor(reference["latents"])[None], variant.normaliser)
    x, edited = tensor(reference[f"{variant.name}_denoising"][-1:]), tensor(reference["edited_latent"])
    result = videoshop.rescaled(x, edited, normalisation, "match")
    assert_close(result[0], reference[f"{variant.name}_result"], 1e-5)


def test_printed_rescaling_equals_equation_8(reference: Vectors) -> None:
    normalisation = videoshop.Normalisation.of(tensor(reference["latents"])[None], "frame")
    x, edited = tensor(reference["default_denoising"][-1:]), tensor(reference["edited_latent"])
    result = videoshop.rescaled(x, edited, normalisation, "paper")
    assert_close(result[0], reference["default_result_eq8"], 1e-5)
