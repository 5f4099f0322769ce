"""Inversions that Videoshop is compared with: functions of a denoiser, the clean latents (1, F, C, h, w) and the noise
levels, which descend to 0. Each returns the states at those levels, noisiest first, the clean latents last.
"""

from __future__ import annotations

from torch import Tensor

from paintover_engine.diffusion import videoshop
from paintover_engine.diffusion.denoiser import Denoiser


def bdia(model: Denoiser, x0: Tensor, sigmas: Tensor) -> list[Tensor]:
    """The exact inversion of `sampling.bdia`, which starts from the two noisiest states (Zhang, Lewis, Kleijn: Exact
    Diffusion Inversion via Bi-directional Integration Approximation, ECCV 2024). The first step, from level 0, is
    `videoshop.naive`: nothing lies below it."""
    states = videoshop.naive(model, x0, sigmas[-2:])[::-1]
    for above, sigma, below in zip(sigmas[:-2].flip(0), sigmas[1:-1].flip(0), sigmas[2:].flip(0), strict=True):
        x = states[-1]
        slope = (x - model(x, sigma)) / sigma
        states.append(states[-2] + (above - below) * slope)
    return states[::-1]


def noised(x0: Tensor, sigmas: Tensor, noise: Tensor) -> list[Tensor]:
    """No inversion: the clean latents plus noise of each level (Meng et al.: SDEdit, ICLR 2022)."""
    return [x0 + sigma * noise for sigma in sigmas]
