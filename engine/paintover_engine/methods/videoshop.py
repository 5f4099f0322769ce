"""Videoshop's stages (Fan, Bhattad, Krishna: Videoshop, ECCV 2024): what each reads, computes by `diffusion.videoshop`
and returns.

encode       the plate's frames as latents
reconstruct  those latents decoded again: the picture with the VAE's errors alone
invert       a window's latents, normalised and inverted
denoise      the window from that noise, on the edited first frame; rescaled
decode       the edited picture less the reconstructed one
result       that change composited over the plate, at its own size, inside the tracked matte

The first three depend on the plate alone, so they are prepared while the artist paints and serve every later edit.
A long shot is repainted in windows (`methods.windows`), each starting on a frame that the one before has repainted: its
latents are handed over as they are, so that nothing is lost in decoding and encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.methods import flow_stages, pictures, repaint, window_stages
from paintover_engine.methods.latents import Latents, plate_latents
from paintover_engine.methods.model_stage import memory_notes, video_model, with_model
from paintover_engine.methods.parameters import VideoshopParameters
from paintover_engine.methods.planning import Span
from paintover_engine.methods.repaint import ChangedPictures, CompositeParameters
from paintover_engine.methods.stage import Context, KeyframeRef, Stage, stage
from paintover_engine.methods.videoshop_wan import VideoshopWanPlanner
from paintover_engine.methods.window_stages import WindowDecodeParameters, WindowParameters, WindowPlanner
from paintover_engine.methods.windows import Window

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.denoiser import Denoiser
    from paintover_engine.diffusion.svd import Condition, VideoModel
    from paintover_engine.diffusion.videoshop import Normalisation
    from paintover_engine.media.info import SourceInfo

STRENGTH, GUIDANCE, NOISE_AUG, THRESHOLD = 0.55, 4.0, 0.2, 1.0
NORMALISATION, RESCALING, CONDITION = "channel", "match", "code"
"""The published code's, for models whose `paintover.json` has no others."""

# What the stages depend on, and what they return.


@dataclass(frozen=True, kw_only=True)
class InversionSettings:
    """As in `VideoshopParameters`, the model's own values resolved."""

    strength: float
    steps: int
    inversion: Literal["extrapolation", "naive", "bdia", "midpoint", "noise", "none"]
    threshold: float
    refinements: int
    normalisation: Literal["channel", "paper", "frame", "none"]
    condition: Literal["code", "plain", "consistent"]
    noise_aug: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class InvertParameters(WindowParameters):
    """Of a window's inversion, on its first frame."""

    inversion: InversionSettings


@dataclass(frozen=True, kw_only=True)
class DenoiseParameters(InvertParameters):
    """Of a window's denoising; as in `VideoshopParameters`, the model's own values resolved."""

    guidance: float
    rescaling: Literal["match", "paper", "undo", "none"]


@dataclass(frozen=True)
class Reconstructed:
    """pictures: (frames, h, w, 3) float16, 0..1 and a little beyond, in the window's order."""

    pictures: NDArray[np.float16]


@dataclass(frozen=True)
class Inverted:
    """states: (1 or 2, frames, 4, h, w), a window's latents at the noisiest levels of its inversion, noisiest first.
    mean, deviation: of its normalisation, broadcast to (1, frames, 4, h, w). noisy_anchor: (1, 4, h, w), the unscaled
    latents of its first frame in the inversion's condition. All float32."""

    states: NDArray[np.float32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    noisy_anchor: NDArray[np.float32]


# The plan.


def plan(
    info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VideoshopParameters, model: str
) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    return _planner(info, keyframes, parameters, models.locate(model, "svd", "wan")).plan()


def _planner(
    info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VideoshopParameters, model: ModelFolder
) -> WindowPlanner:
    """Of the family of models that the model belongs to."""
    if model.kind == "wan":
        return VideoshopWanPlanner(info, keyframes, parameters, model)
    if parameters.inversion == "midpoint":
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The inversion 'midpoint' of videoshop is for Wan's models, not for '{model.name}'; leave it out.",
        )
    return _VideoshopPlanner(info, keyframes, parameters, model)


