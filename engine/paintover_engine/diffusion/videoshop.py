"""Videoshop: a clip edited like its first frame, by noise-extrapolated diffusion inversion.

Fan, Bhattad, Krishna: Videoshop: Localized Semantic Video Editing with Noise-Extrapolated Diffusion Inversion, ECCV
2024. `edit` is the whole method on one window of frames; the equations follow in the paper's order. Where the paper and
its published code disagree, each function says which is which; docs/methods/videoshop.md compares them.

Symbols:
    z       clean latents of the source, (1, F, C, h, w), times the VAE's scale
    x0      z, normalised
    x       latents with noise of level σ, its standard deviation; levels descend to 0
    F, D    the network, and the denoiser D(x; σ) = c_skip x + c_out F(c_in x; c_noise) (Karras et al. 2022, eq. 7)
    ε       standard normal noise, one draw for all steps
    Σ       the level up to which the inversion takes ε instead of extrapolating
    μ, s    mean and standard deviation of a channel

All arithmetic on latents is float32.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from paintover_engine.diffusion import sampling, schedule
from paintover_engine.diffusion.denoiser import Denoiser
from paintover_engine.diffusion.schedule import V_PREDICTION, Scaling
from paintover_engine.diffusion.svd import Condition, ModelConfig, VideoModel

Normaliser = Literal["channel", "paper", "frame", "none"]
Rescaling = Literal["match", "paper", "undo", "none"]
Conditioning = Literal["code", "plain", "consistent"]

_EPSILON = 1e-6
"""Added to standard deviations, as in the published code: flat latents have none."""


@dataclass(frozen=True)
class VideoshopSettings:
    """The paper's and its code's values.

    steps: noise levels of the whole schedule. strength: share of it that is inverted, 0..1. threshold: Σ, a noise
    level. refinements: further rounds of each extrapolated step (ours). normalisation: as in `Normalisation.of`.
    condition: as in `conditioned`. noise_aug: standard deviation of the noise on the first frame, for pictures in
    -1..1. guidance: classifier-free, of the denoising. rescaling: as in `rescaled`. seed: of all noise."""

    steps: int = 25
    strength: float = 0.55
    threshold: float = 1.0
    refinements: int = 0
    normalisation: Normaliser = "channel"
    condition: Conditioning = "code"
    noise_aug: float = 0.2
    guidance: float = 4.0
    rescaling: Rescaling = "match"
    seed: int = 42


def edit(
    model: VideoModel,
    z: Tensor,
    first: Tensor,
    edited: Tensor,
    settings: VideoshopSettings,
    *,
    span: tuple[int, int] = (0, 0),
) -> Tensor:
    """Videoshop on one window: the edited clip's clean latents, of the shape of `z`.

    z: (1, F, C, h, w), the source's clean scaled latents. first, edited: pictures (1, 3, H, W) in -1..1, the source's
    first frame and the edited one. span: the numbers of the window's first and last frame, which its noise depends
    on."""
    sigmas = levels(model.config, settings.steps, settings.strength)

    # Normalise the latents ...
    normalisation = Normalisation.of(z, settings.normalisation)
    x0 = normalisation.apply(z)

    # ... invert them on the source's first frame (equations 4, 6 and 7) ...
    condition_seed = schedule.derived_seed(settings.seed, "condition", *span)
    c = model.condition(first, noise_aug=settings.noise_aug, seed=condition_seed)
    c = conditioned(c, normalisation, model.config.scale, settings.condition, inverting=True)
    epsilon = schedule.noise_like(x0, schedule.derived_seed(settings.seed, "inversion", *span))
    x = extrapolated(model.denoiser(c), x0, sigmas, epsilon, settings.threshold, settings.refinements)[0]

    # ... denoise on the edited first frame (Karras et al. 2022, algorithm 1) ...
    c = model.condition(edited, noise_aug=settings.noise_aug, seed=condition_seed)
    c = conditioned(c, normalisation, model.config.scale, settings.condition, inverting=False)
    x = sampling.euler(model.denoiser(c, settings.guidance), x, sigmas)

    # ... and rescale to the range of the edited first frame (equation 8).
    return rescaled(x, model.encode(edited)[:, 0], normalisation, settings.rescaling)


def levels(config: ModelConfig, steps: int, strength: float) -> Tensor:
    """The noise levels that an inversion passes, noisiest first, the last 0. steps: of the whole schedule; strength:
    the share of them that is inverted."""
    return config.sigmas(steps)[schedule.start_index(steps, strength) :]


# Inversion. Each function returns the states at the levels, noisiest first, the clean latents last.


def inverse_euler_step(
    x: Tensor, query: Tensor, denoised: Tensor, lower: Tensor, sigma: Tensor, scaling: Scaling = V_PREDICTION
) -> Tensor:
    """Equation 4: the state at level `sigma` from which an Euler step (`sampling.euler_step`) leads to `x` at the level
    `lower`. Exact where `query` is that state.

    query: the latents at which the network was evaluated; denoised: D(query; sigma). All (1, F, C, h, w)."""
    c_skip = scaling.c_skip(sigma)
    network = denoised - c_skip * query  # c_out F(c_in query; c_noise)
    step = lower - sigma
    return (sigma * x + step * network) / (step * (1 - c_skip) + sigma)


def naive(model: Denoiser, x0: Tensor, sigmas: Tensor, scaling: Scaling = V_PREDICTION) -> list[Tensor]:
    """Equation 5, inversion without extrapolation: the network is evaluated at the current state, scaled for its own
    level, as if it stood at the next."""
    x, states = x0, [x0]
    for sigma, lower in schedule.ascending(sigmas):
        query = x * (scaling.c_in(lower) / scaling.c_in(sigma))
        x = inverse_euler_step(x, query, model(query, sigma), lower, sigma, scaling)
        states.append(x)
    return states[::-1]


def extrapolated(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    noise: Tensor,
    threshold: float = 1.0,
    refinements: int = 0,
    scaling: Scaling = V_PREDICTION,
) -> list[Tensor]:
    """Equations 6 and 7, inversion with noise extrapolation: latents move on nearly straight lines, so the network is
    evaluated where the line from x0 through the current state meets the next level.

    noise: ε. threshold: Σ, compared with the current, lower level: up to it, where the current state is mostly
    rounding, the network is evaluated at x0 + σ ε. Negative: never, which divides 0 by 0 at level 0 (an ablation).
    refinements: further rounds of an extrapolated step, each from where the last one ended (a fixed-point iteration,
    not in the paper); one call of the network each."""
    x, states, deviation = x0, [x0], x0.std()
    for sigma, lower in schedule.ascending(sigmas):
        extrapolates = bool(lower > threshold)
        query = x0 + (x - x0) * (sigma / lower) if extrapolates else x0 + noise * (sigma * deviation)
        for _ in range(refinements if extrapolates else 0):
            query = inverse_euler_step(x, query, model(query, sigma), lower, sigma, scaling)
        x = inverse_euler_step(x, query, model(query, sigma), lower, sigma, scaling)
        states.append(x)
    return states[::-1]


# Normalisation and rescaling.


@dataclass(frozen=True)
class Normalisation:
    """x0 = (z - μ) / s. mean, deviation: μ and s, which broadcast to (1, F, C, h, w)."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(z: Tensor, normaliser: Normaliser) -> Normalisation:
        """The statistics of latents (1, F, C, h, w).

        paper: each channel over all frames, not centred: z / s alone. channel: the same, centred
        (ours). frame: each frame over all channels, centred, as in the published code; it loses fades. none: μ = 0,
        s = 1."""
        if normaliser == "none":
            one = z.new_ones(1, 1, 1, 1, 1)
            return Normalisation(0 * one, one)
        axes = (2, 3, 4) if normaliser == "frame" else (1, 3, 4)
        mean, deviation = z.mean(axes, keepdim=True), z.std(axes, keepdim=True) + _EPSILON
        return Normalisation(0 * mean if normaliser == "paper" else mean, deviation)

    def apply(self, latents: Tensor) -> Tensor:
        return (latents - self.mean) / self.deviation

    def undo(self, latents: Tensor) -> Tensor:
        return latents * self.deviation + self.mean

    def apply_to_condition(self, latent: Tensor, scale: float) -> Tensor:
        """The same for the unscaled latents (1, C, h, w) of the window's first frame. scale: the VAE's."""
        first = Normalisation(self.mean[:, :1], self.deviation[:, :1])
        return first.apply(scale * latent[:, None])[:, 0] / scale


