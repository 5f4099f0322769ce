"""The methods on the small Wan model that ships, on clips whose true edit is known and that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import flowedit as algorithm
from paintover_engine.diffusion import models, schedule, videoshop_flow, wan
from paintover_engine.diffusion.wan import WanModel
from paintover_engine.methods import flowedit, videoshop
from paintover_engine.methods.flow_parameters import FlowEditParameters
from paintover_engine.methods.flow_stages import decode
from paintover_engine.methods.parameters import VideoshopParameters
from paintover_evaluation.clips import ClipCase, EditKind, explained, random_case
from paintover_evaluation.window_clips import random_clip

from tests.engine.methods.shots import MemoryShot, refs

MODEL = "small-wan"
pytestmark = pytest.mark.skipif(MODEL not in models.found("wan"), reason="the small model is not in this checkout")
KINDS: tuple[EditKind, ...] = ("recolour", "mark")
STEPS = 10


@cache
def case(seed: int, kind: EditKind, windows: int = 1) -> ClipCase:
    return random_case(np.random.default_rng(seed), kind, partial(random_clip, windows=windows))


@pytest.fixture(scope="module")
def model() -> WanModel:
    torch.set_num_threads(1)
    return wan.load(models.locate(MODEL, "wan").path, "wan", "cpu")


def latents(model: WanModel, clip: NDArray[np.float32]) -> torch.Tensor:
    return model.encode(torch.from_numpy(clip).permute(0, 3, 1, 2) * 2 - 1)


def on(model: WanModel, clip: NDArray[np.float32]) -> Any:
    """The velocity on a clip's first frame. The model knows no words: of 512 equal tokens it sees one."""
    first = torch.from_numpy(clip[:1]).permute(0, 3, 1, 2) * 2 - 1
    return model.velocity(model.condition(first, len(clip)), torch.zeros(1, 1, model.layout.text))


def matte_of(one: ClipCase) -> torch.Tensor:
    return algorithm.latent_matte(torch.from_numpy(one.region[:, None].astype(np.float32)), 4)


def shown(model: WanModel, one: ClipCase, edited: torch.Tensor) -> NDArray[np.float32]:
    """The source with what the edit changes."""
    change = (model.decode(edited) - model.decode(latents(model, one.source))) / 2
    result: NDArray[np.float32] = one.source + change.permute(0, 2, 3, 1).numpy()
    return result


def by_flowedit(model: WanModel, one: ClipCase, seed: int = 1, **others: Any) -> NDArray[np.float32]:
    x0, levels = latents(model, one.source), algorithm.start_levels(model.levels(STEPS), 3)
    edited = algorithm.edit(
        on(model, one.source), on(model, one.truth), x0, levels, torch.Generator().manual_seed(seed),
        matte=matte_of(one), known=algorithm.Known(first=latents(model, one.truth[:1])), **others,
    )  # fmt: skip
    return shown(model, one, edited)


def by_noise_alone(model: WanModel, one: ClipCase, seed: int = 1) -> NDArray[np.float32]:
    x0 = latents(model, one.source)
    noise = schedule.noise_like(x0, seed)
    painted = videoshop_flow.paint(on(model, one.truth), noise, model.levels(STEPS), x0[:, :1], "naive", "none")
    return shown(model, one, x0 + matte_of(one) * (painted - x0))


SEEDS = range(91000, 91002)


@pytest.mark.parametrize("kind", KINDS)
def test_flowedit_carries_the_edit_and_generation_does_not(model: WanModel, kind: EditKind) -> None:
    """The motion comes from the source: from noise alone it is guessed."""
    cases = [case(seed, kind) for seed in SEEDS]
    carried = np.mean([explained(by_flowedit(model, one), one) for one in cases])
    guessed = np.mean([explained(by_noise_alone(model, one), one) for one in cases])
    assert carried > 0.75
    assert carried > guessed + 0.1


def test_identity_edit_is_exact(model: WanModel) -> None:
    one = case(91010, "recolour")
    x0, same = latents(model, one.source), on(model, one.source)
    found = algorithm.edit(
        same, same, x0, model.levels(4), torch.Generator().manual_seed(1), matte=torch.ones_like(x0[:, :, :1])
    )
    assert torch.equal(found, x0)


def test_latent_0_is_the_first_frame_alone(model: WanModel) -> None:
    clip = case(91011, "mark").source
    assert torch.equal(latents(model, clip)[:, :1], latents(model, clip[:1]))


# Through the stages.


@dataclass(eq=False)
class Shot(MemoryShot):
    """A case's clip with its first frame painted."""

    one: ClipCase

    def __post_init__(self) -> None:
        self.plates = [np.round(frame * 255).astype(np.uint8) for frame in self.one.source]
        self.painted = [np.round(frame * 255).astype(np.uint8) for frame in self.one.truth]

    def repainted(self, method: str, **parameters: Any) -> NDArray[np.float32]:
        """The source with what the model changed."""
        if method == "flowedit":
            plan = flowedit.plan(self.info, refs((0,)), FlowEditParameters(steps=STEPS, **parameters), MODEL)
        else:
            plan = videoshop.plan(self.info, refs((0,)), VideoshopParameters(steps=STEPS, **parameters), MODEL)
        self.run_stages(plan, lambda stage: not stage.publishes)
        result = self.one.source.copy()
        for stage in plan:
            if stage.function is decode:
                first, last = stage.parameters.written
                result[first : last + 1] += self.load(stage).change
        return result


@pytest.mark.parametrize(("method", "windows", "least"), [("flowedit", 2, (0.85, 0.7)), ("videoshop", 1, (0.75,))])
def test_stages_carry_the_edit(method: str, windows: int, least: tuple[float, ...]) -> None:
    """The second window starts on what the first has made; the matte keeps the rest of the picture."""
    one = case(91021, "recolour", windows=windows)
    result = Shot(one=one).repainted(method)
    for number, wanted in enumerate(least, 1):
        assert explained(result, one, 8 * number) > wanted
    assert np.abs(result - one.truth)[~one.region].mean() < 0.06
