"""I2VEdit on one window: inversion, motion training and painting, with attention matching and skip-interval attention.

Ouyang et al.: I2VEdit, SIGGRAPH Asia 2024. Plain functions of a loaded model and tensors; a window's latents are
(1, F, C, h, w), scaled. `Source.states` hold a window's source at every noise level, from which it is recomputed
wherever its attention is needed: nothing else of it is ever kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paintover_engine.diffusion import inversion, schedule, training
from paintover_engine.diffusion.attention import THRESHOLD
from paintover_engine.diffusion.denoiser import Watched, demand_numbers, guide
from paintover_engine.diffusion.lora import Adapters
from paintover_engine.diffusion.matching import Coarse, Control, controlled, replaced
from paintover_engine.diffusion.memory import TIERS
from paintover_engine.diffusion.sampling import euler_step
from paintover_engine.diffusion.schedule import Sigma
from paintover_engine.diffusion.svd import Condition, VideoModel

Check = Callable[[], None]

_AVOIDED_BY = "a lower learning rate of the motion adapters, or a model in another precision,"
"""What helps where latents stop being numbers."""


@dataclass(frozen=True)
class Source:
    """A window's source: states (steps + 1, F, C, h, w), at the levels of `levels`, noisiest first, the clean latents
    last; condition: what the network is told of its first frame. On the model's device or not."""

    states: Tensor
    condition: Condition


@dataclass(frozen=True)
class Painted:
    """An edited window that later ones follow: its source, what the network is told of its edited first frame, and the
    edit's states at the levels, noisiest first."""

    source: Source
    condition: Condition
    states: Tensor


@dataclass(frozen=True)
class Style:
    """How a window is painted.

    guidance: of the first and of the last frame, linear between. matches: attention matching. bounds: shares of the
    steps up to which all, and the coarse, temporal maps are the source's. threshold: of the spatial mask. coarse: which
    layers are. lower: take the source at the next lower level, as the authors' records are. adapted_source: the motion
    adapter acts on the source too."""

    guidance: tuple[float, float] = (1.0, 2.0)
    matches: bool = True
    bounds: tuple[float, float] = (0.5, 0.8)
    threshold: float = THRESHOLD
    coarse: Coarse = "quarter"
    lower: bool = False
    adapted_source: bool = False


def levels(sigmas: Tensor) -> Tensor:
    """The noise levels that states stand at: the last, 0, is replaced by the geometric continuation of those before
    it, where the clean latents are taken to stand."""
    return torch.cat([sigmas[:-1], sigmas[-2:-1] ** 2 / sigmas[-3:-2]])


@torch.no_grad()
def invert(
    model: VideoModel,
    clean: Tensor,
    condition: Condition,
    sigmas: Tensor,
    *,
    first: Source | None = None,
    adapters: Adapters | None = None,
    check: Check = lambda: None,
    frames: str = "a window",
) -> Tensor:
    """A window's states, (steps + 1, F, C, h, w): deterministic inversion without guidance.

    first: the first window's source, whose temporal keys and values are seen beside the window's own.
    adapters: with one named "window" that acts; without it the network is the model's own. frames: the window's, in
    words, for the sentence that tells where latents stopped being numbers."""
    control, at = Control(), levels(sigmas)

    def denoise(x: Tensor, sigma: Sigma) -> Tensor:
        def output() -> Tensor:
            if first:
                _remember(model, control, adapters, first, int((at - sigma).abs().argmin()), at)
            if adapters:
                adapters.act({"window": [1.0]})
            return model.raw(x, sigma, [condition])

        return schedule.denoised(x, model.work(output), sigma)

    with controlled(model.unet, control):
        watched = Watched(denoise, check, f"inverting {frames}", _AVOIDED_BY)
        return torch.cat(inversion.lower_level(watched, clean, sigmas))


def train(
    model: VideoModel,
    adapters: Adapters,
    clean: Tensor,
    condition: Condition,
    settings: training.Settings,
    *,
    first: Source | None = None,
    sigmas: Tensor,
    check: Check = lambda: None,
    resumed: training.Kept | None = None,
    keep: Callable[[dict[str, training.Array]], None] = lambda state: None,
) -> training.Progress:
    """Trains the adapter "window" on a window. first: as in `invert`, at the smallest level that is not below that of
    the step. Where memory is short, activations are computed again instead of kept."""
    control, at = Control(), levels(sigmas)

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        if first:
            above = int((at >= sigma).sum()) - 1
            with torch.no_grad():
                _remember(model, control, adapters, first, max(above, 0), at)
        adapters.act({"window": [1.0]})
        return model.raw(x, sigma, [condition])

    def work(step: Callable[[], float]) -> float:
        def sized() -> float:
            if model.tier is not TIERS[0]:
                model.unet.enable_gradient_checkpointing()
            return step()

        return model.work(sized)

    try:
        with controlled(model.unet, control):
            return training.train(
                network, adapters, "window", clean, settings, check=check, resumed=resumed, keep=keep, work=work
            )
    finally:
        model.unet.disable_gradient_checkpointing()


