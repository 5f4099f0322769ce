"""I2VEdit's stages (Ouyang et al.: I2VEdit, SIGGRAPH Asia 2024): what each reads, computes by `diffusion.i2vedit` and
returns.

invert   a window's latents inverted: its latents at every noise level
train    a low-rank adapter of the model's temporal layers that has learned the window's motion
choose   what kind of edit the keyframe is, and from that, how long its attention is held to the shot's
paint    the window denoised on the edited first frame, with attention matching; later windows also attend to the first
result   what that changed in the picture, composited over the plate, at its own size, inside the tracked matte
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.edit_kind import EditKind, edit_of
from paintover_engine.methods import latents, pictures, repaint, window_stages
from paintover_engine.methods.latents import EncodeParameters, Latents, plate_latents
from paintover_engine.methods.model_stage import video_model, with_model
from paintover_engine.methods.repaint import Change, ResultParameters
from paintover_engine.methods.stage import Context, ResultFrame, Stage, Tensors, stage
from paintover_engine.methods.window_stages import WindowParameters

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.i2vedit import EditedWindow, SourceWindow
    from paintover_engine.diffusion.lora import Adapters
    from paintover_engine.diffusion.svd import Condition, VideoModel

log = logging.getLogger(__name__)

BOUNDS: dict[EditKind, tuple[float, float]] = {"local": (0.5, 0.8), "style": (0.8, 0.9), "shape": (0.4, 0.5)}
"""Shares of the steps up to which all, and the coarse, temporal attention is the source's (the authors' presets)."""

KINDS: tuple[EditKind, ...] = ("local", "style", "shape")

CHECKPOINT = 25
"""Steps of a training between two checkpoints."""

# What the stages depend on, and what they return.


@dataclass(frozen=True, kw_only=True)
class Basics:
    """What inversion, training and denoising share; as in `I2VEditParameters`."""

    steps: int
    perturbation: bool
    noise_aug: float
    condition_noise: Literal["pixel", "latent"]
    seed: int

    @property
    def sarp_seed(self) -> int | None:
        """The seed of the perturbation of flat areas; None: none."""
        return self.seed if self.perturbation else None


@dataclass(frozen=True, kw_only=True)
class AdapterLayout:
    """rank of the motion adapter, and the layers that have it."""

    rank: int
    adapted: Literal["block", "attention"]


@dataclass(frozen=True, kw_only=True)
class SourceParameters(WindowParameters):
    """Of a stage on a window's source. first: the first window's frames, for skip-interval attention; None: without.
    adapter: the motion adapter on the network; None: none."""

    first: tuple[int, ...] | None
    basics: Basics
    adapter: AdapterLayout | None


@dataclass(frozen=True, kw_only=True)
class TrainParameters(SourceParameters):
    """As in `I2VEditParameters`."""

    adapter: AdapterLayout
    training_steps: int
    learning_rate: float
    stop_early: bool
    source_level: Literal["same", "lower"]


@dataclass(frozen=True, kw_only=True)
class PaintParameters(SourceParameters):
    """states: whether the edit's states at every noise level are returned too, for windows that attend to it."""

    adapter: AdapterLayout
    guidance_first: float
    guidance_last: float
    matching: bool
    threshold: float
    coarse: Literal["quarter", "reference"]
    source_level: Literal["same", "lower"]
    adapted_source: bool
    states: bool


@dataclass(frozen=True, kw_only=True)
class ChooseParameters:
    """As in `I2VEditParameters`."""

    preset: Literal["auto", "local", "style", "shape"]


@dataclass(frozen=True)
class States:
    """A window's latents at every noise level but the clean ones, as `diffusion.i2vedit.pack` has them.

    states: (steps, frames, 4, h, w) of about unit variance, noisiest first, in half precision where the model computes
    in it. start: (frames, 4, h, w) float32, the noisiest unscaled."""

    states: NDArray[Any]
    start: NDArray[np.float32]


