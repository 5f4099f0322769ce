from __future__ import annotations

import pytest

pytest.importorskip("torch")
import torch
from paintover_engine.diffusion import memory
from paintover_engine.diffusion.memory import GB, Needs

FULL = Needs(
    weights={"unet": 3_049_000_000, "encoder": 137_000_000, "decoder": 127_000_000, "image_encoder": 1_264_000_000},
    work={"unet": 2_230_000_000, "encoder": 1_510_000_000, "decoder": 1_208_000_000},
)
"""Stable Video Diffusion in half precision, 14 frames of 1024x576, as benchmarks/videoshop.py --memory counts it."""


@pytest.mark.parametrize(("card", "tier"), [(32, "32 GB"), (24, "24 GB"), (16, "16 GB"), (12, "12 GB"), (8, "8 GB")])
def test_a_card_gets_the_tier_that_is_named_after_it(card: int, tier: str) -> None:
    chosen = memory.choose(FULL, 0.93 * card * GB)
    assert chosen is not None
    assert chosen.name == tier


def test_a_card_that_is_too_small_gets_none() -> None:
    assert memory.choose(FULL, 5 * GB) is None


def test_every_tier_takes_less_than_the_one_before() -> None:
    peaks = [FULL.peak(tier) for tier in memory.TIERS]
    assert peaks == sorted(set(peaks), reverse=True)


def test_live_bytes_counts_what_is_alive_at_once() -> None:
    x = torch.empty(1000, device="meta")

    def work() -> torch.Tensor:
        for _ in range(5):
            doubled = x * 2  # 4000 bytes, one at a time but for the moment in which the next is made
        return doubled + 1

    assert memory.live_bytes(work) == 8000


def test_attention_is_counted_without_its_map() -> None:
    q = torch.empty(1, 1, 1000, 8, device="meta")
    found = memory.live_bytes(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert found == 1000 * 8 * 4
