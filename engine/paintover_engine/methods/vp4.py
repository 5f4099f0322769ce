"""VP4's stages (VP4: visual prompting for video editing, CVPR 2025): what each reads, computes by `diffusion.vp4` and
returns.

encode       the plate's frames as latents
exemplar     the keyframe's frame before and after the edit, and the edit's direction as the prompt
sample       the edited latents of each frame, by content-consistency sampling
consistency  those after temporal-content consistency over a stretch of frames
decode       the edited picture less the plate's, both decoded
result       that change composited over the plate, at its own size, inside the tracked matte

Frames are independent up to `consistency`, which reads one chunk to either side: memory does not grow with the shot.
Between two keyframes every frame is sampled from both and blended by nearness.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.detail import Framing
from paintover_engine.compose.flow import flow_size, unpack
from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import latents, pictures, repaint
from paintover_engine.methods.latents import EncodeParameters, Latents, encoded_frames, plate_latents
from paintover_engine.methods.model_stage import inpaint_model, memory_notes, with_model
from paintover_engine.methods.parameters import VP4Parameters
from paintover_engine.methods.pictures import ModelView, ViewParameters
from paintover_engine.methods.planning import CHUNK, chunk_starts, length, outward
from paintover_engine.methods.repaint import (
    ChangedPictures,
    CompositeParameters,
    DecodeParameters,
    Planner,
    RepaintedSpan,
)
from paintover_engine.methods.stage import Context, KeyframeRef, Stage, stage
from paintover_engine.methods.tracked_matte import TrackedStages
from paintover_engine.methods.tracking import flow

if TYPE_CHECKING:
    from paintover_engine.diffusion.inpaint import InpaintModel
    from paintover_engine.diffusion.vp4 import FlowPair
    from paintover_engine.media.info import SourceInfo

STRENGTH, GUIDANCE = 0.8, 7.5
"""For models whose `paintover.json` has no others: the strength below which the network's errors are no longer
multiplied by ten, and the guidance that Stable Diffusion 1.5 and InfEdit take."""

_WIDEST = 2.0
"""Width over height, or the other way round, up to which a cell's short side keeps its length."""

# What the stages depend on, and what they return.


@dataclass(frozen=True, kw_only=True)
class ExemplarParameters(ViewParameters):
    """As in `VP4Parameters`."""

    lambda1: float
    prompt: Literal["offset", "literal"]


@dataclass(frozen=True, kw_only=True)
class SampleParameters(ViewParameters):
    """As in `VP4Parameters`, the model's own values resolved."""

    strength: float
    guidance: float
    steps: int
    lambda2: float
    sampling: Literal["consistency", "plain"]
    branches: Literal["unedited", "same", "region"]
    cloning: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class ConsistencyParameters(ViewParameters):
    """stretch: the first and the last frame that are made consistent with each other."""

    consistency: Literal["residual", "literal", "none"]
    consistency_steps: int
    eta: float
    stretch: tuple[int, int]


@dataclass(frozen=True)
class ShownEdit:
    """source, edited: (1, 4, h, w), scaled latents of the keyframe's frame before and after the edit. prompt, null:
    (1, tokens, width), the edit's direction and the empty prompt. All float32."""

    source: NDArray[np.float32]
    edited: NDArray[np.float32]
    prompt: NDArray[np.float32]
    null: NDArray[np.float32]


@dataclass(frozen=True)
class Sampled(Latents):
    """evaluations: (1,), grids that passed through the network."""

    evaluations: NDArray[np.int64]


# The plan.


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VP4Parameters, model: str) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    return _VP4Planner(info, keyframes, parameters, models.locate(model, "inpaint")).plan()


