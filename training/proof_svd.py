"""Train the proof model: Stable Video Diffusion's classes with attention at every level, on textured motion
(`paintover_evaluation.motions`).

    python training/proof_svd.py unet   --out RUN --clips 100000 [--cooldown 10000] [--start FILE]
    python training/proof_svd.py export --out RUN --folder training/proof-svd

Plain SVD training: no look swap, no linear start. A run that was cut off goes on from its last checkpoint, written
every ten minutes, and ends where one that was not does. `--start` begins a run from an exported UNet's file instead,
with fresh moments of the optimiser. The picture tower is
the shipped small-svd's, frozen.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from checkpoints import Checkpoint, average, load_part
from diffusers import UNetSpatioTemporalConditionModel
from paintover_evaluation import motions
from quick_unet import forward
from safetensors.torch import load_file
from small_svd import BUCKET, FPS_ID, Batch, LinearCode
from small_svd_models import SCALING, TOKEN, build_vae, clip_pixels, linear_code, save_pipeline
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

TOWER = Path(__file__).resolve().parents[1] / "engine/paintover_engine/models/small-svd/image_encoder"
CHECKPOINT_SECONDS = 600.0


@dataclass(frozen=True)
class Recipe:
    """What the training draws. Noise levels: ln σ ~ N(mean, deviation²), and log-uniform tails from e^mean to 700 and
    down to 0.005. Only below the grain's own deviation does the model learn that a plate has grain, so that inversion
    makes noise of it, and finds none in a flat picture."""

    batch: int = 8
    rate: float = 1e-3
    mean: float = 1.0
    deviation: float = 1.6
    high: float = 0.1
    low: float = 0.25
    dropout: float = 0.1
    ema: float = 0.996


def build_unet() -> UNetSpatioTemporalConditionModel:
    """Three levels, 16², 8² and 4² latents, with spatial and temporal attention in heads of 32 at each; 11 M
    weights."""
    unet = UNetSpatioTemporalConditionModel(
        sample_size=motions.SIZE // 2,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * 3,
        up_block_types=("CrossAttnUpBlockSpatioTemporal",) * 3,
        block_out_channels=(64, 96, 128),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=TOKEN,
        num_attention_heads=(2, 3, 4),
        num_frames=motions.FRAMES,
    )
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    return unet


def world_code() -> tuple[Tensor, Tensor]:
    """The linear code of this world's patches."""
    rng = np.random.default_rng(1234)
    return linear_code(np.stack([motions.random_clip(rng).render()[0] for _ in range(400)]))


@torch.no_grad()
def draw(
    code: LinearCode,
    tower: CLIPVisionModelWithProjection,
    rng: np.random.Generator,
    noise: torch.Generator,
    recipe: Recipe,
) -> Batch:
    """A batch of fresh clips at random noise levels."""
    count = recipe.batch
    videos = torch.from_numpy(np.stack([motions.random_clip(rng).render() for _ in range(count)]))
    videos = videos.permute(0, 1, 4, 2, 3) * 2 - 1
    sigma, augmentation = _levels(recipe, noise), _augmentation(count, noise)
    keep = (torch.rand(count, generator=noise) >= recipe.dropout).float()
    clean = code(videos)
    first = videos[:, :1] + augmentation.reshape(-1, 1, 1, 1, 1) * torch.randn(videos[:, :1].shape, generator=noise)
    picture = code(first) / SCALING * keep.reshape(-1, 1, 1, 1, 1)
    token = tower(clip_pixels(videos[:, 0])).image_embeds[:, None] * keep.reshape(-1, 1, 1)
    level = sigma.reshape(-1, 1, 1, 1, 1)
    scale = (level**2 + 1).sqrt()
    noisy = clean + level * torch.randn(clean.shape, generator=noise)
    ids = torch.stack([torch.full_like(augmentation, FPS_ID), torch.full_like(augmentation, BUCKET), augmentation], 1)
    model_input = torch.cat([noisy / scale, picture.expand(-1, clean.shape[1], -1, -1, -1)], dim=2)
    target = (clean - noisy / scale**2) * scale / -level
    return Batch(model_input, 0.25 * sigma.log(), token, ids, target)


def _levels(recipe: Recipe, noise: torch.Generator) -> Tensor:
    """Noise levels (B,), spread evenly over a batch."""
    count = recipe.batch
    stratum = (torch.randperm(count, generator=noise) + torch.rand(count, generator=noise)) / count
    usual = recipe.mean + recipe.deviation * 2**0.5 * torch.erfinv((2 * stratum - 1).clamp(-0.9999, 0.9999))
    high = recipe.mean + stratum * (math.log(700) - recipe.mean)
    low = recipe.mean + stratum * (math.log(0.005) - recipe.mean)
    chosen = torch.rand(count, generator=noise)
    level = torch.where(chosen < recipe.high, high, torch.where(chosen > 1 - recipe.low, low, usual))
    return level.clamp(math.log(0.002), math.log(700)).exp()


