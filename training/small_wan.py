"""Train the small Wan model. `training/README.md` tells how; everything is seeded.

    nice -n 19 python training/small_wan.py vae    --out RUN --steps 6000
    nice -n 19 python training/small_wan.py encode --out RUN --clips 16384
    nice -n 19 python training/small_wan.py flow   --out RUN --steps 30000
    python training/small_wan.py export --out RUN --folder FOLDER

Each of the first three resumes from its last checkpoint in RUN: a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from checkpoints import Checkpoint, average, descend, load_part
from diffusers import AutoencoderKLWan
from paintover_evaluation.clips import SpriteClip, SpriteMotion, random_clip
from safetensors.torch import load_file, save_file
from small_wan_models import (
    FRAMES,
    SHIFT,
    SIZE,
    TEXT,
    Statistics,
    build_transformer,
    build_vae,
    export,
    given_mask,
)
from torch import Tensor

SHARD = 256
"""Clips a file of encoded latents."""

WIDTHS = (14, 18, 22)
"""Of sprites, pixels."""

EMA = 0.998


def wan_clip(rng: np.random.Generator) -> SpriteClip:
    """A clip of the small world at this model's size and length; the sprite stays inside the frame."""
    drawn = random_clip(rng)
    width = int(WIDTHS[rng.integers(len(WIDTHS))])
    room = SIZE - width
    start, end = rng.uniform(0, room, 2), rng.uniform(0, room, 2)
    velocity = (float((end - start)[0] / (FRAMES - 1)), float((end - start)[1] / (FRAMES - 1)))
    motion = SpriteMotion(float(start[0]), float(start[1]), velocity)
    return replace(drawn, sprite=replace(drawn.sprite, width=width), motion=motion, frames=FRAMES, size=SIZE)


def pictures(clips: list[SpriteClip]) -> Tensor:
    """(B, 3, F, H, W) in -1..1."""
    return torch.from_numpy(np.stack([clip.render() for clip in clips])).permute(0, 4, 1, 2, 3) * 2 - 1


def train_vae(run: Path, steps: int, seed: int, batch: int = 2) -> Iterator[float]:
    """The autoencoder; yields each step's error. Checkpoint: RUN/vae.safetensors, with the latents' statistics."""
    torch.manual_seed(seed)
    vae = build_vae()
    mean, statistics = copy.deepcopy(vae), Statistics()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=5e-4, weight_decay=1e-4)
    point = Checkpoint(run / "vae.safetensors", seed, model=vae, mean=mean, statistics=statistics, optimiser=optimiser)
    point.load()
    while point.step < steps:
        _set_rate(optimiser, 5e-4, point.step, steps)
        clip = pictures([wan_clip(point.rng) for _ in range(batch)])
        posterior = vae.encode(clip).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=point.noise)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        error = F.l1_loss(decoded, clip)
        descend(error + 1e-6 * posterior.kl().mean(), optimiser)
        average(mean, vae, 1 - EMA)
        point.step += 1
        point.save()
        yield error.item()
    statistics.measure(encoded(mean, pictures([wan_clip(np.random.default_rng(seed)) for _ in range(16)])))
    point.save(now=True)


@torch.no_grad()
def encoded(vae: AutoencoderKLWan, clips: Tensor) -> Tensor:
    """Latents (B, C, T, h, w) as the VAE has them."""
    latents: Tensor = vae.encode(clips).latent_dist.mode()
    return latents


def encode_clips(run: Path, clips: int, seed: int) -> Iterator[Path]:
    """Latents of clips and of their first frame in grey, shard by shard; yields each file.
    RUN/latents-N.safetensors."""
    vae = build_vae().eval()
    vae.load_state_dict(load_part(run / "vae.safetensors", "mean"))
    statistics = Statistics()
    statistics.load_state_dict(load_part(run / "vae.safetensors", "statistics"))
    for number in range(math.ceil(clips / SHARD)):
        path = run / f"latents-{number:04d}.safetensors"
        if not path.exists():
            rng, parts = np.random.default_rng([seed, number]), []
            for _ in range(min(SHARD, clips - number * SHARD)):
                clip = pictures([wan_clip(rng)])
                grey = torch.cat([clip[:, :, :1], torch.zeros_like(clip[:, :, 1:])], dim=2)
                parts.append(torch.stack([statistics(encoded(vae, each))[0] for each in (clip, grey)]))
            fresh = path.with_suffix(".part")
            save_file({"latents": torch.stack(parts).half()}, fresh)
            fresh.replace(path)
        yield path


def train_flow(run: Path, steps: int, seed: int, batch: int = 8) -> Iterator[float]:
    """The transformer, by flow matching; yields each step's loss. Checkpoint: RUN/flow.safetensors.

    Levels are logit-normal (Esser et al., ICML 2024), shifted as Wan's schedule is."""
    torch.manual_seed(seed)
    files = sorted(run.glob("latents-*.safetensors"))
    if not files:
        raise SystemExit(f"{run} has no latents: encode clips first.")
    latents = torch.cat([load_file(file)["latents"] for file in files])
    network = build_transformer()
    mean = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=6e-4, weight_decay=0.01)
    point = Checkpoint(run / "flow.safetensors", seed, model=network, mean=mean, optimiser=optimiser)
    point.load()
    text, mask = torch.zeros(batch, 1, TEXT), given_mask(batch)  # 512 equal tokens attended to are one
    while point.step < steps:
        _set_rate(optimiser, 6e-4, point.step, steps)
        chosen = latents[point.rng.integers(0, len(latents), batch)].float()
        x0, condition = chosen[:, 0], chosen[:, 1]
        s = torch.randn(batch, generator=point.noise).sigmoid()
        s = SHIFT * s / (1 + (SHIFT - 1) * s)
        noise = torch.randn(x0.shape, generator=point.noise)
        level = s.view(-1, 1, 1, 1, 1)
        seen = torch.cat([(1 - level) * x0 + level * noise, mask, condition], dim=1)
        output = network(seen, 1000 * s, text, return_dict=False)[0]
        loss = F.mse_loss(output, noise - x0)
        descend(loss, optimiser)
        average(mean, network, 1 - EMA)
        point.step += 1
        point.save()
        yield loss.item()
    point.save(now=True)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """A warm-up over 200 steps, and down to nothing over the last fifth."""
    share = min(1.0, (step + 1) / 200, max(0.02, (steps - step) / (0.2 * steps)))
    for group in optimiser.param_groups:
        group["lr"] = rate * share


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("vae", "encode", "flow", "export"))
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    parser.add_argument("--steps", type=int, default=30000)
    parser.add_argument("--clips", type=int, default=16384)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.part == "export":
        export(given.out, given.folder or given.out / "small-wan")
        return
    if given.part == "encode":
        for path in encode_clips(given.out, given.clips, given.seed):
            print(path, flush=True)
        return
    train = {"vae": train_vae, "flow": train_flow}[given.part]
    losses: list[float] = []
    for loss in train(given.out, given.steps, given.seed):
        losses.append(loss)
        if len(losses) % 50 == 0:
            print(f"{len(losses)} steps in this run: {np.mean(losses[-50:]):.4f}", flush=True)


if __name__ == "__main__":
    main()
