"""VACE from the draft: a clip repainted inside a mask, around what is known, from an estimate of it.

Jiang et al.: VACE: All-in-One Video Creation and Editing, ICCV 2025, whose mask and video these are. They leave what
is to be painted grey, which loses its motion; here the draft's result stands there, and its latents, noised to a
level, are what the painting starts from (Meng et al.: SDEdit, ICLR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from paintover_engine.diffusion import flow, videoshop
from paintover_engine.diffusion.flow import Velocity
from paintover_engine.diffusion.videoshop import Normalisation


def paint(
    model: Velocity,
    start: Tensor,
    levels: Tensor,
    noise: torch.Generator,
    first: Tensor,
    references: Tensor | None = None,
) -> Tensor:
    """The painted clip's clean latents (1, T, C, h, w).

    model: on VACE's control. start: the estimate's latents. levels: descending to 0; from 1 on, nothing of the estimate
    is left. first: (1, 1, C, h, w), the first frame's clean latents as they are known. references: (1, R, C, h, w),
    those of the control's further pictures, which come before the clip's.

    The range of each channel is put back to the known frame's (`videoshop.rescaled`): these models redden what they
    paint (ali-vilab/VACE, issues 44, 93, 99)."""
    clean = start if references is None else torch.cat([references, start], dim=1)
    n = torch.randn(clean.shape, generator=noise).to(clean)
    x = flow.euler(model, flow.noised(clean, levels[0], n), levels)
    x = x[:, clean.shape[1] - start.shape[1] :]
    return videoshop.rescaled(x, first[:, 0], Normalisation.of(x, "none"), "match")


def pixel_mask(matte: Tensor, factor: int) -> Tensor:
    """(F, 1, H, W) of 0 and 1, what is to be painted: where the latent matte (1, T, 1, h, w) is at least half, in a
    latent or the one before or after. The four frames of a latent share it. A mask that stood in one of them alone
    would vanish, and what is seen of a latent may be the next one's frame (`wan.folded`)."""
    hard = (matte[0] >= 0.5).float()
    hard = torch.nn.functional.max_pool3d(hard.transpose(0, 1)[None], (3, 1, 1), 1, (1, 0, 0))[0].transpose(0, 1)
    whole = hard.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return torch.cat([whole[:1], whole[1:].repeat_interleave(4, 0)])
