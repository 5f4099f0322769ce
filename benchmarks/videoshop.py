#!/usr/bin/env python3
"""How well Videoshop repaints clips whose true edit is known, what each of its parts is worth, and what it costs.

    benchmarks/videoshop.py [--model NAME] [--clips 16] [--seed 90000] [tables …]

Tables: parts (every ablation, with controls), claims (what the paper claims, as differences clip by clip), curve (over
the topmost noise level and guidance), lines (how straight the paths from latents to noise are), cost (UNet evaluations,
time, memory), memory (of Stable Video Diffusion at full size, tier by tier, from its shapes). All but the last are of
the model given, on clips that it was not trained on (`paintover_evaluation.clips`, or .motions with --world motions;
seeds from --seed on); half have their sprite recoloured, half marked. Figures are means over the clips with the
standard error of that mean. Frame 0, which is given, is left out.

    recon      PSNR of the clip repainted from its own, unedited first frame, dB
    psnr       PSNR of the edited clip, dB; out: outside the true edit; ssim: its mean structural similarity
    motion     how far the sprite's motion from frame to frame, found by matching, is from its true one, pixels
    recolour,  explained fraction of the edit in the last frame: 1 - |out - truth|² / |source - truth|² over the true
    mark       edit's region; 1 is the truth, 0 the source returned
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from clip_job import ClipJob, Video
from figures import cell, difference, psnr
from numpy.typing import NDArray
from paintover_engine.diffusion import memory, models, schedule, svd
from paintover_engine.diffusion import videoshop as algorithm
from paintover_engine.diffusion.videoshop import Normalisation
from paintover_engine.errors import PaintoverError
from paintover_engine.methods import videoshop
from paintover_engine.methods.parameters import VideoshopParameters
from paintover_engine.methods.stage import KeyframeRef, Stage
from paintover_evaluation import motions
from paintover_evaluation.clips import ClipCase, EditKind, SpriteClip, explained, random_case
from passes import counting

Case = ClipCase | motions.MotionCase
KINDS: tuple[EditKind, ...] = ("recolour", "mark")

PAPER = {"normalisation": "channel", "rescaling": "match", "condition": "code"}
PARTS: dict[str, dict[str, Any]] = {
    "the model's defaults": {},
    "Σ = 1, the paper's": {"threshold": 1},
    "Σ = 0.3": {"threshold": 0.3},
    "Σ = 0, random first step": {"threshold": 0.001},
    "1 refinement": {"refinements": 1},
    "2 refinements": {"refinements": 2},
    "no extrapolation (naive)": {"inversion": "naive"},
    "no inversion (noise added)": {"inversion": "noise"},
    "BDIA": {"inversion": "bdia"},
    "SVD without the source": {"inversion": "none"},
    "no guidance": {"guidance": 1},
    "the paper's normalisation, rescaling, condition": PAPER,
    "of these, no normalisation": {**PAPER, "normalisation": "none"},
    "no rescaling": {**PAPER, "rescaling": "none"},
    "D1: normalised as in the code": {**PAPER, "normalisation": "frame"},
    "D2: rescaled as printed": {**PAPER, "rescaling": "paper"},
    "D2: normalisation undone": {**PAPER, "rescaling": "undo"},
    "D3: plain condition": {**PAPER, "condition": "plain"},
    "D3: consistent condition": {**PAPER, "condition": "consistent"},
    "none of the three": {"normalisation": "none", "rescaling": "undo", "condition": "plain"},
}
"""The inversion's parts are taken from the model's defaults, the others from the paper's."""

QUICK = (
    "the model's defaults", "Σ = 1, the paper's", "no extrapolation (naive)", "no inversion (noise added)",
    "the paper's normalisation, rescaling, condition", "D3: consistent condition", "none of the three",
)  # fmt: skip
CLAIMS = (
    ("Σ = 1, the paper's", "no extrapolation (naive)"),
    ("the model's defaults", "no extrapolation (naive)"),
    ("the model's defaults", "Σ = 0, random first step"),
    ("the model's defaults", "no inversion (noise added)"),
    ("the model's defaults", "SVD without the source"),
    ("the paper's normalisation, rescaling, condition", "of these, no normalisation"),
    ("the paper's normalisation, rescaling, condition", "no rescaling"),
)
"""Of each pair the paper claims that the first is better."""
STRENGTHS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
GUIDANCES = (1.0, 1.5, 2.0, 4.0)


# A clip as a job.


