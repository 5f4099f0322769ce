"""Whether a video model can show what the methods' parts are worth: the gates before any table is printed.

    python training/evaluate_small_svd.py --model FOLDER --gates [--clips 4] [--lora-steps 250]

Clips are of `paintover_evaluation.motions`, of seeds that training never drew. Each gate prints its figure, what it has
to be, and whether it is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from paintover_engine.diffusion import i2vedit, matching, sampling, sarp, schedule, training
from paintover_engine.diffusion.lora import Adapters
from paintover_engine.diffusion.svd import Condition, VideoModel
from paintover_evaluation import motions
from torch import Tensor

SEED = 90_000
STEPS = 25
LEVELS = (0.3, 1.0, 3.0, 10.0, 30.0)
WAY = (0.07, 0.3, 1.3)
VALUES = 2000
"""Of latents, for A²: it grows with their number."""


def gates(model: VideoModel, clips: int, lora_steps: int) -> None:
    """Prints every gate's line; each clip is inverted once for all."""
    videos = [motions.random_clip(np.random.default_rng(SEED + n)) for n in range(clips)]
    grainy = [inverted(model, video) for video in videos]
    for name, kind, least in (
        ("spatial", "transformer_blocks", 0.10),
        ("temporal", "temporal_transformer_blocks", 0.05),
    ):
        change = [uniform_change(model, source, kind) for source in grainy]
        line(f"uniform {name} maps change the output by", change, f"≥ {least}", np.mean(change) >= least)
    squares = [implied_noise(model, source) for source in grainy]
    line("A² of the implied noise, grainy", squares, "≤ 2", np.mean(squares) <= 2)
    flat = [inverted(model, video.flattened()) for video in videos]
    squares = [implied_noise(model, source) for source in flat]
    line("A² of the implied noise, flat", squares, "≥ 20", np.mean(squares) >= 20)
    print("        the same on the way there: " + ", ".join(along(model, flat)))
    print("        a tenth of the noise counts there as: " + ", ".join(enlarged(model, flat)))
    behind = [round_trip(model, source) for source in grainy]
    line("I2VEdit's round trip behind the VAE, dB", behind, "≤ 3", np.mean(behind) <= 3)
    shares = [matched_shares(model, *pair, n) for n, pair in enumerate(zip(videos, grainy, strict=True))]
    share, of_layers = map(list, zip(*shares, strict=True))
    line("share of queries whose matching mask is 1", share, "0.05 to 0.4", 0.05 <= np.mean(share) <= 0.4)
    print(f"        each layer counting the same: {np.mean(of_layers):.3f}")
    held_out = [
        motions.random_clip(np.random.default_rng(SEED + n), kind) for n, kind in enumerate(("fast", "circling"))
    ]
    lower = [lora_gain(model, video, lora_steps) for video in held_out]
    line(f"{lora_steps} LoRA steps lower the held-out motion's loss by", lower, "≥ 0.1", np.mean(lower) >= 0.1)
    print(f"CPU seconds: {time.process_time():.0f}")


def line(name: str, values: list[float], wanted: str, passed: bool) -> None:
    """One gate: the mean, and two standard errors of it."""
    error = 2 * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    verdict = "passed" if passed else "MISSED"
    print(f"{verdict}  {name:54s} {np.mean(values):8.3f} ± {error:.3f}   {wanted}", flush=True)


@dataclass(frozen=True)
class Source:
    """A clip's frames (F, 3, H, W) in -1..1, their latents, the condition of the first, and the inverted states."""

    frames: Tensor
    z: Tensor
    given: Condition
    states: Tensor


@torch.no_grad()
def inverted(model: VideoModel, video: motions.MotionClip) -> Source:
    """By I2VEdit's inversion."""
    frames = pixels(video)
    z, given = model.encode(frames), condition(model, frames)
    return Source(frames, z, given, i2vedit.invert(model, z, given, model.config.sigmas(STEPS)))


def pixels(video: motions.MotionClip) -> Tensor:
    """(F, 3, H, W) in -1..1."""
    return torch.from_numpy(video.render()).permute(0, 3, 1, 2) * 2 - 1


def condition(model: VideoModel, frames: Tensor) -> Condition:
    """Of a clip's first frame."""
    return model.condition(frames[:1], noise_aug=0.02, seed=1)


