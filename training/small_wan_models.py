"""The networks of the small Wan model: Wan's own classes, made small, and its folder.

The layout is 2.2's image-to-video one, without an image encoder and with one transformer: 36 channels, of which 4 say
that the first frame is given and 16 are its latents in a grey clip. It knows no words: prompts are zeros.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from checkpoints import load_part
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from torch import Tensor, nn

FRAMES, SIZE = 17, 48
CHANNELS, FACTOR, TEXT, SHIFT = 16, 4, 16, 3.0
LATENT_FRAMES, LATENT_SIZE = (FRAMES - 1) // 4 + 1, SIZE // FACTOR


def build_vae() -> AutoencoderKLWan:
    """4 pixels and 4 frames a latent of 16 channels."""
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=CHANNELS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        scale_factor_spatial=FACTOR,
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    )


def build_transformer() -> WanTransformer3DModel:
    """6 layers of 192."""
    return WanTransformer3DModel(
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=2 * CHANNELS + 4,
        out_channels=CHANNELS,
        text_dim=TEXT,
        freq_dim=64,
        ffn_dim=768,
        num_layers=6,
        rope_max_seq_len=64,
    )


class Statistics(nn.Module):
    """Mean and deviation of each channel of the VAE's latents, (C,)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("deviation", torch.ones(CHANNELS))

    def measure(self, latents: Tensor) -> None:
        """From latents (N, C, T, h, w)."""
        self.mean.copy_(latents.mean((0, 2, 3, 4)))
        self.deviation.copy_(latents.std((0, 2, 3, 4)))

    def forward(self, latents: Tensor) -> Tensor:
        """Normalised latents (N, C, T, h, w), as `WanModel.encode` has them."""
        shape = (1, -1, 1, 1, 1)
        return (latents - self.mean.view(shape)) / self.deviation.view(shape)


def given_mask(batch: int) -> Tensor:
    """(B, 4, T, h, w): 1 where the first frame is given."""
    mask = torch.zeros(batch, 4, LATENT_FRAMES, LATENT_SIZE, LATENT_SIZE)
    mask[:, :, 0] = 1
    return mask


def export(run: Path, folder: Path) -> None:
    """The model as a diffusers folder, in half precision, from a run's checkpoints."""
    vae, transformer, statistics = build_vae(), build_transformer(), Statistics()
    vae.load_state_dict(load_part(run / "vae.safetensors", "mean"))
    statistics.load_state_dict(load_part(run / "vae.safetensors", "statistics"))
    transformer.load_state_dict(load_part(run / "flow.safetensors", "mean"))
    vae.register_to_config(latents_mean=statistics.mean.tolist(), latents_std=statistics.deviation.tolist())
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    for name, part in (("vae", vae.half()), ("transformer", transformer.half()), ("scheduler", scheduler)):
        part.save_pretrained(folder / name)
    index = {
        "_class_name": "WanImageToVideoPipeline",
        "vae": ["diffusers", "AutoencoderKLWan"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        **{part: [None, None] for part in ("text_encoder", "tokenizer", "image_encoder", "transformer_2")},
        "boundary_ratio": None,
        "expand_timesteps": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    (folder / "paintover.json").write_text(json.dumps({"frames": FRAMES, "size": [SIZE, SIZE]}), encoding="utf-8")