class VideoshopShot(ClipJob):
    """A clip and its keyframe, as Videoshop's model sees them."""

    def prepared(self, model: str, **parameters: Any) -> list[Stage]:
        return [s for s in videoshop.plan(self.info, [], VideoshopParameters(**parameters), model) if _of_model(s)]

    def stages(self, model: str, **parameters: Any) -> list[Stage]:
        key = KeyframeRef(0, f"{self.name} {hash(self.painted.tobytes())}")
        return [s for s in videoshop.plan(self.info, [key], VideoshopParameters(**parameters), model) if _of_model(s)]

    def repainted(self, model: str, **parameters: Any) -> Video:
        """The model's own pictures of the edited clip; frame 0 is the keyframe."""
        stages = self.stages(model, **parameters)
        self.run(stages)
        decoded = next(stage for stage in stages if stage.name == "decode")
        pictures = self.outputs[decoded.inputs[1].key]["pictures"][1 : len(self.video)].astype(np.float32)
        change = self.outputs[decoded.key]["change"].astype(np.float32)
        return np.clip(np.concatenate([self.painted[None], pictures + change]), 0, 1)


def _of_model(stage: Stage) -> bool:
    return stage.name in ("encode", "reconstruct", "invert", "denoise", "decode")


# Figures.


@dataclass(frozen=True)
class Figures:
    """What one variant did to one case; None where a figure has no meaning."""

    recon: float | None
    psnr: float
    out: float
    ssim: float
    motion: float | None
    recolour: float | None
    mark: float | None


def figures(case: Case, result: Video, recon: Video | None) -> Figures:
    """A result's figures. recon: what came of the clip's own first frame."""
    fraction = explained(result, case)
    return Figures(
        recon=None if recon is None else psnr(recon[1:] - case.source[1:]),
        psnr=psnr(result[1:] - case.truth[1:]),
        out=psnr((result - case.truth)[1:][~case.region[1:]]),
        ssim=float(np.mean([ssim(*pair) for pair in zip(result[1:], case.truth[1:], strict=True)])),
        motion=motion_error(result, case.clip) if isinstance(case, ClipCase) else None,
        recolour=fraction if case.kind == "recolour" else None,
        mark=fraction if case.kind == "mark" else None,
    )