class Uniform:
    """Self-attention whose maps are even: every query gets the mean of the values."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        mean = attn.to_v(hidden_states).mean(dim=1, keepdim=True).expand_as(hidden_states)
        output: Tensor = attn.to_out[0](mean)
        return output


@contextlib.contextmanager
def even_maps(unet: Any, kind: str) -> Iterator[None]:
    """kind: the attribute of the blocks, spatial or temporal."""
    blocks = [block for name in matching.attention_blocks(unet) for block in getattr(unet.get_submodule(name), kind)]
    before = [block.attn1.processor for block in blocks]
    for block in blocks:
        block.attn1.set_processor(Uniform())
    try:
        yield
    finally:
        for block, processor in zip(blocks, before, strict=True):
            block.attn1.set_processor(processor)


@torch.no_grad()
def uniform_change(model: VideoModel, source: Source, kind: str) -> float:
    """Change of the network's output, norm over norm, mean over `LEVELS`."""
    z, given = source.z, source.given
    changes = []
    for sigma in LEVELS:
        x = z + sigma * schedule.noise_like(z, 5)
        as_it_is = model.raw(x, sigma, [given])
        with even_maps(model.unet, kind):
            changes.append(float((model.raw(x, sigma, [given]) - as_it_is).norm() / as_it_is.norm()))
    return float(np.mean(changes))


def implied_noise(model: VideoModel, source: Source) -> float:
    """A² of the latents that I2VEdit's inversion ends at."""
    return anderson_darling(source.states[0] / schedule.initial_scale(model.config.sigmas(STEPS)[0]))


def along(model: VideoModel, sources: list[Source]) -> Iterator[str]:
    """Mean A² of what inversion has added to the latents at some levels: where it turns what is left over, which has
    no grain, into noise."""
    sigmas = model.config.sigmas(STEPS)
    for number in (int(abs(sigmas - level).argmin()) for level in WAY):
        squares = [anderson_darling((source.states[number] - source.z) / sigmas[number]) for source in sources]
        yield f"{np.mean(squares):.1f} at σ = {float(sigmas[number]):.2f}"


@torch.no_grad()
def enlarged(model: VideoModel, sources: list[Source]) -> Iterator[str]:
    """Which share of its level's noise the model sees in latents that hold a tenth of it: why inversion makes noise of
    what little it left in a flat clip."""
    for sigma in WAY:
        shares = []
        for source in sources:
            noise = schedule.noise_like(source.z, 3)
            x = source.z + 0.1 * sigma * noise
            seen = (x - model.denoiser(source.given)(x, sigma)) / sigma
            shares.append(float((seen * noise).mean() / noise.square().mean()))
        yield f"{np.mean(shares):.2f} at σ = {sigma:.2f}"


def anderson_darling(latents: Tensor) -> float:
    """A² of `VALUES` of some latents."""
    values = latents.flatten()
    chosen = torch.randperm(len(values), generator=torch.Generator().manual_seed(3))[:VALUES]
    return sarp.anderson_darling(values[chosen])


@torch.no_grad()
def round_trip(model: VideoModel, source: Source) -> float:
    """dB that inversion and denoising on the same frame lose against the VAE alone, but for the first frame."""
    sigmas = model.config.sigmas(STEPS)
    back = model.decode(sampling.euler(model.denoiser(source.given), source.states[:1], sigmas))
    errors = [float((decoded - source.frames)[1:].square().mean()) for decoded in (model.decode(source.z), back)]
    return float(10 * np.log10(errors[1] / errors[0]))


@torch.no_grad()
def matched_shares(model: VideoModel, video: motions.MotionClip, source: Source, number: int) -> tuple[float, float]:
    """Of all queries, of which the finest layers have 256 and the coarsest 16, while a recoloured sprite is painted;
    and the mean of the layers' shares."""
    rng = np.random.default_rng(SEED + 500 + number)
    edited = condition(model, pixels(video.with_look(motions.random_texture(rng, 1.0))))
    window = i2vedit.SourceWindow(source.states, source.given)
    masks: list[Tensor] = []
    match = matching.match

    def recording(*arguments: Any) -> Any:
        matched = match(*arguments)
        masks.append((matched.mask == 1).flatten())
        return matched

    matching.match = recording
    try:
        i2vedit.denoise(model, window, edited, model.config.sigmas(STEPS), i2vedit.EditSettings())
    finally:
        matching.match = match
    return float(torch.cat(masks).float().mean()), float(np.mean([mask.float().mean() for mask in masks]))


def lora_gain(model: VideoModel, video: motions.MotionClip, steps: int) -> float:
    """Share by which a motion adapter lowers the loss on the clip that it learned, at fixed levels with fixed noise."""
    frames = pixels(video)
    z, given = model.encode(frames), condition(model, frames)

    def loss() -> float:
        levels = torch.tensor(LEVELS)
        noise = [schedule.noise_like(z, 100 + n) for n in range(len(LEVELS))]
        with torch.no_grad():
            return sum(
                float(training.loss_of(lambda x, s: model.raw(x, s, [given]), z, n, level))
                for n, level in zip(noise, levels, strict=True)
            )

    with Adapters(model.unet, rank=32) as adapters:
        adapters.add("window", seed=1)
        before = loss()
        settings = training.TrainingSettings(steps=steps, checkpoint=10**6)
        i2vedit.train(model, adapters, z, given, settings, sigmas=model.config.sigmas(STEPS))
        adapters.act({"window": [1.0]})
        return 1 - loss() / before
