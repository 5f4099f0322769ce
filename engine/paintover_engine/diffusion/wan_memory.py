"""What a Wan model's work takes in memory, from the shapes alone, and how it is done in less.

The largest of these networks have 14 billion weights, 28 GB in bfloat16, and A14B has two of them. So one is on the
GPU at a time; where it does not fit, its blocks are brought one by one while the one before computes; and where
pictures are large, the VAE works in tiles.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from paintover_engine.diffusion import loading, memory, wan_decode
from paintover_engine.diffusion.memory import GB, RESERVE, Tier
from paintover_engine.diffusion.models import read_json, wan_layout
from paintover_engine.errors import Code, PaintoverError

TEXT_TOKENS = 512
"""Of a prompt: what Wan was trained on, and what its networks take for granted where they see a picture's tokens."""

_ONE = {"batched": False, "encode_frames": 1, "decode_frames": 1, "share": 0.0}

TIERS = (
    Tier("80 GB", offload=False, **_ONE),  # type: ignore[arg-type]
    Tier("48 GB", offload=True, **_ONE),  # type: ignore[arg-type]
    Tier("16 GB", offload=True, streamed=True, **_ONE),  # type: ignore[arg-type]
    Tier("8 GB", offload=True, streamed=True, tiled=True, **_ONE),  # type: ignore[arg-type]
)
"""From the quickest to the smallest, by the cards that the 14-billion networks work on in them: 81 frames of 832x480
in bfloat16."""

_COUNTED = 9
"""Frames that the VAE's work is counted on: it goes on like that, latent by latent."""


@dataclass(frozen=True)
class WanNeeds:
    """Bytes by part ("transformer", "transformer_2", "encoder", "decoder", "image_encoder"): weights, all of a part's;
    streamed, those on the device at once where blocks come one by one; work, what is alive at once while a part works;
    tiled, the same in tiles; memories, of clips whose decoding waits: in tiers that offload, they do it elsewhere."""

    weights: Mapping[str, int]
    streamed: Mapping[str, int]
    work: Mapping[str, int]
    tiled: Mapping[str, int]
    memories: int

    def peak(self, tier: Tier) -> int:
        """The most that a tier takes at any moment."""
        held = {**self.weights, **self.streamed} if tier.streamed else self.weights
        work = {**self.work, **self.tiled} if tier.tiled else dict(self.work)
        work["decoder"] += 0 if tier.offload else self.memories
        whole = sum(self.weights.values())
        return max((held[part] if tier.offload else whole) + int(RESERVE * work[part]) for part in self.weights)


def chosen(needs: WanNeeds, free: float | None, owner: str, window: tuple[int, int, int]) -> Tier:
    """The best tier that fits in `free` bytes, or the best of all where that is unknown.

    owner: whose memory it is, at the beginning of a sentence. window: frames, height and width. Raises PaintoverError
    with what is free and what would do, where nothing fits."""
    found = next((tier for tier in TIERS if free is None or needs.peak(tier) <= free), None)
    if found is None:
        frames, height, width = window
        raise PaintoverError(
            Code.RESOURCE_EXHAUSTED,
            f"{frames} frames of {width}x{height} take {needs.peak(TIERS[-1]) / GB:.1f} GB of "
            f"{owner.replace('The', 'the')} memory even in the smallest tier, and {(free or 0) / GB:.1f} GB are free; "
            "close other programs, or set a smaller working size.",
        )
    return found


def stream(network: Any, device: torch.device) -> None:
    """Has a transformer's blocks brought to a device one by one, each while the one before computes."""
    network.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
        low_cpu_mem_usage=device.type == "cuda",
    )


