"""Train the small video model that ships with the engine. `training/README.md` tells how; everything is seeded.

    python training/small_svd.py clip    --out RUN --steps 600
    python training/small_svd.py unet    --out RUN --steps 3000 --cooldown 1000
    python training/small_svd.py decoder --out RUN --steps 300
    python training/small_svd.py export  --out RUN --folder FOLDER

Each of the first three resumes from its last checkpoint in RUN: a run that was cut off goes on, and one given more
`--steps` goes further.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from checkpoints import Checkpoint, average, descend, load_part
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from paintover_evaluation.clips import Appearance, SpriteClip, random_appearance, random_clip
from small_svd_models import SCALING, build_clip, build_unet, build_vae, clip_pixels, export, linear_code, world_frames
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

FPS_ID, BUCKET = 6.0, 127.0  # SVD's added time ids: fps - 1 and the motion bucket


@dataclass(frozen=True)
class Recipe:
    """What the UNet's training draws. Noise levels: ln σ ~ N(mean, deviation²), and a tail over the whole schedule."""

    batch: int = 4
    rate: float = 1.2e-3
    mean: float = 1.3
    deviation: float = 1.1
    tail: float = 0.04
    dropout: float = 0.1
    swap: float = 0.6
    ema: float = 0.995


# --- the picture tower: what the sprite looks like and where it is ---------------------------------------------------


def facts(clip: SpriteClip) -> list[float]:
    """What the tower is taught to tell of a clip's first frame, each about -1..1; the last tells if there is a mark."""
    mark = clip.appearance.mark
    half = clip.sprite.width / 2
    centre = [(clip.motion.x + half) / clip.size * 2 - 1, (clip.motion.y + half) / clip.size * 2 - 1]
    colours = [*clip.appearance.colour, *(mark.colour if mark else clip.appearance.colour), *clip.background.first]
    kind = [float(mark is not None and mark.kind == name) for name in ("bar", "post", "dot")]
    return [*(2 * c - 1 for c in colours), *centre, *kind, float(clip.sprite.shape == "disc"), clip.sprite.width - 9.0]


def train_clip(run: Path, steps: int, seed: int, device: str) -> None:
    """The tower alone, with a linear head that reads `facts` off its embedding. Checkpoint: RUN/clip.safetensors."""
    torch.manual_seed(seed)
    tower = build_clip().to(device)
    head = nn.Linear(tower.config.projection_dim, len(facts(random_clip(np.random.default_rng(0))))).to(device)
    optimiser = torch.optim.AdamW([*tower.parameters(), *head.parameters()], lr=1.5e-3, weight_decay=0.01)
    point = Checkpoint(run / "clip.safetensors", seed, model=tower, head=head, optimiser=optimiser)
    point.load()
    while point.step < steps:
        _set_rate(optimiser, 1.5e-3, point.step, steps, cooldown=steps // 2)
        clips = [random_clip(point.rng) for _ in range(32)]
        pictures = torch.stack([_frames(clip)[0] for clip in clips]).to(device)
        embeds = tower(clip_pixels(pictures)).image_embeds
        truth = torch.tensor([facts(clip) for clip in clips], device=device)
        loss = F.mse_loss(head(embeds), truth) + 1e-3 * F.mse_loss(embeds.square().mean(), torch.ones(()).to(device))
        descend(loss, optimiser)
        point.step += 1
        if point.step % 50 == 0:
            print(
                f"clip {point.step} loss {loss.item():.4f} rms {embeds.square().mean().sqrt().item():.2f}", flush=True
            )
        point.save(now=point.step == steps)


# --- the UNet --------------------------------------------------------------------------------------------------------


def train_unet(run: Path, steps: int, cooldown: int, seed: int, device: str, recipe: Recipe) -> None:
    """The denoiser, by SVD's v-prediction, with the tower of RUN/clip.safetensors. Checkpoint: RUN/unet.safetensors."""
    torch.manual_seed(seed)
    code, tower = LinearCode(device), load_clip(run).to(device).eval()
    first = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    unet = build_unet(best_linear([draw(code, tower, *first, device, recipe) for _ in range(60)])).to(device)
    mean = copy.deepcopy(unet).requires_grad_(False)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=recipe.rate, betas=(0.9, 0.99), fused=True)
    point = Checkpoint(run / "unet.safetensors", seed, model=unet, ema=mean, optimiser=optimiser)
    point.load()
    started, losses = time.monotonic(), []
    while point.step < steps:
        _set_rate(optimiser, recipe.rate, point.step, steps, cooldown)
        loss = draw(code, tower, point.rng, point.noise, device, recipe).loss(unet)
        descend(loss, optimiser)
        point.step += 1
        average(mean, unet, 1 - min(recipe.ema, (1 + point.step) / (10 + point.step)))
        losses.append(loss.item())
        if point.step % 25 == 0:
            took = time.monotonic() - started
            print(f"unet {point.step} loss {np.mean(losses):.4f} {took:.0f} s", flush=True)
            losses.clear()
        point.save(now=point.step == steps)


