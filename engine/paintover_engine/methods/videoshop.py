"""Videoshop: a video model repaints the shot from the edited keyframe, along the shot's own motion (Fan et al.:
Videoshop: Localized Semantic Video Editing with Noise-Extrapolated Diffusion Inversion, ECCV 2024).

encode       the plate's frames as latents
reconstruct  those latents as pictures again, which tell what the VAE alone changes
invert       a window's latents, normalised, turned into the noise that gives them back: the network is asked where a
             straight line from the clean latents through the current ones meets the next noise level
denoise      that noise, with the edited frame as the model's first picture; then rescaled to that frame's range
decode       what the edit changed in the picture
result       that change laid on the plate, at its own size, inside the tracked matte

The first three are of the plate alone, so they are prepared while the artist paints and serve every later edit.
A long shot is worked on in windows (`methods.windows`), each starting on a frame that the one before has painted: its
latents are handed over as they are, so that nothing is lost in decoding and encoding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.detail import Picture
from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import repaint
from paintover_engine.methods.parameters import VideoshopParameters
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, Tensors, stage
from paintover_engine.methods.windows import Window

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.denoiser import Denoiser
    from paintover_engine.diffusion.latents import Normalisation, Rescaling
    from paintover_engine.diffusion.svd import Condition, VideoModel
    from paintover_engine.media.info import SourceInfo

STRENGTH, GUIDANCE, NOISE_AUG, THRESHOLD = 0.55, 4.0, 0.2, 1.0
NORMALISATION, RESCALING, CONDITION = "channel", "match", "code"
"""The paper's code's, for models that say nothing else."""

# The plan.


def plan(
    info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VideoshopParameters, model: str
) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    return _Planner(info, keyframes, parameters, models.locate(model, "svd")).plan()


class _Planner(repaint.Planner):
    """A window's stages: `encode` → `reconstruct`, `invert` → `denoise` → `decode`. Each `denoise` but a keyframe's
    first has the one before as its last input."""

    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VideoshopParameters, model: ModelFolder
    ) -> None:
        area = repaint.working_area(info, model, parameters.long_side)
        self._seen = repaint.seen_as(info, model, area, parameters.fit)
        self._inverting, self._denoising = _settings(parameters, model)
        self._inverts = parameters.inversion != "none"
        self._handover = parameters.handover
        laid = {"matte": parameters.matte, "softness": parameters.softness}
        super().__init__(info, keyframes, model, {**self._seen, **laid}, result)

    def prepare(self, window: Window, walk: list[Window]) -> None:
        for prepared in (self._reconstructed(window), *self._inverted(window)):
            self.stages.add(prepared)

    def paint(self, key: KeyframeRef, window: Window, walk: list[tuple[Window, Stage]], more: bool) -> Stage:
        steps = self._steps if self._inverts else self._inverting["steps"]
        anchoring = self.anchoring(key, window, walk, self._handover)
        return Stage(
            denoise,
            {**self._of(window), **self._inverting, **self._denoising},
            (*self._inverted(window), *self._encoded(window), *anchoring, *(stage for _, stage in walk[-1:])),
            (*self.roots, key.digest),
            window.span,
            needs_keyframe=True,
            cost=steps * (1 + (self._denoising["guidance"] != 1)),
        )

    def shown(self, window: Window, painted: Stage) -> tuple[Stage, ...]:
        decoded = Stage(
            decode,
            {**self._of(window), "written": window.written},
            (painted, self._reconstructed(window)),
            painted.roots,
            window.span,
            needs_keyframe=True,
            cost=2.0,
        )
        return (self.stages.add(decoded),)

    @property
    def _steps(self) -> int:
        return max(1, int(self._inverting["steps"] * self._inverting["strength"]))

    def _of(self, window: Window) -> dict[str, Any]:
        return {**self._seen, "window": list(window.frames)}

    def _encoded(self, window: Window) -> tuple[Stage, ...]:
        return self.encoded(window, encode, self._seen)

    def _reconstructed(self, window: Window) -> Stage:
        return Stage(reconstruct, self._of(window), self._encoded(window), self.roots, window.span, cost=2.0)

    def _inverted(self, window: Window) -> tuple[Stage, ...]:
        """The stage that inverts a window, where the shot is looked at."""
        parameters = {**self._of(window), **self._inverting}
        cost = self._steps * (1 + self._inverting["refinements"])
        stage = Stage(invert, parameters, self._encoded(window), self.roots, window.span, cost=cost)
        return (stage,) if self._inverts else ()


def _settings(parameters: VideoshopParameters, model: ModelFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the inversion depends on, and what only the denoising does; the model's own values where none are set."""

    def chosen(name: str, otherwise: str) -> str:
        given = str(getattr(parameters, name))
        return given if given != "auto" else str(model.settings.get(name, otherwise))

    noise_aug = parameters.noise_aug if parameters.noise_aug >= 0 else model.default("noise_aug_strength", NOISE_AUG)
    inverting = {
        "strength": parameters.strength or model.default("strength", STRENGTH),
        "steps": parameters.steps,
        "inversion": parameters.inversion,
        "threshold": parameters.threshold or model.default("threshold", THRESHOLD),
        "refinements": parameters.refinements,
        "normalisation": chosen("normalisation", NORMALISATION),
        "condition": chosen("condition", CONDITION),
        "noise_aug": noise_aug,
        "seed": parameters.seed,
    }
    guidance = parameters.guidance or model.default("guidance", GUIDANCE)
    return inverting, {"guidance": guidance, "rescaling": chosen("rescaling", RESCALING)}