@functools.lru_cache(maxsize=8)
def needs(folder: Path, dtype: torch.dtype, frames: int, height: int, width: int) -> WanNeeds:
    """What a model takes for windows of `frames` pictures of that size, from its configurations alone."""
    layout = wan_layout(folder)
    weights: dict[str, int] = {}
    streamed: dict[str, int] = {}
    work: dict[str, int] = {}
    latents = (layout.channels, (frames - 1) // 4 + 1, height // layout.factor, width // layout.factor)
    for part in ("transformer", "transformer_2"):
        if part in layout.parts:
            network = _bare(WanVACETransformer3DModel if layout.layers else WanTransformer3DModel, folder, part, dtype)
            weights[part] = memory.weight_bytes(network)
            streamed[part] = _streamed(network)
            work[part] = _transformer_work(network, folder, dtype, latents)
    vae = _bare(AutoencoderKLWan, folder, "vae", torch.float32)
    weights["encoder"], weights["decoder"] = (memory.weight_bytes(module) for module in (vae.encoder, vae.decoder))
    clip = 12 * frames * height * width  # a clip of float32 pictures
    work["encoder"] = _encoder_work(vae, height, width) + 2 * clip
    work["decoder"], memories = _decoder_work(vae, height, width)
    tile = min(vae.tile_sample_min_height, height), min(vae.tile_sample_min_width, width)
    tiled: dict[str, int] = {}
    if tile < (height, width):
        tiled = {"encoder": _encoder_work(vae, *tile) + 2 * clip, "decoder": _tile_work(vae, *tile) + 2 * clip}
    if "image_encoder" in layout.parts:
        weights["image_encoder"], work["image_encoder"] = _image_encoder(folder, dtype)
    return WanNeeds(weights, streamed, work, tiled, (wan_decode.AT_ONCE - 1) * memories)


def _bare(kind: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """A network on tensors without contents."""
    with loading.quiet(), torch.device("meta"):
        network = kind.from_config(read_json(folder / part / "config.json"))
    network = network.to("meta").eval()
    exact = network._keep_in_fp32_modules or []
    for name, module in network.named_modules():
        if not any(part in name.split(".") for part in exact):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
    return network


def _streamed(network: Any) -> int:
    """Bytes of two of a network's blocks and of all that is no block."""
    blocks = [*network.blocks, *getattr(network, "vace_blocks", ())]
    sizes = sorted((memory.weight_bytes(block) for block in blocks), reverse=True)
    return memory.weight_bytes(network) - sum(sizes) + sum(sizes[:2])


def _transformer_work(network: Any, folder: Path, dtype: torch.dtype, latents: tuple[int, int, int, int]) -> int:
    config, layout = network.config, wan_layout(folder)

    def blank(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.empty((1, *shape), dtype=kind, device="meta")

    size = latents[1:]
    given: dict[str, Tensor] = {}
    if layout.layers:
        given = {
            "control_hidden_states": blank(layout.condition, *size),
            "control_hidden_states_scale": blank(len(layout.layers))[0],
        }
    if config.image_dim:
        given["encoder_hidden_states_image"] = blank(257, config.image_dim).repeat(layout.pictures, 1, 1)
    tokens = size[0] * (size[1] // layout.patch) * (size[2] // layout.patch)
    timestep = blank(tokens, kind=torch.float32) if layout.expanded else blank(kind=torch.float32)
    noisy, text = blank(config.in_channels, *size), blank(TEXT_TOKENS, layout.text)
    return memory.live_bytes(lambda: network(noisy, timestep, text, return_dict=False, **given))


def _encoder_work(vae: Any, height: int, width: int) -> int:
    """Of a clip of `_COUNTED` frames."""
    clip = torch.empty((1, 3, _COUNTED, height, width), device="meta")
    return memory.live_bytes(lambda: vae.encode(clip))


def _tile_work(vae: Any, height: int, width: int) -> int:
    """Of a clip that is decoded at once."""
    latents = _latents(vae, height, width)
    return memory.live_bytes(lambda: vae.decode(latents))


def _decoder_work(vae: Any, height: int, width: int) -> tuple[int, int]:
    """Of a clip that is decoded latent by latent, and of the memories in between."""
    latents = _latents(vae, height, width)
    memories = wan_decode.fresh(vae)

    def decode() -> None:
        for place in range(latents.shape[2]):
            wan_decode.pictures(vae, vae.post_quant_conv(latents)[:, :, place : place + 1], place, memories)

    return memory.live_bytes(decode), wan_decode.size(memories)


def _latents(vae: Any, height: int, width: int) -> Tensor:
    factor = vae.config.scale_factor_spatial
    shape = (1, vae.config.z_dim, (_COUNTED - 1) // 4 + 1, height // factor, width // factor)
    return torch.empty(shape, device="meta")


def _image_encoder(folder: Path, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes of its weights, and of its work on one picture."""
    config = CLIPVisionConfig.from_pretrained(folder / "image_encoder", local_files_only=True)
    with torch.device("meta"):
        encoder: torch.nn.Module = CLIPVisionModelWithProjection(config)
    encoder = encoder.to(dtype)
    side = int(str(config.image_size))
    pixels = torch.empty((1, 3, side, side), dtype=dtype, device="meta")
    return memory.weight_bytes(encoder), memory.live_bytes(lambda: encoder(pixels, output_hidden_states=True))
