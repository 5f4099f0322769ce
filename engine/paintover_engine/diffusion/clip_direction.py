"""The edit as a prompt: the difference of two CLIP image embeddings, moved into the space the UNet attends to.

VP4 (CVPR 2025) equation 3 puts `lambda1 · (E(edited) - E(source))` where the text's states stood. But Stable
Diffusion 1.5 attends to the text tower's last hidden states, *before* its projection, while an image embedding lies in
the joint space *behind* it. Both are 768 wide, so the formula runs as written ("literal"), in the wrong space and at
the wrong scale. "offset" takes the difference back through the projection and adds it to the states of the empty
prompt; what images and texts differ by in the joint space cancels in the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reading = Literal["offset", "literal"]

CUT_OFF = 1e-3
"""Singular values of the text projection below this share of the largest are not inverted."""


@dataclass(frozen=True)
class TextSpace:
    """What the empty prompt is in the text tower.

    hidden: (1, tokens, width) its last hidden states. end: the place of its end-of-text token, whose state the
    projection reads. projection: (joint, width) the text projection's matrix.
    """

    hidden: Tensor
    end: int
    projection: Tensor


def direction(source: Tensor, edited: Tensor) -> Tensor:
    """Embeddings of images, (B, joint) each, -> the edit's direction (B, joint): the difference of the two at length 1.

    Where the two pictures are the same, it is exactly 0."""
    unit = [torch.nn.functional.normalize(embedding.float(), dim=-1) for embedding in (source, edited)]
    return torch.sub(unit[1], unit[0])


def prompt(towards: Tensor, space: TextSpace, lambda1: float, reading: Reading = "offset") -> Tensor:
    """The states that the UNet attends to, (B, tokens, width), from directions (B, joint).

    offset: `H + 1 ⊗ W⁺ (lambda1 · |W h| · d)` on the tokens from the end-of-text token on, H the empty prompt's
    states, W the text projection, h the state that it reads; the direction is scaled to the length that the empty
    prompt's own embedding has. A direction of 0 gives the empty prompt exactly.
    literal: `lambda1 · d` on every token, as equation 3 is written. Needs joint = width.
    """
    hidden = space.hidden.float().expand(len(towards), -1, -1)
    if reading == "literal":
        return (lambda1 * towards)[:, None].expand_as(hidden).to(space.hidden.dtype)
    projection = space.projection.float()
    length = (projection @ space.hidden[0, space.end].float()).norm()
    moved = (lambda1 * length * towards) @ torch.linalg.pinv(projection, rtol=CUT_OFF).T
    after = torch.arange(hidden.shape[1], device=hidden.device) >= space.end
    placed: Tensor = hidden + moved[:, None] * after[None, :, None]
    return placed.to(space.hidden.dtype)
