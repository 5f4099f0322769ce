"""I2VEdit: a video model, taught each window's own motion, repaints the shot from the edited keyframe while its
attention is held to the shot's (Ouyang et al.: I2VEdit: First-Frame-Guided Video Editing via Image-to-Video Diffusion
Models, SIGGRAPH Asia 2024).

encode   the plate's frames as latents, flat areas slightly perturbed
invert   a window's latents turned into the noise that gives them back; its latents at every noise level are kept
train    a low-rank adapter of the model's temporal layers learns the window's motion
choose   what kind of edit the keyframe is, and from that, how far along its attention is held to the shot's
paint    the noise denoised with the edited frame as the model's first picture: unconditional, edit and source in one
         batch, the edit's attention held to the source's; later windows also look at the first one
result   what that changed in the picture, laid on the plate, at its own size, inside the tracked matte

The first three are of the plate alone, so they are prepared while the artist paints and serve every later edit.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.detail import Picture
from paintover_engine.compose.edit_kind import Edit, EditKind, edit_of
from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import repaint
from paintover_engine.methods.parameters import I2VEditParameters
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, StageFunction, Tensors, stage
from paintover_engine.methods.windows import Window

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.editing import Source
    from paintover_engine.diffusion.lora import Adapters
    from paintover_engine.diffusion.svd import Condition, VideoModel
    from paintover_engine.media.info import SourceInfo

log = logging.getLogger(__name__)

BOUNDS: dict[EditKind, tuple[float, float]] = {"local": (0.5, 0.8), "style": (0.8, 0.9), "shape": (0.4, 0.5)}
"""Shares of the steps up to which all, and the coarse, temporal attention is the source's (the authors' presets)."""

KINDS: tuple[EditKind, ...] = ("local", "style", "shape")

CHECKPOINT = 25
"""Steps of a training between two checkpoints."""

TRAINING_AREA = {"reference": 512 * 896 / (576 * 1024), "small": 320 * 576 / (576 * 1024)}
"""Of the working size: what the authors train at, and what suffices for motion."""

LARGE = 400_000
"""Pixels from which a working size is large enough to train at less."""

# The plan.


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: I2VEditParameters, model: str) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    return _Planner(info, keyframes, parameters, models.locate(model, "svd")).plan()


class _Planner(repaint.Planner):
    """A window's stages: `encode` → `invert`, `train` → `paint`. Each `paint` has the one before as an input and, with
    skip-interval attention, the first window's stages."""

    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: I2VEditParameters, model: ModelFolder
    ) -> None:
        area = repaint.working_area(info, model, parameters.long_side)
        self._seen = repaint.seen_as(info, model, area, parameters.fit)
        self._trained = repaint.seen_as(info, model, _training_area(area, parameters.training_size), parameters.fit)
        self._given = parameters
        laid = {"matte": parameters.matte, "softness": parameters.softness}
        super().__init__(info, keyframes, model, {**self._seen, **laid}, result)

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) of the pictures that are worked on, and of those trained on."""
        return self._seen["size"], self._trained["size"]

    def prepare(self, window: Window, walk: list[Window]) -> None:
        first = walk[0] if walk and self._given.skip_interval else None
        for prepared in (self._inverted(window, first), *self._adapters(window, first)):
            self.stages.add(prepared)

    def paint(self, key: KeyframeRef, window: Window, walk: list[tuple[Window, Stage]], more: bool) -> Stage:
        first = walk[0][0] if walk and self._given.skip_interval else None
        given = self._given
        chosen = Stage(choose, {"preset": given.preset}, (), (self.info.fingerprint, key.digest), (key.frame,) * 2,
                       needs_keyframe=True, cost=0.1)  # fmt: skip
        anchoring = self.anchoring(key, window, walk, given.handover)
        inputs = [*self._of(window, first), chosen, *anchoring, *(stage for _, stage in walk[-1:])]
        if first:
            inputs += [*self._of(first, None), walk[0][1]]
        shared = {name: getattr(given, name) for name in ("guidance_first", "guidance_last", "matching", "threshold",
                  "coarse", "source_level", "adapted_source", "rank", "adapted")}  # fmt: skip
        return Stage(
            paint,
            {
                **self._seen,
                **self._basics(),
                **shared,
                **_windows(window, first),
                "kept": more and not walk and given.skip_interval,
            },
            tuple({stage.key: stage for stage in inputs}.values()),
            (*self.roots, key.digest),
            window.span,
            needs_keyframe=True,
            cost=given.steps * (2 + given.matching) * (1 + bool(first)),
        )

    def shown(self, window: Window, painted: Stage) -> tuple[Stage, ...]:
        return (painted, *self._encoded(window, self._seen))

    def _of(self, window: Window, first: Window | None) -> tuple[Stage, ...]:
        """What is known of a window's source."""
        return (
            *self._encoded(window, self._seen),
            self._inverted(window, first),
            *self._adapters(window, first),
        )

    def _basics(self) -> dict[str, Any]:
        """What most stages depend on."""
        given = self._given
        return {
            name: getattr(given, name) for name in ("steps", "perturbation", "noise_aug", "condition_noise", "seed")
        }

    def _encoded(self, window: Window, seen: Mapping[str, Any]) -> tuple[Stage, ...]:
        return self.encoded(
            window, encode, {**seen, "perturbation": self._given.perturbation, "seed": self._given.seed}
        )

    def _inverted(self, window: Window, first: Window | None, seen: Mapping[str, Any] | None = None) -> Stage:
        seen = seen or self._seen
        adapted = self._given.adapted_source and seen is self._seen
        inputs = [*self._encoded(window, seen), *(self._adapters(window, first) if adapted else ())]
        if first:
            inputs += [*self._encoded(first, seen), self._inverted(first, None, seen)]
        return Stage(
            invert,
            {
                **seen,
                **self._basics(),
                **_windows(window, first),
                **({name: getattr(self._given, name) for name in ("rank", "adapted")} if adapted else {}),
            },
            tuple({stage.key: stage for stage in inputs}.values()),
            self.roots,
            window.span,
            cost=self._given.steps * (1 + bool(first)),
        )

    def _adapters(self, window: Window, first: Window | None) -> tuple[Stage, ...]:
        """The stage that trains a window's motion adapter, where there is one."""
        given, seen = self._given, self._trained
        if not given.adapters:
            return ()
        inputs = [*self._encoded(window, seen)]
        if first:
            inputs += [*self._encoded(first, seen), self._inverted(first, None, seen)]
        shared = {name: getattr(given, name) for name in ("rank", "adapted", "training_steps", "learning_rate",
                  "stop_early")}  # fmt: skip
        ratio = self._trained["size"][0] * self._trained["size"][1] / (self._seen["size"][0] * self._seen["size"][1])
        stage = Stage(
            train,
            {**seen, **self._basics(), **shared, **_windows(window, first)},
            tuple({stage.key: stage for stage in inputs}.values()),
            self.roots,
            window.span,
            cost=given.training_steps * (2.5 + bool(first)) * ratio,
        )
        return (stage,)


