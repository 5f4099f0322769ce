"""Smooth-area random perturbation: a little noise where a picture is flat, before it is inverted.

I2VEdit (Ouyang et al., SIGGRAPH Asia 2024), appearance refinement. Where neighbouring pixels are equal, the latents
hold nothing that an inversion could turn into Gaussian noise; the edit then shows it. `anderson_darling` measures how
Gaussian inverted latents are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

THRESHOLD = 0.001
"""Gradients up to this, of pictures in [-1, 1], are flat."""

STRENGTH = 0.005
"""Standard deviation of the noise, for pictures in [-1, 1]."""


def smooth_mask(frames: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """(F, 1, H, W) bool: where pictures (F, 3, H, W) are flat: |∂x| + |∂y| by a 3x3 Sobel filter, the mean of the
    channels, is at most `threshold`. Borders are continued, so that a flat picture is flat up to them."""
    step = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=frames.device)
    kernels = torch.stack([step, step.T])[:, None]
    planes = functional.pad(frames.float().flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    slopes = functional.conv2d(planes, kernels).abs().sum(dim=1)
    return slopes.reshape(frames.shape).mean(dim=1, keepdim=True) <= threshold


def perturb(
    frames: Tensor, *, seed: int, threshold: float = THRESHOLD, strength: float = STRENGTH, clamp: bool = False
) -> Tensor:
    """Pictures (F, 3, H, W) in [-1, 1] with Gaussian noise where they are flat, drawn anew for every frame and channel.

    seed: of the noise, the same on every device. clamp: to [-1, 1], as the authors' code does, which makes the noise on
    white and black one-sided; without it values reach a little beyond."""
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(seed)).to(frames.device)
    noisy = frames + strength * noise * smooth_mask(frames, threshold)
    return noisy.clamp(-1, 1) if clamp else noisy


def anderson_darling(values: Tensor) -> float:
    """Anderson and Darling's A² of how far values (any shape) are from normal, with their own mean and variance
    (Anderson, Darling 1954). Normal data give 0.2 to 0.8; of data that are not, it grows with their number: compare at
    equal numbers only."""
    ordered = values.flatten().double().sort().values
    count = ordered.numel()
    scores = (ordered - ordered.mean()) / ordered.std()
    below = torch.special.log_ndtr(scores)
    above = torch.special.log_ndtr(-scores).flip(0)
    weights = 2 * torch.arange(1, count + 1, dtype=torch.float64, device=ordered.device) - 1
    statistic = float(-count - (weights * (below + above)).sum() / count)
    return statistic if math.isfinite(statistic) else math.inf
