"""Blending of latents: the edit inside a matte, the plate around it."""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 2
"""Latents around the matte that count as edited: an edit whose soft edge is cut off in every window pales."""


def anchored(edited: Tensor, plate: Tensor, matte: Tensor) -> Tensor:
    """The edited frame's latents (1, C, h, w) float32 where the matte reaches, the plate's elsewhere, so that the
    background cannot drift (Avrahami, Fried, Lischinski: Blended Latent Diffusion, SIGGRAPH 2023).

    edited, plate: (1, C, h, w). matte: (1, 1, H, W) in 0..1, at the resolution of the model's picture; the share of a
    latent is the matte's maximum within `MARGIN` latents of it."""
    factor = matte.shape[-1] // edited.shape[-1]
    share = torch.nn.functional.max_pool2d(matte, factor)
    share = torch.nn.functional.max_pool2d(share, 2 * MARGIN + 1, 1, MARGIN)
    return plate + share * (edited - plate)
