"""The plate's latents: the stage that encodes them, for every method with a model, and reading them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paintover_engine.methods import pictures
from paintover_engine.methods.model_stage import any_model, with_model
from paintover_engine.methods.pictures import ViewParameters
from paintover_engine.methods.stage import Context, Stage, stage

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.inpaint import InpaintModel
    from paintover_engine.diffusion.svd import VideoModel


@dataclass(frozen=True, kw_only=True)
class EncodeParameters(ViewParameters):
    """perturbation: the seed of I2VEdit's noise on flat areas (`diffusion.sarp`); None: none."""

    perturbation: int | None = None


@dataclass(frozen=True)
class Latents:
    """latents: (frames, 4, h, w) float32, clean, times the VAE's scale; by ascending frame number, or in a window's
    order."""

    latents: NDArray[np.float32]


@stage(output=Latents, version=2)
@with_model(any_model)
def encode(context: Context, stage: Stage[EncodeParameters, Latents], model: VideoModel | InpaintModel) -> Latents:
    """`Latents` of the stage's frames of the plate, frame by frame."""
    encoded = []
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        latents = model.encode(frame(context, stage.parameters, number))
        encoded.append(pictures.array(latents.reshape(-1, *latents.shape[-3:])))
    return Latents(np.concatenate(encoded))


def frame(context: Context, parameters: EncodeParameters, number: int) -> Tensor:
    """(1, 3, h, w) in about -1..1: the frame of the plate that is encoded, perturbed where the parameters say so."""
    from paintover_engine.diffusion import sarp
    from paintover_engine.diffusion.schedule import derived_seed

    picture = pictures.plate(context, parameters.view, number)
    if parameters.perturbation is None:
        return picture
    return sarp.perturb(picture, seed=derived_seed(parameters.perturbation, "perturbation", number))


def encoded_frames(context: Context, stages: Sequence[Stage[Any, Latents]]) -> Mapping[int, NDArray[np.float32]]:
    """The latents (4, h, w) of each frame of stages that return `Latents` by ascending frame number."""
    found: dict[int, NDArray[np.float32]] = {}
    for needed in stages:
        stored = context.load(needed).latents
        found |= dict(zip(range(needed.frames[0], needed.frames[1] + 1), stored, strict=True))
    return found


def plate_latents(context: Context, stages: Sequence[Stage], numbers: Sequence[int]) -> NDArray[np.float32]:
    """(len(numbers), 4, h, w): the plate's latents of some frames, in that order, by the `encode` stages among some."""
    found = encoded_frames(context, [needed for needed in stages if needed.function is encode])
    return np.stack([found[number] for number in numbers])
