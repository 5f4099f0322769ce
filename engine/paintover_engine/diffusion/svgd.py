"""Temporal-content consistency: Stein variational gradient descent over a shot's frames (VP4, CVPR 2025, eq. 8).

SVGD (Liu, Wang: Stein Variational Gradient Descent, NeurIPS 2016) moves particles by a drive towards where a density is
high and a repulsion that keeps them apart. VP4's particles are the edited frames; its drive is a mean over all of them,
and the source's frames are its samples of the density. The paper does not say which density. `literal` takes the
source frames' own: it draws every edit back to its source, and a drive that is the same for all frames cannot change
what differs between frames. `smoothed` takes the density of *edits*: a frame's edit, less its source, should be what
its neighbours' edits are, followed along the shot's motion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

REACH = 4
"""Frames to either side that a frame's edit is compared with."""

SPREAD = 2.0
"""Standard deviation in frames of how much neighbours count."""

APART = 0.1
"""How far apart, as a distance of whole frames, the density of edits lets frames be: the repulsion works at that scale
and keeps edits from becoming one, far below what is seen."""


@dataclass(frozen=True)
class Neighbours:
    """Where each frame's pixels are in the frames around it.

    places: (offsets, N, h, w, 2) in -1..1 as `grid_sample` takes them. weights: (offsets + 1, N, 1, h, w), of each
    neighbour and, last, of the frame itself; they sum to 1. offsets: the neighbours' distances in frames."""

    offsets: tuple[int, ...]
    places: Tensor
    weights: Tensor

    def mean(self, frames: Tensor) -> Tensor:
        """(N, C, h, w): each frame's weighted mean over itself and its neighbours, pixel by pixel along the motion."""
        total = self.weights[-1] * frames
        for index, offset in enumerate(self.offsets):
            total = total + self.weights[index] * _sampled(frames, offset, self.places[index])
        return total


def neighbours(source: Tensor, forward: Tensor, backward: Tensor) -> Neighbours:
    """Follows the motion of N frames and weighs neighbours by nearness and by how alike the *source* is there.

    source: (N, C, h, w). forward, backward: (N - 1, h, w, 2), flow in pixels of that grid from frame i to i + 1 and
    from i + 1 to i. Past a cut, and where something was hidden, the source is not alike and nothing is shared."""
    count, _, height, width = source.shape
    offsets = tuple(d for d in range(-REACH, REACH + 1) if d and abs(d) < count)
    if not offsets:
        return Neighbours((), source.new_zeros(0), source.new_ones(1, count, 1, height, width))
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([xs, ys], -1).to(source).expand(count, height, width, 2)
    scale = source.new_tensor([2 / width, 2 / height])
    places = torch.stack([(_followed(pixels, forward, backward, d) + 0.5) * scale - 1 for d in offsets])
    distance = torch.stack(
        [
            (_sampled(source, d, place) - source).square().mean(1, keepdim=True)
            for d, place in zip(offsets, places, strict=True)
        ]
    )
    exists = torch.stack([_exists(count, d, source) for d in offsets])[..., None, None, None]
    nearest = torch.stack([near for near, d in zip(distance, offsets, strict=True) if abs(d) == 1])
    bandwidth = 4 * nearest.mean((2, 3, 4)).median().clamp_min(1e-4)  # the median pair is no cut
    time = torch.exp(-(source.new_tensor(offsets) ** 2) / (2 * SPREAD**2))[:, None, None, None, None]
    weights = time * torch.exp(-distance / bandwidth) * exists
    weights = torch.cat([weights, torch.ones_like(weights[:1])])
    return Neighbours(offsets, places, weights / weights.sum(0))


def smoothed(
    edited: Tensor,
    source: Tensor,
    around: Neighbours,
    held: Tensor,
    *,
    steps: int = 50,
    eta: float = 2.0,
    check: Callable[[], None] = lambda: None,
) -> Tensor:
    """The edited frames (N, C, h, w) with edits r = edited - source that agree along the motion.

    Each of `steps` steps of eta / steps moves every frame by SVGD's two terms: the gradient of |r_i - Σ_j w_ij r_j|²/2,
    with what neighbours say held fixed, and the repulsion of an RBF kernel between the edits. A total of eta = 2 takes
    an edit's disagreement to about e⁻².
    held: (N,) bool, frames that do not move: keyframes, whose edit is known."""
    residual = edited - source
    free = (~held).to(residual)[:, None, None, None]
    for _ in range(steps):
        check()
        drive = around.mean(residual) - residual
        residual = residual + (eta / steps) * free * (drive + APART**2 * repulsion(residual, APART))
    return torch.where(held[:, None, None, None], edited, source + residual)


