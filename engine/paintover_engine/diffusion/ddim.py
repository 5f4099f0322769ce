"""Sampling on a variance-preserving schedule: noise levels, the consistency function, and plain DDIM.

a is the cumulative alpha of a noise level: z = √a z0 + √(1 - a) ε. Latents are (B, C, h, w); all arithmetic is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Network = Callable[[Tensor, int], Tensor]
"""`network(z, t)`: the estimate of the noise in latents z at time step t, of their shape."""

Draw = Callable[[int], Tensor]
"""`draw(step)`: a step's fresh noise, which broadcasts to the latents; the same for the same step."""


@dataclass(frozen=True)
class Level:
    """A noise level: the network's time step t, and a."""

    t: int
    a: float


def levels(alphas: Tensor, steps: int, strength: float) -> list[Level]:
    """The noise levels of `steps` steps, evenly from the share `strength` (0..1] of the schedule down to its first time
    step.

    alphas: (time steps,) cumulative alphas, descending."""
    top = max(1, round(strength * (len(alphas) - 1)))
    times = torch.linspace(top, min(1, top), steps).round().long().tolist()
    return [Level(t, float(alphas[t])) for t in times]


def noised(clean: Tensor, noise: Tensor, a: float) -> Tensor:
    """√a z0 + √(1 - a) ε of clean latents z0 and noise ε."""
    return torch.add(a**0.5 * clean, noise, alpha=(1 - a) ** 0.5)


def consistent(z: Tensor, noise: Tensor, a: float) -> Tensor:
    """The consistency function f(z, ε) = (z - √(1 - a) ε) / √a (VP4, section 3.2; Luo et al.: Latent Consistency
    Models, 2023)."""
    return torch.div(z - (1 - a) ** 0.5 * noise, a**0.5)


def consistency_noise(z: Tensor, clean: Tensor, a: float) -> Tensor:
    """ε_cons = (z - √a z0) / √(1 - a), which f takes from z to known clean latents z0 (Xu et al.: InfEdit, CVPR 2024,
    eq. 9)."""
    return torch.div(z - a**0.5 * clean, (1 - a) ** 0.5)


def ddim(network: Network, start: Tensor, schedule: Sequence[Level], draw: Draw) -> Tensor:
    """Deterministic DDIM (Song et al.: Denoising Diffusion Implicit Models, 2020, eq. 12 with σ = 0) from the latents
    `start`, noised to the first level."""
    z = noised(start, draw(0), schedule[0].a)
    clean = start
    for level, after in zip(schedule, [*schedule[1:], None], strict=True):
        noise = network(z, level.t)
        clean = consistent(z, noise, level.a)
        z = noised(clean, noise, after.a) if after else clean
    return clean
