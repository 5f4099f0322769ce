from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from paintover_engine.diffusion import svgd
from torch import Tensor

FRAMES = 14


def still(frames: Tensor) -> Tensor:
    return torch.zeros(len(frames) - 1, *frames.shape[2:], 2)


def flicker(frames: Tensor) -> float:
    return float((frames[1:] - frames[:-1]).square().mean().sqrt())


def toy(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A smooth source, a local edit, and the sampled frames: both, with flicker."""
    generator = torch.Generator().manual_seed(seed)
    way = torch.randn(2, 4, 8, 8, generator=generator)
    source = way[0] + 0.5 * torch.linspace(0, 1, FRAMES)[:, None, None, None] * way[1]
    edit = torch.zeros(4, 8, 8)
    edit[:, 2:6, 2:6] = torch.randn(4, 1, 1, generator=generator)
    return source, edit, source + edit + 0.25 * torch.randn(source.shape, generator=generator)


def held(*numbers: int, count: int = FRAMES) -> Tensor:
    return torch.tensor([number in numbers for number in range(count)])


@pytest.mark.parametrize("seed", range(4))
def test_flicker_falls_and_the_edit_stays(seed: int) -> None:
    source, edit, sampled = toy(seed)
    around = svgd.neighbours(source, still(source), still(source))
    left = svgd.smoothed(sampled, source, around, held()) - source
    assert flicker(left) < 0.4 * flicker(sampled - source)
    kept = (left.mean(0) * edit).sum() / edit.square().sum()
    assert 0.95 < kept < 1.05
    assert (left - edit).square().mean() < 0.5 * (sampled - source - edit).square().mean()


def test_literal_svgd_erases_the_edit_keeps_flicker() -> None:
    source, edit, sampled = toy(0)
    left = svgd.literal(sampled, source) - source
    assert torch.isfinite(left).all()
    assert (left.mean(0) * edit).sum() / edit.square().sum() < 0.5
    assert flicker(left) > 0.9 * flicker(sampled - source)


def test_frames_without_an_edit_come_back_bit_for_bit() -> None:
    source, _, _ = toy(1)
    around = svgd.neighbours(source, still(source), still(source))
    assert torch.equal(svgd.smoothed(source, source, around, held()), source)


def test_held_frame_stays_and_neighbours_approach() -> None:
    source, edit, _ = toy(2)
    sampled = source + 0.5 * edit
    sampled[0] = source[0] + edit
    around = svgd.neighbours(source, still(source), still(source))
    found = svgd.smoothed(sampled, source, around, held(0))
    assert torch.equal(found[0], sampled[0])
    strength = [float(((found[n] - source[n]) * edit).sum() / edit.square().sum()) for n in (1, 6, 13)]
    assert strength[0] > strength[1] > strength[2] > 0.49
    assert strength[0] > 0.6


def test_edits_are_followed_along_the_motion() -> None:
    wide = torch.randn(1, 4, 8, 40, generator=torch.Generator().manual_seed(5))
    mark = torch.zeros_like(wide)
    mark[..., 2:6, 14:18] = 1.0
    source, edit = (torch.cat([w[..., 2 * n : 2 * n + 16] for n in range(6)]) for w in (wide, mark))  # moves 2 left
    noisy = source + edit + 0.1 * torch.randn(edit.shape, generator=torch.Generator().manual_seed(6))
    ahead = still(source)
    ahead[..., 0] = -2
    none = held(count=6)
    followed = svgd.smoothed(noisy, source, svgd.neighbours(source, ahead, -ahead), none) - source
    assert (followed - edit)[..., 2:-2].square().mean() < 0.5 * (noisy - source - edit)[..., 2:-2].square().mean()


def test_nothing_is_shared_across_a_cut() -> None:
    generator = torch.Generator().manual_seed(7)
    before, after = (torch.randn(1, 4, 8, 8, generator=generator).repeat(5, 1, 1, 1) for _ in range(2))
    source = torch.cat([before, after])
    source = source + 0.05 * torch.randn(source.shape, generator=generator)
    sampled = source.clone()
    sampled[:5] += 1.0
    around = svgd.neighbours(source, still(source), still(source))
    left = svgd.smoothed(sampled, source, around, held(count=10)) - source
    assert left[:5].mean() > 0.95
    assert left[5:].abs().max() < 0.2


@pytest.mark.parametrize("count", [1, 2, 3])
def test_stretches_of_few_frames_work(count: int) -> None:
    source, _, sampled = (frames[:count] for frames in toy(3))
    around = svgd.neighbours(source, still(source), still(source))
    found = svgd.smoothed(sampled, source, around, held(count=count))
    assert torch.isfinite(found).all()
    assert found.shape == source.shape
    assert torch.isfinite(svgd.literal(sampled, source, eta=0.04)).all()


def test_weights_sum_to_one_and_particles_repel() -> None:
    source, _, _ = toy(4)
    around = svgd.neighbours(source, still(source), still(source))
    assert torch.allclose(around.weights.sum(0), torch.ones(()), atol=1e-5)
    pair = torch.tensor([[0.0], [1.0]])[..., None, None]
    pushed = svgd.repulsion(pair).flatten()
    assert pushed[0] < 0 < pushed[1]
    assert pushed[0] == pytest.approx(-float(pushed[1]))
