"""Fine-grained attention matching and skip-interval attention: attention processors of a video UNet.

I2VEdit (Ouyang et al., SIGGRAPH Asia 2024): attention matching and skip-interval cross-attention.
The source is an item of the same batch as the edit, so that each layer has its queries and keys at hand when the edit
needs them. The first window's temporal keys and values come from a call of the network on that window just before.

Spatial self-attention of the edit (`match`), M its mask, one number a query:

    (1 - M) Attn(Q_s, K_s, V_e) + M Attn(Q_e, K_e, V_e)

Temporal self-attention, by the denoising step: Attn(Q_s, K_s, V_e) in all layers, then in the coarse ones, then none.
With skip-interval attention, K and V are [K_1; K] and [V_1; V], the first window's before the window's own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from paintover_engine.diffusion import accelerators
from paintover_engine.diffusion.attention import THRESHOLD, Matched, Video, match_tiled
from paintover_engine.diffusion.memory import first_line

log = logging.getLogger(__name__)

Coarse = Literal["quarter", "reference"]


Replaced = Literal["all", "coarse", "none"]
"""In which layers the edit takes the source's temporal attention maps."""


@dataclass
class AttentionControl:
    """What the self-attention layers do in the next call of the network; set between calls.

    items: of the batch. edited, source: places in the batch of the item that is held, and of the one that it is held
    to; None: no matching. threshold: of M. temporal: where the source's temporal maps are taken. record: record this
    call's temporal keys and values. attend_recorded: prepend those recorded. recorded: (keys, values), (items, rows,
    heads, frames, d) each, by the name of the layer."""

    items: int = 1
    edited: int | None = None
    source: int | None = None
    threshold: float = THRESHOLD
    temporal: Replaced = "none"
    record: bool = False
    attend_recorded: bool = False
    recorded: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def clear(self) -> None:
        """Frees the recorded keys and values."""
        self.recorded.clear()


def replaced_maps(step: int, steps: int, bounds: tuple[float, float]) -> Replaced:
    """Where denoising step `step` (0: the noisiest) of `steps` takes the source's temporal maps: in all layers up to
    the first bound, in the coarse ones up to the second (I2VEdit). bounds: shares of the steps."""
    if step < int(bounds[0] * steps):
        return "all"
    return "coarse" if step < int(bounds[1] * steps) else "none"


def attention_blocks(unet: torch.nn.Module) -> list[str]:
    """The names of the modules that hold one spatial and one temporal block each, in the order they run."""
    places = [name for name, module in unet.named_modules() if hasattr(module, "temporal_transformer_blocks")]
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    return sorted(
        places, key=lambda name: (order[name.split(".")[0]], [int(p) for p in name.split(".") if p.isdigit()])
    )


def halvings(unet: Any, name: str) -> int:
    """How often the latents' grid is halved to get that of the block `name`."""
    depth = len(unet.config.block_out_channels) - 1
    part, index = name.split(".")[:2]
    if part == "mid_block":
        return depth
    return int(index) if part == "down_blocks" else depth - int(index)


def coarse_blocks(unet: Any, rule: Coarse = "quarter") -> list[str]:
    """The names of the attention blocks on a grid of at most a quarter of the latents' side (I2VEdit), or, in a
    network of fewer levels, on its coarsest. rule: "reference" leaves out the last of them going up, as the published
    code does."""
    blocks = attention_blocks(unet)
    limit = min(2, max(halvings(unet, name) for name in blocks))
    coarse = [name for name in blocks if halvings(unet, name) >= limit]
    return coarse[:-1] if rule == "reference" and coarse[-1].startswith("up_blocks") else coarse


@contextlib.contextmanager
def controlled(unet: Any, control: AttentionControl, rule: Coarse = "quarter") -> Iterator[None]:
    """Self-attention of a UNet by `control` until the block ends; then the processors that were there."""
    coarse = set(coarse_blocks(unet, rule))
    processors = {}
    for name in attention_blocks(unet):
        module = unet.get_submodule(name)
        for block in module.transformer_blocks:
            processors[block.attn1] = block.attn1.processor
            block.attn1.set_processor(SpatialAttention(control))
        for number, block in enumerate(module.temporal_transformer_blocks):
            processors[block.attn1] = block.attn1.processor
            block.attn1.set_processor(TemporalAttention(control, f"{name}.{number}", name in coarse))
    try:
        yield
    finally:
        control.clear()
        for attention, processor in processors.items():
            attention.set_processor(processor)