def gpu_memory(info: SourceInfo, parameters: VideoshopParameters, model: ModelFolder) -> int:
    """Bytes of GPU memory at most in the smallest tier, counted from shapes, with a model in half precision."""
    if model.kind == "wan":
        return flow_stages.gpu_memory(VideoshopWanPlanner(info, (), parameters, model))
    import torch

    from paintover_engine.diffusion import memory, svd

    planner = _VideoshopPlanner(info, (), parameters, model)
    width, height = planner.view.size
    needs = svd.bare_needs(model.path, torch.bfloat16, planner.shape.frames, height, width)
    return int(memory.CUDA_BASE) + needs.peak(memory.TIERS[-1])


class _VideoshopPlanner(WindowPlanner):
    """A window's stages: `encode` → `reconstruct`, `invert` → `denoise` → `decode`. Each `denoise` but a keyframe's
    first has the one before as its last input."""

    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VideoshopParameters, model: ModelFolder
    ) -> None:
        area = window_stages.working_area(info, model, parameters.long_side)
        view = window_stages.video_view(info, model, area, parameters.fit)
        composite = CompositeParameters(matte=parameters.matte, softness=parameters.softness)
        super().__init__(info, keyframes, model, view, composite, repaint.result, parameters.handover)
        self._settings = _inversion_settings(parameters, model)
        self._inverts = parameters.inversion != "none"
        self._denoising = {
            "guidance": parameters.guidance or model.default("guidance", GUIDANCE),
            "rescaling": _chosen("rescaling", parameters, model, RESCALING),
        }

    def prepare_window(self, window: Window, walk: Sequence[Window]) -> None:
        for prepared in (self._reconstructed(window), *self._inverted(window)):
            self.stages.add(prepared)

    def repaint(self, key: KeyframeRef, window: Window, walk: Sequence[tuple[Window, Stage]], more: bool) -> Stage:
        steps = self._steps if self._inverts else self._settings.steps
        anchoring = self.anchoring(key, window, walk)
        return Stage(
            denoise,
            DenoiseParameters(**self._of(window), inversion=self._settings, **self._denoising),
            (*self._inverted(window), *self._encoded(window), *anchoring, *(stage for _, stage in walk[-1:])),
            (*self.roots, key.digest),
            window.span,
            needs_keyframe=True,
            cost=steps * (1 + (self._denoising["guidance"] != 1)),
        )

    def repainted(self, window: Window, stage: Stage) -> Iterator[tuple[Span, tuple[Stage, ...]]]:
        decoded = Stage(
            decode,
            WindowDecodeParameters(**self._of(window), written=window.written),
            (stage, self._reconstructed(window)),
            stage.roots,
            window.span,
            needs_keyframe=True,
            cost=2.0,
        )
        yield window.written, (self.stages.add(decoded),)

    @property
    def _steps(self) -> int:
        return max(1, int(self._settings.steps * self._settings.strength))

    def _of(self, window: Window) -> dict[str, Any]:
        return {"view": self.view, "window": window.frames}

    def _encoded(self, window: Window) -> tuple[Stage, ...]:
        return self.encoded(window, self.view)

    def _reconstructed(self, window: Window) -> Stage:
        parameters = WindowParameters(**self._of(window))
        return Stage(reconstruct, parameters, self._encoded(window), self.roots, window.span, cost=2.0)

    def _inverted(self, window: Window) -> tuple[Stage, ...]:
        """The stage that inverts a window; none where the denoising starts from pure noise."""
        parameters = InvertParameters(**self._of(window), inversion=self._settings)
        cost = self._steps * (1 + self._settings.refinements)
        stage = Stage(invert, parameters, self._encoded(window), self.roots, window.span, cost=cost)
        return (stage,) if self._inverts else ()


def _inversion_settings(parameters: VideoshopParameters, model: ModelFolder) -> InversionSettings:
    """The user's values; where those leave it open, the model's own; else the published code's."""
    given = parameters.noise_aug
    return InversionSettings(
        strength=parameters.strength or model.default("strength", STRENGTH),
        steps=parameters.steps,
        inversion=parameters.inversion,
        threshold=parameters.threshold or model.default("threshold", THRESHOLD),
        refinements=parameters.refinements,
        normalisation=_chosen("normalisation", parameters, model, NORMALISATION),
        condition=_chosen("condition", parameters, model, CONDITION),
        noise_aug=given if given >= 0 else model.default("noise_aug_strength", NOISE_AUG),
        seed=parameters.seed,
    )


