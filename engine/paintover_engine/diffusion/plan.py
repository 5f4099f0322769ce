"""What I2VEdit takes in memory and on disk, from shapes alone.

Denoising is counted from one item's work (`svd.VideoModel.needs`): a step has three items at once, and the first
window's keys and values where later windows attend to it. Training runs once on meta tensors, with its adapters and its
backward pass.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from paintover_engine.diffusion import lora, memory
from paintover_engine.diffusion.matching import attention_blocks, halvings
from paintover_engine.diffusion.memory import GB, RESERVE, TIERS, Needs, Tier
from paintover_engine.diffusion.models import read_json
from paintover_engine.diffusion.svd import bare_needs, fold_cross_attention

CHECKPOINT = 6
"""Bytes of a training's checkpoint for each weight: the weight and two moments, in half precision."""

BASE = int(0.6 * GB)
"""What a program takes of a GPU before its first tensor."""


@dataclass(frozen=True)
class Shape:
    """frames: of a window. grid, trained: (rows, columns) of its latents, and of those it is trained on. rank,
    placement: of the motion adapter; rank 0: none. matches, follows: with attention matching, with skip-interval
    attention."""

    frames: int
    grid: tuple[int, int]
    trained: tuple[int, int]
    rank: int
    placement: lora.Placement
    matches: bool
    follows: bool


def requirements(
    folder: Path, shape: Shape, *, steps: int, size: tuple[int, int], picture: tuple[int, int]
) -> dict[str, Any]:
    """Of one window with a model in bfloat16: `tiers`, bytes of GPU memory at most by the tier's name; `files`, bytes
    on disk by kind; `checkpoint`, bytes of its training's.

    steps: noise levels. size, picture: (width, height) of the model's pictures and of the plate."""
    dtype = torch.bfloat16
    needs = with_image_encoder(bare_needs(folder, dtype, shape.frames, size[1], size[0]), folder, dtype)
    return {
        "tiers": peaks(folder, dtype, needs, shape),
        "files": dict(files(folder, shape, steps=steps, dtype=dtype, picture=picture)),
        "checkpoint": CHECKPOINT * (adapter_weights(folder, shape.rank, shape.placement) if shape.rank else 0),
    }


def peaks(folder: Path, dtype: torch.dtype, needs: Needs, shape: Shape) -> dict[str, int]:
    """The most bytes of GPU memory that each tier takes at any moment, by the tier's name.

    needs: of the model for one such window and one item."""
    return {tier.name: BASE + _peak(folder, dtype, needs, shape, tier) for tier in TIERS}


def _peak(folder: Path, dtype: torch.dtype, needs: Needs, shape: Shape, tier: Tier) -> int:
    weights = needs.weights["unet"] if tier.offload else sum(needs.weights.values())
    adapters = adapter_weights(folder, shape.rank, shape.placement) if shape.rank else 0
    whole = tier.batched and not (shape.follows and tier.offload)
    items = 2 + shape.matches if whole else 1 + shape.matches
    recorded = items * _keys_and_values(folder, dtype, shape) if shape.follows else 0
    painting = items * needs.work["unet"] + recorded + 4 * adapters * (1 + shape.follows)
    training = _training(folder, dtype, shape, tier is not TIERS[0]) if shape.rank else 0
    return max(needs.peak(tier), weights + int(RESERVE * max(painting, training)))


def files(folder: Path, shape: Shape, *, steps: int, dtype: torch.dtype, picture: tuple[int, int]) -> Mapping[str, int]:
    """Bytes on disk of one window's files by kind, for an edit of the whole frame: the most that there is.

    steps: noise levels. dtype: what the model computes in. picture: width and height of the plate. Beside these lies,
    while the window is trained and nothing is painted yet, a checkpoint of `CHECKPOINT` bytes a weight instead of the
    adapter."""
    channels = int(_unet(folder, dtype).config.out_channels)
    latents = 4 * shape.frames * channels * shape.grid[0] * shape.grid[1]
    adapters = adapter_weights(folder, shape.rank, shape.placement) if shape.rank else 0
    return {
        "source and edited latents": 2 * latents,
        "source at every noise level": steps * latents * dtype.itemsize // 4 + latents,
        "motion adapter": 2 * adapters,
        "painted frames": (shape.frames - 1) * 8 * picture[0] * picture[1],
    }


