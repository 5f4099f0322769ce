"""Rectified flow: noise levels, conversions, integration up and down, as plain functions of a velocity.

Liu, Gong, Liu: Flow Straight and Fast, ICLR 2023; Lipman et al.: Flow Matching for Generative Modeling, ICLR 2023.

Symbols:
    s       the level, 0 (clean) to 1 (noise)
    x0, n   clean latents (B, T, C, h, w), and standard normal noise of their shape
    x       latents of level s, (1 - s) x0 + s n
    v       the velocity dx/ds = n - x0, which the network predicts (Liu et al., eq. 1)
    σ, x̂    level and latents in the variance-exploding form of Karras et al. 2022, σ = s / (1 - s), x̂ = x / (1 - s)

All arithmetic on latents is float32. One list of levels serves both directions.
"""

from __future__ import annotations

import itertools
from typing import Protocol

import torch
from torch import Tensor

from paintover_engine.diffusion.denoiser import Denoiser
from paintover_engine.diffusion.schedule import Scaling, Sigma


class Velocity(Protocol):
    """`model(x, s)`: v of latents x (B, T, C, h, w) at level s; float32, of x's shape."""

    def __call__(self, x: Tensor, s: Sigma, /) -> Tensor: ...


def shifted(s: Tensor, shift: float) -> Tensor:
    """Levels moved towards noise, k s / (1 + (k - 1) s): pictures of more pixels need more noise to lose as much (Esser
    et al.: Scaling Rectified Flow Transformers, ICML 2024, eq. 23)."""
    return shift * s / (1 + (shift - 1) * s)


def levels(steps: int, shift: float, train_levels: int = 1000) -> Tensor:
    """(steps + 1,) float32: levels from 1 down to 0, as Wan's own schedule has them (diffusers'
    `UniPCMultistepScheduler` with `use_flow_sigmas`).

    train_levels: of the schedule that the network was trained on."""
    even = torch.linspace(1, 1 / train_levels, steps + 1, dtype=torch.float64)[:-1]
    top = shifted(even, shift)
    return torch.cat([top, torch.zeros(1, dtype=torch.float64)]).float()


def noised(x0: Tensor, s: Sigma, noise: Tensor) -> Tensor:
    """(1 - s) x0 + s n (Liu et al., eq. 1)."""
    return (1 - s) * x0 + s * noise


def denoised(x: Tensor, velocity: Tensor, s: Sigma) -> Tensor:
    """The clean latents that a velocity points at: x - s v."""
    return x - s * velocity


def velocity(x: Tensor, x0: Tensor, s: Sigma) -> Tensor:
    """The inverse of `denoised`: (x - x0) / s."""
    return (x - x0) / s


def euler(model: Velocity, x: Tensor, levels: Tensor) -> Tensor:
    """Integrates `x`, at level `levels[0]`, to the level `levels[-1]`, up or down (Euler)."""
    for s, following in itertools.pairwise(levels):
        x = x + (following - s) * model(x, s)
    return x


def midpoint(model: Velocity, x: Tensor, levels: Tensor) -> Tensor:
    """The same by the midpoint rule, two evaluations a step, with an error of the second order: up and down again
    gives nearly the same latents (Wang et al.: Taming Rectified Flow for Inversion and Editing, 2024, eq. 9)."""
    for s, following in itertools.pairwise(levels):
        half = (following - s) / 2
        x = x + 2 * half * model(x + half * model(x, s), s + half)
    return x


# In the form of Karras et al., which Videoshop's equations are written in.


def scale(sigma: Sigma) -> Tensor:
    """1/(1 + σ): c_in, for c_in x̂ = x is what the network sees; and c_skip, for D = c_skip x̂ - s v."""
    return 1 / (1 + torch.as_tensor(sigma))


SCALING = Scaling(c_in=scale, c_skip=scale)


def sigma(s: Tensor) -> Tensor:
    """σ of levels below 1."""
    return s / (1 - s)


def level(sigma: Sigma) -> Tensor:
    """s of a σ."""
    value = torch.as_tensor(sigma)
    return value / (1 + value)


def denoiser(model: Velocity) -> Denoiser:
    """D(x̂; σ) of a velocity. Everything that is straight in x is straight in x̂, so that Euler steps in either are the
    same."""

    def denoise(x: Tensor, sigma: Sigma) -> Tensor:
        s = level(sigma)
        x = (1 - s) * x
        return denoised(x, model(x, s), s)

    return denoise