def _chosen(name: str, parameters: VideoshopParameters, model: ModelFolder, otherwise: str) -> Any:
    given = str(getattr(parameters, name))
    return given if given != "auto" else str(model.settings.get(name, otherwise))


# The stages.


@stage(output=Reconstructed)
@with_model(video_model)
def reconstruct(context: Context, stage: Stage[WindowParameters], model: VideoModel) -> Reconstructed:
    """`Reconstructed`: a window's frames through the VAE and back."""
    decoded = pictures.pictures(model.decode(_latents(context, stage, model)))
    return Reconstructed(decoded.astype(np.float16))


@stage(output=Inverted, version=2)
@with_model(video_model)
def invert(context: Context, stage: Stage[InvertParameters], model: VideoModel) -> Inverted:
    """`Inverted`: a window's latents, normalised and inverted on its first frame."""
    from paintover_engine.diffusion.videoshop import Normalisation

    settings = stage.parameters.inversion
    z = _latents(context, stage, model)
    normalisation = Normalisation.of(z, settings.normalisation)
    anchor = pictures.plate(context, stage.parameters.view, stage.parameters.window[0])
    condition = model.condition(anchor, noise_aug=settings.noise_aug, seed=_seed(stage, "condition"))
    denoiser = _denoiser(context, stage, model, condition, normalisation, guidance=None)
    states = _states(denoiser, normalisation.apply(z), _levels(model, settings), settings, _seed(stage, "inversion"))
    return Inverted(
        np.concatenate([pictures.array(state) for state in states[:2]]),
        pictures.array(normalisation.mean),
        pictures.array(normalisation.deviation),
        pictures.array(condition.latent),
    )


def _states(denoiser: Denoiser, x0: Tensor, sigmas: Tensor, settings: InversionSettings, seed: int) -> list[Tensor]:
    """The states at the levels `sigmas` by the chosen inversion, noisiest first, x0 last. seed: of the noise."""
    from paintover_engine.diffusion import inversion, schedule, videoshop

    if settings.inversion == "naive":
        return videoshop.naive(denoiser, x0, sigmas)
    if settings.inversion == "bdia":
        return inversion.bdia(denoiser, x0, sigmas)
    noise = schedule.noise_like(x0, seed)
    if settings.inversion == "noise":
        return inversion.noised(x0, sigmas, noise)
    return videoshop.extrapolated(denoiser, x0, sigmas, noise, settings.threshold, settings.refinements)


@stage(output=Latents, version=2)
@with_model(video_model)
def denoise(context: Context, stage: Stage[DenoiseParameters], model: VideoModel) -> Latents:
    """`Latents` of the edited window, in its order and in the range that the VAE knows."""
    from paintover_engine.diffusion import sampling
    from paintover_engine.diffusion.videoshop import rescaled

    parameters = stage.parameters
    start = _start(context, stage, model)
    edited, condition = _first_frame(context, stage, model, start.condition_noise)
    denoiser = _denoiser(context, stage, model, condition, start.normalisation, parameters.guidance)
    if parameters.inversion.inversion == "bdia":
        x = sampling.bdia(denoiser, start.states[:1], start.states[1:], start.sigmas)
    else:
        x = sampling.euler(denoiser, start.states[:1], start.sigmas)
    rescaling = "none" if parameters.inversion.inversion == "none" else parameters.rescaling
    return Latents(pictures.array(rescaled(x, edited, start.normalisation, rescaling)[0]))


@dataclass(frozen=True)
class _Start:
    """What a window's denoising starts from: states (1 or 2, F, 4, h, w) at the topmost of `sigmas`, and at the next.
    condition_noise: the noise on the source's first frame, seen in its unscaled latents (1, 4, h, w); None without an
    inversion."""

    states: Tensor
    sigmas: Tensor
    normalisation: Normalisation
    condition_noise: Tensor | None


