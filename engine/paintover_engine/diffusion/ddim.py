"""Sampling on a variance-preserving schedule without inversion: consistency sampling, and plain DDIM beside it.

`a` is the cumulative alpha of a noise level: `z = √a · z0 + √(1-a) · noise`. All arithmetic is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Network = Callable[[Tensor, int], Tensor]
"""`noise(z, t)`: the network's estimate of the noise in latents z at time step t, of their shape."""

Difference = Callable[[Tensor, Tensor, int, Tensor], Tensor]
"""`difference(z_edit, z_source, t, drawn)`: what the edit changes in the network's estimate of the noise."""

Draw = Callable[[int], Tensor]
"""`draw(step)`: the fresh noise of a step, the same whenever it is asked."""


@dataclass(frozen=True)
class Level:
    """A noise level: the network's time step t, and a."""

    t: int
    a: float


def levels(alphas: Tensor, steps: int, strength: float) -> list[Level]:
    """The noise levels of `steps` steps from `strength` (0..1] of the schedule down to its first time step, evenly.

    alphas: (time steps,) cumulative alphas, descending."""
    top = max(1, round(strength * (len(alphas) - 1)))
    times = torch.linspace(top, min(1, top), steps).round().long().tolist()
    return [Level(t, float(alphas[t])) for t in times]


def noised(clean: Tensor, noise: Tensor, a: float) -> Tensor:
    """Clean latents with noise on them."""
    return torch.add(a**0.5 * clean, noise, alpha=(1 - a) ** 0.5)


def consistent(z: Tensor, noise: Tensor, a: float) -> Tensor:
    """The consistency function f(z, t, ε) = (z - √(1-a) ε) / √a (VP4, section 3.2; Luo et al.: LCM, 2023)."""
    return torch.div(z - (1 - a) ** 0.5 * noise, a**0.5)


def consistency_noise(z: Tensor, clean: Tensor, a: float) -> Tensor:
    """The noise that f takes from z to known clean latents (DDCM: Xu et al., InfEdit, CVPR 2024, eq. 9)."""
    return torch.div(z - a**0.5 * clean, (1 - a) ** 0.5)


def consistency_sampling(
    difference: Difference, source: Tensor, schedule: Sequence[Level], draw: Draw, lambda2: float
) -> Tensor:
    """VP4's content-consistency sampling: the edited clean latents of clean source latents, without inversion.

    DDIM with σ = √(1 - a'), so that nothing of the old noise is kept: every step takes the clean latents from the noise
    and adds fresh noise. The source's noise is known, since its clean latents are; the edit's is the source's plus
    lambda2 times the difference of the network's two estimates (noise calibration, eq. 7). The first step is the
    source's by rule and asks no network. Where `difference` is 0, the source comes back exactly; with lambda2 = 1 this
    is DDCM.

    source: (B, C, h, w). draw: gives noise that broadcasts to it, one for both branches."""
    edited = source
    for step, level in enumerate(schedule[1:], start=1):
        drawn = draw(step)
        of_source, of_edit = (noised(clean, drawn, level.a) for clean in (source, edited))
        change = difference(of_edit, of_source, level.t, drawn)
        # f(z_edit, consistency noise + λ2 Δε) with the two formulas put together, which leaves no rounding at Δε = 0.
        edited = source + ((of_edit - of_source) - (1 - level.a) ** 0.5 * lambda2 * change) / level.a**0.5
    return edited


def ddim(network: Network, start: Tensor, schedule: Sequence[Level], draw: Draw) -> Tensor:
    """Plain deterministic DDIM (Song et al., 2020, eq. 12 with σ = 0) from noised start latents: what is left when
    content consistency is taken away."""
    z = noised(start, draw(0), schedule[0].a)
    clean = start
    for level, after in zip(schedule, [*schedule[1:], None], strict=True):
        noise = network(z, level.t)
        clean = consistent(z, noise, level.a)
        z = noised(clean, noise, after.a) if after else clean
    return clean
