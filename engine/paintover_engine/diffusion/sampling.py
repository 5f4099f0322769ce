"""From noise to latents: plain functions of a denoiser, a start and the noise levels left, which descend to 0."""

from __future__ import annotations

import itertools

from torch import Tensor

from paintover_engine.diffusion.denoiser import Denoiser


def euler_step(x: Tensor, denoised: Tensor, sigma: Tensor, lower: Tensor) -> Tensor:
    """One step of the probability flow from level `sigma` down to `lower` (Karras et al. 2022, algorithm 1 without its
    correction)."""
    return x + (lower - sigma) / sigma * (x - denoised)


def euler(model: Denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    """Denoises `x` (B, F, C, h, w), at level `sigmas[0]`, to the level `sigmas[-1]`."""
    for sigma, lower in itertools.pairwise(sigmas):
        x = euler_step(x, model(x, sigma), sigma, lower)
    return x


def bdia(model: Denoiser, x: Tensor, lower: Tensor, sigmas: Tensor) -> Tensor:
    """Denoises by bi-directional integration approximation with weight 1 (Zhang, Lewis, Kleijn: Exact Diffusion
    Inversion via Bi-directional Integration Approximation, ECCV 2024, eq. 18 with gamma = 1): each step starts from the
    state one level up and uses the slope between, so that `inversion.bdia` undoes it exactly.

    x, lower: the states at `sigmas[0]` and at `sigmas[1]`."""
    for above, sigma, below in zip(sigmas[:-2], sigmas[1:-1], sigmas[2:], strict=True):
        slope = (lower - model(lower, sigma)) / sigma
        x, lower = lower, x + (below - above) * slope
    return lower
