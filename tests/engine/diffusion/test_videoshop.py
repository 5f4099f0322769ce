from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from paintover_engine.diffusion.videoshop import Normalisation, Normaliser, rescaled, standardised_condition
from torch import Tensor


@pytest.fixture
def clip() -> Tensor:
    """Channels of different range, a fade over the frames."""
    noise = torch.randn(1, 6, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    channels = torch.tensor([0.3, 1.0, 2.0, 5.0])[:, None, None]
    return noise * channels + 2 * channels + torch.linspace(0, 4, 6)[:, None, None, None]


@pytest.mark.parametrize("normaliser", ["channel", "paper", "none"])
def test_unchanged_edit_returns_the_latents(clip: Tensor, normaliser: Normaliser) -> None:
    normalisation = Normalisation.of(clip, normaliser)
    even = normalisation.apply(clip)
    assert torch.allclose(rescaled(even, clip[:, 0], normalisation, "match"), clip, atol=1e-4)
    assert torch.allclose(rescaled(even, clip[:, 0], normalisation, "undo"), clip, atol=1e-4)


def test_channel_normalisation_standardises_channels(clip: Tensor) -> None:
    even = Normalisation.of(clip, "channel").apply(clip)
    assert even.mean((1, 3, 4)).abs().max() < 1e-5
    assert (even.std((1, 3, 4)) - 1).abs().max() < 1e-3


def test_papers_normalisation_divides_and_does_not_centre(clip: Tensor) -> None:
    deviation = clip.std((1, 3, 4), keepdim=True)
    normalisation = Normalisation.of(clip, "paper")
    assert torch.allclose(normalisation.apply(clip), clip / deviation, rtol=1e-3)
    assert torch.allclose(normalisation.undo(clip / deviation), clip, rtol=1e-3)


def test_frame_normalisation_loses_a_fade(clip: Tensor) -> None:
    normalisation = Normalisation.of(clip, "frame")
    back = rescaled(normalisation.apply(clip), clip[:, 0], normalisation, "match")
    fade = (clip[:, -1] - clip[:, 0]).mean()
    assert abs(float((back[:, -1] - back[:, 0]).mean())) < 0.2 * float(fade)


def test_rescaling_matches_the_edited_frames_range(clip: Tensor) -> None:
    edited = clip[:, 0] * 1.5 + 2
    normalisation = Normalisation.of(clip, "channel")
    found = rescaled(normalisation.apply(clip), edited, normalisation, "match")
    assert torch.allclose(found[:, 0].mean((2, 3)), edited.mean((2, 3)), atol=1e-3)
    assert torch.allclose(found[:, 0].std((2, 3)), edited.std((2, 3)), rtol=1e-3)
    printed = rescaled(normalisation.apply(clip), edited, normalisation, "paper")
    assert not torch.allclose(printed[:, 0].mean((2, 3)), edited.mean((2, 3)), atol=1e-1)


@pytest.mark.parametrize("normaliser", ["channel", "paper", "frame", "none"])
@pytest.mark.parametrize("how", ["match", "paper", "undo", "none"])
def test_flat_window_stays_finite(normaliser: Normaliser, how: str) -> None:
    flat = torch.full((1, 6, 4, 8, 8), 0.7)
    normalisation = Normalisation.of(flat, normaliser)
    assert torch.isfinite(rescaled(normalisation.apply(flat), flat[:, 0], normalisation, how)).all()
    assert torch.isfinite(standardised_condition(flat[:, 0], 0.18215)).all()


def test_consistent_condition_is_normalised_as_video(clip: Tensor) -> None:
    scale = 0.18215
    normalisation = Normalisation.of(clip, "channel")
    condition = normalisation.apply_to_condition(clip[:, 0] / scale, scale)
    assert torch.allclose(condition * scale, normalisation.apply(clip)[:, 0], atol=1e-4)
    assert float(standardised_condition(clip[:, 0], scale).std()) == pytest.approx(1 / scale, rel=1e-3)
