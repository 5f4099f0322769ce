"""Stages that compute with a model: they load it, go on in less memory where memory runs out, and report that."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from paintover_engine.diffusion import models
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.methods.pictures import ModelView, ViewParameters
from paintover_engine.methods.stage import Context, Stage

if TYPE_CHECKING:
    from paintover_engine.diffusion.inpaint import InpaintModel
    from paintover_engine.diffusion.memory import Tiered
    from paintover_engine.diffusion.prompt import TextModel
    from paintover_engine.diffusion.svd import VideoModel
    from paintover_engine.diffusion.wan import WanModel

SMALL = 100_000_000
"""Bytes of weights up to which a model is computed on the CPU beside a GPU that cannot be used."""

Model = TypeVar("Model", bound="Tiered")
Parameters = TypeVar("Parameters", bound=ViewParameters)
Output = TypeVar("Output")


def video_model(view: ModelView) -> VideoModel:
    """The view's image-to-video model, in the memory tier that its windows fit in."""
    from paintover_engine.diffusion import accelerators, svd

    folder = models.locate(view.model, "svd").path
    model = svd.load(folder, dtype="auto" if accelerators.best().kind == "cpu" else view.precision)
    width, height = view.size
    model.fit(model.config.frames, height, width)
    return model


def inpaint_model(view: ModelView) -> InpaintModel:
    """The view's inpainting model, with its CLIP."""
    from paintover_engine.diffusion import inpaint

    folder = models.locate(view.model, "inpaint")
    return inpaint.load(folder.path, models.locate_clip(folder))


def _refuse_unusable_gpu(folder: Path) -> None:
    """Raises PaintoverError where a GPU is there, PyTorch cannot use it, and the model is too large for a CPU."""
    from paintover_engine.diffusion import accelerators
    from paintover_engine.methods.gpu_trial import trial

    name = accelerators.unusable()
    if name and sum(file.stat().st_size for file in folder.rglob("*.safetensors")) > SMALL:
        found = trial(os.environ["PAINTOVER_ACCELERATOR"])
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"{name} is there, but cannot be used ({found.problem}), and on the CPU this model takes days: "
            f"{found.remedy}; or start the engine with the GPU hidden (CUDA_VISIBLE_DEVICES=) to compute on the CPU.",
        )


def wan_model(view: ModelView) -> WanModel:
    """The view's model of Wan's kind, in the memory tier that its windows fit in."""
    from paintover_engine.diffusion import wan

    model = wan.load(models.locate(view.model, view.kind).path, view.kind)
    width, height = view.size
    model.fit(model.layout.frames, height, width)
    return model


def text_model(view: ModelView) -> TextModel:
    """The text encoder of the view's model of Wan's kind."""
    from paintover_engine.diffusion import prompt

    return prompt.load(models.locate(view.model, view.kind).path)


def any_model(view: ModelView) -> VideoModel | InpaintModel:
    """The view's model, of its kind."""
    return video_model(view) if view.kind == "svd" else inpaint_model(view)


def with_model(
    load: Callable[[ModelView], Model],
) -> Callable[
    [Callable[[Context, Stage[Parameters, Output], Model], Output]],
    Callable[[Context, Stage[Parameters, Output]], Output],
]:
    """Makes a stage's function of one that computes with the model of the stage's view. Where memory runs out outside
    of the calls that the model itself repeats, the whole stage is computed again, one memory tier lower; `memory_notes`
    reports it.

    load: returns the view's model. Raises PaintoverError where the GPU fails, with what to do, and where the model is
    another than the stage was planned with: its output would be stored as that one's."""

    def decorated(
        function: Callable[[Context, Stage[Parameters, Output], Model], Output],
    ) -> Callable[[Context, Stage[Parameters, Output]], Output]:
        @functools.wraps(function)
        def computed(context: Context, stage: Stage[Parameters, Output]) -> Output:
            from paintover_engine.diffusion.accelerators import unusable
            from paintover_engine.diffusion.memory import gpu

            view = stage.parameters.view
            folder = models.locate(view.model, view.kind)
            if folder.digest not in stage.roots:
                raise PaintoverError(
                    Code.FAILED_PRECONDITION,
                    f"The model '{view.model}' was changed while the job ran; retry it to compute with the new one.",
                )
            _refuse_unusable_gpu(folder.path)
            with gpu():
                model = load(view)
            model.notes.clear()
            if name := unusable():
                model.notes.append(f"{name} cannot be used; computed on the CPU: `paintover doctor` tells what to do.")
            output = model.persist(lambda: function(context, stage, model))
            if model.notes:
                note = np.frombuffer(" ".join(dict.fromkeys([model.notes[0], model.notes[-1]])).encode(), np.uint8)
                context.keep_checkpoint(_note_of(stage), {"note": note})
            return output

        return computed

    return decorated


def memory_notes(context: Context, stages: Sequence[Stage]) -> list[str]:
    """Sentences for a finished job: that memory ran out in some of its stages, and how it went on."""
    stored = (context.checkpoint(_note_of(stage)) for stage in stages)
    return list(dict.fromkeys(bytes(tensors["note"]).decode() for tensors in stored if tensors is not None))


def _note_of(stage: Stage) -> Stage:
    """A stage under whose key the note of `stage` is stored: `stage`'s own output may have no place for text."""
    return dataclasses.replace(stage, roots=(*stage.roots, "note"))
