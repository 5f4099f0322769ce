"""I2VEdit: a clip edited like its first frame, by a video model that has learned the clip's motion and whose attention
is held to the clip's.

Ouyang, Dong, Yang, Si, Pan: I2VEdit: First-Frame-Guided Video Editing via Image-to-Video Diffusion Models, SIGGRAPH
Asia 2024. `edit` is the whole method on one window of frames; its steps follow. Where the paper and its published code
disagree, docs/methods/i2vedit.md says what is done here.

Symbols:
    z          clean latents of the source, (1, F, C, h, w), times the VAE's scale
    x          latents with noise of level σ, its standard deviation; levels descend
    F, D       the network, and the denoiser D(x; σ) = c_skip x + c_out F(c_in x; c_noise) (Karras et al. 2022, eq. 7)
    p_s, p_e   attention maps of the source and of the edit; Q, K, V their queries, keys and values

What stands in modules of its own: smooth-area random perturbation (`sarp`), the motion adapters and their loss (`lora`,
`training`), attention matching (`matching`, `attention`).

No attention is ever stored: `SourceWindow.states` hold a window's source at every noise level, from which its queries,
keys and values are recomputed where they are needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paintover_engine.diffusion import lora, sarp, schedule, training
from paintover_engine.diffusion.attention import THRESHOLD
from paintover_engine.diffusion.denoiser import CheckedDenoiser, Denoiser, guide, require_finite
from paintover_engine.diffusion.lora import Adapters
from paintover_engine.diffusion.matching import AttentionControl, Coarse, controlled, replaced_maps
from paintover_engine.diffusion.memory import TIERS
from paintover_engine.diffusion.sampling import euler_step
from paintover_engine.diffusion.schedule import Sigma
from paintover_engine.diffusion.svd import Condition, VideoModel

Check = Callable[[], None]

_REMEDY = "a lower learning rate of the motion adapters, or a model in another precision,"


@dataclass(frozen=True)
class SourceWindow:
    """A window's source.

    states: (steps + 1, F, C, h, w) float32, its latents at each of `levels`, noisiest first, z last; on any device.
    condition: of its first frame."""

    states: Tensor
    condition: Condition


@dataclass(frozen=True)
class EditedWindow:
    """A window that later windows attend to: its source, the condition of its edited first frame, and the edit's states
    at the noise levels, as in `SourceWindow`; the clean edited latents last."""

    source: SourceWindow
    condition: Condition
    states: Tensor


@dataclass(frozen=True)
class EditSettings:
    """How the edit is denoised; the defaults are the authors'.

    guidance: classifier-free, of the first and of the last frame, linear between. matching: attention matching.
    bounds: shares of the steps up to which all, and then the coarse, temporal maps are the source's. threshold: of M,
    the spatial mask. coarse: which layers are coarse (`matching.coarse_blocks`). lower_source_level: compare with the
    source at the next lower noise level, as the published code does. adapted_source: the motion adapter acts on the
    source too."""

    guidance: tuple[float, float] = (1.0, 2.0)
    matching: bool = True
    bounds: tuple[float, float] = (0.5, 0.8)
    threshold: float = THRESHOLD
    coarse: Coarse = "quarter"
    lower_source_level: bool = False
    adapted_source: bool = False


@dataclass(frozen=True)
class I2VEditSettings:
    """steps: noise levels. noise_aug: standard deviation of the noise on the first frame, for pictures in -1..1.
    rank, placement: of the motion adapter (`lora`). seed: of all noise."""

    steps: int = 25
    noise_aug: float = 0.02
    seed: int = 23
    rank: int = lora.RANK
    placement: lora.Placement = "block"
    training: training.TrainingSettings = dataclasses.field(default_factory=training.TrainingSettings)
    edit: EditSettings = dataclasses.field(default_factory=EditSettings)


def edit(
    model: VideoModel, frames: Tensor, edited: Tensor, settings: I2VEditSettings, *, number: int = 0
) -> EditedWindow:
    """I2VEdit on a shot's first window. `EditedWindow.states[-1]` are the edited clip's clean scaled latents.

    frames: (F, 3, H, W) in -1..1, the source. edited: (1, 3, H, W), its first frame edited. number: the first frame's
    in the shot, which the noise depends on. Later windows take the first one as `first` in
    `invert`, `train` and `denoise`: skip-interval cross-attention.

    States and weights are rounded as they are where a job stores them."""
    sigmas = model.config.sigmas(settings.steps)

    # Smooth-area random perturbation; then the VAE.
    seeds = [schedule.derived_seed(settings.seed, "perturbation", number + index) for index in range(len(frames))]
    frames = torch.cat([sarp.perturb(frame[None], seed=seed) for frame, seed in zip(frames, seeds, strict=True)])
    z = torch.cat([model.encode(frame[None]) for frame in frames], dim=1)
    span = number, number + len(frames) - 1
    seed = schedule.derived_seed(settings.seed, "condition", *span)
    c_s, c_e = (model.condition(each, noise_aug=settings.noise_aug, seed=seed) for each in (frames[:1], edited))

    # Coarse motion extraction: a low-rank adapter of the temporal layers learns the clip's motion.
    with Adapters(model.unet, settings.rank, settings.placement) as adapters:
        adapters.add("window", seed=schedule.derived_seed(settings.seed, "adapter", *span))
        drawn = schedule.derived_seed(settings.seed, "training", *span)
        train(model, adapters, z, c_s, dataclasses.replace(settings.training, seed=drawn), sigmas=sigmas)
        motion = {name: weight.half() for name, weight in adapters.weights("window").items()}

    # Appearance refinement: inversion, and denoising with attention matching.
    states = invert(model, z, c_s, sigmas)
    source = SourceWindow(unpack(pack(states, sigmas, model.dtype), z, sigmas), c_s)
    with Adapters(model.unet, settings.rank, settings.placement) as adapters:
        adapters.add("window", motion)
        return EditedWindow(source, c_e, denoise(model, source, c_e, sigmas, settings.edit, adapters=adapters))


# Inversion.


def levels(sigmas: Tensor) -> Tensor:
    """The noise levels at which states stand: σ_0 … σ_{n-1} as they are; in place of the last, 0, the geometric
    continuation σ_{n-1}² / σ_{n-2}, at which z is taken to stand (published code)."""
    return torch.cat([sigmas[:-1], sigmas[-2:-1] ** 2 / sigmas[-3:-2]])


def lower_level(model: Denoiser, z: Tensor, sigmas: Tensor) -> list[Tensor]:
    """Deterministic inversion by explicit Euler steps up `levels`, the network evaluated at the lower level (the
    EDM form of DDIM inversion, Song et al. 2020):

        x ← x + (σ' - σ) / σ (x - D(x; σ)),    σ' the next level above σ

    The states at the levels, noisiest first, z last."""
    x, states = z, [z]
    for higher, sigma in schedule.ascending(levels(sigmas)):
        x = x + (higher - sigma) / sigma * (x - model(x, sigma))
        states.append(x)
    return states[::-1]


@torch.no_grad()
def invert(
    model: VideoModel,
    z: Tensor,
    condition: Condition,
    sigmas: Tensor,
    *,
    first: SourceWindow | None = None,
    adapters: Adapters | None = None,
    check: Check = lambda: None,
    frames: str = "a window",
) -> Tensor:
    """A window's states (steps + 1, F, C, h, w) by `lower_level`, without guidance.

    first: the first window's source, whose temporal keys and values are attended to beside the window's own.
    adapters: with one named "window", which acts; None: the network as it is. frames: the window's, in words, for
    errors. Raises PaintoverError where latents become NaN or infinite."""
    control, at = AttentionControl(), levels(sigmas)

    def denoised(x: Tensor, sigma: Sigma) -> Tensor:
        def output() -> Tensor:
            if first:
                _record_first_window(model, control, adapters, first, int((at - sigma).abs().argmin()), at)
            if adapters:
                adapters.act({"window": [1.0]})
            return model.raw(x, sigma, [condition])

        return schedule.denoised(x, model.work(output), sigma)

    with controlled(model.unet, control):
        checked = CheckedDenoiser(denoised, check, f"inverting {frames}", _REMEDY)
        return torch.cat(lower_level(checked, z, sigmas))


def pack(states: Tensor, sigmas: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """States (steps + 1, F, C, h, w) in the form in which they are stored, without the clean ones: each times c_in, its
    inverse standard deviation, float16 where the model's `dtype` is not float32; and the noisiest unscaled, float32."""
    at = levels(sigmas)[:-1, None, None, None, None].to(states.device)
    scaled = states[:-1] * schedule.c_in(at)
    return scaled.float() if dtype == torch.float32 else scaled.half(), states[0].float()


def unpack(packed: tuple[Tensor, Tensor], clean: Tensor, sigmas: Tensor) -> Tensor:
    """(steps + 1, F, C, h, w) float32 on the CPU: the inverse of `pack`. clean: (1, F, C, h, w)."""
    scaled, noisiest = (part.cpu().float() for part in packed)
    states = scaled / schedule.c_in(levels(sigmas)[:-1, None, None, None, None])
    states[0] = noisiest
    return torch.cat([states, clean.cpu()])


# Motion.


def train(
    model: VideoModel,
    adapters: Adapters,
    z: Tensor,
    condition: Condition,
    settings: training.TrainingSettings,
    *,
    first: SourceWindow | None = None,
    lower_first_level: bool = False,
    sigmas: Tensor,
    check: Check = lambda: None,
    resumed: training.Checkpoint | None = None,
    save: Callable[[dict[str, training.Array]], None] = lambda state: None,
) -> training.Progress:
    """Trains the adapter "window" on a window's clean latents z (coarse motion extraction; `training` has the loss).

    first: as in `invert`, at the smallest level that is not below the step's; with `lower_first_level`, at the next
    lower one, where the published code's records are. resumed, save: as in `training.train`. Below the largest
    memory tier, activations are recomputed in the backward pass."""
    control, at = AttentionControl(), levels(sigmas)

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        if first:
            place = max(int((at >= float(sigma)).sum()) - 1, 0) + lower_first_level
            with torch.no_grad():
                _record_first_window(model, control, adapters, first, min(place, len(at) - 1), at)
        adapters.act({"window": [1.0]})
        return model.raw(x, sigma, [condition])

    def work(step: Callable[[], float]) -> float:
        def within_memory() -> float:
            if model.tier is not TIERS[0]:
                model.unet.enable_gradient_checkpointing()
            return step()

        return model.work(within_memory)

    try:
        with controlled(model.unet, control):
            return training.train(
                network, adapters, "window", z, settings, check=check, resumed=resumed, save=save, work=work
            )
    finally:
        model.unet.disable_gradient_checkpointing()


# Denoising with attention matching.


@torch.no_grad()
def denoise(
    model: VideoModel,
    source: SourceWindow,
    edited: Condition,
    sigmas: Tensor,
    settings: EditSettings,
    *,
    adapters: Adapters | None = None,
    first: EditedWindow | None = None,
    check: Check = lambda: None,
    frames: str = "a window",
) -> Tensor:
    """The edited window's states (steps + 1, F, C, h, w), the clean latents last, from the source's noisiest state.

    Each step is one of Euler's on D = c_skip x + c_out (u + g (c - u)), u and c the network's output without and with
    the condition `edited`, g linear over the frames; c is computed with attention matching beside the source
    (`matching`).

    adapters: with one named "window", and one named "first" where `first` is given. first: the first window, whose
    temporal keys and values, edit's and source's, are attended to beside the window's own. frames: as in
    `invert`. Raises PaintoverError where latents become NaN or infinite."""
    control = AttentionControl(threshold=settings.threshold)
    guidance = torch.linspace(*settings.guidance, source.states.shape[1], device=model.device)
    x = source.states[:1].to(model.device)
    states = [x]
    with controlled(model.unet, control, settings.coarse):
        for step in range(len(sigmas) - 1):
            check()
            calls = _NetworkCalls(model, control, adapters, settings, sigmas, step)
            output = model.work(lambda calls=calls, x=x: calls.outputs(x, source, edited, first))  # type: ignore[misc]
            place = f"step {step + 1} of {len(sigmas) - 1}"
            require_finite(output, f"painting {frames}", place, f"less guidance or {_REMEDY}")
            denoised = schedule.denoised(x, guide(output[:1], output[1:], guidance), sigmas[step])
            x = euler_step(x, denoised, sigmas[step], sigmas[step + 1])
            states.append(x)
    return torch.cat(states)


@dataclass(frozen=True)
class _Item:
    """One item of the network's batch: latents (1, F, C, h, w) at the level `sigma`, its condition, and the motion
    adapter's weight on it, 0..1."""

    latents: Tensor
    sigma: Tensor
    condition: Condition
    adapter: float


@dataclass(frozen=True)
class _NetworkCalls:
    """The network's calls of one denoising step. step: 0 is the noisiest."""

    model: VideoModel
    control: AttentionControl
    adapters: Adapters | None
    settings: EditSettings
    sigmas: Tensor
    step: int

    def outputs(self, x: Tensor, source: SourceWindow, edited: Condition, first: EditedWindow | None) -> Tensor:
        """The network's unconditional and conditional output for x, (2, F, C, h, w)."""
        items = self._items(x, source, edited)
        of_first = self._items(first.states[self.step][None], first.source, first.condition) if first else []
        tier, outputs = self.model.tier, []
        whole = tier.batched and not (first and tier.offload)
        for part in (slice(None),) if whole else (slice(0, 1), slice(1, None)):
            if first:
                self.control.record, self.control.attend_recorded = True, False
                self._call(of_first[part], "first")
                self.control.record, self.control.attend_recorded = False, True
            outputs.append(self._call(items[part], "window"))
            self.control.record = self.control.attend_recorded = False
            self.control.clear()
        return torch.cat(outputs)[:2]

    def _items(self, x: Tensor, source: SourceWindow, edited: Condition) -> list[_Item]:
        """[unconditional, edit, source]; without attention matching, the first two."""
        at = levels(self.sigmas)
        place = self.step + self.settings.lower_source_level
        x = x.to(self.model.device)
        items = [_Item(x, at[self.step], edited.unconditional(), 1.0), _Item(x, at[self.step], edited, 1.0)]
        if self.settings.matching:
            state = source.states[place][None].to(self.model.device)
            items.append(_Item(state, at[place], source.condition, float(self.settings.adapted_source)))
        return items

    def _call(self, items: list[_Item], adapter: str) -> Tensor:
        """The network's output for a batch, (items, F, C, h, w): the last item is the source that the one before it is
        held to, where attention is matched."""
        matched = self.settings.matching and len(items) > 1
        self.control.items = len(items)
        self.control.edited, self.control.source = (len(items) - 2, len(items) - 1) if matched else (None, None)
        self.control.temporal = replaced_maps(self.step, len(self.sigmas) - 1, self.settings.bounds)
        if self.adapters:
            self.adapters.act({adapter: [item.adapter for item in items]})
        latents = torch.cat([item.latents for item in items])
        return self.model.raw(latents, torch.stack([item.sigma for item in items]), [item.condition for item in items])


def _record_first_window(
    model: VideoModel, control: AttentionControl, adapters: Adapters | None, first: SourceWindow, place: int, at: Tensor
) -> None:
    """Calls the network, without adapters, on the first window's source at level `at[place]`: the temporal layers
    record its keys and values, and attend to them from the next call on."""
    if adapters:
        adapters.act({})
    control.record, control.attend_recorded = True, False
    model.raw(first.states[place][None].to(model.device), at[place], [first.condition])
    control.record, control.attend_recorded = False, True
