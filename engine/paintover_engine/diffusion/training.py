"""Training of a motion adapter on one window of frames (I2VEdit, coarse motion extraction).

The loss is the weighted distance of the denoised estimate D from the clean latents z. With v-prediction it is the plain
distance of the network's output F from its target, which is what is computed here:

    (1 + σ²)/σ² |D - z|² = |F - (ε - σ z)/√(1 + σ²)|²,    F and D at z + σ ε
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from paintover_engine.diffusion.lora import Adapters
from paintover_engine.diffusion.schedule import derived_seed
from paintover_engine.errors import Code, PaintoverError

Array = NDArray[Any]
Checkpoint = Mapping[str, Array]
"""A checkpoint's tensors by name, as `_state` has them."""

Network = Callable[[Tensor, Tensor], Tensor]
"""The network's output (1, F, C, h, w) for noisy latents of that shape at one level, with gradients."""

PROBES = (0.1, 0.4, 0.7, 0.9, 0.97, 0.995)
"""Quantiles of the noise levels at which a plateau is looked for: σ from 0.09 to 110, for motion is decided at the
highest, which training seldom draws."""

PLATEAU, PATIENCE = 0.02, 4
"""Training stops when so many checkpoints together lowered the probes' loss by less than this share."""


@dataclass(frozen=True)
class TrainingSettings:
    """steps: of the optimiser, at most. rate: AdamW's, constant. checkpoint: steps between two checkpoints.
    early: stop on a plateau; it costs one evaluation a probe at every checkpoint."""

    steps: int = 250
    rate: float = 5e-4
    decay: float = 1e-2
    seed: int = 23
    checkpoint: int = 25
    early: bool = False


@dataclass
class Progress:
    """Steps done, and the mean loss at the levels of `PROBES` at each checkpoint."""

    step: int = 0
    losses: list[float] = field(default_factory=list)

    def is_flat(self) -> bool:
        """Whether the last `PATIENCE` checkpoints lowered the loss by less than the share `PLATEAU`."""
        if len(self.losses) <= PATIENCE:
            return False
        return min(self.losses[-PATIENCE:]) > (1 - PLATEAU) * min(self.losses[:-PATIENCE])


def interpolated_cosine(u: Tensor, *, sigma_data: float = 0.5, lowest: float = 0.002, highest: float = 700.0) -> Tensor:
    """Noise levels for u in 0..1: cosine schedules shifted for pictures of 32 and of 64 pixels a side, and between them
    (Hoogeboom et al.: simple diffusion, 2023, section 3.1; as k-diffusion has it)."""

    def ln_snr(side: float) -> Tensor:
        shift = 2 * math.log(side / 64)
        ends = [math.atan(math.exp((shift - 2 * math.log(sigma_data / sigma)) / 2)) for sigma in (lowest, highest)]
        return -2 * torch.log(torch.tan(ends[0] + u * (ends[1] - ends[0]))) + shift

    return sigma_data * torch.exp(-torch.lerp(ln_snr(64), ln_snr(32), u) / 2)


