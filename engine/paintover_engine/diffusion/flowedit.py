"""FlowEdit with the edited frame as the condition: a clip edited like its first frame, without inversion.

Kulikov, Kleiner, Huberman-Spiegelglas, Michaeli: FlowEdit: Inversion-Free Text-Based Editing Using Pre-Trained Flow
Models, ICCV 2025 (algorithm 1), on an image-to-video model: where they change the prompt, the first frame is changed.

Symbols:
    x0      clean latents of the source, (1, T, C, h, w)
    s       the level, 1 (noise) to 0; s_max the one that the edit starts from
    d       the edit so far, of x0's shape: their Z^FE less x0
    M       where the edit applies, 0..1, (1, T, 1, h, w) (ours)

d is what is integrated rather than x0 + d, so that equal conditions give a difference of exactly 0, and the source's
own latents back, bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paintover_engine.diffusion import flow
from paintover_engine.diffusion.flow import Velocity

MARGIN = 2
"""Latents around the matte where the edit may apply in full: what it changes reaches as far as the VAE looks."""

SOFTNESS = 2
"""Latents beyond those, over which it fades."""


@dataclass(frozen=True)
class Known:
    """What is known of the edited clip. first: the clean latents of its first frame, (1, 1, C, h, w). start: an
    estimate of the whole of it, as the draft's, of the shape of x0; None: the source itself."""

    first: Tensor | None = None
    start: Tensor | None = None


def edit(
    source: Velocity,
    edited: Velocity,
    x0: Tensor,
    levels: Tensor,
    noise: torch.Generator,
    *,
    matte: Tensor,
    known: Known | None = None,
    average: int = 1,
) -> Tensor:
    """The edited clip's clean latents.

    source, edited: velocities on the source's first frame and on the edited one. levels: descending from s_max to 0.
    noise: drawn anew in every step, which the method needs. average: draws a step (their n_avg).

    The first frame's edit is known. A straight path has it at (1 - s) of itself at level s, so there it is held in
    every step; and an estimate of the whole clip starts on the same path."""
    known = known or Known()
    d = torch.zeros_like(x0)
    if known.start is not None:
        d = (1 - levels[0]) * matte * (known.start - x0)
    d = _held(d, x0, levels[0], matte, known.first)
    for s, lower in itertools.pairwise(levels):
        difference = torch.zeros_like(x0)
        for _ in range(average):
            n = torch.randn(x0.shape, generator=noise).to(x0)
            a = flow.noised(x0, s, n)  # Z^src
            difference = difference + (edited(a + d, s) - source(a, s))  # V^Δ
        d = d + (lower - s) * matte * difference / average
        d = _held(d, x0, lower, matte, known.first)
    return x0 + d


def _held(d: Tensor, x0: Tensor, s: Tensor, matte: Tensor, first: Tensor | None) -> Tensor:
    """The edit with its first frame as it is known at a level."""
    if first is None:
        return d
    return torch.cat([(1 - s) * matte[:, :1] * (first - x0[:, :1]), d[:, 1:]], dim=1)


def by_distance(estimates: Sequence[Tensor], places: Sequence[int]) -> Tensor:
    """One estimate of a clip (1, T, C, h, w) of several that were each carried from a frame that is known, at some
    places of the clip: each counts less the farther away that is."""
    frames = torch.arange(estimates[0].shape[1]).to(estimates[0]) * 4
    weights = torch.stack([1 / (1 + (frames - place).abs()) for place in places])
    shares = (weights / weights.sum(0))[..., None, None, None]
    return sum((share * estimate for share, estimate in zip(shares, estimates, strict=True)), start=torch.tensor(0.0))


def start_levels(levels: Tensor, n_max: int) -> Tensor:
    """The last `n_max` steps of a schedule, at least one: from s_max on."""
    return levels[-1 - max(1, min(n_max, len(levels) - 1)) :]


def latent_matte(matte: Tensor, factor: int) -> Tensor:
    """M (1, T, 1, h, w) of a matte (F, 1, H, W) in 0..1, F = 4k + 1: its maximum over what a latent covers in space and
    time, dilated by `MARGIN` latents and fading over `SOFTNESS` more. 0 where the matte is nowhere near."""
    cells = torch.nn.functional.max_pool2d(matte, factor)
    later = cells[1:].reshape(len(cells) // 4, 4, *cells.shape[1:])
    covered = torch.cat([cells[:1], later.amax(1)])
    core = torch.nn.functional.max_pool2d(covered, 2 * MARGIN + 1, 1, MARGIN)
    shares = [core]
    for ring in range(1, SOFTNESS + 1):
        wider = torch.nn.functional.max_pool2d(core, 2 * ring + 1, 1, ring)
        shares.append(wider * (1 - ring / (SOFTNESS + 1)))
    return torch.stack(shares).amax(0)[None]
