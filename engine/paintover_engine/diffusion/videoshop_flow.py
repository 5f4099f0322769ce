"""Videoshop on a flow model: the same equations (`diffusion.videoshop`) in the flow's variables.

Rectified flow is what Videoshop assumes of Stable Video Diffusion, that latents move on straight lines. Levels are
given as a flow's, 1 to 0; the threshold Σ is a noise level σ = s / (1 - s), as in the paper, whose 1 is s = 0.5.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from paintover_engine.diffusion import flow, schedule, videoshop
from paintover_engine.diffusion.flow import Velocity
from paintover_engine.diffusion.videoshop import Normalisation, Rescaling

Inversion = Literal["extrapolation", "naive", "midpoint", "noise"]


def inverted_levels(levels: Tensor, strength: float) -> Tensor:
    """The levels of a schedule that an inversion passes, noisiest first, the last 0. strength: the share of them. Level
    1 is never among them: nothing of the source is left there."""
    steps = len(levels) - 1
    return levels[max(1, schedule.start_index(steps, strength)) :]


def invert(
    model: Velocity,
    x0: Tensor,
    levels: Tensor,
    noise: Tensor,
    how: Inversion = "extrapolation",
    threshold: float = 0.1,
    refinements: int = 0,
) -> Tensor:
    """The latents at the level `levels[0]` from which the model would make the source.

    model: on the source's first frame. x0: clean latents (1, T, C, h, w). noise: of their shape, one draw for all
    steps. threshold, refinements: as in `videoshop.extrapolated`. extrapolation, naive: by its equations; midpoint: by
    the midpoint rule, two evaluations a step; noise: noise added to the source (an ablation)."""
    if how == "noise":
        return flow.noised(x0, levels[0], noise)
    if how == "midpoint":
        return flow.midpoint(model, x0, levels.flip(0))
    denoiser, sigmas = flow.denoiser(model), flow.sigma(levels)
    if how == "naive":
        states = videoshop.naive(denoiser, x0, sigmas, flow.SCALING)
    else:
        states = videoshop.extrapolated(denoiser, x0, sigmas, noise, threshold, refinements, flow.SCALING)
    return (1 - levels[0]) * states[0]


def paint(
    model: Velocity,
    x: Tensor,
    levels: Tensor,
    edited: Tensor,
    how: Inversion = "extrapolation",
    rescaling: Rescaling = "match",
) -> Tensor:
    """The edited clip's clean latents from those at `levels[0]`.

    model: on the edited first frame. edited: (1, 1, C, h, w), that frame's clean latents. how: as it was inverted.
    rescaling: of equation 8 (`videoshop.rescaled`), exact here: the first latent is of the first frame alone."""
    x = flow.midpoint(model, x, levels) if how == "midpoint" else flow.euler(model, x, levels)
    return videoshop.rescaled(x, edited[:, 0], Normalisation.of(x, "none"), rescaling)
