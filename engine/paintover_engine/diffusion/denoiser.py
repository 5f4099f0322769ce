"""What samplers and inversions ask for: a function that takes the noise out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from paintover_engine.diffusion.schedule import Sigma
from paintover_engine.errors import Code, PaintoverError


class Denoiser(Protocol):
    """`model(x, sigma)`: the denoised estimate (B, F, C, h, w) of latents `x` with noise of standard deviation `sigma`,
    float32. The one protocol of all samplers and inversions."""

    def __call__(self, x: Tensor, sigma: Sigma) -> Tensor: ...


def guide(unconditional: Tensor, conditional: Tensor, scale: Tensor | float) -> Tensor:
    """Classifier-free guidance (Ho, Salimans: Classifier-Free Diffusion Guidance, 2022, eq. 6) of (B, F, C, h, w).

    scale: one number, or one a frame (F,)."""
    weight = torch.as_tensor(scale, device=conditional.device, dtype=conditional.dtype)
    weight = weight[:, None, None, None] if weight.ndim else weight
    return unconditional + weight * (conditional - unconditional)


class Guided:
    """Two denoisers as one: guidance of the conditional by the unconditional one."""

    def __init__(self, conditional: Denoiser, unconditional: Denoiser, scale: Tensor | float) -> None:
        self._conditional, self._unconditional, self._scale = conditional, unconditional, scale

    def __call__(self, x: Tensor, sigma: Sigma) -> Tensor:
        return guide(self._unconditional(x, sigma), self._conditional(x, sigma), self._scale)


class Watched:
    """A denoiser that asks before every call whether to go on, counts its calls, and stops where latents are no
    numbers.

    check: raises to stop (`Context.check`). doing, avoided_by: what is under way, and what might help, for the
    sentence: "inverting frames 0 to 13", "less guidance"."""

    def __init__(self, model: Denoiser, check: Callable[[], None], doing: str, avoided_by: str) -> None:
        self._model, self._check, self._doing, self._avoided_by = model, check, doing, avoided_by
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Sigma) -> Tensor:
        self._check()
        self.calls += 1
        level = float(torch.as_tensor(sigma).flatten()[0])
        place = f"call {self.calls} of the network (noise level {level:.4g})"
        demand_numbers(x, self._doing, place, self._avoided_by)
        found = self._model(x, sigma)
        demand_numbers(found, self._doing, place, self._avoided_by)
        return found


def demand_numbers(latents: Tensor, doing: str, place: str, avoided_by: str) -> None:
    """Raises PaintoverError where latents are no numbers. doing, place, avoided_by: what is under way, at which step of
    it, and what might help, for the sentence."""
    if not bool(torch.isfinite(latents).all()):
        raise PaintoverError(
            Code.INTERNAL,
            f"While {doing}, the latents stopped being numbers at {place}; {avoided_by} avoids that.",
        )


def demand_pictures(decoded: Tensor) -> Tensor:
    """The VAE's pictures as they are. Raises PaintoverError where they are no numbers."""
    if not bool(torch.isfinite(decoded).all()):
        raise PaintoverError(
            Code.INTERNAL, "The VAE decoded pictures that are no numbers; use a model in another precision."
        )
    return decoded
