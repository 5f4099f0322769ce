"""Statistics of latents: brought to a standard before an inversion, and back to an edited frame's after it (Fan et al.:
Videoshop, ECCV 2024, section 3.4). Latents are (1, F, C, h, w), scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Standard = Literal["channel", "frame", "none"]
Rescaling = Literal["match", "paper", "undo", "none"]

_TINY = 1e-6

MARGIN = 2
"""Latents around the matte that are taken as painted: an edit whose soft edge is cut off in every window pales."""


@dataclass(frozen=True)
class Normalisation:
    """x → (x - mean) / deviation; both broadcast over latents."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(latents: Tensor, standard: Standard) -> Normalisation:
        """channel: each channel over all frames, as the paper says, and centred. frame: each frame over all channels,
        as its code does, which also takes a fade's brightness away. none: nothing."""
        if standard == "none":
            one = latents.new_ones(1, 1, 1, 1, 1)
            return Normalisation(0 * one, one)
        axes = (1, 3, 4) if standard == "channel" else (2, 3, 4)
        return Normalisation(latents.mean(axes, keepdim=True), latents.std(axes, keepdim=True) + _TINY)

    def apply(self, latents: Tensor) -> Tensor:
        return (latents - self.mean) / self.deviation

    def undo(self, latents: Tensor) -> Tensor:
        return latents * self.deviation + self.mean

    def apply_to_condition(self, latent: Tensor, scale: float) -> Tensor:
        """The same for the unscaled latents (1, C, h, w) of the window's first picture."""
        first = Normalisation(self.mean[:, :1], self.deviation[:, :1])
        return first.apply(scale * latent[:, None])[:, 0] / scale


def standardised_condition(latent: Tensor, scale: float) -> Tensor:
    """Unscaled latents (1, C, h, w) by one mean and deviation of all, as Videoshop's code has them while inverting."""
    return (latent - latent.mean()) / (latent.std() + _TINY) / scale


def rescaled(latents: Tensor, first: Tensor, normalisation: Normalisation, how: Rescaling) -> Tensor:
    """Denoised latents back in the range that the VAE knows.

    first: (1, C, h, w), clean scaled latents of the edited frame. how: match: each channel by the map that gives the
    first frame the mean and deviation of `first` (the paper's code). paper: eq. 8 as printed, whose mean lies inside
    the scaling. undo: the normalisation undone. none: as they are (the paper's ablation)."""
    if how == "none":
        return latents
    if how == "undo":
        return normalisation.undo(latents)
    start = latents[:, :1]
    mean, deviation = start.mean((3, 4), keepdim=True), start.std((3, 4), keepdim=True)
    wanted = first[:, None].mean((3, 4), keepdim=True)
    gain = (first[:, None].std((3, 4), keepdim=True) + _TINY) / (deviation + _TINY)
    if how == "paper":
        return gain * (latents - mean + wanted)
    return gain * (latents - mean) + wanted


def anchored(painted: Tensor, plate: Tensor, matte: Tensor) -> Tensor:
    """A painted frame's latents where the matte reaches, the plate's elsewhere: blended latent diffusion's way to leave
    the background alone (Avrahami, Fried, Lischinski: Blended Latent Diffusion, SIGGRAPH 2023).

    painted, plate: (1, C, h, w). matte: (1, 1, H, W) 0..1, of the model's picture; a latent counts as much as the most
    painted pixel within `MARGIN` latents of it."""
    factor = matte.shape[-1] // painted.shape[-1]
    share = torch.nn.functional.max_pool2d(matte, factor)
    share = torch.nn.functional.max_pool2d(share, 2 * MARGIN + 1, 1, MARGIN)
    return plate + share * (painted - plate)
