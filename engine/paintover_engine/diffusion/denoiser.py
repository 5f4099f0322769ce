"""Denoisers: the one protocol that samplers and inversions call, guidance, and checks of what they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from paintover_engine.diffusion.schedule import Sigma
from paintover_engine.errors import Code, PaintoverError


class Denoiser(Protocol):
    """`model(x, sigma)`: D(x; σ), the denoised estimate of latents x (B, F, C, h, w) with noise of standard deviation
    σ; float32, of x's shape (Karras et al. 2022, eq. 7)."""

    def __call__(self, x: Tensor, sigma: Sigma, /) -> Tensor: ...


def guide(unconditional: Tensor, conditional: Tensor, scale: Tensor | float) -> Tensor:
    """Classifier-free guidance (Ho, Salimans: Classifier-Free Diffusion Guidance, 2022, eq. 6) of (B, F, C, h, w).

    scale: one number, or one a frame (F,)."""
    weight = torch.as_tensor(scale, device=conditional.device, dtype=conditional.dtype)
    weight = weight[:, None, None, None] if weight.ndim else weight
    return unconditional + weight * (conditional - unconditional)


class Guided:
    """A conditional and an unconditional denoiser as one, by classifier-free guidance (`guide`)."""

    def __init__(self, conditional: Denoiser, unconditional: Denoiser, scale: Tensor | float) -> None:
        self._conditional, self._unconditional, self._scale = conditional, unconditional, scale

    def __call__(self, x: Tensor, sigma: Sigma) -> Tensor:
        return guide(self._unconditional(x, sigma), self._conditional(x, sigma), self._scale)


class CheckedDenoiser:
    """A denoiser that can be cancelled, counts its calls, and raises PaintoverError where latents are NaN or infinite.

    check: called before each call of the network; raises to stop (`Context.check`). activity, remedy: for the error's
    sentence, as "inverting frames 0 to 13" and "less guidance"."""

    def __init__(self, model: Denoiser, check: Callable[[], None], activity: str, remedy: str) -> None:
        self._model, self._check, self._activity, self._remedy = model, check, activity, remedy
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Sigma) -> Tensor:
        self._check()
        self.calls += 1
        level = float(torch.as_tensor(sigma).flatten()[0])
        place = f"call {self.calls} of the network (noise level {level:.4g})"
        require_finite(x, self._activity, place, self._remedy)
        denoised = self._model(x, sigma)
        require_finite(denoised, self._activity, place, self._remedy)
        return denoised


def require_finite(latents: Tensor, activity: str, place: str, remedy: str) -> None:
    """Raises PaintoverError where latents are NaN or infinite. activity, place, remedy: what was computed, at which
    step of it, and what avoids the failure, for the error's sentence."""
    if not bool(torch.isfinite(latents).all()):
        raise PaintoverError(
            Code.INTERNAL,
            f"While {activity}, the latents stopped being numbers at {place}; {remedy} avoids that.",
        )


def require_finite_pictures(decoded: Tensor) -> Tensor:
    """The VAE's pictures, unchanged. Raises PaintoverError where they are NaN or infinite."""
    if not bool(torch.isfinite(decoded).all()):
        raise PaintoverError(
            Code.INTERNAL, "The VAE decoded pictures that are no numbers; use a model in another precision."
        )
    return decoded
