"""Pictures and latents on their way between a shot and a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.detail import Fit, Framing, Picture
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods.stage import Context

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from paintover_engine.media.info import SourceInfo

_OVERSHOOT = 0.25
"""How far decoded pictures may leave 0..1: errors of the VAE there cancel against those in its copy of the plate."""


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """How a model sees a shot.

    model, kind: its name, and its kind, "svd" or "inpaint" (`diffusion.models`). size: (width, height) of its pictures.
    inner: (width, height) of the plate in them. precision: of the network on a GPU; auto: half."""

    model: str
    kind: str
    size: tuple[int, int]
    inner: tuple[int, int]
    precision: Literal["auto", "bf16"] = "auto"

    @staticmethod
    def of(
        info: SourceInfo,
        model: ModelFolder,
        area: int,
        multiple: int,
        fit: Fit = "pad",
        precision: Literal["auto", "bf16"] = "auto",
    ) -> ModelView:
        """The view of a shot in pictures of about `area` pixels, whose sides are multiples of `multiple` pixels."""
        framing = Framing.of((info.width, info.height), area, multiple, fit)
        return ModelView(model=model.name, kind=model.kind, size=framing.size, inner=framing.inner, precision=precision)

    def framing(self, info: SourceInfo) -> Framing:
        """How the shot's plates lie in the model's pictures."""
        return Framing((info.width, info.height), self.size, self.inner)


@dataclass(frozen=True, kw_only=True)
class ViewParameters:
    """The parameters of a stage that computes with a model."""

    view: ModelView


def plate(context: Context, view: ModelView, number: int) -> Tensor:
    """(1, 3, h, w) float32 in -1..1: a frame of the plate as the model sees it."""
    return _tensor_of(context, view, context.plate(number).working())


def keyframe(context: Context, view: ModelView, digest: str) -> Tensor:
    """(1, 3, h, w) float32 in -1..1: the keyframe of that digest as the model sees it; where the artist gave a matte,
    the paint inside it and the plate around it."""
    key = context.keyframe(digest)
    if key.matte is None:
        return _tensor_of(context, view, key.working)
    behind = context.plate(key.frame).working()
    return _tensor_of(context, view, behind + (key.working - behind) * key.matte[..., None])


def _tensor_of(context: Context, view: ModelView, working: Picture) -> Tensor:
    import torch

    picture = view.framing(context.info).to_model(np.clip(np.nan_to_num(working), 0, 1))
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None] * 2 - 1


def pictures(decoded: Tensor) -> NDArray[np.float32]:
    """(F, h, w, 3), 0..1 and up to `_OVERSHOOT` beyond, of the VAE's pictures (F, 3, h, w) in -1..1."""
    return np.asarray((decoded / 2 + 0.5).clamp(-_OVERSHOOT, 1 + _OVERSHOOT).permute(0, 2, 3, 1).cpu().numpy())


def array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor as a stage returns it: float32, on the CPU."""
    return np.asarray(tensor.detach().float().cpu().numpy())


def tensor(stored: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of a stored tensor on a device."""
    import torch

    return torch.from_numpy(np.array(stored)).to(device)
