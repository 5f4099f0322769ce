"""Attention matching as two fused kernels for CUDA; imported only where Triton is there.

`attend_kernel` is flash attention that keeps each row's log-sum-exp and takes one or two sets of values;
`distance_kernel` sweeps the keys once more, for all heads of a query tile, and sums |p_e - p_s| from both videos'
scores and log-sum-exps. Tiles are as large as the card's shared memory lets them be.
In units of one QKᵀ product: 2 for the edit, 3 for the source with both videos' values, 2 for the distance. Scores,
sums and distances are float32; probabilities are rounded to the values' dtype before they weigh them.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# (Triton reads the annotations of a kernel's arguments, and takes none but its own.)

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]
import triton.language as tl  # type: ignore[import-untyped, import-not-found, unused-ignore]

from paintover_engine.diffusion.attention import Matched, Video

if TYPE_CHECKING:
    from torch import Tensor

TILES = (64, 32, 16)
"""Queries, and keys, of a tile: the largest that fits is taken."""

_TILES_HELD = 8
"""Tiles of queries, keys or values that a kernel has in shared memory at most: three keys and values ahead."""


@triton.jit
def attend_kernel(
    q_at, k_at, v_at, w_at, out_at, second_at, lse_at,
    tokens, keys, scale,
    TWO: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """softmax(Q Kᵀ · scale) V, with a second set of values W where TWO, and the rows' log-sum-exps.

    All tensors are (frames · heads, tokens or keys, WIDTH), contiguous; grid: (query tiles, frames · heads)."""
    plane = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, PADDED)
    inside = (row[:, None] < tokens) & (dim[None, :] < WIDTH)
    place = (plane * tokens + row)[:, None] * WIDTH + dim[None, :]
    query = tl.load(q_at + place, mask=inside, other=0.0)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    out = tl.zeros((ROWS, PADDED), tl.float32)
    second = tl.zeros((ROWS, PADDED), tl.float32)
    for start in range(0, keys, KEYS):
        col = start + tl.arange(0, KEYS)
        there = (col[:, None] < keys) & (dim[None, :] < WIDTH)
        at = (plane * keys + col)[:, None] * WIDTH + dim[None, :]
        key = tl.load(k_at + at, mask=there, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        score = tl.where(col[None, :] < keys, score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp(score - higher[:, None])
        keep = tl.exp(top - higher)
        total = total * keep + tl.sum(weight, 1)
        value = tl.load(v_at + at, mask=there, other=0.0)
        out = out * keep[:, None] + tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        if TWO:
            other = tl.load(w_at + at, mask=there, other=0.0)
            second = second * keep[:, None] + tl.dot(weight.to(other.dtype), other, input_precision="ieee")
        top = higher
    tl.store(out_at + place, (out / total[:, None]).to(out_at.dtype.element_ty), mask=inside)
    if TWO:
        tl.store(second_at + place, (second / total[:, None]).to(second_at.dtype.element_ty), mask=inside)
    tl.store(lse_at + plane * tokens + row, top + tl.log(total), mask=row < tokens)


@triton.jit
def distance_kernel(
    q_at, k_at, lse_at, source_q_at, source_k_at, source_lse_at, mask_at,
    heads, tokens, keys, scale, threshold,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """M of a tile of queries: the mean over heads of ½ Σ |p_e - p_s|, and 1 from the threshold on.

    Queries and keys as in `attend_kernel`; mask (frames, tokens) float32; grid: (query tiles, frames)."""
    frame = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, PADDED)
    inside = (row[:, None] < tokens) & (dim[None, :] < WIDTH)
    total = tl.zeros((ROWS,), tl.float32)
    for head in range(heads):
        plane = frame * heads + head
        place = (plane * tokens + row)[:, None] * WIDTH + dim[None, :]
        query = tl.load(q_at + place, mask=inside, other=0.0)
        source_query = tl.load(source_q_at + place, mask=inside, other=0.0)
        lse = tl.load(lse_at + plane * tokens + row, mask=row < tokens, other=0.0)
        source_lse = tl.load(source_lse_at + plane * tokens + row, mask=row < tokens, other=0.0)
        for start in range(0, keys, KEYS):
            col = start + tl.arange(0, KEYS)
            there = (col[:, None] < keys) & (dim[None, :] < WIDTH)
            at = (plane * keys + col)[:, None] * WIDTH + dim[None, :]
            key = tl.load(k_at + at, mask=there, other=0.0)
            source_key = tl.load(source_k_at + at, mask=there, other=0.0)
            score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
            source_score = tl.dot(source_query, tl.trans(source_key), input_precision="ieee") * scale
            apart = tl.abs(tl.exp(score - lse[:, None]) - tl.exp(source_score - source_lse[:, None]))
            total += tl.sum(tl.where(col[None, :] < keys, apart, 0.0), 1)
    distance = total / (2.0 * heads)
    mask = tl.where(distance >= threshold, 1.0, distance)
    tl.store(mask_at + frame * tokens + row, mask, mask=row < tokens)


def match_fused(edited: Video, source: Video, threshold: float) -> Matched:
    """`attention.match_tiled` by the kernels above; the same arguments and result."""
    frames, heads, tokens, width = edited.query.shape
    tile = tile_of(width, edited.query.element_size(), _shared_memory(edited.query.device))
    keys = edited.key.shape[2]
    one, other = _contiguous(edited), _contiguous(source)
    attended, _, lse = _attention(one, tile)
    own, borrowed, source_lse = _attention(other, tile, second=one.value)
    mask = attended.new_empty((frames, tokens), dtype=torch.float32)
    distance_kernel[(triton.cdiv(tokens, tile), frames)](
        one.query, one.key, lse, other.query, other.key, source_lse, mask,
        heads, tokens, keys, width**-0.5, threshold,
        WIDTH=width, PADDED=padded(width), ROWS=tile, KEYS=tile,
    )  # fmt: skip
    return Matched(torch.lerp(borrowed, attended, mask[:, None, :, None].to(attended.dtype)), own, mask)


def _attention(video: Video, tile: int, second: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Attention with the video's own values, with a second set (itself where there is none), and log-sum-exps."""
    frames, heads, tokens, width = video.query.shape
    out = torch.empty_like(video.query)
    other = out if second is None else torch.empty_like(out)
    lse = out.new_empty((frames, heads, tokens), dtype=torch.float32)
    attend_kernel[(triton.cdiv(tokens, tile), frames * heads)](
        video.query, video.key, video.value, video.value if second is None else second, out, other, lse,
        tokens, video.key.shape[2], width**-0.5,
        TWO=second is not None, WIDTH=width, PADDED=padded(width), ROWS=tile, KEYS=tile,
    )  # fmt: skip
    return out, other, lse


def _contiguous(video: Video) -> Video:
    return Video(video.query.contiguous(), video.key.contiguous(), video.value.contiguous())


def tile_of(width: int, itemsize: int, shared: int) -> int:
    """The largest of `TILES` whose kernels fit a card's shared memory. width: of a head; itemsize: bytes of a number;
    shared: bytes that a block may have. The smallest where none is sure to fit: the launch then tells."""
    fitting = [tile for tile in TILES if _TILES_HELD * tile * padded(width) * itemsize <= shared]
    return fitting[0] if fitting else TILES[-1]


def _shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a block may have; of Triton's interpreter, no end."""
    if device.type != "cuda":
        return 2**40
    return int(torch.cuda.get_device_properties(device).shared_memory_per_block_optin)


def padded(width: int) -> int:
    """The next power of two of at least 16: what a matrix product takes."""
    return max(16, int(triton.next_power_of_2(width)))
