"""Stable Video Diffusion's UNet computed for training on a CPU, several times quicker than by its own `forward`: the
same modules and weights, the same result to rounding.

What differs is the order of the numbers alone: activations stay (batch, frames, points, channels) throughout, so that
a spatial and a temporal convolution are both one of two dimensions over channels that lie last, every projection is one
matrix product, and no block turns them around. And attention to a condition of one token, whose weights are all 1, is
its value.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

torch._dynamo.config.recompile_limit = 64  # one for each number of channels
GROUPS = 32
"""Of every norm."""

Block = Any
"""A module of diffusers, whose classes are not exported with types."""


def forward(unet: Block, model_input: Tensor, time: Tensor, token: Tensor, ids: Tensor) -> Tensor:
    """What `unet(model_input, time, token, ids)` returns, (B, F, 4, h, w).

    model_input: (B, F, 8, h, w), square. time: (B,). token: (B, 1, width), one token. ids: (B, 3). All are cast to the
    weights' dtype."""
    dtype = unet.conv_in.weight.dtype
    x = model_input.to(dtype).movedim(2, -1).flatten(2, 3)
    given = F.silu(_embedding(unet, time, ids, dtype)), token[:, 0].to(dtype)
    x = _convolve(unet.conv_in, x)
    skips = [x]
    for block in unet.down_blocks:
        for resnet, attention in zip(block.resnets, block.attentions, strict=True):
            x = _transform(attention, _residual(resnet, x, given[0]), given[1])
            skips.append(x)
        for sampler in block.downsamplers or ():
            x = _convolve(sampler.conv, x)
            skips.append(x)
    middle = unet.mid_block
    x = _residual(middle.resnets[0], x, given[0])
    for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
        x = _residual(resnet, _transform(attention, x, given[1]), given[0])
    for block in unet.up_blocks:
        for resnet, attention in zip(block.resnets, block.attentions, strict=True):
            x = _residual(resnet, torch.cat([x, skips.pop()], -1), given[0])
            x = _transform(attention, x, given[1])
        for sampler in block.upsamplers or ():
            x = _convolve(sampler.conv, _doubled(x))
    x = _frame_norm(unet.conv_norm_out, x, silu=True)
    return _square(_convolve(unet.conv_out, x)).movedim(-1, 2)


def _embedding(unet: Block, time: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, width) of the noise level and the added ids."""
    level: Tensor = unet.time_embedding(unet.time_proj(time).to(dtype))
    added = unet.add_time_proj(ids.flatten()).reshape(len(ids), -1).to(dtype)
    return level + unet.add_embedding(added)


def _square(x: Tensor) -> Tensor:
    """(B, F, h, w, C) of (B, F, h·w, C)."""
    side = round(x.shape[2] ** 0.5)
    return x.unflatten(2, (side, side))


def _convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A spatial convolution of (B, F, h·w, C)."""
    pictures = _square(x).flatten(0, 1).movedim(-1, 1)
    out = F.conv2d(pictures, layer.weight, layer.bias, layer.stride, layer.padding)
    return out.movedim(1, -1).flatten(1, 2).unflatten(0, x.shape[:2])


def _along(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """A temporal convolution, 3x1x1, of (B, F, P, C)."""
    return F.conv2d(x.movedim(-1, 1), layer.weight[..., 0], layer.bias, padding=(1, 0)).movedim(1, -1)


def _doubled(x: Tensor) -> Tensor:
    """Nearest neighbour, twice as high and wide."""
    return _square(x).repeat_interleave(2, 2).repeat_interleave(2, 3).flatten(2, 3)


def _frame_norm(norm: nn.GroupNorm, x: Tensor, silu: bool = False) -> Tensor:
    """Groups of channels of each frame of (B, F, P, C)."""
    out: Tensor = _GroupNorm.apply(x.flatten(0, 1), norm.weight, norm.bias, norm.eps, silu)
    return out.reshape(x.shape)


def _clip_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Groups of channels over all frames of (B, F, P, C), and SiLU."""
    out: Tensor = _GroupNorm.apply(x.flatten(1, 2), norm.weight, norm.bias, norm.eps, True)
    return out.reshape(x.shape)


class _GroupNorm(torch.autograd.Function):
    """A norm of 32 groups of channels of (n, m, C), and SiLU; in two passes over memory forward and two back, where
    PyTorch's own takes six times as long for bfloat16 with channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, silu: bool) -> Tensor:
        out, mean, deviation = _normed(x, weight, bias, eps, silu)
        ctx.save_for_backward(x, weight, bias, mean, deviation)
        ctx.silu = silu
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*_normed_backward(gradients[0], *ctx.saved_tensors, ctx.silu), None, None)