def conditioned(
    condition: Condition, normalisation: Normalisation, scale: float, how: Conditioning, inverting: bool
) -> Condition:
    """The first frame's condition, its latents normalised or not; the paper does not say.

    code: while inverting, by one mean and deviation, as in the published code. plain: never. consistent: always, as the
    video's. scale: the VAE's. inverting: the condition is the inversion's, not the denoising's."""
    if how == "consistent":
        return dataclasses.replace(condition, latent=normalisation.apply_to_condition(condition.latent, scale))
    if how == "code" and inverting:
        return dataclasses.replace(condition, latent=standardised_condition(condition.latent, scale))
    return condition


def standardised_condition(latent: Tensor, scale: float) -> Tensor:
    """Unscaled latents (1, C, h, w) by their one mean and deviation, then divided by the VAE's scale (published
    code)."""
    return (latent - latent.mean()) / (latent.std() + _EPSILON) / scale


def rescaled(x: Tensor, edited: Tensor, normalisation: Normalisation, how: Rescaling) -> Tensor:
    """Equation 8: denoised latents (1, F, C, h, w) in the range of the edited first frame, which the VAE knows.

    edited: (1, C, h, w), the clean scaled latents of the edited first frame.
    match: s_img/s_0 (x - μ_0) + μ_img for each channel, 0 the first denoised frame and img the edited one (published
    code). paper: s_img/s_0 (x - μ_0 + μ_img), as printed. undo: the normalisation undone. none: x (an ablation)."""
    if how == "none":
        return x
    if how == "undo":
        return normalisation.undo(x)
    mu_0, s_0 = _statistics(x[:, :1])
    mu_img, s_img = _statistics(edited[:, None])
    gain = (s_img + _EPSILON) / (s_0 + _EPSILON)
    if how == "paper":
        return gain * (x - mu_0 + mu_img)
    return gain * (x - mu_0) + mu_img


def _statistics(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of each frame, (1, F, C, 1, 1)."""
    return frames.mean((3, 4), keepdim=True), frames.std((3, 4), keepdim=True)