class _VP4Planner(Planner):
    """A chunk's stages: `encode` → `sample` → `consistency`, which reads its neighbours' samples too → `decode`."""

    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VP4Parameters, model: ModelFolder
    ) -> None:
        models.locate_clip(model)  # fails now rather than in the middle of the job
        shape = cell_shape(model)
        short = parameters.cell or shape.short
        aspect = min(_WIDEST, max(info.width, info.height) / min(info.width, info.height))
        view = ModelView.of(info, model, round(short * short * aspect), shape.multiple)
        composite = CompositeParameters(matte=parameters.matte, softness=parameters.softness)
        super().__init__(info, keyframes, model, view, composite, repaint.result)
        self._parameters = parameters
        self._sampling = SampleParameters(
            view=view,
            strength=parameters.strength or model.default("strength", STRENGTH),
            guidance=parameters.guidance or model.default("guidance", GUIDANCE),
            **parameters.model_dump(include={"steps", "lambda2", "sampling", "branches", "cloning", "seed"}),
        )

    def prepare(self) -> None:
        for first in chunk_starts(self.info.first, self.info.last):
            self.stages.add(self._encode(first))

    def walk(self, key: KeyframeRef, end: int) -> Iterator[RepaintedSpan]:
        spans = outward(key.frame, end)
        samples = [self._sample(key, span) for span in spans]
        for index, span in enumerate(spans):
            around = sorted(samples[max(0, index - 1) : index + 2], key=lambda stage: stage.frames)
            decoded = Stage(
                decode,
                DecodeParameters(view=self.view, written=span),
                (self._consistency(key, span, around), self._encode(span[0])),
                (*self.roots, key.digest),
                span,
                needs_keyframe=True,
                cost=0.5 * length(span),
            )
            yield RepaintedSpan(key, span, (self.stages.add(decoded),))

    def _sample(self, key: KeyframeRef, span: tuple[int, int]) -> Stage:
        passes = self._parameters.steps * (1 if self._parameters.branches == "region" else 2)
        return Stage(
            sample,
            self._sampling,
            (self._exemplar(key), self._encode(span[0])),
            (*self.roots, key.digest),
            span,
            needs_keyframe=True,
            cost=passes * length(span),
        )

    def _exemplar(self, key: KeyframeRef) -> Stage:
        parameters = ExemplarParameters(
            view=self.view, lambda1=self._parameters.lambda1, prompt=self._parameters.prompt
        )
        roots = (*self.roots, key.digest)
        return Stage(exemplar, parameters, (), roots, (key.frame, key.frame), needs_keyframe=True, cost=1.0)

    def _encode(self, frame: int) -> Stage:
        """The latents of the chunk of the absolute grid that a frame lies in."""
        first = frame // CHUNK * CHUNK
        frames = (max(first, self.info.first), min(first + CHUNK - 1, self.info.last))
        parameters = EncodeParameters(view=self.view)
        return Stage(latents.encode, parameters, (), self.roots, frames, cost=0.3 * length(frames))

    def _consistency(self, key: KeyframeRef, span: tuple[int, int], samples: Sequence[Stage]) -> Stage:
        """The consistent latents of a span. The inputs are the keyframe's exemplar, the samples of the span and of the
        chunks beside it, the plate's latents of those, and the motion between them."""
        first, last = samples[0].frames[0], samples[-1].frames[1]
        stretch = (key.frame if key.frame + 1 == first else first, key.frame if key.frame - 1 == last else last)
        flows = [stage for stage in self._flows() if stage.frames[0] < stretch[1] and stage.frames[1] >= stretch[0]]
        encodes = [self._encode(start) for start in chunk_starts(first, last)]
        return Stage(
            consistency,
            ConsistencyParameters(
                view=self.view,
                stretch=stretch,
                **self._parameters.model_dump(include={"consistency", "consistency_steps", "eta"}),
            ),
            (self._exemplar(key), *samples, *encodes, *flows),
            (*self.roots, key.digest),
            span,
            needs_keyframe=True,
            cost=0.5 * length(span),
        )

    def _flows(self) -> list[Stage]:
        """The draft's flow stages of the whole shot."""
        return [stage for stage in TrackedStages(self.info, []).prepared if stage.function is flow]


@dataclass(frozen=True)
class CellShape:
    """Of a cell's picture, in pixels. short: its short side; multiple: what its sides are multiples of."""

    short: int
    multiple: int


