"""Folders of Wan's true layouts with random weights, small enough to run in every test.

i2v:  2.1 image-to-video, with an image encoder
flf2v: 2.1 FLF2V, whose image encoder looks at the first and the last frame
a14b: 2.2 image-to-video, two transformers with their boundary
ti2v: 2.2 TI2V-5B, whose first frame is given as clean latents; a VAE of patches
vace: 2.1 VACE
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LAYOUTS = ("i2v", "a14b", "ti2v", "vace")
IMAGE_TO_VIDEO = LAYOUTS[:3]
FRAMES, SIZE = 9, (64, 32)
CHANNELS, TEXT_WIDTH, SHIFT = 16, 16, 3.0
IMAGE_TOKENS = 16**2 + 1
"""Of a picture, as CLIP's ViT-H has them, which Wan takes for granted."""


def transformer(layout: str) -> Any:
    import diffusers

    common = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "text_dim": TEXT_WIDTH,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
        "rope_max_seq_len": 32,
        "out_channels": CHANNELS,
    }
    if layout == "vace":
        return diffusers.WanVACETransformer3DModel(
            **common, in_channels=CHANNELS, vace_layers=[0], vace_in_channels=2 * CHANNELS + 64
        )
    if layout == "ti2v":
        return diffusers.WanTransformer3DModel(**common, in_channels=CHANNELS)
    seen: dict[str, int] = {"image_dim": 4, "added_kv_proj_dim": 24} if layout in ("i2v", "flf2v") else {}
    if layout == "flf2v":
        seen["pos_embed_seq_len"] = 2 * IMAGE_TOKENS
    return diffusers.WanTransformer3DModel(**common, in_channels=2 * CHANNELS + 4, **seen)


def vae(layout: str) -> Any:
    import diffusers

    shared = {"base_dim": 3, "z_dim": CHANNELS, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    if layout == "ti2v":
        return diffusers.AutoencoderKLWan(
            **{**shared, "base_dim": 4},
            decoder_base_dim=4,
            is_residual=True,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=16,
        )
    return diffusers.AutoencoderKLWan(**shared)


def image_encoder() -> Any:
    import transformers

    return transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=4,
            projection_dim=4,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            intermediate_size=16,
            patch_size=2,
        )
    )


def pipeline(layout: str, euler: bool = True, seed: int = 3) -> Any:
    """diffusers' own pipeline. euler: with Euler's schedule, else with the one that true folders have."""
    import diffusers
    import torch
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    scheduler = (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=SHIFT)
        if euler
        else diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=SHIFT
        )
    )
    parts: dict[str, Any] = {
        "tokenizer": None,
        "text_encoder": None,
        "vae": vae(layout).eval(),
        "scheduler": scheduler,
        "transformer": transformer(layout).eval(),
    }
    if layout == "vace":
        return diffusers.WanVACEPipeline(**parts)
    if layout in ("i2v", "flf2v"):
        parts["image_encoder"] = image_encoder().eval()
        parts["image_processor"] = CLIPImageProcessorPil(crop_size=32, size=32)
    if layout == "a14b":
        parts |= {"transformer_2": transformer(layout).eval(), "boundary_ratio": 0.9}
    return diffusers.WanImageToVideoPipeline(**parts, expand_timesteps=layout == "ti2v")


def save(layout: str, folder: Path, **how: Any) -> Path:
    """A folder of a layout. how: as `save_pretrained` takes it, as `variant="fp16"` and `max_shard_size="20KB"`."""
    pipeline(layout, euler=False).save_pretrained(folder, **how)
    settings = {"frames": FRAMES, "size": SIZE}
    (folder / "paintover.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