@torch.compile(dynamic=True)
def _normed(x: Tensor, weight: Tensor, bias: Tensor, eps: float, silu: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and mean and inverse deviation (n, C), each channel's its group's."""
    wide = x.float()
    count = x.shape[1] * x.shape[2] // GROUPS
    mean = _grouped(wide.sum(1)) / count
    rate = (_grouped(wide.square().sum(1)) / count - mean.square() + eps).rsqrt()
    scale = rate * weight
    z = wide * scale[:, None] + (bias - mean * scale)[:, None]
    return (z * z.sigmoid() if silu else z).to(x.dtype), mean, rate


@torch.compile(dynamic=True)
def _normed_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rate: Tensor, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    wide, g = x.float(), gradient.float()
    count = x.shape[1] * x.shape[2] // GROUPS
    scale = rate * weight
    if silu:
        z = wide * scale[:, None] + (bias - mean * scale)[:, None]
        s = z.sigmoid()
        g = g * s * (1 + z * (1 - s))
    total = g.sum(1)
    along = ((g * wide).sum(1) - mean * total) * rate
    slope = _grouped(weight * along) / count * rate.square()
    shift = _grouped(weight * total) / count * rate - slope * mean
    out = g * scale[:, None] - wide * slope[:, None] - shift[:, None]
    return out.to(x.dtype), along.sum(0).to(weight.dtype), total.sum(0).to(bias.dtype)


def _grouped(values: Tensor) -> Tensor:
    """(n, C): each channel's value the sum over its group."""
    groups = values.unflatten(1, (GROUPS, -1))
    return groups.sum(2, keepdim=True).expand_as(groups).flatten(1)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _mixed(mixer: Block, spatial: Tensor, temporal: Tensor) -> Tensor:
    return torch.lerp(temporal, spatial, mixer.mix_factor.sigmoid())


def _residual(block: Block, x: Tensor, embedding: Tensor) -> Tensor:
    """`SpatioTemporalResBlock`. embedding: (B, width), after its SiLU."""
    spatial, temporal = block.spatial_res_block, block.temporal_res_block
    y = _convolve(spatial.conv1, _frame_norm(spatial.norm1, x, silu=True))
    y = y + _linear(spatial.time_emb_proj, embedding)[:, None, None]
    y = _convolve(spatial.conv2, _frame_norm(spatial.norm2, y, silu=True))
    if spatial.conv_shortcut is not None:
        x = F.linear(x, spatial.conv_shortcut.weight[:, :, 0, 0], spatial.conv_shortcut.bias)
    x = x + y
    y = _along(temporal.conv1, _clip_norm(temporal.norm1, x))
    y = y + _linear(temporal.time_emb_proj, embedding)[:, None, None]
    y = _along(temporal.conv2, _clip_norm(temporal.norm2, y))
    return _mixed(block.time_mixer, x, x + y)


def _transform(block: Block, x: Tensor, token: Tensor) -> Tensor:
    """`TransformerSpatioTemporalModel`. token: (B, width)."""
    spatial, temporal = block.transformer_blocks[0], block.temporal_transformer_blocks[0]
    y = _linear(block.proj_in, _frame_norm(block.norm, x))
    y = y + _attend(spatial.attn1, _layer_norm(spatial.norm1, y))
    y = y + _value(spatial.attn2, token)
    y = y + _feed(spatial.ff, _layer_norm(spatial.norm3, y))
    frames = block.time_proj(torch.arange(x.shape[1])).to(x.dtype)
    z = y + block.time_pos_embed(frames)[:, None]
    z = z + _feed(temporal.ff_in, _layer_norm(temporal.norm_in, z))
    z = z + _attend(temporal.attn1, _layer_norm(temporal.norm1, z), over_frames=True)
    z = z + _value(temporal.attn2, token)
    z = z + _feed(temporal.ff, _layer_norm(temporal.norm3, z))
    return x + _linear(block.proj_out, _mixed(block.time_mixer, y, z))


def _layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _feed(block: Block, x: Tensor) -> Tensor:
    """A GEGLU feed-forward."""
    layer = block.net[0].proj
    half = len(layer.bias) // 2  # apart, so that no gradients have to be joined
    signal = F.linear(x, layer.weight[:half], layer.bias[:half])
    gate = F.linear(x, layer.weight[half:], layer.bias[half:])
    return _linear(block.net[2], _gated(signal.flatten(), gate.flatten()).reshape(signal.shape))


@torch.compile(dynamic=True)
def _gated(signal: Tensor, gate: Tensor) -> Tensor:
    return signal * F.gelu(gate)


@torch.compile(dynamic=True)
def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1)


def _attend(attention: Block, x: Tensor, over_frames: bool = False) -> Tensor:
    """Self-attention of (B, F, P, C), among the points of a frame or the frames of a point."""
    weight = torch.cat([attention.to_q.weight * attention.scale, attention.to_k.weight, attention.to_v.weight])
    joined = F.linear(x, weight).unflatten(-1, (3, attention.heads, -1))  # (B, F, P, 3, heads, d)
    if over_frames:
        joined = joined.transpose(1, 2)
    q, k, v = joined.permute(3, 0, 1, 4, 2, 5).flatten(1, 3).contiguous()  # (groups, n, d) each
    out = _softmax(q @ k.transpose(1, 2)) @ v
    out = out.unflatten(0, (*joined.shape[:2], -1)).transpose(2, 3).flatten(-2)
    if over_frames:
        out = out.transpose(1, 2)
    return _linear(attention.to_out[0], out)


def _value(attention: Block, token: Tensor) -> Tensor:
    """Attention to one token (B, width): the same for every query, (B, 1, 1, C)."""
    return _linear(attention.to_out[0], F.linear(token, attention.to_v.weight))[:, None, None]