def cell_shape(model: ModelFolder) -> CellShape:
    """Read off the configuration: a cell is half a picture that the model was trained on."""
    unet, vae = (models.read_json(model.path / part / "config.json") for part in ("unet", "vae"))
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    multiple = max(factor, factor * 2 ** (len(unet["block_out_channels"]) - 1) // 2)
    return CellShape(int(unet["sample_size"]) * factor // 2, multiple)


def _numbers(span: tuple[int, int]) -> range:
    return range(span[0], span[1] + 1)


# The stages.


@stage(output=ShownEdit)
@with_model(inpaint_model)
def exemplar(context: Context, stage: Stage[ExemplarParameters], model: InpaintModel) -> ShownEdit:
    """`ShownEdit`: the keyframe's frame before and after the edit, and the edit's direction."""
    parameters = stage.parameters
    plate = pictures.plate(context, parameters.view, stage.frames[0])
    edited = pictures.keyframe(context, parameters.view, stage.roots[-1])
    shown = model.exemplar(plate, edited, parameters.lambda1, parameters.prompt)
    return ShownEdit(*map(pictures.array, (shown.source, shown.edited, shown.prompt, shown.null)))


@stage(output=Sampled)
@with_model(inpaint_model)
def sample(context: Context, stage: Stage[SampleParameters], model: InpaintModel) -> Sampled:
    """`Sampled`: the edited latents of the stage's frames."""
    import torch

    from paintover_engine.diffusion import ddim, vp4
    from paintover_engine.diffusion.inpaint import Exemplar

    parameters = stage.parameters
    shown = context.load(stage.inputs[0])
    conditioning = Exemplar(
        *(pictures.tensor(each, model.device) for each in (shown.source, shown.edited, shown.prompt, shown.null))
    )
    source = pictures.tensor(plate_latents(context, stage.inputs, _numbers(stage.frames)), model.device)
    settings = vp4.VP4Settings(
        steps=parameters.steps,
        strength=parameters.strength,
        lambda2=parameters.lambda2,
        branches=parameters.branches,
        guidance=parameters.guidance,
        cloning=parameters.cloning,
        seed=parameters.seed,
    )
    schedule = ddim.levels(model.alphas, settings.steps, settings.strength)
    words, before, edited = f"frames {stage.frames[0]} to {stage.frames[1]}", model.evaluations, []
    for frames in torch.split(source, model.frames_at_once(source.shape[-2], source.shape[-1], CHUNK)):
        prompt = vp4.VisualPrompt(model, conditioning, frames, settings, context.check, words)
        if parameters.sampling == "plain":
            edited.append(ddim.ddim(prompt.estimate, frames, schedule, prompt.draw))
        else:
            edited.append(vp4.consistency_sampling(prompt.estimates, frames, schedule, prompt.draw, settings.lambda2))
    evaluations = np.array([model.evaluations - before])
    return Sampled(np.concatenate([pictures.array(part) for part in edited]), evaluations)


@stage(output=Latents, version=2)
def consistency(context: Context, stage: Stage[ConsistencyParameters]) -> Latents:
    """`Latents` of a span after temporal-content consistency."""
    import torch

    from paintover_engine.diffusion import svgd
    from paintover_engine.diffusion.denoiser import require_finite

    parameters = stage.parameters
    shown, *rest = stage.inputs
    samples, encodes, flows = (
        [needed for needed in rest if needed.function is function] for function in (sample, latents.encode, flow)
    )
    first, last = parameters.stretch
    edited = {**_sampled(context, samples)}
    source = {**encoded_frames(context, encodes)}
    key = shown.frames[0]
    if first <= key <= last:  # the keyframe's edit is known: it is held, and its neighbours become consistent with it
        pair = context.load(shown)
        edited[key], source[key] = pair.edited[0], pair.source[0]
    z_e, z_s = (torch.from_numpy(np.stack([known[n] for n in range(first, last + 1)])) for known in (edited, source))
    held = torch.tensor([number == key for number in range(first, last + 1)])
    steps, eta = parameters.consistency_steps, parameters.eta
    if parameters.consistency == "residual":
        around = svgd.neighbours(z_s, *_motion(context, parameters, flows, (z_e.shape[3], z_e.shape[2])))
        z_e = svgd.smoothed(z_e, z_s, around, held, steps=steps, eta=eta, check=context.check)
    elif parameters.consistency == "literal":
        z_e = svgd.literal(z_e, z_s, steps=steps, eta=eta)
        require_finite(z_e, f"evening frames {first} to {last}", f"η = {eta:g} a step", "a lower eta")
    return Latents(z_e[stage.frames[0] - first : stage.frames[1] - first + 1].numpy())


@stage(output=ChangedPictures)
@with_model(inpaint_model)
def decode(context: Context, stage: Stage[DecodeParameters], model: InpaintModel) -> ChangedPictures:
    """`ChangedPictures` of the stage's frames."""
    consistent, encoded = stage.inputs
    change = []
    source = plate_latents(context, [encoded], _numbers(stage.frames))
    for edited, plain in zip(context.load(consistent).latents, source, strict=True):
        context.check()
        decoded = model.decode(pictures.tensor(np.stack([edited, plain]), model.device))
        shown, unedited = pictures.pictures(decoded)
        change.append(shown - unedited)
    return ChangedPictures(np.stack(change).astype(np.float16))


notes = memory_notes
"""Sentences for a finished job."""


# What the stages read.


def _sampled(context: Context, stages: Sequence[Stage]) -> dict[int, NDArray[np.float32]]:
    """The edited latents (4, h, w) of each frame of `sample` stages."""
    found: dict[int, NDArray[np.float32]] = {}
    for needed in stages:
        found |= dict(zip(_numbers(needed.frames), context.load(needed).latents, strict=True))
    return found


def _motion(
    context: Context, parameters: ConsistencyParameters, flows: Sequence[Stage], size: tuple[int, int]
) -> FlowPair:
    """The plate's motion between the frames of a stretch, on the grid of the latents. size: its width and height."""
    import torch

    from paintover_engine.diffusion.vp4 import FlowPair

    first, last = parameters.stretch
    packed = {
        number: (stored.forward[number - chunk.frames[0]], stored.backward[number - chunk.frames[0]])
        for chunk in flows
        for stored in [context.load(chunk)]
        for number in _numbers(chunk.frames)
    }
    cell, inner = parameters.view.size, parameters.view.inner
    fields = flow_size(context.info.width, context.info.height)
    within = (round(inner[0] * size[0] / cell[0]), round(inner[1] * size[1] / cell[1]))
    framing = Framing(fields, size, within)
    scale = np.array([within[0] / fields[0], within[1] / fields[1]], np.float32)
    moved = [[framing.to_model(unpack(field)) * scale for field in packed[number]] for number in range(first, last)]
    empty = np.zeros((0, size[1], size[0], 2), np.float32)
    forward, backward = (np.stack([pair[i] for pair in moved]) if moved else empty for i in (0, 1))
    return FlowPair(torch.from_numpy(forward), torch.from_numpy(backward))
