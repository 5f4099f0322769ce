"""Wan's decoder, latent by latent: causal in time, so that a clip's first frames are there before its last ones.

Each of its convolutions remembers the last frames that it saw. What `AutoencoderKLWan.decode` does in one loop over a
clip's latents is done here one latent at a time, with these memories held in between: the same operations on the same
tensors, so the same pictures, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from torch import Tensor

AT_ONCE = 2
"""Clips whose decoding may be interrupted and go on: the edited one and its source."""

Memories = list[Any]
"""What each causal convolution of a decoder saw last, in its order."""


def fresh(vae: Any) -> Memories:
    """The memories before a clip's first latent. vae: an `AutoencoderKLWan`."""
    return [None] * sum(isinstance(module, WanCausalConv3d) for module in vae.decoder.modules())


def pictures(vae: Any, z: Tensor, place: int, memories: Memories) -> Tensor:
    """The pictures (1, 3, 1 or 4, H, W) in -1..1 of a clip's latent number `place`.

    z: (1, C, 1, h, w), unscaled and after `vae.post_quant_conv`. memories: after the latent before; those after this
    one take their place."""
    decoded = vae.decoder(z, feat_cache=memories, feat_idx=[0], first_chunk=place == 0)
    if vae.config.patch_size is not None:
        decoded = unpatchify(decoded, patch_size=vae.config.patch_size)  # type: ignore[no-untyped-call]
    return torch.clamp(decoded, min=-1.0, max=1.0)


def moved(memories: Memories, device: torch.device) -> Memories:
    """Memories on a device."""
    return [each.to(device) if isinstance(each, Tensor) else each for each in memories]


def size(memories: Memories) -> int:
    """Bytes of memories."""
    return sum(each.nbytes for each in memories if isinstance(each, Tensor))


@dataclass
class Decoding:
    """How far a clip is decoded. place: of the latent that comes next. memories: after the one before; None where they
    were lost, as memory ran out. whole: all of its pictures (F, 3, H, W), on the CPU, where they are decoded in tiles:
    one tile after another, so at once."""

    place: int = 0
    memories: Memories | None = None
    whole: Tensor | None = field(default=None, repr=False)