@dataclass(frozen=True)
class Painted(Latents):
    """An edited window: `Latents` in its order; of a first window that others attend to, its `States` too."""

    states: NDArray[Any] | None = None
    start: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Choice:
    """kind: (1,) uint8, index in `KINDS`. evidence: (2,) float64, the shares of the frame that the edit covers, and of
    its contours that it keeps."""

    kind: NDArray[np.uint8]
    evidence: NDArray[np.float64]


# The stages.


@stage(output=States, version=2)
@with_model(video_model)
def invert(context: Context, stage: Stage[SourceParameters], model: VideoModel) -> States:
    """`States` of a window's source."""
    from paintover_engine.diffusion import i2vedit, matching

    parameters = stage.parameters
    model.work(lambda: matching.build_for(model.unet, model.dtype, model.device))  # while the artist paints
    with _adapted(context, stage, model, {"window": parameters.window}) as adapters:
        states = i2vedit.invert(
            model,
            _latents(context, stage, model, parameters.window),
            _source_condition(context, stage, model, parameters.window),
            _sigmas(stage, model),
            first=_first_source(context, stage, model),
            adapters=adapters,
            check=context.check,
            frames=_words(parameters.window),
        )
    return _packed(stage, model, states)


@stage(version=2)
@with_model(video_model)
def train(context: Context, stage: Stage[TrainParameters], model: VideoModel) -> Tensors:
    """A window's motion adapter: its weights, float16, under the names that peft gives them."""
    from paintover_engine.diffusion import i2vedit, training
    from paintover_engine.diffusion.lora import Adapters

    parameters = stage.parameters
    settings = training.TrainingSettings(
        steps=parameters.training_steps,
        rate=parameters.learning_rate,
        seed=_seed(stage, "training"),
        checkpoint=CHECKPOINT,
        early=parameters.stop_early,
    )
    with Adapters(model.unet, parameters.adapter.rank, parameters.adapter.adapted) as adapters:
        adapters.add("window", seed=_seed(stage, "adapter"))
        progress = i2vedit.train(
            model,
            adapters,
            _latents(context, stage, model, parameters.window),
            _source_condition(context, stage, model, parameters.window),
            settings,
            first=_first_source(context, stage, model),
            lower_first_level=parameters.source_level == "lower",
            sigmas=_sigmas(stage, model),
            check=context.check,
            resumed=context.checkpoint(stage),
            save=functools.partial(context.keep_checkpoint, stage),
        )
        log.info("motion of frames %d to %d: %d steps, losses %s", *stage.frames, progress.step, progress.losses)
        return {name: pictures.array(value).astype(np.float16) for name, value in adapters.weights("window").items()}


@stage(output=Choice)
def choose(context: Context, stage: Stage[ChooseParameters]) -> Choice:
    """`Choice`: what kind of edit the keyframe is."""
    preset = stage.parameters.preset
    key = context.keyframe(stage.roots[-1])
    plate = context.plate(key.frame).working()
    edited = key.working if key.matte is None else plate + (key.working - plate) * key.matte[..., None]
    found = edit_of(*(np.nan_to_num(picture).astype(np.float32) for picture in (plate, edited)))
    kind = found.kind if preset == "auto" else preset
    return Choice(np.array([KINDS.index(kind)], np.uint8), np.array([found.covered, found.preserved]))


@stage(output=Painted, version=2)
@with_model(video_model)
def paint(context: Context, stage: Stage[PaintParameters], model: VideoModel) -> Painted:
    """`Painted`: the edited window."""
    from paintover_engine.diffusion import i2vedit

    parameters = stage.parameters
    choice = context.load(_input(stage, choose))
    settings = i2vedit.EditSettings(
        guidance=(parameters.guidance_first, parameters.guidance_last),
        matching=parameters.matching,
        bounds=BOUNDS[KINDS[int(choice.kind[0])]],
        threshold=parameters.threshold,
        coarse=parameters.coarse,
        lower_source_level=parameters.source_level == "lower",
        adapted_source=parameters.adapted_source,
    )
    source = _source(context, stage, model, parameters.window)
    windows = {"window": parameters.window, "first": parameters.first}
    with _adapted(context, stage, model, windows) as adapters:
        states = i2vedit.denoise(
            model,
            source,
            _edited_condition(context, stage, model, source),
            _sigmas(stage, model),
            settings,
            adapters=adapters,
            first=_first_window(context, stage, model),
            check=context.check,
            frames=_words(parameters.window),
        )
    clean = pictures.array(states[-1])
    if not parameters.states:
        return Painted(clean)
    packed = _packed(stage, model, states)
    return Painted(clean, packed.states, packed.start)


