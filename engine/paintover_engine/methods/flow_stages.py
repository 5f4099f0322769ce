"""What the methods share that repaint a shot with a video model of Wan's kind: the stages around their own, and how
they follow from each other.

prompt        a prompt's embeddings; of the model alone, so that its text encoder is loaded once
encode        a window's frames of the plate as latents; of the plate alone
latent_matte  where the edit applies in these latents: the tracked matte, dilated and soft
decode        the edited picture less the unedited one, of some latents at a time, so that a window's first frames are
              there before its last ones
result        that change composited over the plate (`methods.repaint`)

A window's latents are of its frames in its own order, for the VAE looks back in time: one that walks backward through
the shot is encoded backward. Each window starts on a frame that the one before has repainted. It is handed over in the
edit alone: the plate's frame, and the change inside the matte. Between two keyframes that one window holds, a model
that was trained on clips with later frames given is given both, and one window is all there is; else the frames have
the windows of both sides, blended by confidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.layer import PlateRegion
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import pictures, repaint, window_stages
from paintover_engine.methods.flow_parameters import WanParameters
from paintover_engine.methods.latents import Latents
from paintover_engine.methods.model_stage import text_model, wan_model, with_model
from paintover_engine.methods.parameters import VideoshopParameters
from paintover_engine.methods.pictures import ModelView, ViewParameters
from paintover_engine.methods.planning import Span, length
from paintover_engine.methods.repaint import ChangedPictures, CompositeParameters, RepaintedSpan
from paintover_engine.methods.stage import Context, KeyframeRef, Stage, stage
from paintover_engine.methods.tracking import load_layer, load_paint, matte, propagate
from paintover_engine.methods.window_stages import WindowDecodeParameters, WindowParameters, WindowPlanner
from paintover_engine.methods.windows import Grid, Window

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.flow import Velocity
    from paintover_engine.diffusion.prompt import TextModel
    from paintover_engine.diffusion.wan import Conditioning, WanModel
    from paintover_engine.media.info import SourceInfo

DECODED_LATENTS = 4
"""That are decoded by one stage: of 81 frames the first twelve are there after a fifth of the decoding."""

ROUNDING = 1e-5
"""A difference of pictures in -1..1 that is none: what was not painted is to be the plate's own, bit for bit."""

# What the stages depend on, and what they return.


@dataclass(frozen=True, kw_only=True)
class PromptParameters(ViewParameters):
    """prompt: the words."""

    prompt: str


@dataclass(frozen=True)
class Prompt:
    """embeddings: (tokens, width) float32."""

    embeddings: NDArray[np.float32]


