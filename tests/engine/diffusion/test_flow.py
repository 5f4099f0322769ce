"""Rectified flow on velocities that are known in closed form."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch
from paintover_engine.diffusion import flow, sampling, videoshop
from paintover_engine.diffusion.schedule import Sigma
from torch import Tensor

SHAPE = (1, 3, 4, 6, 8)


def draw(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(x: Tensor, s: Sigma) -> Tensor:
    """The exact velocity where clean latents are normal with mean 0.7 and deviation 0.4."""
    s, mean, deviation = torch.as_tensor(s, dtype=x.dtype), 0.7, 0.4
    variance = ((1 - s) * deviation) ** 2 + s**2
    clean = mean + (1 - s) * deviation**2 / variance * (x - (1 - s) * mean)
    noise = s / variance * (x - (1 - s) * mean)
    return noise - clean


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 16.0])
@pytest.mark.parametrize("steps", [3, 25, 50])
def test_levels_are_those_of_wans_own_schedule(steps: int, shift: float) -> None:
    theirs = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shift
    )
    theirs.set_timesteps(steps)
    levels = flow.levels(steps, shift)
    assert torch.allclose(levels, theirs.sigmas, atol=2e-6)  # theirs starts at 1 - 1e-6, for its logarithms
    assert torch.allclose((1000 * levels[:-1]).int(), theirs.timesteps.int(), atol=1)


def test_conversions_undo_each_other() -> None:
    x0, n, s = draw(1), draw(2), torch.tensor(0.3, dtype=torch.float64)
    x = flow.noised(x0, s, n)
    assert torch.allclose(flow.denoised(x, n - x0, s), x0)
    assert torch.allclose(flow.velocity(x, x0, s), n - x0)
    assert torch.allclose(flow.level(flow.sigma(s)), s)
    assert float(flow.sigma(torch.tensor(0.5))) == 1  # Videoshop's threshold


def error_of_a_round_trip(integrate: object, steps: int) -> float:
    levels = flow.levels(steps, 3.0).double()[steps // 3 :]
    x0 = 0.7 + 0.4 * draw(3)
    noisy = integrate(gaussian, x0, levels.flip(0))  # type: ignore[operator]
    return float((integrate(gaussian, noisy, levels) - x0).std())  # type: ignore[operator]


def test_midpoint_round_trip_is_of_second_order() -> None:
    euler, midpoint = ([error_of_a_round_trip(by, steps) for steps in (12, 48)] for by in (flow.euler, flow.midpoint))
    assert midpoint[0] < euler[0] / 4
    assert euler[0] / euler[1] < 8 < midpoint[0] / midpoint[1]


def test_euler_is_the_same_in_both_forms() -> None:
    levels = flow.levels(8, 3.0).double()[2:]
    x = flow.noised(0.7 + 0.4 * draw(3), levels[0], draw(4))
    ours = flow.euler(gaussian, x, levels)
    sigmas = flow.sigma(levels)
    karras = sampling.euler(flow.denoiser(gaussian), x / (1 - levels[0]), sigmas)
    assert torch.allclose(ours, karras, atol=1e-9)


def by_hand(x0: Tensor, levels: Tensor, noise: Tensor, threshold: float) -> Tensor:
    """Videoshop's inversion in the flow's own form: x += (s' - s) v(q, s'), q on the line from x0 through x."""
    x = x0
    for upper, lower in reversed(list(itertools.pairwise(levels))):
        far = lower > threshold / (1 + threshold)
        query = x0 + (x - x0) * upper / lower if far else (1 - upper) * x0 + upper * noise * x0.std()
        x = x + (upper - lower) * gaussian(query, upper)
    return x


@pytest.mark.parametrize("threshold", [0.1, 1.0])
def test_videoshops_inversion_is_one_equation_for_both_families(threshold: float) -> None:
    levels = flow.levels(10, 3.0).double()[3:]
    x0, noise = 0.7 + 0.4 * draw(5), draw(6)
    states = videoshop.extrapolated(
        flow.denoiser(gaussian), x0, flow.sigma(levels), noise, threshold, scaling=flow.SCALING
    )
    assert torch.allclose((1 - levels[0]) * states[0], by_hand(x0, levels, noise, threshold), atol=1e-9)
    naive = videoshop.naive(flow.denoiser(gaussian), x0, flow.sigma(levels), flow.SCALING)
    assert torch.allclose((1 - levels[0]) * naive[0], naively(x0, levels), atol=1e-9)


def naively(x0: Tensor, levels: Tensor) -> Tensor:
    x = x0
    for upper, lower in reversed(list(itertools.pairwise(levels))):
        x = x + (upper - lower) * gaussian(x, upper)
    return x
