"""Self-attention cloning: the attention between the shown pair of pictures copied onto the other pair (Gu et al.:
Analogist, SIGGRAPH 2024, section 4.1; VP4 takes it over).

In a 2×2 grid, A A' above B B', the pixels of the four cells attend to each other. The answer B' should relate to the
edited exemplar A' as its question B relates to the exemplar's source A, so the scores before the softmax between A' and
B' are replaced by `scale` times those between A and B, both ways.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Cloning:
    """An attention processor for self-attention on grids of an aspect; cross-attention goes past it.

    scale: 1.0 to 1.3. height, width: of the latents' grid; each attention finds its own resolution from them."""

    def __init__(self, scale: float, height: int, width: int) -> None:
        self._scale, self._height, self._width = scale, height, width

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            _heads(project(states), attn.heads)
            for project, states in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        if encoder_hidden_states is not None:
            attended = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            attended = self.cloned(scores).softmax(-1) @ value
        joined = attended.transpose(1, 2).flatten(2).to(hidden_states.dtype)
        output: Tensor = attn.to_out[1](attn.to_out[0](joined))
        return output

    def cloned(self, scores: Tensor) -> Tensor:
        """Scores (B, heads, tokens, tokens) before the softmax, those between A' and B' replaced in place."""
        shown_source, shown_edited, question, answer = (
            index.to(scores.device) for index in quarters(scores.shape[-1], self._height, self._width)
        )
        for to, of in (
            ((answer, shown_edited), (question, shown_source)),
            ((shown_edited, answer), (shown_source, question)),
        ):
            scores[..., to[0][:, None], to[1]] = self._scale * scores[..., of[0][:, None], of[1]]
        return scores


def quarters(tokens: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The tokens of a grid's cells, in reading order, at the resolution that has so many tokens. Where a cell's side is
    odd there, the middle belongs to the right or lower cell, and its last row or column to none."""
    factor = next(f for f in (2**n for n in range(16)) if -(-height // f) * -(-width // f) == tokens)
    rows, columns = -(-height // factor), -(-width // factor)
    index = torch.arange(tokens).reshape(rows, columns)
    high, wide = rows // 2, columns // 2
    return (
        index[:high, :wide].flatten(),
        index[:high, wide : 2 * wide].flatten(),
        index[high : 2 * high, :wide].flatten(),
        index[high : 2 * high, wide : 2 * wide].flatten(),
    )


def set_cloning(unet: Any, scale: float, height: int, width: int) -> None:
    """Gives a network's inner self-attentions cloning; with scale 0, takes it away.

    As in Analogist, the first 3 and the last 5 of 16 in the order of execution are left alone."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    order = sorted(name for name in unet.attn_processors if name.endswith("attn1.processor"))  # down, mid, up
    first, last = round(3 / 16 * len(order)), round(11 / 16 * len(order))
    chosen = set(order[first:last]) if scale else set()
    clone, plain = Cloning(scale, height, width), AttnProcessor2_0()  # type: ignore[no-untyped-call]
    unet.set_attn_processor({name: clone if name in chosen else plain for name in unet.attn_processors})


def _heads(states: Tensor, heads: int) -> Tensor:
    return states.reshape(*states.shape[:2], heads, -1).transpose(1, 2)
