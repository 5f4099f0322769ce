"""VACE on small shots and a tiny model with random weights, its stages run one by one as a runner does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import flow, vace, wan
from paintover_engine.errors import PaintoverError
from paintover_engine.methods import pictures
from paintover_engine.methods import vace as method
from paintover_engine.methods.flow_parameters import VaceParameters
from paintover_engine.methods.stage import Stage

from tests.engine.methods import test_flowedit
from tests.engine.methods.shots import composed, refs

Folders = Callable[[str], Path]


class Shot(test_flowedit.Shot):
    def plan(self, **parameters: Any) -> list[Stage]:
        given = VaceParameters(**{"steps": 4, **parameters})
        return method.plan(self.info, refs(self.keys), given, str(self.model))


@pytest.fixture
def controls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the model's control was given: video, mask and references of each window."""
    seen: list[tuple[Any, ...]] = []
    original = wan.WanModel.control

    def spied(model: wan.WanModel, *given: Any) -> wan.Conditioning:
        seen.append(given)
        return original(model, *given)

    monkeypatch.setattr(wan.WanModel, "control", spied)
    return seen


def test_matte_holds_the_drafts_result_and_the_rest_the_plate(tiny_wan: Folders, controls: list[Any]) -> None:
    shot = Shot(tiny_wan("vace"), 9, (0,))
    shot.run(long_side=256)
    ((video, mask, references),) = controls
    view = next(stage for stage in shot.ran if stage.name == "control").parameters.view
    assert references is None
    for number in (0, 8):
        plate = pictures.plate(shot, view, number)[0]
        painted = pictures.keyframe(shot, view, f"key{number}")[0]  # the truth, from the slide that moves
        edited = (painted - plate).abs().amax(0) > 0.5
        assert (
            torch.allclose(video[number][:, mask[number, 0] == 0], plate[:, mask[number, 0] == 0], atol=0.02)
            or number == 0
        )
        assert (
            (video[number] - painted).abs().amax(0)[edited].mean()
            < 0.3
            < (plate - painted).abs().amax(0)[edited].mean()
        )
        assert number == 0 or (mask[number, 0][edited] == 1).all()
    assert not mask[0].any() and 0.02 < float(mask[1:].mean()) < 0.9


def test_every_keyframe_stands_in_its_window_unmasked(tiny_wan: Folders, controls: list[Any]) -> None:
    shot = Shot(tiny_wan("vace"), 9, (0, 6))
    shot.run()
    view = next(stage for stage in shot.ran if stage.name == "control").parameters.view
    places = [[place for place in range(9) if not mask[place].any()] for _, mask, _ in controls]
    assert sorted(places) == [[0], [0, 6], [0, 6]]  # beyond frame 6 the other keyframe is out of sight
    for (video, _, _), kept in zip(controls, places, strict=True):
        for place in kept:
            shown = [pictures.keyframe(shot, view, f"key{key}")[0] for key in (0, 6)]
            assert min(float((video[place] - painted).abs().max()) for painted in shown) < 1e-4


def test_mask_of_a_latent_is_seen_whichever_frame_is_sampled() -> None:
    """A matte that one latent has is never folded away, as a mask of a lone frame would be."""
    for latent in range(1, 5):
        matte = torch.zeros(1, 5, 1, 2, 4)
        matte[0, latent] = 1
        mask = vace.pixel_mask(matte, 8)
        assert mask.shape == (17, 1, 16, 32)
        seen = wan.folded(mask, 8)[0].amax((1, 2, 3))
        assert seen[latent] == 1
        assert mask[4 * latent - 3 : 4 * latent + 1].all()
        assert not mask[: max(0, 4 * latent - 7)].any() and not mask[4 * latent + 5 :].any()


def test_later_windows_are_shown_the_keyframe(tiny_wan: Folders, controls: list[Any]) -> None:
    for choice, expected in (("later", [False, True]), ("never", [False, False]), ("always", [True, True])):
        controls.clear()
        Shot(tiny_wan("vace"), 16, (0,)).run(reference=choice)
        assert [references is not None for _, _, references in controls] == expected


def test_outside_the_matte_the_plate_is_untouched(tiny_wan: Folders) -> None:
    shot = Shot(tiny_wan("vace"), 11, (5,))
    frames = shot.run(guidance=2, prompt="a red disc")
    assert sorted(frames) == list(range(11))
    assert np.array_equal(composed(shot.plates[5], frames[5]), shot.painted[5])
    for number in (0, 4, 6, 10):
        edit = (shot.painted[number] != shot.plates[number]).any(-1)
        far = cv2.dilate(edit.astype(np.uint8), np.ones((21, 21), np.uint8)) == 0
        assert np.array_equal(composed(shot.plates[number], frames[number])[far], shot.plates[number][far])
    assert all(change.any() for change in shot.outputs("decode", "change"))


def test_latents_outside_the_matte_are_the_plates(tiny_wan: Folders) -> None:
    shot = Shot(tiny_wan("vace"), 9, (0,))
    shot.run(long_side=256)
    (painted,), (encoded,) = shot.outputs("paint"), shot.outputs("encode")
    (matte,) = shot.outputs("latent_matte", "matte")
    outside = np.broadcast_to(matte == 0, painted.shape)
    assert outside.any() and np.array_equal(painted[outside], encoded[outside])
    assert not np.array_equal(painted, encoded)


def test_reddened_channels_get_the_known_range_back() -> None:
    first = torch.randn(1, 1, 4, 6, 8, generator=torch.Generator().manual_seed(1))
    start = first.expand(1, 3, 4, 6, 8)

    def reddening(x: torch.Tensor, s: flow.Sigma) -> torch.Tensor:
        """A model that knows the clip, but for one channel that it moves away."""
        wrong = start.clone()
        wrong[:, :, 2] = 1.5 * wrong[:, :, 2] + 2
        return (x - wrong) / torch.as_tensor(s)

    found = vace.paint(reddening, start, flow.levels(6, 3.0), torch.Generator().manual_seed(2), first)
    assert torch.allclose(found, start, atol=1e-3)


def test_references_come_off_the_clip_again(tiny_wan: Folders) -> None:
    seen: list[int] = []

    def still(x: torch.Tensor, s: flow.Sigma) -> torch.Tensor:
        seen.append(x.shape[1])
        return torch.zeros_like(x)

    start = torch.randn(1, 3, 4, 6, 8)
    found = vace.paint(still, start, flow.levels(2, 1.0), torch.Generator(), start[:, :1], torch.randn(1, 2, 4, 6, 8))
    assert seen == [5, 5] and found.shape == start.shape


def test_model_of_another_kind_is_named(tiny_wan: Folders) -> None:
    with pytest.raises(PaintoverError, match="needs a VACE model of the Wan kind"):
        Shot(tiny_wan("i2v"), 3, (0,)).plan()
