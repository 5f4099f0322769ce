"""The noise levels of Stable Video Diffusion and how its network is scaled at each (Karras et al.: Elucidating the
Design Space of Diffusion-Based Generative Models, NeurIPS 2022, eq. 5 and 7; v-prediction as in SVD).

All arithmetic is float32 or finer, whatever the network computes in.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Sigma = Tensor | float


def karras_sigmas(steps: int = 25, sigma_min: float = 0.002, sigma_max: float = 700.0, rho: float = 7.0) -> Tensor:
    """(steps + 1,) float32: noise levels from `sigma_max` down to `sigma_min`, then 0 (Karras et al., eq. 5)."""
    if steps == 1:
        return torch.tensor([sigma_max, 0.0])
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = (high + ramp * (low - high)) ** rho
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)]).float()


def start_index(steps: int, strength: float) -> int:
    """Where in the schedule an inversion of `strength` (0 to 1) ends and the denoising starts; at least one step."""
    return steps - max(1, int(steps * strength))


def ascending(sigmas: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(next, current) for each step of an inversion: neighbouring noise levels, from the lowest pair up."""
    return list(zip(sigmas[:-1].flip(0), sigmas[1:].flip(0), strict=True))


def c_in(sigma: Sigma) -> Tensor:
    """1/√(σ² + 1), the factor of the noisy latents in the network's input."""
    return (_level(sigma) ** 2 + 1) ** -0.5


def c_skip(sigma: Sigma) -> Tensor:
    """1/(σ² + 1), the factor of the noisy latents in the denoised estimate."""
    return 1 / (_level(sigma) ** 2 + 1)


def c_out(sigma: Sigma) -> Tensor:
    """-σ/√(σ² + 1), the factor of the network's output in the denoised estimate."""
    level = _level(sigma)
    return -level * (level**2 + 1) ** -0.5


def c_noise(sigma: Sigma) -> Tensor:
    """The time step that the network is conditioned on for a noise level."""
    return 0.25 * _level(sigma).log()


@dataclass(frozen=True)
class Scaling:
    """How a family of networks is scaled at a level, as functions of it: c_in, of the noisy latents in the input;
    c_skip, of the noisy latents in the denoised estimate (Karras et al., eq. 7)."""

    c_in: Callable[[Sigma], Tensor]
    c_skip: Callable[[Sigma], Tensor]


V_PREDICTION = Scaling(c_in, c_skip)


def denoised(x: Tensor, output: Tensor, sigma: Sigma) -> Tensor:
    """The denoised estimate from a network's output for the noisy `x`, both (B, F, C, h, w), at level `sigma`, one
    number or one an item (B,)."""
    level = spread(sigma, x)
    return c_skip(level) * x + c_out(level) * output.to(x.dtype)


def spread(sigma: Sigma, x: Tensor) -> Tensor:
    """A noise level, one number or one an item (B,), shaped to be multiplied with `x` (B, …)."""
    level = _level(sigma).to(device=x.device, dtype=x.dtype)
    return level.reshape(-1, *[1] * (x.ndim - 1)) if level.ndim else level


def derived_seed(seed: int, purpose: str, *place: int) -> int:
    """The seed, 0 to 2^63 - 1, of one draw of random numbers: independent of every other purpose's and place's, and the
    same on every machine.

    seed: the user's. place: which of the draws for that purpose: a frame's number, a window's first and last, a step's.
    One seed for all would give tensors of as many elements the *same* numbers."""
    described = ":".join([str(seed), purpose, *map(str, place)])
    return int.from_bytes(hashlib.sha256(described.encode()).digest()[:8], "big") >> 1


def noise_like(x: Tensor, seed: int) -> Tensor:
    """Standard normal noise of a tensor's shape, the same on every device."""
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x.device)


def initial_scale(sigma: Sigma) -> float:
    """The standard deviation that pure noise starts from at the topmost level."""
    return math.sqrt(float(sigma) ** 2 + 1)


def _level(sigma: Sigma) -> Tensor:
    level = torch.as_tensor(sigma)
    return level if level.dtype == torch.float64 else level.float()