def literal(edited: Tensor, source: Tensor, *, steps: int = 50, eta: float = 2.0) -> Tensor:
    """Equation 8 as it is printed: particles (N, C, h, w) driven by the mean over all of them of the gradient of the
    log density that a kernel makes of the source frames, and pushed apart; `eta` is of each step. For comparison.

    Both terms are gradients in the latents' own units: ∇ log p of the kernel density with the median heuristic's
    bandwidth h is 2/h Σ softmax(-|x - s|²/h) (s - x)."""
    particles = edited
    for _ in range(steps):
        drive = _density_gradient(particles, source).mean(0, keepdim=True)
        particles = particles + eta * (drive + repulsion(particles))
    return particles


def repulsion(particles: Tensor, least: float = 1e-3) -> Tensor:
    """SVGD's second term, (1/N) Σ_j ∇_{x_j} k(x_j, x_i), of an RBF kernel with the median heuristic, each frame being
    one particle. least: distance below which the kernel gets no narrower."""
    flat = particles.flatten(1)
    squares = torch.cdist(flat, flat).square()
    bandwidth = _bandwidth(squares, least)
    kernel = torch.exp(-squares / bandwidth)
    pushed = kernel.sum(1, keepdim=True) * flat - kernel @ flat
    return (2 / bandwidth / len(flat) * pushed).reshape(particles.shape)


def _density_gradient(particles: Tensor, samples: Tensor) -> Tensor:
    """∇ log of the samples' kernel density at each particle."""
    flat, known = particles.flatten(1), samples.flatten(1)
    bandwidth = _bandwidth(torch.cdist(known, known).square())
    weights = torch.softmax(-torch.cdist(flat, known).square() / bandwidth, dim=1)
    return (2 / bandwidth * (weights @ known - flat)).reshape(particles.shape)


def _bandwidth(squares: Tensor, least: float = 1e-3) -> Tensor:
    """The median heuristic: the median squared distance of two different particles over log(N + 1)."""
    count = len(squares)
    if count < 2:
        return squares.new_tensor(1.0)
    apart = squares[~torch.eye(count, dtype=torch.bool, device=squares.device)]
    return apart.median().clamp_min(least**2) / math.log(count + 1)


def _followed(pixels: Tensor, forward: Tensor, backward: Tensor, offset: int) -> Tensor:
    """(N, h, w, 2): where each frame's pixels are `offset` frames on, in pixels; at the ends, where they were last."""
    count = len(pixels)
    scale = pixels.new_tensor([2 / pixels.shape[2], 2 / pixels.shape[1]])
    place = pixels.clone()
    for step in range(abs(offset)):
        for frame in range(count):
            at = frame + step if offset > 0 else frame - step  # the frame that the place is in by now
            field = forward[at] if 0 <= at < count - 1 and offset > 0 else None
            field = backward[at - 1] if offset < 0 and 1 <= at < count else field
            if field is not None:
                grid = (place[frame : frame + 1] + 0.5) * scale - 1
                moved = grid_sample(field.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False)
                place[frame] += moved[0].permute(1, 2, 0)
    return place


def _sampled(frames: Tensor, offset: int, places: Tensor) -> Tensor:
    """(N, C, h, w): for each frame, the frame `offset` on, sampled at `places`; beyond the ends, the end frame."""
    index = (torch.arange(len(frames), device=frames.device) + offset).clamp(0, len(frames) - 1)
    return grid_sample(frames[index], places, padding_mode="border", align_corners=False)


def _exists(count: int, offset: int, like: Tensor) -> Tensor:
    """(N,): 1 where there is a frame `offset` on."""
    index = torch.arange(count) + offset
    return ((index >= 0) & (index < count)).to(like)
