"""Attention matching: tiles and kernels against the equations as they stand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from paintover_engine.diffusion.attention import (  # noqa: E402
    Matched,
    Video,
    match_dense,
    match_tiled,
)
from paintover_engine.diffusion.matching import match  # noqa: E402


def videos(frames: int = 2, heads: int = 3, tokens: int = 70, width: int = 16, apart: float = 1.2) -> list[Video]:
    """An edited video and its source, whose queries and keys differ by a share of up to `apart`."""
    torch.manual_seed(5)
    query, key, value = (torch.randn(frames, heads, tokens, width) for _ in range(3))
    shares = torch.linspace(0, apart, tokens)[:, None]  # some queries on either side of the threshold
    moved = query + shares * torch.randn_like(query), key + shares * torch.randn_like(key)
    return [Video(*moved, torch.randn_like(value)), Video(query, key, value)]


def flips(one: Matched, other: Matched) -> int:
    """Queries that cross the threshold in one of them only."""
    return int(((one.mask == 1) != (other.mask == 1)).sum())


@pytest.mark.parametrize("tile", [70, 1000, 10**6])
def test_tiled_matching_equals_the_equations(tile: int) -> None:
    edited, source = videos()
    dense, tiled = match_dense(edited, source), match_tiled(edited, source, tile=tile)
    crossed = float((dense.mask == 1).float().mean())
    assert 0.1 < crossed < 0.9
    assert flips(dense, tiled) == 0
    torch.testing.assert_close(tiled.edited, dense.edited, atol=1e-5, rtol=0)
    torch.testing.assert_close(tiled.source, dense.source, atol=1e-5, rtol=0)
    torch.testing.assert_close(tiled.mask, dense.mask, atol=1e-5, rtol=0)
    assert tiled.mask.min() >= 0
    assert tiled.mask.max() <= 1


def test_tiling_flips_no_query_at_svd_layer_size() -> None:
    edited, source = videos(frames=1, heads=2, tokens=1152, width=64)
    dense, tiled = match_dense(edited, source), match_tiled(edited, source)
    assert 0.1 < float((dense.mask == 1).float().mean()) < 0.9
    assert flips(dense, tiled) == 0
    torch.testing.assert_close(tiled.edited, dense.edited, atol=1e-5, rtol=0)


def test_half_precision_inputs_are_scored_in_float32() -> None:
    edited, source = (Video(video.query.bfloat16(), video.key.bfloat16(), video.value.bfloat16()) for video in videos())
    singles = [Video(v.query.float(), v.key.float(), v.value.float()) for v in (edited, source)]
    tiled, exact = match_tiled(edited, source), match_dense(*singles)
    assert tiled.edited.dtype == torch.bfloat16
    assert flips(tiled, exact) == 0
    torch.testing.assert_close(tiled.mask, exact.mask, atol=1e-5, rtol=0)


def test_the_same_video_twice_is_left_to_its_source() -> None:
    edited, source = videos()
    same = Video(source.query, source.key, edited.value)
    matched = match(same, source)
    assert matched.mask.max() == 0
    expected = torch.nn.functional.scaled_dot_product_attention(source.query, source.key, edited.value)
    torch.testing.assert_close(matched.edited, expected, atol=1e-6, rtol=0)


def test_above_threshold_attention_is_the_edits() -> None:
    edited, source = videos()
    free = match(edited, source, threshold=0.0)
    expected = torch.nn.functional.scaled_dot_product_attention(edited.query, edited.key, edited.value)
    torch.testing.assert_close(free.edited, expected, atol=1e-5, rtol=0)


def test_head_mean_is_of_distances_not_of_maps() -> None:
    """Two heads that differ in opposite ways: their mean maps agree, their distances do not."""
    query = torch.zeros(1, 2, 1, 2)
    query[..., 0] = 8.0
    left, right = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    value = torch.randn(1, 2, 2, 2)
    edited = Video(query, torch.stack([left, right])[None], value)
    source = Video(query, torch.stack([right, left])[None], value)
    assert match_tiled(edited, source, threshold=2.0).mask.item() > 0.99


KERNEL = """
import torch
from paintover_engine.diffusion import attention
from paintover_engine.diffusion.attention_triton import match_fused
torch.manual_seed(5)
for frames, heads, tokens, width in ((1, 2, 70, 16), (2, 3, 64, 24)):
    source = attention.Video(*(torch.randn(frames, heads, tokens, width, device=DEVICE) for _ in range(3)))
    shares = torch.linspace(0, 1.2, tokens, device=DEVICE)[:, None]
    moved = [part + shares * torch.randn_like(part) for part in (source.query, source.key)]
    edited = attention.Video(*moved, torch.randn_like(source.value))
    dense, fused = attention.match_dense(edited, source), match_fused(edited, source, 0.35)
    assert ((dense.mask == 1) == (fused.mask == 1)).all()
    assert 0.1 < float((dense.mask == 1).float().mean()) < 0.9
    for name in ("edited", "source", "mask"):
        torch.testing.assert_close(getattr(fused, name), getattr(dense, name), atol=2e-5, rtol=0)
"""


def test_triton_kernel_equals_equations_when_interpreted() -> None:
    pytest.importorskip("triton")
    subprocess.run(
        [sys.executable, "-c", KERNEL.replace("DEVICE", "'cpu'")],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=100,
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_triton_kernel_equals_the_equations_on_a_gpu() -> None:
    subprocess.run([sys.executable, "-c", KERNEL.replace("DEVICE", "'cuda'")], check=True, timeout=100)
    edited, source = (
        Video(video.query.cuda(), video.key.cuda(), video.value.cuda())
        for video in videos(frames=1, heads=5, tokens=9216, width=64)
    )
    dense, fused = match_dense(edited, source), match(edited, source)
    assert flips(dense, fused) <= 2
    torch.testing.assert_close(fused.mask, dense.mask, atol=1e-4, rtol=0)
