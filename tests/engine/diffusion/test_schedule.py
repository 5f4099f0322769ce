from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from paintover_engine.diffusion import schedule

LEVELS = [
    700, 545.73, 421.57, 322.45, 244.02, 182.55, 134.85, 98.27, 70.54, 49.81, 34.54, 23.47, 15.59, 10.10, 6.354, 3.870,
    2.269, 1.273, 0.6782, 0.3394, 0.1574, 0.0664, 0.02480, 0.007883, 0.002, 0,
]  # fmt: skip


def test_karras_levels_are_svds() -> None:
    found = schedule.karras_sigmas()
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(LEVELS, rel=6e-4)
    assert float(schedule.c_noise(700.0)) == pytest.approx(1.6378, abs=5e-5)


@pytest.mark.parametrize(
    ("strength", "top"),
    [(0.5, 10.1), (0.55, 15.6), (0.6, 34.5), (0.65, 49.8), (0.7, 70.5), (0.75, 98.3), (0.8, 182.5), (1.0, 700)],
)
def test_a_strength_is_a_topmost_noise_level(strength: float, top: float) -> None:
    assert float(schedule.karras_sigmas()[schedule.start_index(25, strength)]) == pytest.approx(top, rel=5e-3)


def test_strength_055_has_8_random_and_5_extrapolated() -> None:
    sigmas = schedule.karras_sigmas()[schedule.start_index(25, 0.55) :]
    lower = sigmas[1:]
    assert (int((lower <= 1.0).sum()), int((lower > 1.0).sum())) == (8, 5)


def test_scalings_preserve_unit_variance() -> None:
    for sigma in (0.01, 1.0, 30.0):
        x = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        # v-prediction: the network's output at the truth is alpha · noise - sigma' · data, of unit variance.
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        noisy = x + sigma * noise
        output = (noise - sigma * x) / (1 + sigma**2) ** 0.5
        assert torch.allclose(schedule.denoised(noisy, output, torch.tensor(sigma, dtype=torch.float64)), x, atol=1e-9)
        assert float((schedule.c_in(sigma) * noisy).std()) == pytest.approx(1, rel=0.15)


def test_each_item_may_have_a_level_of_its_own() -> None:
    x, output = torch.ones(2, 3, 4, 2, 2), torch.ones(2, 3, 4, 2, 2)
    both = schedule.denoised(x, output, torch.tensor([0.5, 2.0]))
    assert torch.equal(both[0], schedule.denoised(x[:1], output[:1], 0.5)[0])
    assert torch.equal(both[1], schedule.denoised(x[1:], output[1:], 2.0)[0])
