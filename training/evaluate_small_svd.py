"""How far a small video model carries an edit: the gate of its training, quickly, many clips at once.

    python training/evaluate_small_svd.py --model FOLDER [--clips 16] [--guidance 1 2] [--strength 0.4 0.5]
        [--threshold 0.05]
    python training/evaluate_small_svd.py --model FOLDER --gates [--clips 4] [--lora-steps 250]

Videoshop's procedure without its normalisation: inversion with extrapolation on the source's first frame, then
denoising from there on the edited one. For each kind of edit, means over held-out clips with their standard errors:
the explained fraction of the edit in the last frame; PSNR of the whole clip; and of the source reconstructed.
`benchmarks/videoshop.py` measures the method itself, with every ablation. `--gates`: whether the model can show what
the methods' parts are worth at all (`gates.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from gates import gates
from numpy.typing import NDArray
from paintover_engine.diffusion import sampling, schedule, svd, videoshop
from paintover_engine.diffusion.denoiser import Denoiser, guide
from paintover_engine.diffusion.svd import Condition, VideoModel
from paintover_evaluation.clips import EDITS, ClipCase, explained, random_case
from torch import Tensor

Video = NDArray[np.float32]
STEPS = 25


def conditions(model: VideoModel, videos: list[Video]) -> list[Condition]:
    """One for each video's first frame."""
    return [model.condition(pixels(video)[:1], noise_aug=0.02, seed=n) for n, video in enumerate(videos)]


def batched(model: VideoModel, conditions: list[Condition], guidance: float) -> Denoiser:
    """A denoiser of many clips at once, each under its own condition."""
    blank = [each.unconditional() for each in conditions]

    @torch.no_grad()
    def denoise(x: Tensor, sigma: Tensor | float) -> Tensor:
        output = model.raw(x, torch.as_tensor(sigma).expand(len(x)), conditions)
        if guidance != 1:
            output = guide(model.raw(x, torch.as_tensor(sigma).expand(len(x)), blank), output, guidance)
        return schedule.denoised(x, output, sigma)

    return denoise


def pixels(video: Video) -> Tensor:
    """(F, 3, H, W) in -1..1."""
    return torch.from_numpy(video).permute(0, 3, 1, 2) * 2 - 1


def decoded(model: VideoModel, latents: Tensor) -> list[Video]:
    """Videos (F, H, W, 3), 0..1, of (B, F, 4, h, w)."""
    frames = [model.decode(each[None]).permute(0, 2, 3, 1) / 2 + 0.5 for each in latents]
    return [each.clamp(0, 1).numpy() for each in frames]


def psnr(out: Video, truth: Video) -> float:
    """Without frame 0, which is given."""
    return float(-10 * np.log10(np.square(out[1:] - truth[1:]).mean()))


def row(name: str, cases: list[ClipCase], videos: list[Video], extra: str = "") -> None:
    """A line of the table."""
    fractions = [explained(video, case) for video, case in zip(videos, cases, strict=True)]
    quality = [psnr(video, case.truth) for video, case in zip(videos, cases, strict=True)]
    print(f"{name:34s} explained {show(fractions)}   PSNR {show(quality)} dB{extra}", flush=True)


def show(values: list[float]) -> str:
    """Mean and standard error."""
    return f"{np.mean(values):6.2f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}"


@torch.no_grad()
def evaluate(
    model: VideoModel, cases: list[ClipCase], strengths: list[float], guidances: list[float], threshold: float
) -> None:
    """One kind of edit: the controls, then the model at every strength and guidance."""
    sources = [case.source for case in cases]
    latents = torch.cat([model.encode(pixels(video)) for video in sources])
    row("source returned", cases, sources)
    row("grey", cases, [np.full_like(video, 0.5) for video in sources])
    row("sprite erased", cases, [case.erased for case in cases])
    row("edited frame held still", cases, [np.broadcast_to(c.truth[:1], c.truth.shape) for c in cases])
    row("truth through the VAE", cases, decoded(model, torch.cat([model.encode(pixels(c.truth)) for c in cases])))
    sigmas = model.config.sigmas(STEPS)
    before, after = conditions(model, sources), conditions(model, [case.truth for case in cases])
    highest = sigmas[schedule.start_index(STEPS, max(strengths)) :]
    noise = schedule.noise_like(latents, 0)
    states = videoshop.extrapolated(batched(model, before, 1), latents, highest, noise, threshold)
    for strength in strengths:
        left = sigmas[schedule.start_index(STEPS, strength) :]
        start = states[len(highest) - len(left)]
        back = decoded(model, sampling.euler(batched(model, before, 1), start, left))
        extra = f"   source back {show([psnr(b, s) for b, s in zip(back, sources, strict=True)])} dB"
        for guidance in guidances:
            videos = decoded(model, sampling.euler(batched(model, after, guidance), start, left))
            row(f"strength {strength} (σ {left[0]:.3g}), guidance {guidance}", cases, videos, extra)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=16, help="of each kind of edit; of the gates")
    parser.add_argument("--gates", action="store_true")
    parser.add_argument("--lora-steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=90000)
    parser.add_argument("--strength", type=float, nargs="+", default=[0.4, 0.45, 0.5, 0.55])
    parser.add_argument("--threshold", type=float, default=0.05, help="the inversion's; see benchmarks/videoshop.py")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = svd.load(given.model)
    if given.gates:
        gates(model, given.clips, given.lora_steps)
        return
    for kind in EDITS:
        print(f"{kind}, {given.clips} clips")
        cases = [random_case(np.random.default_rng(given.seed + n), kind) for n in range(given.clips)]
        evaluate(model, cases, given.strength, given.guidance, given.threshold)


if __name__ == "__main__":
    main()
