"""Attention matching without attention maps: two videos' attention, blended by how far apart they are.

I2VEdit (Ouyang et al., SIGGRAPH Asia 2024, appearance refinement) holds an edited video to its source by their spatial
self-attention maps p_e and p_s. M measures for each query how far they are apart, by the total-variation distance:

    M(q) = mean over heads of ½ Σ_k |p_s(q, k) - p_e(q, k)|, in 0..1;  1 from a threshold on

The edited video then uses the map (1 - M) p_s + M p_e on its own values. M belongs to the query alone, so that the
blend of maps is the blend of two attentions, exactly: no map has to exist, let alone be stored.

    (1 - M) Attn(Q_s, K_s, V_e) + M Attn(Q_e, K_e, V_e)

There are three ways to compute the same: `match_dense` (the equations as they stand; for tests and benchmarks),
`match_tiled` (everywhere), and a fused kernel for CUDA (`attention_triton`). `matching.match` chooses.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from paintover_engine.diffusion import accelerators

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLD = 0.35
"""From this distance on a query belongs to the edit alone (the authors' value)."""


@dataclass(frozen=True)
class Video:
    """One video's queries, keys and values: (frames, heads, tokens, d) each, d to the power -½ not yet applied."""

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class Matched:
    """What matching gives.

    edited: (frames, heads, tokens, d), the edited video's attention held to the source.
    source: (frames, heads, tokens, d), the source's own attention, which costs little beside it.
    mask: (frames, tokens) float32, M after the threshold.
    """

    edited: Tensor
    source: Tensor
    mask: Tensor


def match_dense(edited: Video, source: Video, threshold: float = THRESHOLD) -> Matched:
    """The equations above as they stand, frame by frame in float32: whole maps of (heads, tokens, tokens)."""
    edits, sources, masks = [], [], []
    for frame in range(edited.query.shape[0]):
        map_e = _map(edited, frame)
        map_s = _map(source, frame)
        distance = (map_s - map_e).abs().mean(dim=0).sum(dim=-1).clamp(0, 2) / 2
        mask = _thresholded(distance, threshold)
        blended = (1 - mask)[:, None] * map_s + mask[:, None] * map_e
        edits.append(blended @ edited.value[frame].float())
        sources.append(map_s @ source.value[frame].float())
        masks.append(mask)
    dtype = edited.value.dtype
    return Matched(torch.stack(edits).to(dtype), torch.stack(sources).to(dtype), torch.stack(masks))


def match_tiled(edited: Video, source: Video, threshold: float = THRESHOLD, *, tile: int | None = None) -> Matched:
    """The same as `match_dense` in tiles of one head's query rows, with plain torch operations. Memory beyond inputs
    and outputs: O(tokens · d) and one tile. tile: scores in one; None: what suits the device."""
    frames, heads, tokens, width = edited.query.shape
    keys = edited.key.shape[2]
    budget = tile or accelerators.of(edited.query.device).tile
    single = functools.partial(edited.query.new_empty, dtype=torch.float32)
    scores = single((3, max(1, min(tokens, budget // keys)), keys))
    borrowed, apart = single((heads, tokens, width)), single((heads, tokens, width))
    edit, own = (video.value.new_empty(edited.query.shape) for video in (edited, source))
    masks = single((frames, tokens))
    for frame in range(frames):
        distance = masks[frame].zero_()
        for head in range(heads):
            _sweep(
                _head(edited, frame, head), _head(source, frame, head), scores,
                borrowed[head], apart[head], own[frame, head], distance,
            )  # fmt: skip
        mask = masks[frame] = _thresholded(distance / heads, threshold)
        edit[frame] = apart.mul_(mask[:, None]).add_(borrowed)
    return Matched(edit, own, masks)


def _sweep(
    edited: Video, source: Video, scores: Tensor, borrowed: Tensor, apart: Tensor, own: Tensor, distance: Tensor
) -> None:
    """One head in tiles of query rows: writes p_s V_e to `borrowed`, (p_e - p_s) V_e to `apart` and p_s V_s to `own`,
    (tokens, d) each, and adds its total-variation distances to `distance` (tokens,).

    scores: (3, rows, keys) room for one tile."""
    width = edited.value.shape[1]
    both = torch.cat([edited.value, source.value], dim=1)
    for first in range(0, len(own), scores.shape[1]):
        rows = slice(first, first + scores.shape[1])
        map_e, map_s, spare = scores[:, : len(own[rows])]
        for attention, video in ((map_e, edited), (map_s, source)):
            torch.mm(video.query[rows], video.key.t(), out=spare)
            torch.softmax(spare, dim=-1, out=attention)
        values = map_s @ both
        borrowed[rows], own[rows] = values[:, :width], values[:, width:]
        map_e.sub_(map_s)
        torch.mm(map_e, edited.value, out=apart[rows])
        distance[rows].add_(torch.abs(map_e, out=spare).sum(dim=-1), alpha=0.5)


def _map(video: Video, frame: int) -> Tensor:
    """The attention map of a frame, (heads, tokens, tokens) float32."""
    query, key = video.query[frame].float(), video.key[frame].float()
    return torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, dim=-1)


def _head(video: Video, frame: int, head: int) -> Video:
    """One head of a frame in float32, (tokens, d) each, the scale applied to the queries."""
    query, key, value = (part[frame, head].float() for part in (video.query, video.key, video.value))
    return Video(query * query.shape[-1] ** -0.5, key, value)


def _thresholded(distance: Tensor, threshold: float) -> Tensor:
    """M: the distance, and 1 from the threshold on."""
    return torch.where(distance >= threshold, 1.0, distance)
