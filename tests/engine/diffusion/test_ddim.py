from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch")

import torch
from paintover_engine.diffusion import ddim, vp4
from torch import Tensor

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
SCHEDULE = ddim.levels(ALPHAS, 30, 0.9)
SOURCE = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def draw(step: int) -> Tensor:
    return torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(step))


def noise_towards(clean: Tensor, z: Tensor, t: int) -> Tensor:
    """The estimate of an ideal network that knows the clean latents."""
    return ddim.consistency_noise(z, clean, float(ALPHAS[t]))


def test_levels_descend_evenly_from_the_strength() -> None:
    assert len(SCHEDULE) == 30
    assert SCHEDULE[0].t == round(0.9 * 999)
    assert SCHEDULE[-1].t == 1
    times = [level.t for level in SCHEDULE]
    assert max(a - b for a, b in itertools.pairwise(times)) <= 32
    assert SCHEDULE[0].a == pytest.approx(float(ALPHAS[899]))
    assert ALPHAS[-1].item() == pytest.approx(0.0047, abs=2e-4)  # Stable Diffusion's last


def test_equal_estimates_return_the_source_bit_for_bit() -> None:
    found = vp4.consistency_sampling(lambda edit, source, t, drawn: (edit, edit), SOURCE, SCHEDULE, draw, lambda2=1.2)
    assert torch.equal(found, SOURCE)


def test_lambda2_of_one_is_ddcm() -> None:
    """InfEdit's formulas, written from the paper: one parallel step of source and edit."""

    def network(z: Tensor, t: int, edited: bool) -> Tensor:
        return torch.tanh(z * (1 + t / 500) + 0.3 * edited)

    z0_edit = SOURCE
    for step, level in enumerate(SCHEDULE[1:], start=1):
        a, n = level.a, draw(step)
        z_source = a**0.5 * SOURCE + (1 - a) ** 0.5 * n
        z_edit = a**0.5 * z0_edit + (1 - a) ** 0.5 * n
        consistency = (z_source - a**0.5 * SOURCE) / (1 - a) ** 0.5
        noise = network(z_edit, level.t, True) - network(z_source, level.t, False) + consistency
        z0_edit = (z_edit - (1 - a) ** 0.5 * noise) / a**0.5
    found = vp4.consistency_sampling(
        lambda edit, source, t, drawn: (network(edit, t, True), network(source, t, False)), SOURCE, SCHEDULE, draw, 1.0
    )
    assert (found - SOURCE).abs().mean() > 0.05
    assert torch.allclose(found, z0_edit, rtol=1e-3, atol=1e-3)


def test_equation_7_weighs_the_difference() -> None:
    level, one = SCHEDULE[1], torch.full_like(SOURCE, 0.01)
    found = vp4.consistency_sampling(lambda *_: (one, torch.zeros_like(one)), SOURCE, SCHEDULE[:2], draw, 1.2)
    z = ddim.noised(SOURCE, draw(1), level.a)
    noise = ddim.consistency_noise(z, SOURCE, level.a) + 1.2 * one
    assert torch.allclose(found, ddim.consistent(z, noise, level.a), atol=1e-4)


def test_first_step_returns_the_source_without_a_call() -> None:
    calls = []

    def estimates(edit: Tensor, source: Tensor, t: int, drawn: Tensor) -> tuple[Tensor, Tensor]:
        calls.append((t, torch.equal(edit, source)))
        return torch.full_like(edit, 0.01), torch.zeros_like(edit)

    vp4.consistency_sampling(estimates, SOURCE, SCHEDULE, draw, 1.2)
    assert [t for t, _ in calls] == [level.t for level in SCHEDULE[1:]]
    assert [same for _, same in calls] == [True] + [False] * 28


@pytest.mark.parametrize("lambda2", [0.8, 1.0, 1.2])
def test_ideal_edit_is_reached_for_every_lambda2(lambda2: float) -> None:
    edit = 0.5 * torch.ones_like(SOURCE)
    found = vp4.consistency_sampling(
        lambda z, z_source, t, drawn: (noise_towards(SOURCE + edit, z, t), noise_towards(SOURCE, z_source, t)),
        SOURCE,
        SCHEDULE,
        draw,
        lambda2,
    )
    assert torch.allclose(found, SOURCE + edit, atol=2e-3)


def test_plain_ddim_forgets_the_source() -> None:
    clean = torch.full_like(SOURCE, 0.7)
    found = ddim.ddim(lambda z, t: noise_towards(clean, z, t), SOURCE, SCHEDULE, draw)
    assert torch.allclose(found, clean, atol=1e-3)
