"""Smooth-area random perturbation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from paintover_engine.diffusion.sarp import anderson_darling, perturb, smooth_mask  # noqa: E402


def test_a_flat_picture_is_smooth_up_to_its_border() -> None:
    assert bool(smooth_mask(torch.full((2, 3, 12, 16), 0.4)).all())


def test_white_gets_two_sided_noise_of_the_strength() -> None:
    white = torch.ones(2, 3, 64, 64)
    noise = perturb(white, seed=3) - white
    assert noise.std().item() == pytest.approx(0.005, rel=0.02)
    assert abs(noise.mean().item()) < 0.0002
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[:, 0], noise[:, 1])


def test_clamped_noise_on_white_is_one_sided() -> None:
    white = torch.ones(1, 3, 64, 64)
    clamped = perturb(white, seed=3, clamp=True)
    assert clamped.max() == 1
    assert (clamped == 1).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_textured_picture_is_left_as_it_is() -> None:
    torch.manual_seed(1)
    textured = torch.rand(2, 3, 32, 32)
    assert torch.equal(perturb(textured, seed=3), textured)


def test_only_flat_areas_change_in_every_channel() -> None:
    picture = torch.zeros(1, 3, 32, 32)
    picture[:, 0, :, 16:] = torch.rand(32, 16)  # one channel's texture counts for all
    changed = (perturb(picture, seed=3) != picture)[0]
    assert bool(changed[:, :, :15].all())
    assert not bool(changed[:, :, 18:].any())


def test_the_seed_alone_decides_the_noise() -> None:
    flat = torch.zeros(1, 3, 8, 8)
    assert torch.equal(perturb(flat, seed=3), perturb(flat, seed=3))
    assert not torch.equal(perturb(flat, seed=3), perturb(flat, seed=4))


def test_the_statistic_tells_normal_values_from_others() -> None:
    torch.manual_seed(2)
    normal = torch.randn(20000)
    assert anderson_darling(normal) < 1.1  # 1 % critical value, 1.035 for mean and variance estimated
    assert anderson_darling(torch.rand(20000)) > 100
    contaminated = torch.cat([normal, torch.zeros(4000)])
    assert anderson_darling(contaminated) > 50


def test_the_statistic_is_the_integral_that_defines_it() -> None:
    """n times the integral of (F_n - Φ)² / (Φ (1 - Φ)) over Φ, by quadrature."""
    sample = torch.tensor([-1.9, -0.6, -0.5, 0.1, 0.4, 1.1, 1.2, 2.0]).double()
    scores = (sample - sample.mean()) / sample.std()
    phi = torch.linspace(0, 1, 2_000_003, dtype=torch.float64)[1:-1]
    empirical = (torch.special.ndtr(scores)[:, None] <= phi[::20][None]).double().mean(0)
    integral = len(sample) * float(((empirical - phi[::20]) ** 2 / (phi[::20] * (1 - phi[::20]))).mean())
    assert anderson_darling(sample) == pytest.approx(integral, abs=2e-3)
