"""FlowEdit's stages (Kulikov et al., ICCV 2025) on a model of Wan's kind, with the edited frame as the condition.

prompt, encode  as `methods.flow_stages` has them: all that is prepared while the artist paints
encode_draft    the draft's result of a window as latents, where the painting starts from it
edit            the window, by `diffusion.flowedit`; keyframes that stand later in it are given too, where the model was
                trained so
decode, result  as there

Nothing of the plate is inverted, and where nothing was edited the plate's own latents come back bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import flow_stages, pictures
from paintover_engine.methods.flow_parameters import FlowEditParameters
from paintover_engine.methods.flow_stages import FirstFrameParameters, FlowPlanner, LaterFrames
from paintover_engine.methods.latents import Latents
from paintover_engine.methods.model_stage import memory_notes, wan_model, with_model
from paintover_engine.methods.stage import Context, KeyframeRef, Stage, stage
from paintover_engine.methods.window_stages import WindowParameters
from paintover_engine.methods.windows import Window

if TYPE_CHECKING:
    from paintover_engine.diffusion.wan import WanModel
    from paintover_engine.media.info import SourceInfo

SHARE = 0.8
"""Of the steps that the edit is made in, for models whose `paintover.json` has no other."""


@dataclass(frozen=True, kw_only=True)
class EditParameters(FirstFrameParameters, LaterFrames):
    """As in `FlowEditParameters`, the model's own values resolved. `prompts` are those that are used, the edited
    shot's and the source's among them."""

    steps: int
    n_max: int
    n_avg: int
    prompt: str
    source_prompt: str
    guidance: float
    source_guidance: float


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: FlowEditParameters, model: str) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    return _FlowEditPlanner(info, keyframes, models.locate(model, "wan"), parameters).plan()


def gpu_memory(info: SourceInfo, parameters: FlowEditParameters, model: ModelFolder) -> int:
    """Bytes of GPU memory at most in the smallest tier, counted from shapes, with a model in bfloat16."""
    return flow_stages.gpu_memory(_FlowEditPlanner(info, (), model, parameters))


class _FlowEditPlanner(FlowPlanner):
    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], model: ModelFolder, parameters: FlowEditParameters
    ) -> None:
        guided = parameters.guidance != 1 or parameters.source_guidance != 1
        prompts = (parameters.prompt, parameters.source_prompt, *([""] if guided else []))
        super().__init__(info, keyframes, model, parameters, prompts)
        self._parameters = parameters
        self._later = models.wan_layout(model.path).later
        own = max(1, round(model.default("n_max_share", SHARE) * parameters.steps))
        self._n_max = min(parameters.n_max or own, parameters.steps)

    @property
    def takes_later_frames(self) -> bool:
        return self._later

    def repaint(self, key: KeyframeRef, window: Window, walk: Sequence[tuple[Window, Stage]], more: bool) -> Stage:
        parameters = self._parameters
        later = self.later_keyframes(window) if self._later else []
        keys = (key, *later)
        return Stage(
            edit,
            EditParameters(
                **self.of(window),
                later=tuple(window.index(other.frame) for other in later),
                prompts=self.prompts,
                n_max=self._n_max,
                **parameters.model_dump(
                    include={"steps", "n_avg", "prompt", "source_prompt", "guidance", "source_guidance", "seed"}
                ),
            ),
            (
                self.window_latents(window),
                *(tracked for each in keys for tracked in self.matte_of(each, window)),
                *(draft for each in keys for draft in self._draft(each, window)),
                *self.prompt_stages(),
                *self.handed_over(window, walk),
            ),
            (*self.roots, *(other.digest for other in later), key.digest),
            window.span,
            needs_keyframe=True,
            cost=2.0 * self._n_max * parameters.n_avg,
        )

    def _draft(self, key: KeyframeRef, window: Window) -> tuple[Stage, ...]:
        """The stage with the draft's latents, where the painting starts from them."""
        if self._parameters.start != "draft":
            return ()
        inputs = self.tracked.of(key.frame, window.span)
        parameters, roots = WindowParameters(**self.of(window)), (*self.roots, key.digest)
        return (Stage(encode_draft, parameters, inputs, roots, window.span, needs_keyframe=True, cost=3.0),)


@stage(output=Latents)
@with_model(wan_model)
def encode_draft(context: Context, stage: Stage[WindowParameters, Latents], model: WanModel) -> Latents:
    """`Latents` (T, C, h, w) of the draft's result in a window, in its order."""
    import torch

    shown = np.stack([picture for picture, _ in flow_stages.tracked_pictures(context, stage)])
    clip = torch.from_numpy(shown).permute(0, 3, 1, 2) * 2 - 1
    return Latents(pictures.array(model.encode(clip)[0]))


@stage(output=Latents)
@with_model(wan_model)
def edit(context: Context, stage: Stage[EditParameters, Latents], model: WanModel) -> Latents:
    """`Latents` (T, C, h, w) of the edited window, in its order."""
    import torch

    from paintover_engine.diffusion import flowedit

    given = stage.parameters
    x0 = flow_stages.latents_of(context, stage, model)
    first = flow_stages.first_picture(context, stage)
    later = flow_stages.later_pictures(context, stage, given.later)
    shown = pictures.plate(context, given.view, given.window[0]), first
    of_source, of_edit = (
        model.condition(picture, len(given.window), others) for picture, others in zip(shown, later, strict=True)
    )
    source = flow_stages.velocity(
        context, stage, model, of_source, given.source_prompt, given.source_guidance, "looking at"
    )
    edited = flow_stages.velocity(context, stage, model, of_edit, given.prompt, given.guidance, "painting")
    drafts = [
        pictures.tensor(context.load(needed).latents, model.device)[None] for needed in stage.inputs_of(encode_draft)
    ]
    latents = flowedit.edit(
        source,
        edited,
        x0,
        flowedit.start_levels(model.levels(given.steps), given.n_max),
        torch.Generator().manual_seed(given.seed),
        matte=flow_stages.matte_for(context, stage, x0),
        known=flowedit.Known(
            first=model.encode(first), start=flowedit.by_distance(drafts, (0, *given.later)) if drafts else None
        ),
        average=given.n_avg,
    )
    return Latents(pictures.array(latents[0]))


notes = memory_notes
"""Sentences for a finished job."""