def _start(context: Context, stage: Stage, model: VideoModel) -> _Start:
    """A window's inversion; without one, pure noise."""
    from paintover_engine.diffusion import schedule
    from paintover_engine.diffusion.videoshop import Normalisation

    settings = stage.parameters.inversion
    z = _latents(context, stage, model)
    if settings.inversion == "none":
        sigmas = model.config.sigmas(settings.steps)
        noise = schedule.noise_like(z, _seed(stage, "start")) * schedule.initial_scale(sigmas[0])
        return _Start(noise, sigmas, Normalisation.of(z, "none"), None)
    inverted = context.load(stage.inputs[0])
    states, mean, deviation, noisy_anchor = (
        pictures.tensor(stored, model.device)
        for stored in (inverted.states, inverted.mean, inverted.deviation, inverted.noisy_anchor)
    )
    return _Start(
        states, _levels(model, settings), Normalisation(mean, deviation), noisy_anchor - z[:, 0] / model.config.scale
    )


def _first_frame(
    context: Context, stage: Stage, model: VideoModel, condition_noise: Tensor | None
) -> tuple[Tensor, Condition]:
    """The edited window's first frame: its clean scaled latents (1, 4, h, w), and its condition. From the keyframe; or
    from the window before, which hands latents over, with the noise that the source's first frame has."""
    parameters, previous = stage.parameters, stage.inputs[-1]
    noise = {"noise_aug": parameters.inversion.noise_aug, "seed": _seed(stage, "condition")}
    if previous.function is not denoise:
        picture = pictures.keyframe(context, parameters.view, stage.roots[-1])
        return model.encode(picture)[:, 0], model.condition(picture, **noise)
    anchor = parameters.window[0]
    place = previous.parameters.window.index(anchor)
    edited = pictures.tensor(context.load(previous).latents[place : place + 1], model.device)
    edited = window_stages.anchored(context, stage, anchor, edited, _latents(context, stage, model)[:, 0])
    latent = None if condition_noise is None else edited / model.config.scale + condition_noise
    return edited, model.condition(model.decode(edited[None]), latent=latent, **noise)


@stage(output=ChangedPictures)
@with_model(video_model)
def decode(context: Context, stage: Stage[WindowDecodeParameters], model: VideoModel) -> ChangedPictures:
    """`ChangedPictures` of the frames that are taken from a window."""
    denoised, reconstructed = stage.inputs
    context.check()
    latents = pictures.tensor(context.load(denoised).latents, model.device)
    frames, (first, last) = stage.parameters.window, stage.parameters.written
    places = [frames.index(number) for number in range(first, last + 1)]
    edited = pictures.pictures(model.decode(latents[None]))[places]
    change = edited - context.load(reconstructed).pictures[places]
    return ChangedPictures(change.astype(np.float16))


notes = memory_notes
"""Sentences for a finished job."""


# Between the stages and the algorithm.


def _seed(stage: Stage, purpose: str) -> int:
    """The seed of a window's own noise."""
    from paintover_engine.diffusion.schedule import derived_seed

    window = stage.parameters.window
    return derived_seed(stage.parameters.inversion.seed, purpose, window[0], window[-1])


def _denoiser(
    context: Context,
    stage: Stage,
    model: VideoModel,
    condition: Condition,
    normalisation: Normalisation,
    guidance: float | None,
) -> Denoiser:
    """A window's checked denoiser on a condition of its first frame. guidance: None for the inversion."""
    from paintover_engine.diffusion.denoiser import CheckedDenoiser
    from paintover_engine.diffusion.videoshop import conditioned

    inverting, frames = guidance is None, stage.parameters.window
    how = stage.parameters.inversion.condition
    condition = conditioned(condition, normalisation, model.config.scale, how, inverting)
    activity = f"{'inverting' if inverting else 'painting'} frames {frames[0]} to {frames[-1]}"
    remedy = "a threshold above 0, a lower strength or less guidance"
    denoiser = model.denoiser(condition) if guidance is None else model.denoiser(condition, guidance)
    return CheckedDenoiser(denoiser, context.check, activity, remedy)


def _levels(model: VideoModel, settings: InversionSettings) -> Tensor:
    from paintover_engine.diffusion import videoshop

    return videoshop.levels(model.config, settings.steps, settings.strength)


def _latents(context: Context, stage: Stage, model: VideoModel) -> Tensor:
    """(1, F, 4, h, w): the plate's scaled latents of the stage's window."""
    return pictures.tensor(plate_latents(context, stage.inputs, stage.parameters.window), model.device)[None]