@stage(publishes=True)
def result(context: Context, stage: Stage[ResultParameters]) -> Iterator[ResultFrame]:
    """The frames of a span. The inputs are (paint, encode …, those of its layer) of each keyframe. Windows are
    decoded once a span, and their pictures never stored."""
    view = stage.parameters.view

    def change(repainted: Sequence[Stage]) -> Change:
        painted, *encoded = repainted
        window = painted.parameters.window

        def decoded(context: Context, _: Stage, model: VideoModel) -> Tensors:
            edited, source = Latents(context.load(painted).latents), plate_latents(context, encoded, window)
            shown, plain = (
                pictures.pictures(model.decode(pictures.tensor(each, model.device)[None]))
                for each in (edited.latents, source)
            )
            return {"change": shown - plain}

        changed = with_model(video_model)(decoded)(context, stage)["change"]
        return Change(view.framing(context.info), window, changed)

    return repaint.result_frames(context, stage, change)


# What the stages read.


def _words(window: Sequence[int]) -> str:
    return f"frames {window[0]} to {window[-1]}"


def _input(stage: Stage, function: Any, window: Sequence[int] | None = None) -> Stage:
    """The stage's input of a function; where several have it, the one of that window."""
    return next(
        needed
        for needed in stage.inputs
        if needed.function is function and window in (None, getattr(needed.parameters, "window", None))
    )


def _sigmas(stage: Stage, model: VideoModel) -> Tensor:
    return model.config.sigmas(stage.parameters.basics.steps)


def _latents(context: Context, stage: Stage, model: VideoModel, window: Sequence[int]) -> Tensor:
    """(1, F, 4, h, w): the plate's scaled latents of a window's frames."""
    return pictures.tensor(plate_latents(context, stage.inputs, window), model.device)[None]


def _seed(stage: Stage, purpose: str, window: Sequence[int] | None = None) -> int:
    """The seed of a window's own noise; of the stage's window where none is given."""
    from paintover_engine.diffusion.schedule import derived_seed

    frames = window or stage.parameters.window
    return derived_seed(stage.parameters.basics.seed, purpose, frames[0], frames[-1])


def _source_condition(context: Context, stage: Stage, model: VideoModel, window: Sequence[int]) -> Condition:
    """The condition of a window's first frame in the plate."""
    encoding = EncodeParameters(view=stage.parameters.view, perturbation=stage.parameters.basics.sarp_seed)
    return _condition(stage, model, latents.frame(context, encoding, window[0]), window)


def _condition(stage: Stage, model: VideoModel, picture: Tensor, window: Sequence[int]) -> Condition:
    """The condition of a window's first frame, a picture (1, 3, h, w), for inversion, training and denoising alike."""
    basics: Basics = stage.parameters.basics
    if basics.condition_noise == "latent":
        return _latent_condition(stage, model, picture, model.encode(picture)[:, 0], window)
    return model.condition(picture, noise_aug=basics.noise_aug, seed=_seed(stage, "condition", window))


def _latent_condition(
    stage: Stage, model: VideoModel, picture: Tensor, latent: Tensor, window: Sequence[int]
) -> Condition:
    """The condition of a window's first frame whose scaled latents are (1, 4, h, w), with the noise on those."""
    from paintover_engine.diffusion.schedule import noise_like

    noise_aug, seed = stage.parameters.basics.noise_aug, _seed(stage, "condition", window)
    unscaled = latent / model.config.scale
    noisy = unscaled + noise_aug * noise_like(unscaled, seed)
    return model.condition(picture, noise_aug=noise_aug, seed=seed, latent=noisy)


