"""Inversions and samplers on data whose ideal denoiser is a formula: Gaussian, D(x, s) = (v x + s² m) / (v + s²)."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch")

import torch
from paintover_engine.diffusion import inversion, sampling, schedule
from paintover_engine.diffusion.denoiser import Denoiser, Guided, Watched, guide
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


def test_the_inverse_step_undoes_an_euler_step_exactly_where_the_network_was_asked_there() -> None:
    sigma, lower = SIGMAS[3], SIGMAS[4]
    above = data() + sigma * noise()
    denoised = gaussian(above, sigma)
    below = sampling.euler_step(above, denoised, sigma, lower)
    assert float((inversion.inverse_euler_step(below, above, denoised, lower, sigma) - above).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("name", "expected"), [("naive", 0.069), ("lower_level", 0.050), ("extrapolated", 0.034), ("threshold", 0.132)]
)
def test_round_trips_of_gaussian_data_miss_by_what_the_formulas_say(name: str, expected: float) -> None:
    x0 = data()
    states = {
        "naive": lambda: inversion.naive(gaussian, x0, SIGMAS),
        "lower_level": lambda: inversion.lower_level(gaussian, x0, SIGMAS),
        "extrapolated": lambda: inversion.extrapolated(gaussian, x0, SIGMAS, noise(), threshold=0.0),
        # Of unit variance, as where the latents are normalised: these are not.
        "threshold": lambda: inversion.extrapolated(gaussian, x0, SIGMAS, noise() / DEVIATION, threshold=1.0),
    }[name]()
    assert round_trip_error(states, x0) == pytest.approx(expected, rel=0.1)


def test_every_refinement_at_least_halves_what_the_round_trip_misses() -> None:
    x0 = data()
    errors = [
        round_trip_error(inversion.extrapolated(gaussian, x0, SIGMAS, noise(), 0.0, refinements), x0)
        for refinements in range(4)
    ]
    assert all(better < 0.5 * worse for worse, better in itertools.pairwise(errors))


def test_states_stand_at_the_levels_from_the_noisiest_to_the_clean_latents() -> None:
    x0 = data()
    for states in (
        inversion.extrapolated(gaussian, x0, SIGMAS, noise()),
        inversion.naive(gaussian, x0, SIGMAS),
        inversion.bdia(gaussian, x0, SIGMAS),
        inversion.noised(x0, SIGMAS, noise()),
    ):
        assert len(states) == len(SIGMAS)
        assert torch.equal(states[-1], x0)
        spread = [float(state.std()) for state in states]
        assert spread == sorted(spread, reverse=True)


def test_bdia_comes_back_exactly() -> None:
    x0 = data()
    states = inversion.bdia(gaussian, x0, SIGMAS)
    back = sampling.bdia(gaussian, states[0], states[1], SIGMAS)
    assert float((back - x0).abs().max()) < 1e-9


def test_without_a_threshold_the_first_step_divides_nothing_by_nothing() -> None:
    states = inversion.extrapolated(gaussian, data(), SIGMAS, noise(), threshold=-1)
    assert not torch.isfinite(states[0]).any()


def test_a_watched_denoiser_asks_first_counts_and_names_the_step_where_numbers_end() -> None:
    asked: list[int] = []
    watched = Watched(gaussian, lambda: asked.append(1), "inverting frames 0 to 5", "less guidance")
    inversion.extrapolated(watched, data(), SIGMAS, noise())
    assert watched.calls == len(asked) == 13
    broken = Watched(gaussian, lambda: None, "inverting frames 0 to 5", "less guidance")
    with pytest.raises(PaintoverError, match="While inverting frames 0 to 5.*at call 1 .*noise level 0.002"):
        inversion.extrapolated(broken, data(), SIGMAS, noise(), threshold=-1)


def test_a_watched_denoiser_ends_between_two_calls() -> None:
    class StopError(Exception):
        pass

    def check() -> None:
        if watched.calls == 3:
            raise StopError

    watched = Watched(gaussian, check, "painting frames 0 to 5", "less guidance")
    with pytest.raises(StopError):
        sampling.euler(watched, data(), SIGMAS)
    assert watched.calls == 3


def test_guidance_may_differ_from_frame_to_frame() -> None:
    low: Denoiser = lambda x, sigma: torch.zeros_like(x)  # noqa: E731
    high: Denoiser = lambda x, sigma: torch.ones_like(x)  # noqa: E731
    scale = torch.tensor([1.0, 2.0, 3.0])
    found = Guided(high, low, scale)(torch.zeros(1, 3, 4, 2, 2), 1.0)
    assert found[0, :, 0, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert torch.equal(guide(torch.zeros(1, 3, 4, 2, 2), torch.ones(1, 3, 4, 2, 2), 1.0), torch.ones(1, 3, 4, 2, 2))
