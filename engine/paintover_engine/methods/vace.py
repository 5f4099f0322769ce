"""VACE's stages: the shot repainted inside the tracked matte by a VACE model of Wan's kind, from the draft's result.

prompt, encode, latent_matte  as `methods.flow_stages` has them
control         what the model is given: the plate, inside the matte the draft's result, the keyframes' own frames as
                they are painted; the mask; and the keyframe as a reference, for windows that do not start on it
paint           the window, by `diffusion.vace`
decode, result  as there
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import flow_stages, pictures
from paintover_engine.methods.flow_parameters import VaceParameters
from paintover_engine.methods.flow_stages import FirstFrameParameters, FlowPlanner, LaterFrames
from paintover_engine.methods.latents import Latents
from paintover_engine.methods.model_stage import memory_notes, wan_model, with_model
from paintover_engine.methods.stage import Context, KeyframeRef, Stage, stage
from paintover_engine.methods.window_stages import WindowParameters
from paintover_engine.methods.windows import Window

if TYPE_CHECKING:
    from paintover_engine.diffusion.wan import WanModel
    from paintover_engine.media.info import SourceInfo

STRENGTH = 0.8
"""For models whose `paintover.json` has no other."""


@dataclass(frozen=True, kw_only=True)
class ControlParameters(WindowParameters, LaterFrames):
    """reference: whether the keyframe is given as a further picture."""

    reference: bool


@dataclass(frozen=True)
class Control:
    """control: (T + references, channels, h, w). start: (T, C, h, w), the latents of the clip that is given. first: (1,
    C, h, w), those of its first frame. references: (R, C, h, w). All float32, in the window's order."""

    control: NDArray[np.float32]
    start: NDArray[np.float32]
    first: NDArray[np.float32]
    references: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PaintParameters(FirstFrameParameters):
    """As in `VaceParameters`, the model's own values resolved."""

    steps: int
    strength: float
    control: float
    prompt: str
    guidance: float


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VaceParameters, model: str) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    return _VacePlanner(info, keyframes, models.locate(model, "vace"), parameters).plan()


def gpu_memory(info: SourceInfo, parameters: VaceParameters, model: ModelFolder) -> int:
    """Bytes of GPU memory at most in the smallest tier, counted from shapes, with a model in bfloat16."""
    return flow_stages.gpu_memory(_VacePlanner(info, (), model, parameters))


class _VacePlanner(FlowPlanner):
    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], model: ModelFolder, parameters: VaceParameters
    ) -> None:
        prompts = (parameters.prompt, *([""] if parameters.guidance != 1 else []))
        super().__init__(info, keyframes, model, parameters, prompts)
        self._parameters = parameters
        self._strength = parameters.strength or model.default("strength", STRENGTH)

    def repaint(self, key: KeyframeRef, window: Window, walk: Sequence[tuple[Window, Stage]], more: bool) -> Stage:
        parameters = self._parameters
        return Stage(
            paint,
            PaintParameters(
                **self.of(window),
                prompts=self.prompts,
                strength=self._strength,
                **parameters.model_dump(include={"steps", "control", "prompt", "guidance", "seed"}),
            ),
            (
                self.window_latents(window),
                *self.matte_of(key, window),
                self._control(key, window, walk),
                *self.prompt_stages(),
            ),
            (*self.roots, key.digest),
            window.span,
            needs_keyframe=True,
            cost=1.3 * self._strength * parameters.steps * (1 + (parameters.guidance != 1)),
        )

    def _control(self, key: KeyframeRef, window: Window, walk: Sequence[tuple[Window, Stage]]) -> Stage:
        others = self.later_keyframes(window)
        shown = self._parameters.reference
        later = window.anchor != key.frame
        return Stage(
            control,
            ControlParameters(
                **self.of(window),
                later=tuple(window.index(other.frame) for other in others),
                reference=shown == "always" or (shown == "later" and later),
            ),
            (
                *self.tracked.of(key.frame, window.span),
                *self.matte_of(key, window),
                *self.handed_over(window, walk),
            ),
            (*self.roots, *(other.digest for other in others), key.digest),
            window.span,
            needs_keyframe=True,
            cost=6.0,
        )


@stage(output=Control)
@with_model(wan_model)
def control(context: Context, stage: Stage[ControlParameters, Control], model: WanModel) -> Control:
    """`Control` of a window."""
    import torch

    from paintover_engine.diffusion import vace, wan

    given = stage.parameters
    shown = np.stack([picture for picture, _ in flow_stages.tracked_pictures(context, stage)])
    video = torch.from_numpy(shown).permute(0, 3, 1, 2) * 2 - 1
    video[0] = flow_stages.first_picture(context, stage)[0]
    for place, painted in flow_stages.later_pictures(context, stage, given.later)[1].items():
        video[place] = painted[0]
    width, height = given.view.size
    factor = model.layout.factor
    blank = torch.zeros(1, wan.latent_frames(len(video)), 1, height // factor, width // factor)
    mask = vace.pixel_mask(flow_stages.matte_for(context, stage, blank), factor)
    mask[[0, *given.later]] = 0
    references = pictures.keyframe(context, given.view, stage.roots[-1]) if given.reference else None
    conditioning = model.control(video, mask, references)
    assert conditioning.control is not None
    start = model.encode(video)
    seen = [
        pictures.array(model.encode(picture[None])[0]) for picture in (references if references is not None else ())
    ]
    return Control(
        pictures.array(conditioning.control[0]),
        pictures.array(start[0]),
        pictures.array(start[0, :1]),
        np.concatenate(seen) if seen else np.zeros((0, *start.shape[2:]), np.float32),
    )


@stage(output=Latents)
@with_model(wan_model)
def paint(context: Context, stage: Stage[PaintParameters, Latents], model: WanModel) -> Latents:
    """`Latents` (T, C, h, w) of the painted window, in its order."""
    import torch

    from paintover_engine.diffusion import flowedit, vace, wan

    given, x0 = stage.parameters, flow_stages.latents_of(context, stage, model)
    (needed,) = stage.inputs_of(control)
    stored = context.load(needed)
    tensors = [
        pictures.tensor(a, model.device)[None] for a in (stored.control, stored.start, stored.first, stored.references)
    ]
    conditioning = wan.Conditioning(control=tensors[0], strength=given.control)
    velocity = flow_stages.velocity(context, stage, model, conditioning, given.prompt, given.guidance, "painting")
    levels = flowedit.start_levels(model.levels(given.steps), round(given.strength * given.steps))
    painted = vace.paint(
        velocity, tensors[1], levels, torch.Generator().manual_seed(given.seed), tensors[2], tensors[3]
    )
    edited = x0 + flow_stages.matte_for(context, stage, x0) * (painted - x0)
    return Latents(pictures.array(edited[0]))


notes = memory_notes
"""Sentences for a finished job."""