@dataclass(frozen=True)
class LatentMatte:
    """matte: (T, 1, h, w) float32 in 0..1, of a window's latents in its order."""

    matte: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FirstFrameParameters(WindowParameters):
    """Of a stage that needs the edited first frame of its window. prompts: what its inputs that are prompts say, in
    their order. seed: of all random numbers."""

    prompts: tuple[str, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class LaterFrames:
    """later: where keyframes stand in the window beside its first frame, as they are given to the model; their digests
    are the roots before the last."""

    later: tuple[int, ...]


# The plan.


class FlowPlanner(WindowPlanner):
    """Declares `encode` → … → `decode` of each window; a subclass declares what is between (`repaint`)."""

    def __init__(
        self,
        info: SourceInfo,
        keyframes: Sequence[KeyframeRef],
        model: ModelFolder,
        parameters: WanParameters | VideoshopParameters,
        prompts: Iterable[str],
    ) -> None:
        """prompts: those that the method's stages use, in any order."""
        area = window_stages.working_area(info, model, parameters.long_side)
        view = window_stages.video_view(info, model, area, parameters.fit)
        composite = CompositeParameters(matte=parameters.matte, softness=parameters.softness)
        super().__init__(info, keyframes, model, view, composite, repaint.result, "anchored")
        self.model = model
        self.prompts = tuple(sorted(set(prompts)))
        self.grid = Grid(info.first, info.last, _window_length(info, self.shape.frames))

    @property
    def tracks(self) -> bool:
        """Whether the edit applies inside the tracked matte alone."""
        return self.composite.matte == "tracked"

    def prepare(self) -> None:
        for embedded in self.prompt_stages():
            self.stages.add(embedded)
        super().prepare()

    def prepare_window(self, window: Window, walk: Sequence[Window]) -> None:
        self.stages.add(self.window_latents(window))

    def repainted(self, window: Window, stage: Stage) -> Iterator[tuple[Span, tuple[Stage, ...]]]:
        for span in _decoded_spans(window):
            yield span, (self.stages.add(self._decoded(window, span, stage)),)

    def _decoded(self, window: Window, span: Span, edited: Stage) -> Stage:
        return Stage(
            decode,
            WindowDecodeParameters(**self.of(window), written=span),
            (edited, self.window_latents(window)),
            edited.roots,
            span,
            needs_keyframe=True,
            cost=4.0 * length(span) / len(window.frames),
        )

    def _add_between(self, before: KeyframeRef, after: KeyframeRef, span: Span) -> None:
        window = self.grid.between(before.frame, after.frame)
        if window is None or not self.takes_later_frames:
            super()._add_between(before, after, span)
            return
        stage = self.stages.add(self.repaint(before, window, (), False))
        for part, stages in self.repainted(window, stage):
            self._add_result(part, [RepaintedSpan(key, part, stages) for key in (before, after)])

    @property
    def takes_later_frames(self) -> bool:
        """Whether the method gives its model keyframes that stand later in a window, and the model takes them."""
        return False

    def later_keyframes(self, window: Window) -> list[KeyframeRef]:
        """The keyframes that stand in a window beside its first frame."""
        return [key for key in self.keyframes if key.frame in window.frames and key.frame != window.anchor]

    def of(self, window: Window) -> dict[str, Any]:
        """What every stage of a window depends on."""
        return {"view": self.view, "window": window.frames}

    def window_latents(self, window: Window) -> Stage[WindowParameters, Latents]:
        """The stage that encodes a window."""
        return Stage(encode, WindowParameters(**self.of(window)), (), self.roots, window.span, cost=2.0)

    def matte_of(self, key: KeyframeRef, window: Window) -> tuple[Stage, ...]:
        """The stage with a window's `LatentMatte`; none where the edit applies everywhere."""
        if not self.tracks:
            return ()
        inputs = self.tracked.of(key.frame, window.span)
        roots = (*self.roots[:1], key.digest)
        parameters = WindowParameters(**self.of(window))
        return (Stage(latent_matte, parameters, inputs, roots, window.span, needs_keyframe=True, cost=1.0),)

    def prompt_stages(self) -> tuple[Stage[PromptParameters, Prompt], ...]:
        """The stages with the embeddings of `prompts`, in their order: the same for all shots."""
        view = ModelView(model=self.view.model, kind=self.view.kind, size=(0, 0), inner=(0, 0))
        roots = (self.model.digest,)
        return tuple(
            Stage(prompt, PromptParameters(view=view, prompt=words), (), roots, (0, 0), cost=1.0)
            for words in self.prompts
        )

    def handed_over(self, window: Window, walk: Sequence[tuple[Window, Stage]]) -> tuple[Stage, ...]:
        """The stage that decoded the frame which a window starts on; none where that is the keyframe."""
        return tuple(
            self._decoded(before, span, edited)
            for before, edited in walk
            for span in _decoded_spans(before)
            if span[0] <= window.anchor <= span[1]
        )


def gpu_memory(planner: FlowPlanner) -> int:
    """Bytes of GPU memory at most in the smallest tier, counted from shapes, with a model in bfloat16."""
    import torch

    from paintover_engine.diffusion import memory, wan_memory

    width, height = planner.view.size
    needs = wan_memory.needs(planner.model.path, torch.bfloat16, planner.shape.frames, height, width)
    return int(memory.CUDA_BASE) + needs.peak(wan_memory.TIERS[-1])


def _decoded_spans(window: Window) -> list[Span]:
    """A window's written frames by the latents that are decoded at once, in the window's order."""
    groups: dict[int, list[int]] = {}
    for number in range(window.written[0], window.written[1] + 1):
        latent = -(-window.index(number) // 4)
        groups.setdefault(latent // DECODED_LATENTS, []).append(number)
    return [(min(groups[group]), max(groups[group])) for group in sorted(groups)]


def _window_length(info: SourceInfo, most: int) -> int:
    """Frames of a shot's windows: 4k + 1, no more than hold the shot."""
    count = info.last - info.first
    return min(most, 4 * max(1, -(-count // 4)) + 1)


# The stages.


@stage(output=Prompt)
@with_model(text_model)
def prompt(context: Context, stage: Stage[PromptParameters, Prompt], model: TextModel) -> Prompt:
    """`Prompt` of some words."""
    return Prompt(pictures.array(model.encode(stage.parameters.prompt)))


@stage(output=Latents)
@with_model(wan_model)
def encode(context: Context, stage: Stage[WindowParameters, Latents], model: WanModel) -> Latents:
    """`Latents` (T, C, h, w) of a window's frames of the plate, in its order."""
    return Latents(pictures.array(model.encode(plates(context, stage.parameters))[0]))


@stage(output=LatentMatte)
def latent_matte(context: Context, stage: Stage[WindowParameters, LatentMatte]) -> LatentMatte:
    """`LatentMatte` of a window, by the keyframe's tracked layer."""
    import torch

    from paintover_engine.diffusion import flowedit, models

    view = stage.parameters.view
    factor = models.video_shape(models.locate(view.model, *models.WAN_KINDS).path).factor
    mattes = np.stack([seen for _, seen in tracked_pictures(context, stage, paint=False)])
    return LatentMatte(flowedit.latent_matte(torch.from_numpy(mattes)[:, None], factor)[0].numpy())


@stage(output=ChangedPictures, version=2)
@with_model(wan_model)
def decode(context: Context, stage: Stage[WindowDecodeParameters, ChangedPictures], model: WanModel) -> ChangedPictures:
    """`ChangedPictures` of some of the frames that are taken from a window. Right after those before them they cost
    their own decoding alone; else all before them are decoded again."""
    edited, unedited = stage.inputs
    frames, (first, last) = stage.parameters.window, stage.parameters.written
    places = [frames.index(number) for number in range(first, last + 1)]

    def decoded(of: Stage) -> NDArray[np.float32]:
        context.check()
        latents = pictures.tensor(context.load(of).latents, model.device)
        return pictures.pictures(model.decode_frames(latents[None], places, of.key))

    return ChangedPictures((decoded(edited) - decoded(unedited)).astype(np.float16))


# What the methods' own stages read.


def plates(context: Context, parameters: WindowParameters) -> Tensor:
    """(F, 3, h, w) in -1..1: a window's frames of the plate, in its order; each is read once, in ascending order."""
    import torch

    found = {}
    for number in sorted(set(parameters.window)):
        context.check()
        found[number] = pictures.plate(context, parameters.view, number)
    return torch.cat([found[number] for number in parameters.window])


def tracked_pictures(
    context: Context, stage: Stage[Any, Any], paint: bool = True
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Of each frame of a window, in its order and in the model's pictures: the draft's result (h, w, 3), and the
    tracked matte (h, w), 0..1. Where a frame lies beyond the next keyframe, the matte of the nearest that does not.

    stage: its inputs are those of a keyframe's layer (`tracking.load_layer`) and others. paint: without it, the
    pictures are empty."""
    tracked = _layer_inputs(stage)
    layer, keyframe = load_layer(context, tracked), load_paint(context, tracked[0])
    spans = [needed.frames for needed in tracked if needed.function is propagate]
    known = sorted({layer.frame, *(n for first, last in spans for n in range(first, last + 1))})
    framing = stage.parameters.view.framing(context.info)
    whole = (0, 0, context.info.width, context.info.height)

    def seen(number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        context.check()
        nearest = min(known, key=lambda other: abs(other - number))
        plate = PlateRegion(context.plate(nearest), whole)
        painted, alpha = (
            (keyframe.painted, keyframe.matte) if nearest == layer.frame else layer.composite(nearest, plate)
        )
        shown = framing.to_model(np.dstack([alpha] * 3))[..., 0].clip(0, 1)
        if not paint:
            return np.zeros(0, np.float32), shown
        own = plate if nearest == number else PlateRegion(context.plate(number), whole)
        return framing.to_model(np.clip(own.working + alpha[..., None] * (painted - own.working), 0, 1)), shown

    found = {number: seen(number) for number in sorted(set(stage.parameters.window))}
    return [found[number] for number in stage.parameters.window]


def _layer_inputs(stage: Stage) -> Sequence[Stage]:
    """Those of a stage's inputs that a keyframe's layer is read from."""
    start = next(index for index, needed in enumerate(stage.inputs) if needed.function is matte)
    layer = stage.inputs[start:]
    return [*layer[:3], *(needed for needed in layer[3:] if needed.function is propagate)]


def latents_of(context: Context, stage: Stage, model: WanModel) -> Tensor:
    """(1, T, C, h, w): the plate's latents of the stage's window."""
    (encoded,) = stage.inputs_of(encode)
    return pictures.tensor(context.load(encoded).latents, model.device)[None]


def matte_for(context: Context, stage: Stage, x0: Tensor) -> Tensor:
    """(1, T, 1, h, w): where the edit applies in the latents `x0` of the stage's window; 1 without a matte."""
    matte = _latent_matte_of(context, stage)
    if matte is None:
        return x0.new_ones(1, x0.shape[1], 1, *x0.shape[3:])
    return pictures.tensor(matte, x0.device)[None]


def _latent_matte_of(context: Context, stage: Stage) -> NDArray[np.float32] | None:
    """(T, 1, h, w): where the edit of any of a stage's keyframes applies; None without a matte."""
    mattes = [context.load(tracked).matte for tracked in stage.inputs_of(latent_matte)]
    return np.maximum.reduce(mattes) if mattes else None


def first_picture(context: Context, stage: Stage) -> Tensor:
    """(1, 3, h, w) in -1..1: the edited first frame of a stage's window: the keyframe, or the plate's frame with the
    change that the window before hands over, inside the matte."""
    import torch

    parameters = stage.parameters
    handed = stage.inputs_of(decode)
    anchor = parameters.window[0]
    plate = pictures.plate(context, parameters.view, anchor)
    if not handed:
        return _painted(context, stage, stage.roots[-1], plate)
    change = context.load(handed[0]).change[anchor - handed[0].parameters.written[0]].astype(np.float32)
    matte = _latent_matte_of(context, stage)
    moved = torch.from_numpy(change.transpose(2, 0, 1))[None] * 2
    if matte is not None:
        share = torch.from_numpy(np.array(matte[:1]))
        moved = moved * torch.nn.functional.interpolate(share, moved.shape[2:], mode="bilinear")
    return (plate + moved).clamp(-1, 1)


def later_pictures(
    context: Context, stage: Stage[Any, Any], later: Sequence[int]
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The plate's pictures (1, 3, h, w) in -1..1 and the edited ones at some places of a stage's window, by place.
    later: of `LaterFrames`."""
    given = stage.parameters
    digests = stage.roots[-1 - len(later) : -1]
    source = {place: pictures.plate(context, given.view, given.window[place]) for place in later}
    edited = {
        place: _painted(context, stage, digest, source[place]) for place, digest in zip(later, digests, strict=True)
    }
    return source, edited


def _painted(context: Context, stage: Stage[Any, Any], digest: str, plate: Tensor) -> Tensor:
    """A keyframe as the model sees it, with the plate's own values where nothing was painted."""
    import torch

    painted = pictures.keyframe(context, stage.parameters.view, digest)
    return torch.where((painted - plate).abs() > ROUNDING, painted, plate)


def velocity(
    context: Context, stage: Stage, model: WanModel, condition: Conditioning, words: str, guidance: float, activity: str
) -> Velocity:
    """A checked velocity of a stage's window, on one of its prompts. guidance: away from the empty prompt.

    activity: for an error's sentence, as "painting"."""
    from paintover_engine.diffusion.denoiser import CheckedDenoiser
    from paintover_engine.diffusion.prompt import padded

    given = zip(stage.parameters.prompts, stage.inputs_of(prompt), strict=True)
    texts = {said: padded(pictures.tensor(context.load(needed).embeddings, model.device)) for said, needed in given}
    negative = texts.get("") if words else None
    frames = stage.parameters.window
    return CheckedDenoiser(
        model.velocity(condition, texts[words], guidance, negative),
        context.check,
        f"{activity} frames {frames[0]} to {frames[-1]}",
        "less guidance",
    )
