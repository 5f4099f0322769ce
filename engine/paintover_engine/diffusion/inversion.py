"""From latents to the noise that gives them back: plain functions of a denoiser, the clean latents and the noise
levels, which descend to 0 as in `sampling`. Each returns the states at those levels, in the levels' order: noisiest
first, the clean latents last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paintover_engine.diffusion.denoiser import Denoiser
from paintover_engine.diffusion.schedule import c_in, c_skip


def inverse_euler_step(x: Tensor, query: Tensor, denoised: Tensor, lower: Tensor, sigma: Tensor) -> Tensor:
    """The exact inverse of `sampling.euler_step` where `query`, at which the network was asked, is the state that is
    returned (Fan et al.: Videoshop, ECCV 2024, eq. 4).

    x: the state at level `lower`; denoised: the estimate for `query` at level `sigma`."""
    network = denoised - c_skip(sigma) * query  # c_out · F
    step = lower - sigma
    return (sigma * x + step * network) / (step * (1 - c_skip(sigma)) + sigma)


def extrapolated(
    model: Denoiser, x0: Tensor, sigmas: Tensor, noise: Tensor, threshold: float = 1.0, refinements: int = 0
) -> list[Tensor]:
    """Inversion with noise extrapolation (Videoshop, eq. 6 and 7): the network is asked where a straight line from the
    clean latents through the current state reaches the next level; below `threshold`, where that state is mostly
    rounding, at the clean latents plus `noise`.

    threshold: of the current, lower level; negative: never use `noise`, which divides 0 by 0 at level 0.
    refinements: further rounds of an extrapolated step from where the last one ended (fixed-point iteration), one call
    each."""
    x, states, deviation = x0, [x0], x0.std()
    for sigma, lower in _ascending(sigmas):
        extrapolates = bool(lower > threshold)
        query = x0 + (x - x0) * (sigma / lower) if extrapolates else x0 + noise * (sigma * deviation)
        for _ in range(refinements if extrapolates else 0):
            query = inverse_euler_step(x, query, model(query, sigma), lower, sigma)
        x = inverse_euler_step(x, query, model(query, sigma), lower, sigma)
        states.append(x)
    return states[::-1]


def naive(model: Denoiser, x0: Tensor, sigmas: Tensor) -> list[Tensor]:
    """Inversion without extrapolation (Videoshop, eq. 5): the network gets the current state, scaled for its own level,
    and is told the next."""
    x, states = x0, [x0]
    for sigma, lower in _ascending(sigmas):
        query = x * (c_in(lower) / c_in(sigma))
        x = inverse_euler_step(x, query, model(query, sigma), lower, sigma)
        states.append(x)
    return states[::-1]


def lower_level(model: Denoiser, x0: Tensor, sigmas: Tensor) -> list[Tensor]:
    """Inversion by explicit Euler steps, each asked wholly at the lower level (I2VEdit's; Song et al.: DDIM). The last
    level, 0, is replaced by the geometric continuation of the two before it, at which the clean latents are taken to
    stand."""
    continued = torch.cat([sigmas[:-1], sigmas[-2:-1] ** 2 / sigmas[-3:-2]])
    x, states = x0, [x0]
    for sigma, lower in _ascending(continued):
        x = x + (sigma - lower) / lower * (x - model(x, lower))
        states.append(x)
    return states[::-1]


def bdia(model: Denoiser, x0: Tensor, sigmas: Tensor) -> list[Tensor]:
    """Exact inversion of `sampling.bdia`, which needs the two noisiest states back. The first step, from level 0, is a
    naive one: nothing lies below."""
    states = naive(model, x0, sigmas[-2:])[::-1]
    for above, sigma, below in zip(sigmas[:-2].flip(0), sigmas[1:-1].flip(0), sigmas[2:].flip(0), strict=True):
        x = states[-1]
        slope = (x - model(x, sigma)) / sigma
        states.append(states[-2] + (above - below) * slope)
    return states[::-1]


def noised(x0: Tensor, sigmas: Tensor, noise: Tensor) -> list[Tensor]:
    """No inversion: the clean latents plus noise of each level (Meng et al.: SDEdit, ICLR 2022)."""
    return [x0 + sigma * noise for sigma in sigmas]


def _ascending(sigmas: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(next, current) levels from the lowest up."""
    return list(zip(sigmas[:-1].flip(0), sigmas[1:].flip(0), strict=True))
