"""Attention matching: tiles and kernels against the equations as they stand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from paintover_engine.diffusion import matching  # noqa: E402
from paintover_engine.diffusion.attention import (  # noqa: E402
    Matched,
    Video,
    match_dense,
    match_tiled,
)
from paintover_engine.diffusion.matching import match  # noqa: E402

from tests.engine.diffusion import pretend_gpu  # noqa: E402


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


SHARED = {75: 65536, 80: 166912, 86: 101376, 89: 101376, 90: 232448, 120: 101376}
"""Bytes of shared memory that a block may have, by compute capability (CUDA C++ Programming Guide, technical
specifications)."""

CASES = [*((card, 64, 2) for card in SHARED), (75, 64, 4), (75, 128, 2), (86, 64, 4)]
"""Compute capability, width of a head and bytes of a number."""

COMPILED = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from paintover_engine.diffusion import attention_triton as kernels
for case in sys.argv[1:]:
    capability, width, itemsize, limit = map(int, case.split(","))
    tile, pointer = kernels.tile_of(width, itemsize, limit), {2: "*fp16", 4: "*fp32"}[itemsize]
    constants = dict(WIDTH=width, PADDED=kernels.padded(width), ROWS=tile, KEYS=tile)
    numbers = dict.fromkeys(("heads", "tokens", "keys"), "i32") | dict.fromkeys(("scale", "threshold"), "fp32")
    for kernel, more in ((kernels.attend_kernel, {"TWO": True}), (kernels.distance_kernel, {})):
        fixed = constants | more
        floats = {"lse_at", "source_lse_at", "mask_at"}
        signature = {
            name: "constexpr" if name in fixed else "*fp32" if name in floats else numbers.get(name, pointer)
            for name in kernel.arg_names
        }
        source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
        shared = triton.compile(source, target=GPUTarget("cuda", capability, 32)).metadata.shared
        assert 0 < shared <= limit, f"{case}: {kernel.__name__} takes {shared} bytes of shared memory of {limit}"
"""


@pytest.mark.timeout(400)  # a compiler at work, half a minute of an idle core
def test_kernels_compile_and_fit_each_card() -> None:
    """No GPU is needed to compile."""
    pytest.importorskip("triton")
    cases = [",".join(map(str, (*case, SHARED[case[0]]))) for case in CASES]
    subprocess.run([sys.executable, "-c", COMPILED, *cases], check=True, timeout=390)


def test_smaller_tiles_are_taken_on_smaller_cards() -> None:
    pytest.importorskip("triton")
    from paintover_engine.diffusion.attention_triton import tile_of

    assert [tile_of(64, 2, SHARED[capability]) for capability in (75, 86, 90)] == [64, 64, 64]
    assert [tile_of(64, 4, SHARED[capability]) for capability in (75, 86, 90)] == [32, 32, 64]
    assert tile_of(256, 4, 48 * 1024) == 16


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to find C compiler. Please specify via CC"), OSError("Python.h")]
)
def test_unbuildable_kernels_are_told_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("triton")
    from paintover_engine.diffusion import attention_triton

    calls = []

    def fail(*given: object) -> None:
        calls.append(given)
        raise error

    monkeypatch.setattr(attention_triton, "match_fused", fail)
    monkeypatch.setattr(matching, "_unfused", "")
    edited, source = videos()
    expected = match_tiled(edited, source)
    with pretend_gpu.present():
        placed = [Video(video.query.cuda(), video.key.cuda(), video.value.cuda()) for video in (edited, source)]
        results = [match(*placed).edited.cpu() for _ in range(2)]
        assert matching.build(16, torch.float16, torch.device("cuda")).startswith(str(error).split(".")[0])
    assert len(calls) == 1
    assert sum("cannot be built or launched here" in record.message for record in caplog.records) == 1
    for result in results:
        torch.testing.assert_close(result, expected.edited)


def test_lack_of_memory_is_no_lack_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from paintover_engine.diffusion import attention_triton

    def fail(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(attention_triton, "match_fused", fail)
    monkeypatch.setattr(matching, "_unfused", "")
    edited, _ = videos()
    with pretend_gpu.present():
        placed = Video(edited.query.cuda(), edited.key.cuda(), edited.value.cuda())
        with pytest.raises(torch.OutOfMemoryError):
            match(placed, placed)
    assert matching._unfused == ""


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