def _augmentation(count: int, noise: torch.Generator) -> Tensor:
    """Noise on the condition picture: SVD's 0.02 mostly, up to 0.2 else."""
    wide = 0.02 * 10 ** torch.rand(count, generator=noise)
    return torch.where(torch.rand(count, generator=noise) < 0.7, torch.full((count,), 0.02), wide)


def train(run: Path, clips: int, cooldown: int, seed: int, recipe: Recipe, start: Path | None = None) -> None:
    """Until `clips` clips were seen in all sittings; the rate falls to 0 over the last `cooldown` of them.

    Checkpoint: RUN/unet.safetensors, whose `step` counts clips. The network computes in bfloat16, in a copy of the
    weights; they, their moments and their average stay float32."""
    torch.manual_seed(seed)
    code, unet = LinearCode("cpu", world_code()), build_unet()
    if start is not None:
        unet.load_state_dict({name: value.float() for name, value in load_file(start).items()})
    tower = CLIPVisionModelWithProjection.from_pretrained(TOWER, dtype=torch.float32).requires_grad_(False).eval()
    mean = copy.deepcopy(unet).requires_grad_(False)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=recipe.rate, betas=(0.9, 0.99), fused=True)
    point = Checkpoint(run / "unet.safetensors", seed, CHECKPOINT_SECONDS, model=unet, ema=mean, optimiser=optimiser)
    point.load()
    half = copy.deepcopy(unet).bfloat16()
    losses, began, used = [], point.step, time.process_time()
    while point.step < clips:
        for group in optimiser.param_groups:
            fall = (clips - point.step) / max(cooldown, 1)
            group["lr"] = recipe.rate * min(1.0, (point.step + 1) / 400, fall)
        batch = draw(code, tower, point.rng, point.noise, recipe)
        losses.append(descend(batch, unet, half, optimiser))
        point.step += recipe.batch
        average(mean, unet, 1 - min(recipe.ema, (1 + point.step) / (40 + point.step)))
        if len(losses) == 25:
            cost = (time.process_time() - used) / (point.step - began)
            line = {"clips": point.step, "loss": round(float(np.mean(losses)), 4)}
            print(json.dumps({**line, "cpu_seconds_a_clip": round(cost, 3)}), flush=True)
            losses.clear()
        point.save(now=point.step >= clips)


def descend(
    batch: Batch,
    unet: UNetSpatioTemporalConditionModel,
    half: UNetSpatioTemporalConditionModel,
    optimiser: torch.optim.Optimizer,
) -> float:
    """One step, its gradients clipped to a norm of 1; returns the loss. half: the bfloat16 copy, renewed after it."""
    own, copies = list(unet.parameters()), list(half.parameters())
    out = forward(half, batch.model_input, batch.time, batch.token, batch.ids)
    loss = F.mse_loss(out.float(), batch.target)
    loss.backward()
    for weight, cast in zip(own, copies, strict=True):
        weight.grad = None if cast.grad is None else cast.grad.float()
        cast.grad = None
    torch.nn.utils.clip_grad_norm_(own, 1.0)
    optimiser.step()
    with torch.no_grad():
        torch._foreach_copy_(copies, own)
    return loss.item()


def export(run: Path, folder: Path) -> None:
    """Write the diffusers folder of the averaged weights in half precision, whole or not at all."""
    unet, tower = build_unet(), CLIPVisionModelWithProjection.from_pretrained(TOWER)
    unet.load_state_dict(load_part(run / "unet.safetensors", "ema"))
    vae = build_vae(world_code())
    clear_silent(vae)
    save_pipeline(folder, vae, tower, unet, DEFAULTS)


@torch.no_grad()
def clear_silent(network: nn.Module) -> None:
    """Zero all weights before a branch's last layer that is zero itself: nothing changes but that a wheel or a
    repository packs them to nothing. They are 3.6 MB of the VAE, which the tower's and the UNet's 23 leave no room."""
    last = {".conv2": (".conv1", ".time_emb_proj"), ".to_out.0": (".to_q", ".to_k", ".to_v")}
    modules = dict(network.named_modules())
    for name, module in modules.items():
        for end, earlier in last.items():
            if name.endswith(end) and not any(weight.any() for weight in module.parameters()):
                for other in (modules.get(name.removesuffix(end) + before) for before in earlier):
                    for weight in other.parameters() if other else ():
                        weight.zero_()


DEFAULTS = {
    "frames": motions.FRAMES,
    "size": [motions.SIZE, motions.SIZE],
    "noise_aug_strength": 0.02,
    "strength": 0.55,
    "guidance": 1.0,
}


def main() -> None:
    """Trains or exports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("unet", "export"))
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--folder", type=Path, help="export: the diffusers folder to write")
    parser.add_argument("--start", type=Path, help="unet: an exported UNet's weights, to begin a new run with")
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--cooldown", type=int, default=10_000, help="clips over which the learning rate falls to 0")
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.part == "unet":
        train(given.out, given.clips, given.cooldown, given.seed, Recipe(rate=given.rate), given.start)
    else:
        export(given.out, given.folder)


if __name__ == "__main__":
    main()
