from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch")

import torch
from paintover_engine.diffusion import ddim
from torch import Tensor

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
SCHEDULE = ddim.levels(ALPHAS, 30, 0.9)
SOURCE = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def draw(step: int) -> Tensor:
    return torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(step))


def noise_towards(clean: Tensor, z: Tensor, t: int) -> Tensor:
    """What an ideal network says that knows the clean latents."""
    return ddim.consistency_noise(z, clean, float(ALPHAS[t]))


def test_levels_go_down_evenly_from_the_strength_to_the_first_time_step() -> None:
    assert len(SCHEDULE) == 30
    assert SCHEDULE[0].t == round(0.9 * 999)
    assert SCHEDULE[-1].t == 1
    times = [level.t for level in SCHEDULE]
    assert max(a - b for a, b in itertools.pairwise(times)) <= 32
    assert SCHEDULE[0].a == pytest.approx(float(ALPHAS[899]))
    assert ALPHAS[-1].item() == pytest.approx(0.0047, abs=2e-4)  # Stable Diffusion's last


def test_where_the_edit_changes_nothing_the_source_comes_back_bit_for_bit() -> None:
    found = ddim.consistency_sampling(
        lambda edit, source, t, drawn: torch.zeros_like(edit), SOURCE, SCHEDULE, draw, lambda2=1.2
    )
    assert torch.equal(found, SOURCE)


def test_with_a_weight_of_one_it_is_ddcm() -> None:
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
    found = ddim.consistency_sampling(
        lambda edit, source, t, drawn: network(edit, t, True) - network(source, t, False), SOURCE, SCHEDULE, draw, 1.0
    )
    assert (found - SOURCE).abs().mean() > 0.05
    assert torch.allclose(found, z0_edit, rtol=1e-3, atol=1e-3)


def test_equation_seven_weighs_the_difference() -> None:
    level, one = SCHEDULE[1], torch.full_like(SOURCE, 0.01)
    found = ddim.consistency_sampling(lambda *_: one, SOURCE, SCHEDULE[:2], draw, 1.2)
    z = ddim.noised(SOURCE, draw(1), level.a)
    noise = ddim.consistency_noise(z, SOURCE, level.a) + 1.2 * one
    assert torch.allclose(found, ddim.consistent(z, noise, level.a), atol=1e-4)


def test_the_first_step_is_the_sources_and_asks_no_network() -> None:
    asked = []

    def difference(edit: Tensor, source: Tensor, t: int, drawn: Tensor) -> Tensor:
        asked.append((t, torch.equal(edit, source)))
        return torch.full_like(edit, 0.01)

    ddim.consistency_sampling(difference, SOURCE, SCHEDULE, draw, 1.2)
    assert [t for t, _ in asked] == [level.t for level in SCHEDULE[1:]]
    assert [same for _, same in asked] == [True] + [False] * 28


@pytest.mark.parametrize("lambda2", [0.8, 1.0, 1.2])
def test_an_ideal_networks_edit_is_reached_whatever_the_weight(lambda2: float) -> None:
    edit = 0.5 * torch.ones_like(SOURCE)
    found = ddim.consistency_sampling(
        lambda z, z_source, t, drawn: noise_towards(SOURCE + edit, z, t) - noise_towards(SOURCE, z_source, t),
        SOURCE,
        SCHEDULE,
        draw,
        lambda2,
    )
    assert torch.allclose(found, SOURCE + edit, atol=2e-3)


def test_plain_ddim_follows_the_network_and_forgets_the_source() -> None:
    clean = torch.full_like(SOURCE, 0.7)
    found = ddim.ddim(lambda z, t: noise_towards(clean, z, t), SOURCE, SCHEDULE, draw)
    assert torch.allclose(found, clean, atol=1e-3)