def with_image_encoder(needs: Needs, folder: Path, dtype: torch.dtype) -> Needs:
    """The same with the weights of the model's image encoder."""
    config = CLIPVisionConfig.from_pretrained(folder / "image_encoder", local_files_only=True)
    with torch.device("meta"):
        encoder = CLIPVisionModelWithProjection(config)
    size = sum(weight.numel() for weight in encoder.parameters()) * dtype.itemsize
    return Needs({**needs.weights, "image_encoder": size}, needs.work)


def adapter_weights(folder: Path, rank: int, placement: lora.Placement) -> int:
    """Weights of a motion adapter."""
    unet = _unet(folder, torch.float32)
    linears: list[Any] = [unet.get_submodule(name) for name in lora.layers(unet, placement)]
    return rank * sum(int(linear.in_features + linear.out_features) for linear in linears)


def _keys_and_values(folder: Path, dtype: torch.dtype, shape: Shape) -> int:
    """Bytes of the temporal keys and values of one item in all layers."""
    unet = _unet(folder, dtype)
    total = 0
    for name in attention_blocks(unet):
        times = halvings(unet, name)
        pixels = (shape.grid[0] >> times) * (shape.grid[1] >> times)
        total += 2 * pixels * shape.frames * unet.get_submodule(name).in_channels * dtype.itemsize
    return total


@functools.lru_cache(maxsize=8)
def _training(folder: Path, dtype: torch.dtype, shape: Shape, checkpointed: bool) -> int:
    """Bytes alive in one training step: the optimiser's state and gradients, activations, or their recomputation."""
    unet = _unet(folder, dtype)
    rows, columns = shape.trained
    blank = functools.partial(torch.empty, device="meta")
    inputs = (
        blank((1, shape.frames, unet.config.in_channels, rows, columns), dtype=dtype),
        blank(1),
        blank((1, 1, unet.config.cross_attention_dim), dtype=dtype),
        blank((1, 3), dtype=dtype),
    )

    def step() -> None:
        with torch.enable_grad():
            unet(*inputs, return_dict=False)[0].float().mean().backward()

    for name in attention_blocks(unet):
        module = unet.get_submodule(name)
        for block in (*module.transformer_blocks, *module.temporal_transformer_blocks):
            block.attn1.set_processor(_product)
    with lora.Adapters(unet, shape.rank, shape.placement) as adapters:
        adapters.add("window")
        adapters.act({"window": [1.0]})
        weights = sum(weight.numel() for weight in adapters.train("window"))
        if checkpointed:
            unet.enable_gradient_checkpointing()
        alive = memory.live_bytes(step) + 12 * weights
    return alive + (_keys_and_values(folder, dtype, shape) * rows * columns // (shape.grid[0] * shape.grid[1])
                    if shape.follows else 0)  # fmt: skip


def _product(attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """In place of fused attention: holds as many tensors of the same shapes for the backward pass, and no map."""
    product: Tensor = attn.to_q(hidden_states) * attn.to_k(hidden_states) * attn.to_v(hidden_states)
    output: Tensor = attn.to_out[0](product)
    return output


def _unet(folder: Path, dtype: torch.dtype) -> Any:
    """The model's network on tensors without contents."""
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel.from_config(read_json(folder / "unet" / "config.json"))  # type: ignore[no-untyped-call]
    unet = unet.to("meta", dtype).requires_grad_(False)
    fold_cross_attention(unet)
    return unet