def _windows(window: Window, first: Window | None) -> dict[str, Any]:
    return {"window": list(window.frames), "first": list(first.frames) if first else None}


def _training_area(area: int, size: str) -> int:
    """Pixels of the pictures that motion is learned on."""
    chosen = ("small" if area >= LARGE else "full") if size == "auto" else size
    return round(area * TRAINING_AREA.get(chosen, 1.0))


def requirements(info: SourceInfo, parameters: I2VEditParameters, model: ModelFolder) -> dict[str, Any]:
    """What a job would take, counted from shapes: `windows`, `frames` and `size` of each, `tiers` with the most GPU
    memory of each in bytes, `files` of a window and its training's `checkpoint` in bytes."""
    import torch

    from paintover_engine.diffusion import plan as counted
    from paintover_engine.diffusion.svd import bare_needs

    planner = _Planner(info, (), parameters, model)
    factor, frames = planner.shape.factor, planner.shape.frames
    (width, height), (trained_width, trained_height) = planner.sizes
    windows = len(list(planner.grid.walk(info.first, info.last)))
    shape = counted.Shape(
        frames=frames,
        grid=(height // factor, width // factor),
        trained=(trained_height // factor, trained_width // factor),
        rank=parameters.rank * parameters.adapters,
        placement=parameters.adapted,
        matches=parameters.matching,
        follows=parameters.skip_interval and windows > 1,
    )
    dtype = torch.bfloat16
    needs = counted.with_image_encoder(bare_needs(model.path, dtype, frames, height, width), model.path, dtype)
    weights = counted.adapter_weights(model.path, shape.rank, shape.placement) if shape.rank else 0
    return {
        "windows": windows,
        "frames": frames,
        "size": (width, height),
        "tiers": counted.peaks(model.path, dtype, needs, shape),
        "files": dict(
            counted.files(model.path, shape, steps=parameters.steps, dtype=dtype, picture=(info.width, info.height))
        ),
        "checkpoint": counted.CHECKPOINT * weights,
    }


# The stages' functions.


def _model(stage: Stage) -> VideoModel:
    """The stage's model, in the tier that its windows fit in; in bfloat16 on a GPU, whose range gradients need."""
    import torch

    from paintover_engine.diffusion import svd

    folder = models.locate(stage.parameters["model"], "svd").path
    model = svd.load(folder, dtype="bf16" if torch.cuda.is_available() else "auto")
    width, height = stage.parameters["size"]
    model.fit(model.config.frames, height, width)
    return model


@stage()
@repaint.with_model(_model)
def encode(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """`latents` (frames, 4, h, w) float32: the VAE's, scaled, of the perturbed plate."""
    latents = []
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        latents.append(repaint.array(model.encode(_perturbed(context, stage, number))[0]))
    return {"latents": np.concatenate(latents)}


@stage()
@repaint.with_model(_model)
def invert(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """`states` (steps, frames, 4, h, w): a window's latents at every noise level, noisiest first, each divided by its
    standard deviation, in half precision where the model computes in it; `start` (frames, 4, h, w) float32: the
    noisiest as it is."""
    from paintover_engine.diffusion import editing

    window = stage.parameters["window"]
    sigmas = model.config.sigmas(stage.parameters["steps"])
    with _adapted(context, stage, model, {"window": window}) as adapters:
        states = editing.invert(
            model,
            _latents(context, stage, model, window),
            _condition(context, stage, model, window[0]),
            sigmas,
            first=_first(context, stage, model),
            adapters=adapters,
            check=context.check,
            frames=_words(window),
        )
    return _kept(model, states, sigmas)


@stage()
@repaint.with_model(_model)
def train(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """A window's motion adapter: its weights, float16, under the names that peft gives them."""
    from paintover_engine.diffusion import editing, training
    from paintover_engine.diffusion.lora import Adapters

    given = stage.parameters
    settings = training.Settings(
        steps=given["training_steps"],
        rate=given["learning_rate"],
        seed=given["seed"],
        checkpoint=CHECKPOINT,
        early=given["stop_early"],
    )
    with Adapters(model.unet, given["rank"], given["adapted"]) as adapters:
        adapters.add("window", seed=given["seed"])
        progress = editing.train(
            model,
            adapters,
            _latents(context, stage, model, given["window"]),
            _condition(context, stage, model, given["window"][0]),
            settings,
            first=_first(context, stage, model),
            sigmas=model.config.sigmas(given["steps"]),
            check=context.check,
            resumed=context.checkpoint(stage),
            keep=functools.partial(context.keep_checkpoint, stage),
        )
        log.info("motion of frames %d to %d: %d steps, losses %s", *stage.frames, progress.step, progress.losses)
        return {name: repaint.array(value).astype(np.float16) for name, value in adapters.weights("window").items()}


@stage()
def choose(context: Context, stage: Stage) -> Tensors:
    """`kind` (1,) uint8: place in `KINDS` of the kind of edit; `evidence` (2,): shares of the frame that it covers and
    of its contours that it keeps."""
    key = context.keyframe(stage.roots[-1])
    plate = context.plate(key.frame).working()
    edited = key.working if key.matte is None else plate + (key.working - plate) * key.matte[..., None]
    found = edit_of(*(np.nan_to_num(picture).astype(np.float32) for picture in (plate, edited)))
    kind = found.kind if stage.parameters["preset"] == "auto" else stage.parameters["preset"]
    return {"kind": np.array([KINDS.index(kind)], np.uint8), "evidence": np.array([found.covered, found.preserved])}


@stage()
@repaint.with_model(_model)
def paint(context: Context, stage: Stage, model: VideoModel) -> Tensors:
    """`latents` (frames, 4, h, w) float32: the edited window's, scaled; of a first window that others follow, `states`
    and `start` as in `invert` too."""
    from paintover_engine.diffusion import editing

    given = stage.parameters
    sigmas = model.config.sigmas(given["steps"])
    kind = KINDS[int(context.load(_input(stage, choose))["kind"][0])]
    style = editing.Style(
        guidance=(given["guidance_first"], given["guidance_last"]),
        matches=given["matching"],
        bounds=BOUNDS[kind],
        threshold=given["threshold"],
        coarse=given["coarse"],
        lower=given["source_level"] == "lower",
        adapted_source=given["adapted_source"],
    )
    source = _source(context, stage, model, given["window"])
    with _adapted(context, stage, model, {"window": given["window"], "first": given["first"]}) as adapters:
        states = editing.paint(
            model,
            source,
            _edited_condition(context, stage, model, source),
            sigmas,
            style,
            adapters=adapters,
            first=_first_painted(context, stage, model),
            check=context.check,
            frames=_words(given["window"]),
        )
    kept = _kept(model, states, sigmas) if given["kept"] else {}
    return {"latents": repaint.array(states[-1]), **kept}


@stage(publishes=True)
def result(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The painted frames of a span. The inputs are (paint, encode …, those of its layer) of each keyframe."""
    return repaint.result(context, stage, _Change)


class _Change:
    """What an edited window changed in the picture, at the plate's size. Decoded once a span and never kept on disk."""

    def __init__(self, context: Context, stage: Stage, inputs: Sequence[Stage]) -> None:
        self._framing = repaint.framing(context, stage)
        self._inputs, self._window = inputs, inputs[0].parameters["window"]
        self._change = repaint.with_model(_model)(self._decoded)(context, stage)["change"]

    def _decoded(self, context: Context, stage: Stage, model: VideoModel) -> Tensors:
        edited = _on(model, context.load(self._inputs[0])["latents"])[None]
        source = _latents_of(context, self._inputs[1:], model, self._window)
        shown = repaint.pictures(model.decode(edited))
        return {"change": shown - repaint.pictures(model.decode(source))}

    def __call__(self, number: int) -> Picture:
        return self._framing.to_plate(self._change[self._window.index(number)])


def notes(context: Context, stages: Sequence[Stage]) -> list[str]:
    """What a finished job tells: how each keyframe was taken where that was left to us, and why; and that memory ran
    out, and how it went on."""
    told = []
    for chosen in stages:
        if chosen.function is choose and chosen.parameters["preset"] == "auto":
            kept = context.load(chosen)
            kind = KINDS[int(kept["kind"][0])]
            words = Edit(kind, *(float(share) for share in kept["evidence"])).words
            told.append(f"Frame {chosen.frames[0]} was taken as the preset '{kind}': {words}.")
    return list(dict.fromkeys([*told, *repaint.short_of_memory(context, stages)]))


# What the stages read.


def _words(window: list[int]) -> str:
    return f"frames {window[0]} to {window[-1]}"


def _input(stage: Stage, function: StageFunction, window: list[int] | None = None) -> Stage:
    """The input of a function, of a window where several have one."""
    return next(
        needed
        for needed in stage.inputs
        if needed.function is function and window in (None, needed.parameters.get("window"))
    )


def _perturbed(context: Context, stage: Stage, number: int) -> Tensor:
    """(1, 3, h, w): a frame of the plate as the model sees it, perturbed where it is flat."""
    from paintover_engine.diffusion import sarp

    picture = repaint.plate(context, stage, number)
    if not stage.parameters["perturbation"]:
        return picture
    return sarp.perturb(picture, seed=(1_000_003 * stage.parameters["seed"] + number) % 2**31)


def _condition(context: Context, stage: Stage, model: VideoModel, number: int) -> Condition:
    """What the network is told of a frame of the plate."""
    return _told(stage, model, _perturbed(context, stage, number))


def _told(stage: Stage, model: VideoModel, picture: Tensor) -> Condition:
    """What the network is told of a picture (1, 3, h, w): for inversion, training and painting alike."""
    if stage.parameters["condition_noise"] == "latent":
        return _noised(stage, model, picture, model.encode(picture)[:, 0])
    return model.condition(picture, noise_aug=stage.parameters["noise_aug"], seed=stage.parameters["seed"])


def _noised(stage: Stage, model: VideoModel, picture: Tensor, latent: Tensor) -> Condition:
    """The same with the picture's scaled latents (1, 4, h, w) given, and noise on them."""
    from paintover_engine.diffusion.schedule import noise_like

    noise_aug, seed = stage.parameters["noise_aug"], stage.parameters["seed"]
    unscaled = latent / model.config.scale
    noisy = unscaled + noise_aug * noise_like(unscaled, seed)
    return model.condition(picture, noise_aug=noise_aug, seed=seed, latent=noisy)


def _edited_condition(context: Context, stage: Stage, model: VideoModel, source: Source) -> Condition:
    """What the network is told of the edited first frame: of the keyframe; or of a frame that an earlier window has
    handed over as latents, with what the noise on the source's frame did to its latents."""
    previous = [needed for needed in stage.inputs if needed.function is paint]
    if not previous:
        return _told(stage, model, repaint.keyframe(context, stage))
    given, before = stage.parameters, previous[0]
    place = before.parameters["window"].index(given["window"][0])
    frame = _on(model, context.load(before)["latents"][place : place + 1])
    plate = _latents(context, stage, model, given["window"])[:, 0]
    frame = repaint.anchored(context, stage, given["window"][0], frame, plate)
    picture = model.decode(frame[None])
    if given["condition_noise"] == "latent":
        return _noised(stage, model, picture, frame)
    trace = source.condition.latent - source.states[-1:, 0].to(model.device) / model.config.scale
    latent = frame / model.config.scale + trace
    return model.condition(picture, noise_aug=given["noise_aug"], seed=given["seed"], latent=latent)


def _latents(context: Context, stage: Stage, model: VideoModel, window: list[int]) -> Tensor:
    """(1, F, 4, h, w): the plate's scaled latents of a window's frames."""
    return _latents_of(context, stage.inputs, model, window)


def _latents_of(context: Context, inputs: Sequence[Stage], model: VideoModel, window: list[int]) -> Tensor:
    found: dict[int, NDArray[np.float32]] = {}
    for needed in (needed for needed in inputs if needed.function is encode):
        kept = context.load(needed)["latents"]
        found |= dict(zip(range(needed.frames[0], needed.frames[1] + 1), kept, strict=True))
    return _on(model, np.stack([found[number] for number in window]))[None]


def _source(context: Context, stage: Stage, model: VideoModel, window: list[int]) -> Source:
    """A window's source at every noise level."""
    from paintover_engine.diffusion.editing import Source

    clean = _latents(context, stage, model, window)
    kept = context.load(_input(stage, invert, window))
    states = _restored(model, kept, clean, stage.parameters["steps"])
    return Source(states, _condition(context, stage, model, window[0]))


def _first(context: Context, stage: Stage, model: VideoModel) -> Source | None:
    """The first window's source, with skip-interval attention."""
    first = stage.parameters["first"]
    return _source(context, stage, model, first) if first else None


def _first_painted(context: Context, stage: Stage, model: VideoModel) -> Any:
    """The first window, source and edit, with skip-interval attention."""
    from paintover_engine.diffusion.editing import Painted

    first = stage.parameters["first"]
    if not first:
        return None
    kept = context.load(_input(stage, paint, first))
    states = _restored(model, kept, _on(model, kept["latents"])[None], stage.parameters["steps"])
    source = _source(context, stage, model, first)
    return Painted(source, _told(stage, model, repaint.keyframe(context, stage)), states)


def _kept(model: VideoModel, states: Tensor, sigmas: Tensor) -> Tensors:
    """States as they are kept: all but the clean ones, each divided by its standard deviation."""
    import torch

    from paintover_engine.diffusion import editing, schedule

    at = editing.levels(sigmas)[:-1, None, None, None, None].to(states.device)
    scaled = repaint.array(states[:-1] * schedule.c_in(at))
    half = model.dtype != torch.float32
    return {"states": scaled.astype(np.float16) if half else scaled, "start": repaint.array(states[0])}


def _restored(model: VideoModel, kept: Mapping[str, NDArray[Any]], clean: Tensor, steps: int) -> Tensor:
    """(steps + 1, F, 4, h, w) on the CPU: states from what `_kept` gave, and the clean latents (1, F, 4, h, w)."""
    import torch

    from paintover_engine.diffusion import editing, schedule

    at = editing.levels(model.config.sigmas(steps))[:-1, None, None, None, None]
    states = torch.from_numpy(np.array(kept["states"], np.float32)) / schedule.c_in(at)
    states[0] = torch.from_numpy(np.array(kept["start"]))
    return torch.cat([states, clean.cpu()])


def _on(model: VideoModel, kept: NDArray[Any]) -> Tensor:
    import torch

    return torch.from_numpy(np.array(kept, np.float32)).to(model.device)


@contextlib.contextmanager
def _adapted(
    context: Context, stage: Stage, model: VideoModel, windows: Mapping[str, list[int] | None]
) -> Iterator[Adapters | None]:
    """The motion adapters of windows on the network, by name; None where the stage has none."""
    import torch

    from paintover_engine.diffusion.lora import Adapters

    if not any(needed.function is train for needed in stage.inputs):
        yield None
        return
    with Adapters(model.unet, stage.parameters["rank"], stage.parameters["adapted"]) as adapters:
        for name, window in windows.items():
            if window:
                kept = context.load(_input(stage, train, window))
                adapters.add(name, {key: torch.from_numpy(np.array(value)) for key, value in kept.items()})
        yield adapters