def ssim(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean structural similarity (Wang et al. 2004): a Gaussian of 1.5 pixels, each colour alone."""

    def blur(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.GaussianBlur(x, (11, 11), 1.5)

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def motion_error(result: Video, clip: SpriteClip, margin: int = 3, enlarged: int = 4) -> float:
    """Mean distance, in pixels a frame, between the sprite's true motion and where its surroundings of each frame are
    found again in the next one."""
    side = clip.sprite.width + 2 * margin
    errors = []
    for n in range(1, len(result)):
        then, now = (np.pad(result[i], ((margin,) * 2, (margin,) * 2, (0, 0)), mode="edge") for i in (n - 1, n))
        x, y = (round(start + (n - 1) * speed) for start, speed in zip(_start(clip), clip.motion.velocity, strict=True))
        sprite, field = (
            cv2.resize(part, None, fx=enlarged, fy=enlarged) for part in (then[y : y + side, x : x + side], now)
        )
        score = cv2.matchTemplate(field, sprite, cv2.TM_SQDIFF)
        row, column = np.unravel_index(int(score.argmin()), score.shape)
        moved = np.array([column, row]) / enlarged - (x, y)
        errors.append(float(np.linalg.norm(moved - clip.motion.velocity)))
    return float(np.mean(errors))


def _start(clip: SpriteClip) -> tuple[float, float]:
    return clip.motion.x, clip.motion.y


COLUMNS = tuple(Figures.__annotations__)


def header(first: str) -> None:
    """The head of a Markdown table."""
    print(f"\n| {first} | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")


def row(name: str, found: Sequence[Figures]) -> None:
    """A line of a Markdown table: means and standard errors."""
    print(
        f"| {name} | " + " | ".join(cell([getattr(f, column) for f in found]) for column in COLUMNS) + " |", flush=True
    )


# The tables.


def cases(count: int, seed: int, world: str = "clips") -> list[tuple[Case, VideoshopShot, VideoshopShot]]:
    """Cases with the shot as it is edited, and as it is repainted without an edit."""
    cases: list[tuple[Case, VideoshopShot, VideoshopShot]] = []
    for n in range(count):
        rng = np.random.default_rng(seed + n)
        case = motions.random_case(rng) if world == "motions" else random_case(rng, KINDS[n % 2])
        outputs: dict[str, Mapping[str, NDArray[Any]]] = {}
        cases.append(
            (case, *(VideoshopShot(f"clip {seed + n}", case.source, v[0], outputs) for v in (case.truth, case.source)))
        )
    return cases


def parts(model: str, held: Sequence[tuple[Case, VideoshopShot, VideoshopShot]], quick: bool) -> None:
    """Every ablation, after the controls that need no model."""
    header("controls")
    controls: dict[str, Callable[[Case], Video]] = {
        "the source returned": lambda case: case.source,
        "the sprite erased": lambda case: case.erased,
        "grey": lambda case: np.full_like(case.source, 0.5),
        "edited pixels held still": held_still,
        "the truth through the VAE": lambda case: through_vae(model, case.truth),
    }
    for name, control in controls.items():
        row(name, [figures(case, control(case), None) for case, _, _ in held])
    header("Videoshop")
    for name, parameters in PARTS.items():
        if quick and name not in QUICK:
            continue
        row(name, [judged(model, *one, **parameters) for one in held])
    try:
        judged(model, *held[0], threshold=-1)
    except PaintoverError as error:
        print(f"\nWithout a threshold: {error.message}")


def claims(model: str, held: Sequence[tuple[Case, VideoshopShot, VideoshopShot]]) -> None:
    """What the first of each pair has more than the second, clip by clip, with two standard errors."""
    names = dict.fromkeys(name for pair in CLAIMS for name in pair)
    rows = {name: [judged(model, *one, **PARTS[name]) for one in held] for name in names}
    header("Videoshop")
    for name, found in rows.items():
        row(name, found)
    columns: dict[str, Callable[[Figures], float]] = {
        "recon": lambda found: found.recon or 0.0,
        "psnr": lambda found: found.psnr,
        "out": lambda found: found.out,
        "ssim": lambda found: found.ssim,
        "explained": lambda found: found.recolour or found.mark or 0.0,
    }
    print("\n| more than | | " + " | ".join(columns) + " |\n|---|---" + "|---" * len(columns) + "|")
    for first, second in CLAIMS:
        cells = [difference(*([of(f) for f in rows[name]] for name in (second, first)), 3) for of in columns.values()]
        print(f"| {second} | {first} | " + " | ".join(cells) + " |")


def judged(model: str, case: Case, edited: VideoshopShot, plain: VideoshopShot, **parameters: Any) -> Figures:
    """The figures of one case under some parameters."""
    return figures(case, edited.repainted(model, **parameters), plain.repainted(model, **parameters))


def curve(model: str, held: Sequence[tuple[Case, VideoshopShot, VideoshopShot]], quick: bool) -> None:
    """Over the topmost noise level and guidance."""
    header("strength, Σ top, guidance")
    for strength, guidance in itertools.product(STRENGTHS[quick :: 1 + quick], GUIDANCES[:: 1 + quick]):
        top = float(schedule.karras_sigmas()[schedule.start_index(25, strength)])
        found = [judged(model, *one, strength=strength, guidance=guidance) for one in held]
        row(f"{strength}, {top:.3g}, {guidance}", found)


def lines(model: str, held: Sequence[tuple[Case, VideoshopShot, VideoshopShot]]) -> None:
    """Cosines of neighbouring steps of the inversion, which extrapolation takes to be near 1."""
    loaded = svd.load(models.locate(model, "svd").path)
    sigmas = loaded.config.sigmas(25)[schedule.start_index(25, 0.55) :]
    found: list[list[float]] = []
    for case, _, _ in held:
        frames = torch.from_numpy(case.source).permute(0, 3, 1, 2) * 2 - 1
        latents = loaded.encode(frames)
        x0 = Normalisation.of(latents, "channel").apply(latents)
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(42))
        condition = loaded.condition(frames[:1], noise_aug=0.02)
        states = algorithm.extrapolated(loaded.denoiser(condition), x0, sigmas, noise, threshold=0.0)[::-1]
        steps = [b - a for a, b in itertools.pairwise(states)]
        found.append(
            [float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)) for a, b in itertools.pairwise(steps)]
        )
    print("\n| noise level | cosine of the step to it and the step from it |\n|---|---|")
    for level, cosines in zip(sigmas.flip(0)[1:-1], zip(*found, strict=True), strict=True):
        print(f"| {float(level):.4g} | {cell(cosines, digits=4)} |")


def cost(model: str, held: Sequence[tuple[Case, VideoshopShot, VideoshopShot]]) -> None:
    """UNet evaluations of an edit, and its time in forward passes of one item, the VAE's work included."""
    loaded = svd.load(models.locate(model, "svd").path)
    one = forward_seconds(loaded, held[0][0])
    rows: dict[str, list[tuple[float, float, float]]] = {"first edit": [], "after preparation": []}
    for case, _, _ in held:
        for name, prepare in (("first edit", False), ("after preparation", True)):
            shot = VideoshopShot("timed", case.source, case.truth[0])
            if prepare:
                shot.run(shot.prepared(model))
            with counting() as items:
                started = clock(loaded)
                shot.run(shot.stages(model))
                seconds = clock(loaded) - started
            rows[name].append((sum(items), seconds, seconds / (sum(items) * one)))
    print(f"\nOne forward pass of one item: {one * 1000:.1f} ms.\n")
    print("| | UNet items | seconds | seconds over items times one pass |\n|---|---|---|---|")
    for name, measured in rows.items():
        print(f"| {name} | " + " | ".join(cell(column) for column in zip(*measured, strict=True)) + " |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"\nPeak memory of the process: {peak / 1e9:.2f} GB.")
    if loaded.device.type == "cuda":
        print(f"Peak memory of the GPU: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB.")


def forward_seconds(model: svd.VideoModel, case: Case) -> float:
    """Seconds of one item through the network, the median of 15."""
    frames = torch.from_numpy(case.source).permute(0, 3, 1, 2) * 2 - 1
    x, denoiser = model.encode(frames), model.denoiser(model.condition(frames[:1], noise_aug=0.02))
    taken = []
    for _ in range(17):
        started = clock(model)
        denoiser(x, 2.0)
        taken.append(clock(model) - started)
    return statistics.median(taken[2:])


def clock(model: svd.VideoModel) -> float:
    """Seconds: the process's own on the CPU, so that other programs do not count; on a GPU, once its work is done."""
    if model.device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


SVD = {
    "unet/config.json": {
        "sample_size": 96,
        "num_frames": 14,
        "block_out_channels": [320, 640, 1280, 1280],
        "num_attention_heads": [5, 10, 20, 20],
    },
    "vae/config.json": {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "layers_per_block": 2,
    },
}
"""Stable Video Diffusion's architecture, as its configuration says; what is not named is the library's default."""

IMAGE_ENCODER = 632_000_000  # parameters of CLIP ViT-H/14's vision tower


def sizes() -> None:
    """What each tier takes at full size in half precision, from shapes alone."""
    with tempfile.TemporaryDirectory() as folder:
        for name, config in SVD.items():
            path = Path(folder) / name
            path.parent.mkdir()
            path.write_text(json.dumps(config))
        needs = svd.bare_needs(Path(folder), torch.float16, 14, 576, 1024)
    weights = {**needs.weights, "image_encoder": 2 * IMAGE_ENCODER}
    needs = memory.Needs(weights, needs.work)
    print("\n| network | weights, GB | alive at work on one item or frame, GB |\n|---|---|---|")
    for part, size in weights.items():
        print(f"| {part} | {size / 1e9:.2f} | {needs.work.get(part, 0) / 1e9:.2f} |")
    print("\n| tier | offload | batched | frames decoded at once | peak with CUDA's own, GB |\n|---|---|---|---|---|")
    for tier in memory.TIERS:
        peak = (needs.peak(tier) + memory.CUDA_BASE) / 1e9
        print(f"| {tier.name} | {tier.offload} | {tier.batched} | {tier.decode_frames} | {peak:.1f} |")


def held_still(case: Case) -> Video:
    """The first frame's change left where it is."""
    change = case.truth[0] - case.source[0]
    return np.clip(case.source + change, 0, 1)


def through_vae(name: str, video: Video) -> Video:
    """What the VAE alone makes of a clip."""
    model = svd.load(models.locate(name, "svd").path)
    frames = torch.from_numpy(video).permute(0, 3, 1, 2) * 2 - 1
    decoded = model.decode(model.encode(frames)) / 2 + 0.5
    return decoded.clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()


TABLES = ("parts", "claims", "curve", "lines", "cost", "memory")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="[default: all]")
    parser.add_argument("--model", default="small-svd")
    parser.add_argument("--clips", type=int, default=16, metavar="N")
    parser.add_argument("--world", default="clips", choices=("clips", "motions"))
    parser.add_argument("--seed", type=int, default=90000)
    parser.add_argument("--quick", action="store_true", help="fewer rows of the first two tables")
    given = parser.parse_args()
    torch.set_num_threads(1)
    held = cases(given.clips, given.seed, given.world)
    tables: dict[str, Callable[[], None]] = {
        "parts": lambda: parts(given.model, held, given.quick),
        "claims": lambda: claims(given.model, held),
        "curve": lambda: curve(given.model, held, given.quick),
        "lines": lambda: lines(given.model, held),
        "cost": lambda: cost(given.model, held),
        "memory": sizes,
    }
    for name in given.tables or TABLES:
        tables[name]()


if __name__ == "__main__":
    main()
