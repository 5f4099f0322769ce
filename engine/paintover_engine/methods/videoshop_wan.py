"""Videoshop's stages on a model of Wan's kind: the same method (`methods.videoshop`) in the flow's variables.

encode          as `methods.flow_stages` has it
invert          a window's latents, inverted on its first frame; of the plate alone
denoise         the window from there on the edited first frame, in that frame's range
decode, result  as there
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.methods import flow_stages, pictures
from paintover_engine.methods.flow_stages import FirstFrameParameters, FlowPlanner
from paintover_engine.methods.latents import Latents
from paintover_engine.methods.model_stage import wan_model, with_model
from paintover_engine.methods.parameters import VideoshopParameters
from paintover_engine.methods.stage import Context, KeyframeRef, Stage, stage
from paintover_engine.methods.windows import Window

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.videoshop_flow import Inversion
    from paintover_engine.diffusion.wan import WanModel
    from paintover_engine.media.info import SourceInfo

STRENGTH, THRESHOLD = 0.67, 0.1
"""For models whose `paintover.json` has no others: where half of the noise is gone with Wan's shift, and the threshold
that inverted best on exact flows."""

_OF_SVD: dict[str, tuple[Any, ...]] = {
    "normalisation": ("auto", "none"),
    "condition": ("auto",),
    "handover": ("anchored",),
    "guidance": (0.0, 1.0),
    "noise_aug": (-1.0,),
    "inversion": ("extrapolation", "naive", "midpoint", "noise", "none"),
}
"""What of the parameters Wan has a meaning for."""


@dataclass(frozen=True, kw_only=True)
class InvertParameters(FirstFrameParameters):
    """As in `VideoshopParameters`, the model's own values resolved."""

    steps: int
    strength: float
    inversion: Literal["extrapolation", "naive", "midpoint", "noise", "none"]
    threshold: float
    refinements: int


@dataclass(frozen=True, kw_only=True)
class DenoiseParameters(InvertParameters):
    """Beside these, as in `VideoshopParameters`."""

    rescaling: Literal["match", "paper", "undo", "none"]


@dataclass(frozen=True)
class Inverted:
    """state: (T, C, h, w) float32, a window's latents at the level where its painting starts."""

    state: NDArray[np.float32]


class VideoshopWanPlanner(FlowPlanner):
    """A window's stages: `encode` → `invert` → `denoise` → `decode`. Each `denoise` but a keyframe's first has the
    `decode` before as its last input. Raises PaintoverError for parameters that are for Stable Video Diffusion."""

    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VideoshopParameters, model: ModelFolder
    ) -> None:
        _check(parameters, model)
        super().__init__(info, keyframes, model, parameters, [""])
        self._settings = {
            "prompts": self.prompts,
            "strength": parameters.strength or model.default("strength", STRENGTH),
            "threshold": parameters.threshold or model.default("threshold", THRESHOLD),
            **parameters.model_dump(include={"steps", "inversion", "refinements", "seed"}),
        }
        self._inverts = parameters.inversion != "none"
        own = model.settings.get("rescaling", "match")
        self._rescaling = own if parameters.rescaling == "auto" else parameters.rescaling
        passes = 1 + parameters.refinements + (parameters.inversion == "midpoint")
        self._cost = passes * max(1.0, parameters.steps * self._settings["strength"])

    def prepare_window(self, window: Window, walk: Sequence[Window]) -> None:
        for prepared in (self.window_latents(window), *self._inverted(window)):
            self.stages.add(prepared)

    def _inverted(self, window: Window) -> tuple[Stage, ...]:
        """The stage that inverts a window; none where the painting starts from pure noise."""
        if not self._inverts:
            return ()
        parameters = InvertParameters(**self.of(window), **self._settings)
        inputs: tuple[Stage, ...] = (self.window_latents(window), *self.prompt_stages())
        return (Stage(invert, parameters, inputs, self.roots, window.span, cost=self._cost),)

    def repaint(self, key: KeyframeRef, window: Window, walk: Sequence[tuple[Window, Stage]], more: bool) -> Stage:
        return Stage(
            denoise,
            DenoiseParameters(**self.of(window), **self._settings, rescaling=self._rescaling),
            (
                self.window_latents(window),
                *self._inverted(window),
                *self.matte_of(key, window),
                *self.prompt_stages(),
                *self.handed_over(window, walk),
            ),
            (*self.roots, key.digest),
            window.span,
            needs_keyframe=True,
            cost=self._cost,
        )


def _check(parameters: VideoshopParameters, model: ModelFolder) -> None:
    for name, allowed in _OF_SVD.items():
        value = getattr(parameters, name)
        if value not in allowed:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"The parameter {name} of videoshop takes {' or '.join(map(str, allowed))} with the model "
                f"'{model.name}', not {value}: that is for Stable Video Diffusion.",
            )


@stage(output=Inverted)
@with_model(wan_model)
def invert(context: Context, stage: Stage[InvertParameters, Inverted], model: WanModel) -> Inverted:
    """`Inverted` of a window, on its first frame."""
    from paintover_engine.diffusion import videoshop_flow

    given, x0 = stage.parameters, flow_stages.latents_of(context, stage, model)
    first = pictures.plate(context, given.view, given.window[0])
    velocity = flow_stages.velocity(
        context, stage, model, model.condition(first, len(given.window)), "", 1.0, "inverting"
    )
    state = videoshop_flow.invert(
        velocity, x0, _levels(model, given), _noise(x0, given), _how(given), given.threshold, given.refinements
    )
    return Inverted(pictures.array(state[0]))


@stage(output=Latents)
@with_model(wan_model)
def denoise(context: Context, stage: Stage[DenoiseParameters, Latents], model: WanModel) -> Latents:
    """`Latents` (T, C, h, w) of the edited window, in its order."""
    from paintover_engine.diffusion import videoshop_flow

    given, x0 = stage.parameters, flow_stages.latents_of(context, stage, model)
    first = flow_stages.first_picture(context, stage)
    velocity = flow_stages.velocity(
        context, stage, model, model.condition(first, len(given.window)), "", 1.0, "painting"
    )
    levels, rescaling = _levels(model, given), given.rescaling
    inverted = stage.inputs_of(invert)
    if inverted:
        state = pictures.tensor(context.load(inverted[0]).state, model.device)[None]
    else:
        state, levels, rescaling = _noise(x0, given), model.levels(given.steps), "none"
    painted = videoshop_flow.paint(velocity, state, levels, model.encode(first), _how(given), rescaling)
    edited = x0 + flow_stages.matte_for(context, stage, x0) * (painted - x0)
    return Latents(pictures.array(edited[0]))


def _how(given: InvertParameters) -> Inversion:
    return "extrapolation" if given.inversion == "none" else given.inversion


def _levels(model: WanModel, given: InvertParameters) -> Tensor:
    from paintover_engine.diffusion import videoshop_flow

    return videoshop_flow.inverted_levels(model.levels(given.steps), given.strength)


def _noise(x0: Tensor, given: InvertParameters) -> Tensor:
    from paintover_engine.diffusion import schedule

    return schedule.noise_like(x0, given.seed)
