"""The exact denoiser, and on it the sampling code against an answer that is known."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from paintover_engine.diffusion import sampling, schedule, videoshop  # noqa: E402
from paintover_evaluation import exact  # noqa: E402

CLIPS = 4
SIGMAS = schedule.karras_sigmas(25)[12:]  # from 15.6, Videoshop's strength 0.55


def psnr(out: torch.Tensor, truth: torch.Tensor) -> float:
    """Of pictures in -1..1, capped at 60 dB."""
    return float((4 / (out - truth).square().mean().clamp(min=4e-6)).log10() * 10)


@dataclass(frozen=True)
class Pair:
    """A clip and its true edit, (1, F, 3, H, W), and the ideal denoiser of each."""

    source: torch.Tensor
    truth: torch.Tensor
    before: exact.ExactDenoiser
    after: exact.ExactDenoiser


@functools.lru_cache(maxsize=CLIPS)
def pair(kind: exact.ExactEdit, seed: int) -> Pair:
    clip, edit = exact.exact_case(np.random.default_rng(seed), kind)
    return Pair(exact.tensor(clip)[None], exact.tensor(edit)[None], exact.denoiser(clip), exact.denoiser(edit))


def carried(kind: exact.ExactEdit, how: str) -> list[float]:
    """PSNR to the truth of edits carried by a kind of inversion, dB."""
    out = []
    for seed in range(CLIPS):
        one = pair(kind, seed)
        noise = schedule.noise_like(one.source, seed)
        if how == "naive":
            start = videoshop.naive(one.before, one.source, SIGMAS)[0]
        elif how == "extrapolated":
            start = videoshop.extrapolated(one.before, one.source, SIGMAS, noise)[0]
        else:
            start = noise * SIGMAS[0]
        out.append(psnr(sampling.euler(one.after, start, SIGMAS), one.truth))
    return out


def test_clean_clips_are_their_own_estimate() -> None:
    clip = exact.exact_case(np.random.default_rng(0), "mark")[0]
    renders = exact.renders(clip)
    denoise = exact.ExactDenoiser(renders)
    assert torch.allclose(denoise(renders[:5], 0.01), renders[:5], atol=1e-5)
    assert denoise.weights(renders[7:8], 0.0)[0].argmax() == 7


def test_the_first_frame_is_known_at_any_noise() -> None:
    clip = exact.exact_case(np.random.default_rng(1), "mark")[0]
    noisy = 100 * torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    estimate = exact.denoiser(clip)(noisy, torch.tensor([100.0, 100.0]))
    assert torch.allclose(estimate[:, 0], exact.tensor(clip)[0].expand(2, -1, -1, -1), atol=1e-5)


def test_denoiser_estimate_equals_the_score() -> None:
    """Tweedie: D(x, σ) = x + σ² ∇ log p(x), with p a sum of Gaussians around the renders."""
    renders = exact.renders(exact.exact_case(np.random.default_rng(2), "mark")[0], [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    renders = renders.double()
    sigma = 3.0
    x = renders[1:2] + sigma * torch.randn(renders[1:2].shape, generator=torch.Generator().manual_seed(1)).double()
    x.requires_grad_(True)
    density = torch.logsumexp(-(x - renders).square().flatten(1).sum(1) / (2 * sigma**2), dim=0)
    (slope,) = torch.autograd.grad(density, x)
    assert torch.allclose(exact.ExactDenoiser(renders)(x.detach(), sigma), x + sigma**2 * slope, atol=1e-8)


@pytest.mark.parametrize("how", ["naive", "extrapolated"])
@pytest.mark.parametrize("kind", ["mark", "shift"])
def test_an_edit_comes_out_as_the_true_clip(kind: exact.ExactEdit, how: str) -> None:
    """Three in four: where the mark hides the way, another motion may be taken."""
    assert sum(quality > 59 for quality in carried(kind, how)) >= 3


def test_without_inversion_the_motion_is_lost() -> None:
    assert max(carried("mark", "none")) < 30


def test_reconstruction_is_exact() -> None:
    clip = exact.exact_case(np.random.default_rng(3), "mark")[0]
    source = exact.tensor(clip)[None]
    start = videoshop.extrapolated(exact.denoiser(clip), source, SIGMAS, schedule.noise_like(source, 0))[0]
    assert psnr(sampling.euler(exact.denoiser(clip), start, SIGMAS), source) > 59