@dataclass(frozen=True)
class Batch:
    """What the UNet gets: model_input (B, F, 8, h, w), time (B,), token (B, 1, width), ids (B, 3); and what it should
    say: target (B, F, 4, h, w)."""

    model_input: Tensor
    time: Tensor
    token: Tensor
    ids: Tensor
    target: Tensor

    def loss(self, unet: UNetSpatioTemporalConditionModel) -> Tensor:
        """The mean squared error of the v-prediction (EDM's weighting: 1 in F-space)."""
        out = unet(self.model_input, self.time, self.token, self.ids, return_dict=False)[0]
        return F.mse_loss(out, self.target)


@torch.no_grad()
def draw(
    code: LinearCode,
    tower: CLIPVisionModelWithProjection,
    rng: np.random.Generator,
    noise: torch.Generator,
    device: str,
    recipe: Recipe,
) -> Batch:
    """A batch of fresh clips at random noise levels."""
    clips = [random_clip(rng) for _ in range(recipe.batch)]
    videos = torch.stack([_frames(clip) for clip in clips]).to(device)
    others = torch.stack([_frames(clip.with_appearance(_other_appearance(rng, clip.appearance))) for clip in clips]).to(
        device
    )
    sigma, share = _levels(recipe, noise)
    augmentation = _augmentation(recipe.batch, noise)
    clean, other = code(videos), code(others)
    first = videos[:, :1] + _spread(augmentation.to(device), 5) * _normal(videos[:, :1].shape, noise, device)
    keep = (torch.rand(recipe.batch, generator=noise) >= recipe.dropout).float().to(device)
    picture = code(first) / SCALING * _spread(keep, 5)
    token = tower(clip_pixels(videos[:, 0])).image_embeds[:, None] * _spread(keep, 3)
    level = _spread(sigma.to(device), 5)
    noisy = clean + _spread(share.to(device), 5) * (other - clean) + level * _normal(clean.shape, noise, device)
    ids = torch.stack([torch.full_like(augmentation, FPS_ID), torch.full_like(augmentation, BUCKET), augmentation], 1)
    scale = (level**2 + 1).sqrt()
    model_input = torch.cat([noisy / scale, picture.expand(-1, clean.shape[1], -1, -1, -1)], dim=2)
    target = (clean - noisy / scale**2) * scale / -level
    return Batch(model_input, 0.25 * sigma.log().to(device), token, ids.to(device), target)


def best_linear(batches: Sequence[Batch]) -> Tensor:
    """The 3x3 convolution (4, 8, 3, 3) of the UNet's input that is nearest to its target: least squares."""
    size = batches[0].model_input.shape[-1]
    inputs = torch.cat([F.unfold(b.model_input.flatten(0, 1), 3, padding=1) for b in batches])
    targets = torch.cat([b.target.flatten(0, 1).flatten(2) for b in batches])
    rows, wanted = inputs.transpose(1, 2).flatten(0, 1), targets.transpose(1, 2).flatten(0, 1)
    assert wanted.shape[0] == targets.shape[0] * size * size
    return torch.linalg.lstsq(rows, wanted).solution.T.reshape(4, 8, 3, 3)


class LinearCode:
    """What the VAE's encoder computes, without its layers: a hundred times quicker."""

    def __init__(self, device: str, linear: tuple[Tensor, Tensor] | None = None) -> None:
        rows, centre = linear or linear_code(world_frames())
        self._rows, self._shift = (rows * SCALING).to(device), (rows @ centre * SCALING).to(device)

    def __call__(self, videos: Tensor) -> Tensor:
        """Scaled latents (B, F, 4, h, w) of videos (B, F, 3, H, W) in -1..1."""
        cells = F.conv2d(videos.flatten(0, 1), self._rows.reshape(4, 3, 2, 2), -self._shift, stride=2)
        return cells.unflatten(0, videos.shape[:2])


def encode(vae: AutoencoderKLTemporalDecoder, videos: Tensor) -> Tensor:
    """Scaled latents (B, F, 4, h, w) of videos (B, F, 3, H, W) in -1..1."""
    latents = vae.encode(videos.flatten(0, 1)).latent_dist.mode() * vae.config.scaling_factor
    return latents.unflatten(0, videos.shape[:2])


