"""Train the small Wan model. `training/README.md` tells how; everything is seeded.

    python training/small_wan.py vae    --out RUN --minutes 25
    python training/small_wan.py flow   --out RUN --minutes 125
    python training/small_wan.py export --out RUN --folder FOLDER

The first two go on from their last checkpoint in RUN: a run that was cut off goes on. Neither needs the other.
"""

from __future__ import annotations

import argparse
import copy
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from checkpoints import Checkpoint, average, descend
from diffusers import WanTransformer3DModel
from numpy.typing import NDArray
from paintover_evaluation.clips import SpriteClip, random_appearance
from paintover_evaluation.window_clips import FRAMES, SIZE, random_clip
from small_wan_models import (
    SHIFT,
    TEXT,
    LinearCode,
    build_transformer,
    build_vae,
    export,
    given_mask,
    linear_code,
)
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

RATE, VAE_RATE = 1.5e-3, 1e-3
"""Learning rates."""

SWAP = 0.5
"""Share of the clips whose noisy video shows another look."""


def pictures(clips: list[SpriteClip]) -> NDArray[np.float32]:
    """(N, F, H, W, 3) in -1..1."""
    return np.stack([clip.render() for clip in clips]) * 2 - 1


@functools.cache
def world_code() -> LinearCode:
    """The linear code of the world."""
    rng = np.random.default_rng(1234)
    return linear_code(pictures([random_clip(rng) for _ in range(400)]))


def train_vae(run: Path, minutes: float, seed: int, batch: int = 4) -> Iterator[float]:
    """The decoder, on the fixed code; yields each step's error. Checkpoint: RUN/vae.safetensors."""
    torch.manual_seed(seed)
    vae = build_vae(world_code())
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    mean = copy.deepcopy(vae)
    trained = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=VAE_RATE, weight_decay=1e-4)
    point = Checkpoint(run / "vae.safetensors", seed, model=vae, mean=mean, optimiser=optimiser)
    point.load()
    code = world_code()
    centre, spread = (torch.from_numpy(values).view(1, -1, 1, 1, 1) for values in (code.mean, code.deviation))
    while point.seconds < 60 * minutes:
        _set_rate([optimiser], VAE_RATE, point, minutes)
        clip = pictures([random_clip(point.rng) for _ in range(batch)])
        latents = torch.from_numpy(code.encode(clip))
        latents = latents + 0.05 * torch.randn(latents.shape, generator=point.noise)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = vae.decode(latents * spread + centre).sample
        error = F.l1_loss(decoded.float(), torch.from_numpy(clip).permute(0, 4, 1, 2, 3))
        descend(error, optimiser)
        average(mean, vae, _share(point.step))
        point.step += 1
        point.save()
        yield error.item()
    point.save(now=True)


class Examples:
    """Batches for the transformer: latents of clips, of the same in another look, and of the first frame in grey."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._code = rng, world_code()
        self._grey = torch.from_numpy(self._code.encode(np.zeros((1, FRAMES, SIZE, SIZE, 3), np.float32)))

    def draw(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """x0, the difference that another look makes (0 for those that keep theirs), and the condition."""
        clips = [random_clip(self._rng) for _ in range(batch)]
        others = [
            clip.with_appearance(random_appearance(self._rng)) if self._rng.random() < SWAP else clip for clip in clips
        ]
        x0 = torch.from_numpy(self._code.encode(pictures(clips)))
        swapped = torch.zeros_like(x0)
        for number, (clip, other) in enumerate(zip(clips, others, strict=True)):
            if other is not clip:
                swapped[number] = torch.from_numpy(self._code.encode(pictures([other])))[0] - x0[number]
        condition = self._grey.repeat(batch, 1, 1, 1, 1)
        condition[:, :, 0] = x0[:, :, 0]
        return x0, swapped, condition


def train_flow(run: Path, minutes: float, seed: int, batch: int = 32) -> Iterator[float]:
    """The transformer, by flow matching; yields each step's loss. Checkpoint: RUN/flow.safetensors.

    Levels are logit-normal (Esser et al., ICML 2024), shifted as Wan's schedule is. The look swap: what an edit that
    began at level t above s, of a source with another look, has left of that look at s."""
    torch.manual_seed(seed)
    network = build_transformer()
    mean = copy.deepcopy(network)
    optimisers = _optimisers(network)
    point = Checkpoint(
        run / "flow.safetensors", seed, model=network, mean=mean, muon=optimisers[0], adamw=optimisers[1]
    )
    point.load()
    examples = Examples(point.rng)
    text, mask = torch.zeros(batch, 1, TEXT), given_mask(batch)  # 512 equal tokens attended to are one
    with sdpa_kernel(SDPBackend.MATH):  # on few tokens the quickest
        while point.seconds < 60 * minutes:
            _set_rate(optimisers, RATE, point, minutes)
            x0, swapped, condition = examples.draw(batch)
            s = torch.randn(batch, generator=point.noise).sigmoid()
            s = (SHIFT * s / (1 + (SHIFT - 1) * s)).view(-1, 1, 1, 1, 1)
            top = s.clamp_min(0.5)
            top = top + (1 - top) * torch.rand(top.shape, generator=point.noise)
            noise = torch.randn(x0.shape, generator=point.noise)
            left = (1 - top) / top * swapped
            seen = torch.cat([(1 - s) * x0 + s * (noise + left), mask, condition], dim=1)
            loss = F.mse_loss(_velocity(network, seen, s.flatten(), text), noise + left - x0)
            descend(loss, *optimisers)
            average(mean, network, _share(point.step))
            point.step += 1
            point.save()
            yield loss.item()
    point.save(now=True)


def _velocity(network: WanTransformer3DModel, seen: Tensor, s: Tensor, text: Tensor) -> Tensor:
    """Computed in bfloat16, in which PyTorch warns that a norm's weights are kept in float32, as they are to be."""
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
        velocity: Tensor = network(seen, 1000 * s, text, return_dict=False)[0]
    return velocity.float()


def _optimisers(network: WanTransformer3DModel) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices of the blocks, with updates as large as AdamW's; AdamW for all else.

    Cross-attention to no words adds nothing: it is neither computed nor trained."""
    for block in network.blocks:
        block.attn2.forward = _nothing
    matrices = [p for p in network.blocks.parameters() if p.requires_grad and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
    muon = torch.optim.Muon(matrices, lr=RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=RATE, weight_decay=0.0, betas=(0.9, 0.98))]


def _nothing(*_: object, **__: object) -> float:
    return 0.0


def _share(step: int) -> float:
    """Of the weights in their running mean: of all steps at first, of some five hundred later."""
    return max(0.004, 1 / (1 + step / 3))


def _set_rate(optimisers: Sequence[torch.optim.Optimizer], rate: float, point: Checkpoint, minutes: float) -> None:
    """A warm-up over 60 steps, and down to nothing over the last third of the time."""
    share = min(1.0, (point.step + 1) / 60, max(0.01, (60 * minutes - point.seconds) / (20 * minutes)))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate * share


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("vae", "flow", "export"))
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    parser.add_argument("--minutes", type=float, default=125)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.part == "export":
        export(given.out, given.folder or given.out / "small-wan", world_code())
        return
    train = {"vae": train_vae, "flow": train_flow}[given.part]
    losses: list[float] = []
    for loss in train(given.out, given.minutes, given.seed):
        losses.append(loss)
        if len(losses) % 25 == 0:
            print(f"{len(losses)} steps in this run: {np.mean(losses[-25:]):.4f}", flush=True)


if __name__ == "__main__":
    main()