def match(edited: Video, source: Video, threshold: float = THRESHOLD) -> Matched:
    """The matched attention of two videos (`attention`), by the quickest implementation for the tensors' device.

    Scores and distances are float32 whatever the tensors' dtype: half-precision scores move M across the threshold,
    where it jumps."""
    global _unfused
    if edited.query.is_cuda and accelerators.of(edited.query.device).fused and not _unfused:
        try:
            from paintover_engine.diffusion.attention_triton import match_fused

            return match_fused(edited, source, threshold)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:  # Triton's own, the compiler's, the linker's, the driver's
            _unfused = first_line(error)
            log.warning(
                "The fused attention kernels cannot be built or launched here (%s); going on without.", _unfused
            )
    return match_tiled(edited, source, threshold)


_unfused = ""
"""Why this process does without the fused kernels."""


def build(width: int, dtype: torch.dtype, device: torch.device) -> str:
    """Builds the fused kernels for heads of that width by matching two small videos, so that no edit waits for it. Why
    they cannot be had; empty where they can."""
    if device.type != "cuda" or not accelerators.of(device).fused:
        return "the fused kernels are for NVIDIA's GPUs"
    small = torch.zeros((2, 1, 2, 64, width), dtype=dtype, device=device)  # 64 as true numbers of tokens: 16 divides it
    edited, source = (Video(query, query, query) for query in small)
    match(edited, source)
    return _unfused


def build_for(unet: torch.nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """The same for every width of head that a network has."""
    modules: list[Any] = [unet.get_submodule(name) for name in attention_blocks(unet)]
    blocks = [block for module in modules for block in module.transformer_blocks]
    for width in {block.attn1.to_q.out_features // block.attn1.heads for block in blocks}:
        build(width, dtype, device)


class SpatialAttention:
    """Attention within a frame, on hidden states (items · frames, tokens, channels)."""

    def __init__(self, control: AttentionControl) -> None:
        self._control = control

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        edited, source = self._control.edited, self._control.source
        query, key, value = _project(attn, hidden_states, self._control.items)
        if edited is None or source is None:
            return _output(attn, _attend(query, key, value))
        out = torch.empty_like(query)
        for item in set(range(self._control.items)) - {edited, source}:
            out[item] = scaled_dot_product_attention(query[item], key[item], value[item])
        edit, original = (Video(query[item], key[item], value[item]) for item in (edited, source))
        matched = match(edit, original, self._control.threshold)
        out[edited], out[source] = matched.edited, matched.source
        return _output(attn, out)


class TemporalAttention:
    """Attention along time, on hidden states (items · pixels, frames, channels).

    name: of the temporal block. coarse: whether the block is one of `coarse_blocks`."""

    def __init__(self, control: AttentionControl, name: str, coarse: bool) -> None:
        self._control, self._name, self._coarse = control, name, coarse

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        control = self._control
        query, key, value = _project(attn, hidden_states, control.items)
        if control.attend_recorded:
            first_key, first_value = control.recorded[self._name]
            key, value = torch.cat([first_key, key], dim=3), torch.cat([first_value, value], dim=3)
        elif control.record:
            control.recorded[self._name] = key.detach(), value.detach()
        if control.edited is not None and control.source is not None and self._takes_source_map():
            query, key = query.clone(), key.clone()
            query[control.edited], key[control.edited] = query[control.source], key[control.source]
        return _output(attn, _attend(query, key, value))

    def _takes_source_map(self) -> bool:
        return self._control.temporal == "all" or (self._control.temporal == "coarse" and self._coarse)


def _project(attn: Any, hidden_states: Tensor, items: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (items, rows, heads, tokens, d) each."""
    rows, tokens, _ = hidden_states.shape

    def heads(projected: Tensor) -> Tensor:
        return projected.reshape(items, rows // items, tokens, attn.heads, -1).transpose(2, 3)

    return heads(attn.to_q(hidden_states)), heads(attn.to_k(hidden_states)), heads(attn.to_v(hidden_states))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of all items; (items, rows, heads, tokens, d)."""
    attended = scaled_dot_product_attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    return attended.reshape(query.shape)


def _output(attn: Any, attended: Tensor) -> Tensor:
    """Heads joined and projected: (items · rows, tokens, channels)."""
    joined: Tensor = attn.to_out[0](attended.transpose(2, 3).flatten(3).flatten(0, 1))
    return joined