@torch.no_grad()
def paint(
    model: VideoModel,
    source: Source,
    edited: Condition,
    sigmas: Tensor,
    style: Style,
    *,
    adapters: Adapters | None = None,
    first: Painted | None = None,
    check: Check = lambda: None,
    frames: str = "a window",
) -> Tensor:
    """The edited window's states, (steps + 1, F, C, h, w), the clean latents last, from the source's noise.

    edited: what the network is told of the edited first frame. adapters: with one named "window", and one named "first"
    where there is a first window: `first`, whose edit's and source's temporal keys and values are seen beside the
    window's own, item by item. frames: as in `invert`."""
    control = Control(threshold=style.threshold)
    guidance = torch.linspace(*style.guidance, source.states.shape[1], device=model.device)
    x = source.states[:1].to(model.device)
    states = [x]
    with controlled(model.unet, control, style.coarse):
        for step in range(len(sigmas) - 1):
            check()
            painter = _Step(model, control, adapters, style, sigmas, step)
            output = model.work(lambda painter=painter, x=x: painter.outputs(x, source, edited, first))  # type: ignore[misc]
            place = f"step {step + 1} of {len(sigmas) - 1}"
            demand_numbers(output, f"painting {frames}", place, f"less guidance or {_AVOIDED_BY}")
            denoised = schedule.denoised(x, guide(output[:1], output[1:], guidance), sigmas[step])
            x = euler_step(x, denoised, sigmas[step], sigmas[step + 1])
            states.append(x)
    return torch.cat(states)


@dataclass(frozen=True)
class _Item:
    """One item of a batch: latents (1, F, C, h, w) at level `sigma`, and the adapter's share on it."""

    latents: Tensor
    sigma: Tensor
    condition: Condition
    share: float


@dataclass(frozen=True)
class _Step:
    """One denoising step's calls of the network."""

    model: VideoModel
    control: Control
    adapters: Adapters | None
    style: Style
    sigmas: Tensor
    step: int

    def outputs(self, x: Tensor, source: Source, edited: Condition, first: Painted | None) -> Tensor:
        """The network's unconditional and conditional output, (2, F, C, h, w)."""
        items = self._items(x, source, edited)
        guides = self._items(first.states[self.step][None], first.source, first.condition) if first else []
        tier, outputs = self.model.tier, []
        whole = tier.batched and not (first and tier.offload)
        for part in (slice(None),) if whole else (slice(0, 1), slice(1, None)):
            if first:
                self.control.remember, self.control.follow = True, False
                self._call(guides[part], "first")
                self.control.remember, self.control.follow = False, True
            outputs.append(self._call(items[part], "window"))
            self.control.remember = self.control.follow = False
            self.control.forget()
        return torch.cat(outputs)[:2]

    def _items(self, x: Tensor, source: Source, edited: Condition) -> list[_Item]:
        """[unconditional, edit, source]: a batch, or where memory is short, the first of them by itself."""
        at = levels(self.sigmas)
        place = self.step + self.style.lower
        x = x.to(self.model.device)
        items = [_Item(x, at[self.step], edited.unconditional(), 1.0), _Item(x, at[self.step], edited, 1.0)]
        if self.style.matches:
            shown = source.states[place][None].to(self.model.device)
            items.append(_Item(shown, at[place], source.condition, float(self.style.adapted_source)))
        return items

    def _call(self, items: list[_Item], adapter: str) -> Tensor:
        """The network's output for a batch, its attention layers told which item is held to which."""
        matched = self.style.matches and len(items) > 1
        self.control.items = len(items)
        self.control.edited, self.control.source = (len(items) - 2, len(items) - 1) if matched else (None, None)
        self.control.temporal = replaced(self.step, len(self.sigmas) - 1, self.style.bounds)
        if self.adapters:
            self.adapters.act({adapter: [item.share for item in items]})
        latents = torch.cat([item.latents for item in items])
        return self.model.raw(latents, torch.stack([item.sigma for item in items]), [item.condition for item in items])


def _remember(
    model: VideoModel, control: Control, adapters: Adapters | None, first: Source, place: int, at: Tensor
) -> None:
    """Calls the network, without adapters, on the first window's source at one level, for its keys and values."""
    if adapters:
        adapters.act({})
    control.remember, control.follow = True, False
    model.raw(first.states[place][None].to(model.device), at[place], [first.condition])
    control.remember, control.follow = False, True
