"""Inversions and samplers on data whose ideal denoiser is a formula: Gaussian, D(x, s) = (v x + s² m) / (v + s²)."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch")

import torch
from paintover_engine.diffusion import i2vedit, inversion, sampling, schedule, videoshop
from paintover_engine.diffusion.denoiser import CheckedDenoiser, Denoiser, Guided, guide
from paintover_engine.errors import PaintoverError
from torch import Tensor

DEVIATION, MEAN = 0.15, 0.3
SIGMAS = schedule.karras_sigmas()[12:].double()


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    variance = DEVIATION**2
    return (variance * x + sigma**2 * MEAN) / (variance + sigma**2)


def data(seed: int = 0) -> Tensor:
    noise = torch.randn(1, 6, 4, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return MEAN + DEVIATION * noise


def noise(seed: int = 5) -> Tensor:
    return torch.randn(1, 6, 4, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def round_trip_error(states: list[Tensor], x0: Tensor) -> float:
    back = sampling.euler(gaussian, states[0], SIGMAS)
    return float((back - x0).square().mean().sqrt())


def test_inverse_step_undoes_an_euler_step() -> None:
    sigma, lower = SIGMAS[3], SIGMAS[4]
    above = data() + sigma * noise()
    denoised = gaussian(above, sigma)
    below = sampling.euler_step(above, denoised, sigma, lower)
    assert float((videoshop.inverse_euler_step(below, above, denoised, lower, sigma) - above).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("name", "expected"), [("naive", 0.069), ("lower_level", 0.050), ("extrapolated", 0.034), ("threshold", 0.132)]
)
def test_gaussian_round_trip_errors_match_the_formulas(name: str, expected: float) -> None:
    x0 = data()
    states = {
        "naive": lambda: videoshop.naive(gaussian, x0, SIGMAS),
        "lower_level": lambda: i2vedit.lower_level(gaussian, x0, SIGMAS),
        "extrapolated": lambda: videoshop.extrapolated(gaussian, x0, SIGMAS, noise(), threshold=0.0),
        # Of unit variance, as where the latents are normalised: these are not.
        "threshold": lambda: videoshop.extrapolated(gaussian, x0, SIGMAS, noise() / DEVIATION, threshold=1.0),
    }[name]()
    assert round_trip_error(states, x0) == pytest.approx(expected, rel=0.1)


def test_each_refinement_halves_the_round_trip_error() -> None:
    x0 = data()
    errors = [
        round_trip_error(videoshop.extrapolated(gaussian, x0, SIGMAS, noise(), 0.0, refinements), x0)
        for refinements in range(4)
    ]
    assert all(better < 0.5 * worse for worse, better in itertools.pairwise(errors))


def test_states_descend_to_the_clean_latents() -> None:
    x0 = data()
    for states in (
        videoshop.extrapolated(gaussian, x0, SIGMAS, noise()),
        videoshop.naive(gaussian, x0, SIGMAS),
        inversion.bdia(gaussian, x0, SIGMAS),
        inversion.noised(x0, SIGMAS, noise()),
    ):
        assert len(states) == len(SIGMAS)
        assert torch.equal(states[-1], x0)
        spread = [float(state.std()) for state in states]
        assert spread == sorted(spread, reverse=True)


def test_bdia_round_trip_is_exact() -> None:
    x0 = data()
    states = inversion.bdia(gaussian, x0, SIGMAS)
    back = sampling.bdia(gaussian, states[0], states[1], SIGMAS)
    assert float((back - x0).abs().max()) < 1e-9


def test_negative_threshold_gives_nan() -> None:
    states = videoshop.extrapolated(gaussian, data(), SIGMAS, noise(), threshold=-1)
    assert not torch.isfinite(states[0]).any()


def test_checked_denoiser_counts_and_names_nan_step() -> None:
    checks: list[int] = []
    checked = CheckedDenoiser(gaussian, lambda: checks.append(1), "inverting frames 0 to 5", "less guidance")
    videoshop.extrapolated(checked, data(), SIGMAS, noise())
    assert checked.calls == len(checks) == 13
    broken = CheckedDenoiser(gaussian, lambda: None, "inverting frames 0 to 5", "less guidance")
    with pytest.raises(PaintoverError, match="While inverting frames 0 to 5.*at call 1 .*noise level 0.002"):
        videoshop.extrapolated(broken, data(), SIGMAS, noise(), threshold=-1)


def test_checked_denoiser_stops_between_two_calls() -> None:
    class StopError(Exception):
        pass

    def check() -> None:
        if checked.calls == 3:
            raise StopError

    checked = CheckedDenoiser(gaussian, check, "painting frames 0 to 5", "less guidance")
    with pytest.raises(StopError):
        sampling.euler(checked, data(), SIGMAS)
    assert checked.calls == 3


def test_guidance_scale_may_differ_by_frame() -> None:
    low: Denoiser = lambda x, sigma: torch.zeros_like(x)  # noqa: E731
    high: Denoiser = lambda x, sigma: torch.ones_like(x)  # noqa: E731
    scale = torch.tensor([1.0, 2.0, 3.0])
    found = Guided(high, low, scale)(torch.zeros(1, 3, 4, 2, 2), 1.0)
    assert found[0, :, 0, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert torch.equal(guide(torch.zeros(1, 3, 4, 2, 2), torch.ones(1, 3, 4, 2, 2), 1.0), torch.ones(1, 3, 4, 2, 2))