# The stages' functions.


def _model(stage: Stage) -> VideoModel:
    """The stage's model, in the tier that its windows fit in."""
    from paintover_engine.diffusion import svd

    model = svd.load(models.locate(stage.parameters["model"], "svd").path)
    width, height = stage.parameters["size"]
    model.fit(model.config.frames, height, width)
    return model


@stage()
@repaint.with_model(_model)
def encode(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """`latents` (frames, 4, h, w) float32: the VAE's, scaled."""
    latents = []
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        latents.append(repaint.array(model.encode(repaint.plate(context, stage, number))[0]))
    return {"latents": np.concatenate(latents)}


@stage()
@repaint.with_model(_model)
def reconstruct(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """`pictures` (frames, h, w, 3) float16 0..1: a window's frames through the VAE and back."""
    pictures = repaint.pictures(model.decode(_latents(context, stage, model)))
    return {"pictures": pictures.astype(np.float16)}


@stage()
@repaint.with_model(_model)
def invert(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """`states` (2, frames, 4, h, w) float32: the window's latents at the two noisiest levels; `mean` and `deviation`
    of its normalisation; `noisy_anchor` (1, 4, h, w): the unscaled latents of its first frame that the model was
    given."""
    from paintover_engine.diffusion.latents import Normalisation

    settings = stage.parameters
    latents = _latents(context, stage, model)
    normalisation = Normalisation.of(latents, settings["normalisation"])
    anchor = repaint.plate(context, stage, settings["window"][0])
    condition = model.condition(anchor, noise_aug=settings["noise_aug"], seed=settings["seed"])
    asked = _conditioned(condition, normalisation, model, settings["condition"], inverting=True)
    denoiser = _watched(context, stage, model.denoiser(asked), "inverting")
    states = _inverted(denoiser, normalisation.apply(latents), _levels(model, settings), settings)
    return {
        "states": np.concatenate([repaint.array(state) for state in states[:2]]),
        "mean": repaint.array(normalisation.mean),
        "deviation": repaint.array(normalisation.deviation),
        "noisy_anchor": repaint.array(condition.latent),
    }


def _inverted(denoiser: Denoiser, latents: Tensor, sigmas: Tensor, settings: Mapping[str, Any]) -> list[Tensor]:
    """The states of an inversion, from the noisiest to the clean latents."""
    from paintover_engine.diffusion import inversion, schedule

    noise = schedule.noise_like(latents, settings["seed"])
    if settings["inversion"] == "naive":
        return inversion.naive(denoiser, latents, sigmas)
    if settings["inversion"] == "bdia":
        return inversion.bdia(denoiser, latents, sigmas)
    if settings["inversion"] == "noise":
        return inversion.noised(latents, sigmas, noise)
    return inversion.extrapolated(denoiser, latents, sigmas, noise, settings["threshold"], settings["refinements"])


@stage()
@repaint.with_model(_model)
def denoise(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """`latents` (frames, 4, h, w) float32: the edited window's, scaled, in the range that the VAE knows."""
    from paintover_engine.diffusion import sampling
    from paintover_engine.diffusion.latents import rescaled

    settings = stage.parameters
    source = _source(context, stage, model)
    first, condition = _first_frame(context, stage, model, source)
    asked = _conditioned(condition, source.normalisation, model, settings["condition"], inverting=False)
    denoiser = _watched(context, stage, model.denoiser(asked, settings["guidance"]), "painting")
    if settings["inversion"] == "bdia":
        latents = sampling.bdia(denoiser, source.states[:1], source.states[1:], source.sigmas)
    else:
        latents = sampling.euler(denoiser, source.states[:1], source.sigmas)
    painted = rescaled(latents, first, source.normalisation, source.rescaling)
    return {"latents": repaint.array(painted[0])}


@dataclass(frozen=True)
class _Source:
    """What a window's painting starts from: states (1 or 2, F, 4, h, w) at the topmost of `sigmas`, and the next.
    trace: what the noise on the first picture did to its unscaled latents (1, 4, h, w); None without an inversion."""

    states: Tensor
    sigmas: Tensor
    normalisation: Normalisation
    rescaling: Rescaling
    trace: Tensor | None


def _source(context: Context, stage: Stage, model: VideoModel) -> _Source:
    """A window's inversion; where the shot is not looked at, pure noise."""
    from paintover_engine.diffusion import schedule
    from paintover_engine.diffusion.latents import Normalisation

    settings = stage.parameters
    latents = _latents(context, stage, model)
    if settings["inversion"] == "none":
        sigmas = model.config.sigmas(settings["steps"])
        noise = schedule.noise_like(latents, settings["seed"]) * schedule.initial_scale(sigmas[0])
        return _Source(noise, sigmas, Normalisation.of(latents, "none"), "none", None)
    kept = {name: _on(model, array) for name, array in context.load(stage.inputs[0]).items()}
    return _Source(
        kept["states"],
        _levels(model, settings),
        Normalisation(kept["mean"], kept["deviation"]),
        settings["rescaling"],
        kept["noisy_anchor"] - latents[:, 0] / model.config.scale,
    )


def _first_frame(context: Context, stage: Stage, model: VideoModel, source: _Source) -> tuple[Tensor, Condition]:
    """The edited window's first frame: its clean scaled latents (1, 4, h, w), and what the model is told of it. From
    the keyframe; or from the window before, which hands latents over, with the same noise on them."""
    settings, previous = stage.parameters, stage.inputs[-1]
    told = {"noise_aug": settings["noise_aug"], "seed": settings["seed"]}
    if previous.function is not denoise:
        picture = repaint.keyframe(context, stage)
        return model.encode(picture)[:, 0], model.condition(picture, **told)
    place = previous.parameters["window"].index(settings["window"][0])
    first = _on(model, context.load(previous)["latents"][place : place + 1])
    first = repaint.anchored(context, stage, settings["window"][0], first, _latents(context, stage, model)[:, 0])
    latent = None if source.trace is None else first / model.config.scale + source.trace
    return first, model.condition(model.decode(first[None]), latent=latent, **told)


def _conditioned(
    condition: Condition, normalisation: Normalisation, model: VideoModel, how: str, inverting: bool
) -> Condition:
    """The condition normalised as the parameter `condition` says."""
    from paintover_engine.diffusion.latents import standardised_condition

    if how == "consistent":
        return dataclasses.replace(
            condition, latent=normalisation.apply_to_condition(condition.latent, model.config.scale)
        )
    if how == "code" and inverting:
        return dataclasses.replace(condition, latent=standardised_condition(condition.latent, model.config.scale))
    return condition


@stage()
@repaint.with_model(_model)
def decode(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """`change` (written frames, h, w, 3) float16: what the edit changed in the model's picture, by ascending number."""
    denoised, reconstructed = stage.inputs
    context.check()
    latents = _on(model, context.load(denoised)["latents"])
    frames, (first, last) = stage.parameters["window"], stage.parameters["written"]
    places = [frames.index(number) for number in range(first, last + 1)]
    edited = repaint.pictures(model.decode(latents[None]))[places]
    change = edited - context.load(reconstructed)["pictures"][places]
    return {"change": change.astype(np.float16)}


@stage(publishes=True)
def result(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The painted frames of a span. The inputs are (decode, those of its layer) of each keyframe."""
    return repaint.result(context, stage, _Change)


class _Change:
    """The change of the picture at a frame, at the plate's size."""

    def __init__(self, context: Context, stage: Stage, painted: Sequence[Stage]) -> None:
        (decoded,) = painted
        self._framing = repaint.framing(context, stage)
        self._change = context.load(decoded)["change"]
        self._first = decoded.parameters["written"][0]

    def __call__(self, number: int) -> Picture:
        return self._framing.to_plate(self._change[number - self._first].astype(np.float32))


def notes(context: Context, stages: Sequence[Stage]) -> list[str]:
    """What a finished job tells: that memory ran out, and how it went on."""
    return repaint.short_of_memory(context, stages)


# Between the shot and the model.


def _watched(context: Context, stage: Stage, denoiser: Denoiser, doing: str) -> Denoiser:
    from paintover_engine.diffusion.denoiser import Watched

    frames = stage.parameters["window"]
    avoided_by = "a threshold above 0, a lower strength or less guidance"
    return Watched(denoiser, context.check, f"{doing} frames {frames[0]} to {frames[-1]}", avoided_by)


def _levels(model: VideoModel, settings: Mapping[str, Any]) -> Tensor:
    """The noise levels that an inversion of the settings' strength passes, descending to 0."""
    from paintover_engine.diffusion import schedule

    return model.config.sigmas(settings["steps"])[schedule.start_index(settings["steps"], settings["strength"]) :]


def _latents(context: Context, stage: Stage, model: VideoModel) -> Tensor:
    """(1, F, 4, h, w): the plate's scaled latents of a window's frames."""
    found: dict[int, NDArray[np.float32]] = {}
    for needed in (needed for needed in stage.inputs if needed.function is encode):
        kept = context.load(needed)["latents"]
        found |= dict(zip(range(needed.frames[0], needed.frames[1] + 1), kept, strict=True))
    return _on(model, np.stack([found[number] for number in stage.parameters["window"]]))[None]


def _on(model: VideoModel, array: NDArray[Any]) -> Tensor:
    import torch

    return torch.from_numpy(np.array(array)).to(model.device)
