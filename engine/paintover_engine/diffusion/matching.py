"""The edited video's attention held to its source, and a later window's to the first: attention processors.

I2VEdit (Ouyang et al., SIGGRAPH Asia 2024), section 3.3 (fine-grained attention matching) and 3.2 (skip-interval
attention). The source is not read from records: it is an item of the same batch, so that each layer has its queries and
keys at hand when the edit needs them. Likewise the first window's temporal keys and values come from a call of the
network on that window just before, and are gone with the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from paintover_engine.diffusion.attention import THRESHOLD, Video, match

Coarse = Literal["quarter", "reference"]


@dataclass
class Control:
    """What the self-attention layers do in the next call of the network.

    items: of the batch. edited, source: which of them is held to which; None: nothing is held.
    threshold: of the spatial mask. temporal: in which layers the edit takes the source's temporal map.
    remember: keep temporal keys and values of this call; follow: prepend those kept.
    """

    items: int = 1
    edited: int | None = None
    source: int | None = None
    threshold: float = THRESHOLD
    temporal: Literal["all", "coarse", "none"] = "none"
    remember: bool = False
    follow: bool = False
    kept: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def forget(self) -> None:
        """Lets go of the keys and values kept."""
        self.kept.clear()


def replaced(step: int, steps: int, bounds: tuple[float, float]) -> Literal["all", "coarse", "none"]:
    """In which layers denoising step `step` (0: the noisiest) of `steps` takes the source's temporal maps: in all up to
    the first bound, in the coarse ones up to the second (I2VEdit, section 3.3; bounds are shares of the steps)."""
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
    """How often a block's grid is half of the latents'."""
    depth = len(unet.config.block_out_channels) - 1
    part, index = name.split(".")[:2]
    if part == "mid_block":
        return depth
    return int(index) if part == "down_blocks" else depth - int(index)


def coarse_blocks(unet: Any, rule: Coarse = "quarter") -> list[str]:
    """Of those, the ones on a grid of at most a quarter of the latents' side (the paper's), or on the coarsest grid of
    a smaller network. rule: "reference" leaves out the last of them going up, as the authors' code does."""
    blocks = attention_blocks(unet)
    limit = min(2, max(halvings(unet, name) for name in blocks))
    coarse = [name for name in blocks if halvings(unet, name) >= limit]
    return coarse[:-1] if rule == "reference" and coarse[-1].startswith("up_blocks") else coarse


@contextlib.contextmanager
def controlled(unet: Any, control: Control, rule: Coarse = "quarter") -> Iterator[None]:
    """Self-attention of a UNet by a control, until the block ends."""
    coarse = set(coarse_blocks(unet, rule))
    given = {}
    for name in attention_blocks(unet):
        module = unet.get_submodule(name)
        for block in module.transformer_blocks:
            given[block.attn1] = block.attn1.processor
            block.attn1.set_processor(SpatialAttention(control))
        for number, block in enumerate(module.temporal_transformer_blocks):
            given[block.attn1] = block.attn1.processor
            block.attn1.set_processor(TemporalAttention(control, f"{name}.{number}", name in coarse))
    try:
        yield
    finally:
        control.forget()
        for attention, processor in given.items():
            attention.set_processor(processor)


class SpatialAttention:
    """Attention within a frame, rows (items · frames, tokens, channels)."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        edited, source = self._control.edited, self._control.source
        query, key, value = _project(attn, hidden_states, self._control.items)
        if edited is None or source is None:
            return _finish(attn, _attend(query, key, value))
        out = torch.empty_like(query)
        for item in set(range(self._control.items)) - {edited, source}:
            out[item] = scaled_dot_product_attention(query[item], key[item], value[item])
        one, other = (Video(query[item], key[item], value[item]) for item in (edited, source))
        matched = match(one, other, self._control.threshold)
        out[edited], out[source] = matched.edited, matched.source
        return _finish(attn, out)


class TemporalAttention:
    """Attention along time, rows (items · pixels, frames, channels). name: of its block. coarse: its grid is."""

    def __init__(self, control: Control, name: str, coarse: bool) -> None:
        self._control, self._name, self._coarse = control, name, coarse

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        control = self._control
        query, key, value = _project(attn, hidden_states, control.items)
        if control.follow:
            first_key, first_value = control.kept[self._name]
            key, value = torch.cat([first_key, key], dim=3), torch.cat([first_value, value], dim=3)
        elif control.remember:
            control.kept[self._name] = key.detach(), value.detach()
        if control.edited is not None and control.source is not None and self._takes_the_source():
            query, key = query.clone(), key.clone()
            query[control.edited], key[control.edited] = query[control.source], key[control.source]
        return _finish(attn, _attend(query, key, value))

    def _takes_the_source(self) -> bool:
        return self._control.temporal == "all" or (self._control.temporal == "coarse" and self._coarse)


def _project(attn: Any, hidden_states: Tensor, items: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (items, rows, heads, tokens, d) each."""
    rows, tokens, _ = hidden_states.shape

    def heads(projected: Tensor) -> Tensor:
        return projected.reshape(items, rows // items, tokens, attn.heads, -1).transpose(2, 3)

    return heads(attn.to_q(hidden_states)), heads(attn.to_k(hidden_states)), heads(attn.to_v(hidden_states))


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of all items; (items, rows, heads, tokens, d)."""
    found = scaled_dot_product_attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    return found.reshape(query.shape)


def _finish(attn: Any, found: Tensor) -> Tensor:
    """Heads joined and projected: (items · rows, tokens, channels)."""
    joined: Tensor = attn.to_out[0](found.transpose(2, 3).flatten(3).flatten(0, 1))
    return joined