def _levels(recipe: Recipe, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise levels (B,), and how much of another sprite's look is left in the noisy video at each (B,), 0..1.

    The look swap (`recipe.swap` of the clips): an edit denoises from a top level at which the noisy video still shows
    the source's look; each Euler step keeps the share σ_low/σ_high of it. So the share is σ/σ_top, for a random top.
    """
    place = torch.rand(recipe.batch, generator=noise)
    stratum = (torch.randperm(recipe.batch, generator=noise) + place) / recipe.batch  # spread evenly over a batch
    usual = recipe.mean + recipe.deviation * 2**0.5 * torch.erfinv((2 * stratum - 1).clamp(-0.9999, 0.9999))
    tail = math.log(0.002) + stratum * math.log(700 / 0.002)
    in_tail = torch.rand(recipe.batch, generator=noise) < recipe.tail
    sigma = torch.where(in_tail, tail, usual).clamp(math.log(0.002), math.log(700)).exp()
    top = (torch.rand(recipe.batch, generator=noise) * math.log(35 / 2) + math.log(2)).exp()
    swapped = torch.rand(recipe.batch, generator=noise) < recipe.swap
    return sigma, torch.where(swapped, (sigma / top).clamp(max=1), torch.zeros(()))


def _augmentation(count: int, noise: torch.Generator) -> Tensor:
    """Noise on the condition picture: SVD's 0.02 mostly, up to 0.2 else."""
    wide = 0.02 * 10 ** torch.rand(count, generator=noise)
    return torch.where(torch.rand(count, generator=noise) < 0.7, torch.full((count,), 0.02), wide)


def _other_appearance(rng: np.random.Generator, appearance: Appearance) -> Appearance:
    """One time in three the same colour with another mark or none; else an appearance of its own."""
    other = random_appearance(rng)
    return Appearance(appearance.colour, None if appearance.mark else other.mark) if rng.random() < 1 / 3 else other


# --- the decoder -----------------------------------------------------------------------------------------------------


def train_decoder(run: Path, steps: int, seed: int, device: str) -> None:
    """The VAE's decoder; its encoder is a fixed linear code. Checkpoint: RUN/vae.safetensors."""
    torch.manual_seed(seed)
    vae = build_vae().to(device)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    optimiser = torch.optim.AdamW(vae.decoder.parameters(), lr=4e-4, weight_decay=0.0)
    point = Checkpoint(run / "vae.safetensors", seed, model=vae, optimiser=optimiser)
    point.load()
    while point.step < steps:
        _set_rate(optimiser, 4e-4, point.step, steps, cooldown=steps // 2)
        videos = torch.stack([_frames(random_clip(point.rng)) for _ in range(2)]).to(device)
        with torch.no_grad():
            latents = encode(vae, videos)
        latents = latents + 0.03 * _normal(latents.shape, point.noise, device)
        out = decode(vae, latents)
        error = F.mse_loss(out, videos)
        descend(error + 0.1 * F.l1_loss(out, videos), optimiser)
        point.step += 1
        if point.step % 20 == 0:
            print(f"decoder {point.step} PSNR {-10 * math.log10(error.item() / 4):.2f} dB", flush=True)
        point.save(now=point.step == steps)


def decode(vae: AutoencoderKLTemporalDecoder, latents: Tensor) -> Tensor:
    """Videos (B, F, 3, H, W) in -1..1 of scaled latents."""
    video: Tensor = vae.decode(latents.flatten(0, 1) / vae.config.scaling_factor, num_frames=latents.shape[1]).sample
    return video.unflatten(0, latents.shape[:2])


# --- common ----------------------------------------------------------------------------------------------------------


def load_clip(run: Path) -> CLIPVisionModelWithProjection:
    """The trained tower of RUN/clip.safetensors."""
    tower = build_clip()
    tower.load_state_dict(load_part(run / "clip.safetensors", "model"))
    return tower.requires_grad_(False)


def _frames(clip: SpriteClip) -> Tensor:
    """(F, 3, H, W) in -1..1."""
    return torch.from_numpy(clip.render()).permute(0, 3, 1, 2) * 2 - 1


def _normal(shape: tuple[int, ...], noise: torch.Generator, device: str) -> Tensor:
    return torch.randn(shape, generator=noise).to(device)


def _spread(values: Tensor, dimensions: int) -> Tensor:
    return values.reshape(-1, *(1,) * (dimensions - 1))


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, step: int, steps: int, cooldown: int) -> None:
    """A short warm-up, then constant, then a straight line to 0 over the last `cooldown` steps."""
    factor = min(1.0, (step + 1) / 60, (steps - step) / max(cooldown, 1))
    for group in optimiser.param_groups:
        group["lr"] = rate * factor


def main() -> None:
    """Trains or exports one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("clip", "unet", "decoder", "export"))
    parser.add_argument("--out", type=Path, required=True, help="the run's folder: checkpoints")
    parser.add_argument("--folder", type=Path, help="export: the diffusers folder to write")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--cooldown", type=int, default=300, help="unet: steps over which the learning rate falls to 0")
    parser.add_argument("--swap", type=float, default=Recipe.swap, help="unet: share of clips with another's look")
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.part == "clip":
        train_clip(given.out, given.steps, given.seed, given.device)
    elif given.part == "unet":
        recipe = Recipe(batch=given.batch, rate=given.rate, swap=given.swap)
        train_unet(given.out, given.steps, given.cooldown, given.seed, given.device, recipe)
    elif given.part == "decoder":
        train_decoder(given.out, given.steps, given.seed, given.device)
    else:
        export(given.out, given.folder)


if __name__ == "__main__":
    main()