def _edited_condition(context: Context, stage: Stage, model: VideoModel, source: SourceWindow) -> Condition:
    """The condition of the edited first frame: the keyframe; or the frame that an earlier window hands over as latents,
    with the noise that the source's first frame has."""
    parameters = stage.parameters
    previous = [needed for needed in stage.inputs if needed.function is paint]
    if not previous:
        keyframe = pictures.keyframe(context, parameters.view, stage.roots[-1])
        return _condition(stage, model, keyframe, parameters.window)
    before, anchor = previous[0], parameters.window[0]
    place = before.parameters.window.index(anchor)
    edited = pictures.tensor(context.load(before).latents[place : place + 1], model.device)
    plate = _latents(context, stage, model, parameters.window)[:, 0]
    edited = window_stages.anchored(context, stage, anchor, edited, plate)
    picture = model.decode(edited[None])
    if parameters.basics.condition_noise == "latent":
        return _latent_condition(stage, model, picture, edited, parameters.window)
    noise = source.condition.latent - source.states[-1:, 0].to(model.device) / model.config.scale
    latent = edited / model.config.scale + noise
    return model.condition(picture, noise_aug=parameters.basics.noise_aug, latent=latent)


def _source(context: Context, stage: Stage, model: VideoModel, window: Sequence[int]) -> SourceWindow:
    """A window's source at every noise level."""
    from paintover_engine.diffusion.i2vedit import SourceWindow

    inverted = context.load(_input(stage, invert, window))
    states = _unpacked(stage, model, inverted, _latents(context, stage, model, window))
    return SourceWindow(states, _source_condition(context, stage, model, window))


def _first_source(context: Context, stage: Stage, model: VideoModel) -> SourceWindow | None:
    """The first window's source, with skip-interval attention."""
    first = stage.parameters.first
    return _source(context, stage, model, first) if first else None


def _first_window(context: Context, stage: Stage, model: VideoModel) -> EditedWindow | None:
    """The first window, source and edit, with skip-interval attention."""
    from paintover_engine.diffusion.i2vedit import EditedWindow

    first = stage.parameters.first
    if not first:
        return None
    painted = context.load(_input(stage, paint, first))
    assert painted.states is not None and painted.start is not None
    clean = pictures.tensor(painted.latents, model.device)[None]
    states = _unpacked(stage, model, States(painted.states, painted.start), clean)
    keyframe = pictures.keyframe(context, stage.parameters.view, stage.roots[-1])
    return EditedWindow(_source(context, stage, model, first), _condition(stage, model, keyframe, first), states)


def _packed(stage: Stage, model: VideoModel, states: Tensor) -> States:
    from paintover_engine.diffusion import i2vedit

    packed, start = i2vedit.pack(states, _sigmas(stage, model), model.dtype)
    return States(packed.cpu().numpy(), pictures.array(start))


def _unpacked(stage: Stage, model: VideoModel, stored: States, clean: Tensor) -> Tensor:
    """(steps + 1, F, 4, h, w) float32 on the CPU: the stored states, and the clean latents (1, F, 4, h, w) last."""
    import torch

    from paintover_engine.diffusion import i2vedit

    packed = torch.from_numpy(np.array(stored.states)), torch.from_numpy(np.array(stored.start))
    return i2vedit.unpack(packed, clean, _sigmas(stage, model))


@contextlib.contextmanager
def _adapted(
    context: Context, stage: Stage, model: VideoModel, windows: Mapping[str, Sequence[int] | None]
) -> Iterator[Adapters | None]:
    """The motion adapters of windows on the network, by name; None where the stage has none."""
    import torch

    from paintover_engine.diffusion.lora import Adapters

    layout = stage.parameters.adapter
    if layout is None or not any(needed.function is train for needed in stage.inputs):
        yield None
        return
    with Adapters(model.unet, layout.rank, layout.adapted) as adapters:
        for name, window in windows.items():
            if window:
                weights = context.load(_input(stage, train, window))
                adapters.add(name, {key: torch.from_numpy(np.array(value)) for key, value in weights.items()})
        yield adapters
