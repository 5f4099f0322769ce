"""Videoshop on tiny Wan models with random weights, its stages run one by one as a runner does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import flow, videoshop_flow
from paintover_engine.errors import PaintoverError
from paintover_engine.methods import videoshop
from paintover_engine.methods.parameters import VideoshopParameters
from paintover_engine.methods.stage import Stage

from tests.engine.methods import test_flowedit
from tests.engine.methods.shots import composed, refs
from tests.engine.methods.test_flowedit import shifted_gaussian

Folders = Callable[[str], Path]


class Shot(test_flowedit.Shot):
    def plan(self, **parameters: Any) -> list[Stage]:
        given = VideoshopParameters(**{"steps": 4, **parameters})
        return videoshop.plan(self.info, refs(self.keys), given, str(self.model))


def test_prepared_stages_serve_any_keyframe(tiny_wan: Folders) -> None:
    shot = Shot(tiny_wan("i2v"), 11, ())
    shot.run()
    assert {stage.name for stage in shot.ran} == {"prompt", "encode", "invert", "flow"}
    again = Shot(tiny_wan("i2v"), 11, (10,), kept=dict(shot.kept))
    frames = again.run()
    ran = Counter(stage.name for stage in again.ran)
    assert sorted(frames) == list(range(11)) and ran["denoise"] == 2
    assert not ran.keys() & {"prompt", "encode", "invert", "flow"}
    assert np.array_equal(composed(again.plates[10], frames[10]), again.painted[10])


@pytest.mark.parametrize(
    "parameters",
    [
        {"inversion": "naive", "matte": "whole"},
        {"inversion": "midpoint"},
        {"inversion": "noise", "rescaling": "none"},
        {"inversion": "none"},
        {"refinements": 1, "threshold": 1, "strength": 1},
    ],
    ids=lambda parameters: " ".join(f"{name}={value}" for name, value in parameters.items()),
)
def test_every_switch_gives_finite_frames(tiny_wan: Folders, parameters: dict[str, Any]) -> None:
    frames = Shot(tiny_wan("ti2v"), 3, (0,)).run(**parameters)
    assert sorted(frames) == [0, 1, 2]
    assert all(np.isfinite(frame.painted).all() for frame in frames.values())


@pytest.mark.parametrize(
    "parameters",
    [
        {"normalisation": "frame"},
        {"condition": "code"},
        {"handover": "latents"},
        {"guidance": 4},
        {"noise_aug": 0.2},
        {"inversion": "bdia"},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_parameters_of_stable_video_diffusion_are_refused(tiny_wan: Folders, parameters: dict[str, Any]) -> None:
    with pytest.raises(PaintoverError, match=rf"parameter {next(iter(parameters))} .* for Stable Video Diffusion"):
        Shot(tiny_wan("i2v"), 3, (0,)).plan(**parameters)


def test_midpoint_is_for_wan_alone(tiny_svd: Path) -> None:
    with pytest.raises(PaintoverError, match="'midpoint' of videoshop is for Wan's models"):
        Shot(tiny_svd, 3, (0,)).plan(inversion="midpoint")


@pytest.mark.parametrize("how", ["extrapolation", "midpoint"])
def test_inversion_and_painting_move_a_clip_by_the_edit(how: videoshop_flow.Inversion) -> None:
    """Between two exact distributions, whose difference is the edit."""
    generator = torch.Generator().manual_seed(2)
    shape = (1, 4, 3, 9, 9)
    shift = torch.randn(1, 1, 3, 1, 1, generator=generator).expand(shape)
    x0, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    x0 = 0.5 * x0
    levels = videoshop_flow.inverted_levels(flow.levels(50, 3.0), 0.8)
    state = videoshop_flow.invert(shifted_gaussian(torch.zeros(shape)), x0, levels, noise, how)
    edited = (x0 + shift)[:, :1]
    found = videoshop_flow.paint(shifted_gaussian(shift), state, levels, edited, how, "match")
    assert torch.allclose(found[:, :1].mean((3, 4)), edited.mean((3, 4)), atol=1e-4)
    assert torch.allclose(found[:, :1].std((3, 4)), edited.std((3, 4)), rtol=1e-3)
    assert float((found - x0 - shift).std()) < 0.2 * float(x0.std())


def test_level_of_pure_noise_is_never_inverted_to() -> None:
    levels = flow.levels(10, 5.0)
    assert float(levels[0]) == 1
    assert float(videoshop_flow.inverted_levels(levels, 1.0)[0]) < 1
    assert len(videoshop_flow.inverted_levels(levels, 0.0)) == 2