def target(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(ε - σ z)/√(1 + σ²), the network's target at z + σ ε. clean, noise: z and ε, (1, F, C, h, w)."""
    return (noise - sigma * clean) / torch.sqrt(1 + sigma**2)


def loss_of(network: Network, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """The loss |F - target|², a mean over all elements."""
    return functional.mse_loss(network(clean + sigma * noise, sigma), target(clean, noise, sigma))


def train(
    network: Network,
    adapters: Adapters,
    name: str,
    clean: Tensor,
    settings: TrainingSettings,
    *,
    check: Callable[[], None] = lambda: None,
    resumed: Checkpoint | None = None,
    save: Callable[[dict[str, Array]], None] = lambda state: None,
    work: Callable[[Callable[[], float]], float] = lambda step: step(),
) -> Progress:
    """Trains the adapter `name`, which acts already, on a window's clean latents (1, F, C, h, w).

    check: called before every step; raises to stop. resumed: the checkpoint that an interrupted training saved last.
    save: receives each checkpoint, 6 bytes a weight. work: runs a step, again where memory ran out. Raises
    PaintoverError where the loss is NaN or infinite.

    Each step draws from a seed of its own, and a checkpoint rounds the state in memory to the half precision that is
    saved, so that a resumed training ends with the same weights as an uninterrupted one."""
    parameters = adapters.train(name)
    optimiser = torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=settings.decay)
    progress = _restore(resumed, parameters, optimiser) if resumed else Progress()
    while progress.step < settings.steps and not (settings.early and progress.is_flat()):
        check()
        seed = derived_seed(settings.seed, "training step", progress.step)
        loss = work(functools.partial(_gradients, network, adapters, clean, optimiser, seed))
        if not math.isfinite(loss):
            raise PaintoverError(
                Code.INTERNAL,
                f"While learning a window's motion, the loss stopped being a number at step {progress.step + 1}; a "
                "lower learning_rate avoids that.",
            )
        optimiser.step()
        progress.step += 1
        if progress.step % settings.checkpoint == 0:
            if settings.early:
                progress.losses.append(_probe(network, clean, settings.seed))
            save(_state(progress, parameters, optimiser))
    adapters.train(None)
    return progress


def _gradients(
    network: Network, adapters: Adapters, clean: Tensor, optimiser: torch.optim.Optimizer, seed: int
) -> float:
    """Leaves the gradients for one draw of noise and level in the parameters; returns the loss."""
    optimiser.zero_grad(set_to_none=True)
    sigma, noise = _draw(clean, seed)
    with torch.random.fork_rng(devices=[clean.device] if clean.is_cuda else []):
        torch.manual_seed(seed)  # dropout
        adapters.training = True
        try:
            loss = loss_of(network, clean, noise, sigma)
            loss.backward()  # type: ignore[no-untyped-call]
        finally:
            adapters.training = False
    return float(loss.detach())


@torch.no_grad()
def _probe(network: Network, clean: Tensor, seed: int) -> float:
    """The loss at fixed levels with fixed noise."""
    _, noise = _draw(clean, seed)
    levels = interpolated_cosine(torch.tensor(PROBES)).to(clean.device)
    return sum(float(loss_of(network, clean, noise, sigma)) for sigma in levels) / len(PROBES)


def _draw(clean: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A noise level and noise of the latents' shape; the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    sigma = interpolated_cosine(torch.rand((), generator=generator))
    return sigma.to(clean.device), torch.randn(clean.shape, generator=generator).to(clean.device)


def _state(
    progress: Progress, parameters: list[torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> dict[str, Array]:
    """A checkpoint: `step` (1,), `losses`, and for each parameter its weight as float16 and AdamW's two moments as the
    bits of bfloat16, int16. Rounds the parameters and moments in memory to that precision."""
    state: dict[str, Array] = {
        "step": np.array([progress.step], np.int64),
        "losses": np.array(progress.losses, np.float64),
    }
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            moments = optimiser.state[parameter]
            parameter.copy_(parameter.half())
            state[f"{index}.weight"] = parameter.half().cpu().numpy()
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name].copy_(moments[name].bfloat16())
                state[f"{index}.{name}"] = moments[name].bfloat16().cpu().view(torch.int16).numpy()
    return state


def _restore(
    checkpoint: Checkpoint, parameters: list[torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> Progress:
    """Sets parameters and moments to those of a checkpoint from `_state`."""
    step = int(checkpoint["step"][0])
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(torch.from_numpy(checkpoint[f"{index}.weight"].copy()))
            moments: dict[str, Tensor] = {"step": torch.tensor(float(step))}
            for name in ("exp_avg", "exp_avg_sq"):
                bits = torch.from_numpy(checkpoint[f"{index}.{name}"].copy())
                moments[name] = bits.view(torch.bfloat16).to(parameter.device, parameter.dtype)
            optimiser.state[parameter] = moments
    return Progress(step, [float(loss) for loss in checkpoint["losses"]])
