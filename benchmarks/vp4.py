#!/usr/bin/env python3
"""How well VP4 applies a shown edit to clips whose true edit is known, and what each of its parts is worth.

    benchmarks/vp4.py [--model small-inpaint] [--clips 16] [--frames 5] [--seed 500] [tables …]

Tables: main (what is taken away), consistency (what is done over time), parts (other readings), curve (strength and
guidance), toy (temporal consistency alone, on a known trajectory), cost (evaluations, time), memory (peak of a long and
a short shot, in processes of their own). The clips are of `paintover_evaluation.grids`, of seeds that the shipped
model was not trained on, a third each recoloured, marked and tinted; frame 0 is the keyframe, and is left out. The
result is the plate plus the model's change in the whole frame, without a matte, at four times the model's size; figures
are means over clips with the standard error of that mean.

    psnr       of the edited clip against the truth, dB. out: where the truth is the plate (not of tints)
    recolour,  explained fraction of the edit: 1 - |out - truth|² / |source - truth|² over the true edit's region; 1 is
    mark, tint the truth, 0 the source returned
    flicker    mean absolute change of the error from frame to frame, in 8-bit levels
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from clip_job import ClipJob, Video
from figures import cell, difference, psnr
from numpy.typing import NDArray
from paintover_engine.compose.detail import Framing
from paintover_engine.diffusion import svgd
from paintover_engine.methods import vp4
from paintover_engine.methods.parameters import VP4Parameters
from paintover_engine.methods.stage import KeyframeRef
from paintover_evaluation import grids
from paintover_evaluation.grids import GridEdit

SIDE = 96
KINDS = (GridEdit.RECOLOUR, GridEdit.MARK, GridEdit.TINT)
COLUMNS = {"psnr": 1, "out": 1, "recolour": 2, "mark": 2, "tint": 2, "flicker": 2}  # digits that are told
LEAST = 1e-10  # a mean square of 100 dB: better counts as that

MAIN: dict[str, dict[str, Any]] = {
    "VP4": {},
    "without temporal consistency": {"consistency": "none"},
    "without content consistency": {"sampling": "plain"},
    "without both": {"sampling": "plain", "consistency": "none"},
    "without both, from pure noise": {"sampling": "plain", "consistency": "none", "strength": 1.0},
}
PARTS: dict[str, dict[str, Any]] = {
    "VP4": {},
    "source branch: region (one pass)": {"branches": "region"},
    "source branch: same grid, empty prompt": {"branches": "same"},
    "prompt: literal (P-A)": {"prompt": "literal"},
    "no prompt (λ1 = 0)": {"lambda1": 0.0},
    "λ2 = 1 (DDCM)": {"lambda2": 1.0},
    "self-attention cloning 1.3": {"cloning": 1.3},
    "self-attention cloning 1.0": {"cloning": 1.0},
}
OVER_TIME: dict[str, dict[str, Any]] = {
    "residual SVGD, η = 2": {},
    "residual SVGD, η = 1": {"eta": 1.0},
    "residual SVGD, η = 4": {"eta": 4.0},
    "literal SVGD": {"consistency": "literal"},
    "none": {"consistency": "none"},
}
CURVE: dict[str, dict[str, Any]] = {
    f"strength {strength}, guidance {guidance:g}": {"strength": strength, "guidance": guidance}
    for strength in (0.6, 0.75, 0.9, 0.98)
    for guidance in (1.0, 2.0)
}
TABLES = {"main": MAIN, "consistency": OVER_TIME, "parts": PARTS, "curve": CURVE}


class VP4Shot(ClipJob):
    """A clip, its first frame the keyframe, as VP4's model sees it."""

    def result(self, model: str, **parameters: Any) -> tuple[Video, int]:
        """The clip with the model's change in the whole frame, and the passes of a grid that it took."""
        stages = vp4.plan(self.info, [KeyframeRef(0, self.name)], VP4Parameters(**parameters), model)
        wanted = [s for s in stages if s.name in ("flow", "encode", "exemplar", "sample", "consistency", "decode")]
        self.run(wanted)
        out = self.video.copy()
        for stage in (stage for stage in wanted if stage.name == "decode"):
            view = stage.parameters.view
            framing = Framing((SIDE, SIDE), view.size, view.inner)
            for number in range(stage.frames[0], stage.frames[1] + 1):
                change = self.outputs[stage.key]["change"][number - stage.frames[0]].astype(np.float32)
                out[number] += framing.to_plate(change)
        passes = sum(int(self.outputs[s.key]["evaluations"][0]) for s in wanted if s.name == "sample")
        return np.clip(out, 0, 1), passes


@dataclass(frozen=True)
class Clip:
    """kind: of its edit. source, truth: (F, H, W, 3). region: (F, H, W), 1 where the edit is."""

    kind: GridEdit
    source: Video
    truth: Video
    region: NDArray[np.float32]
    shot: VP4Shot


def clips(count: int, frames: int, seed: int) -> Iterator[Clip]:
    """Clips whose edits go round the kinds."""
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        world = grids.sample(np.random.default_rng(seed + index), 1, (kind,))
        many = world.take(np.zeros(frames, np.intp))
        rendered = grids.render(many, np.linspace(0, 1, frames, dtype=np.float32), SIDE, SIDE)
        shot = VP4Shot(f"clip {seed + index} {frames}", rendered.source, rendered.edited[0])
        yield Clip(kind, rendered.source, rendered.edited, rendered.region, shot)


def scores(clip: Clip, out: Video) -> dict[str, float]:
    """The figures of one clip, the keyframe left out."""
    error, was = (out - clip.truth)[1:], (clip.source - clip.truth)[1:]
    inside, outside = clip.region[1:] > 0.5, clip.region[1:] == 0
    explained = float(1 - (error[inside] ** 2).sum() / (was[inside] ** 2).sum())
    found = {
        "psnr": psnr(error, LEAST),
        "edit": explained,
        clip.kind.name.lower(): explained,
        "flicker": float(255 * np.abs(np.diff(error, axis=0)).mean()),
    }
    if outside.any():
        found["out"] = psnr(error[outside], LEAST)
    return found


def table(title: str, rows: Mapping[str, Mapping[str, Any]], shots: Sequence[Clip], model: str) -> None:
    """Prints one line a row."""
    print(f"\n{title}\n| | " + " | ".join(COLUMNS) + " | passes a frame |\n|" + " --- |" * (len(COLUMNS) + 2))
    by_variant: dict[str, list[dict[str, float]]] = {}
    for name, parameters in rows.items():
        found: list[dict[str, float]] = []
        passes = []
        for clip in shots:
            out, count = clip.shot.result(model, **parameters)
            found.append(scores(clip, out))
            passes.append(count / (len(out) - 1))
        cells = _cells(found)
        print(f"| {name} | " + " | ".join(cells) + f" | {statistics.mean(passes):.0f} |", flush=True)
        by_variant[name] = found
    returned = [scores(clip, clip.source) for clip in shots]
    cells = _cells(returned)
    print("| the source returned | " + " | ".join(cells) + " | 0 |", flush=True)
    columns = ("psnr", "out", "edit", "flicker")
    print("\nmore, clip by clip, with two standard errors\n| | than | " + " | ".join(columns) + " |")
    print("|" + " --- |" * (len(columns) + 2))
    names = list(by_variant)
    for base, name in [(base, name) for place, base in enumerate(names[:2]) for name in names[place + 1 :]]:
        cells = [_paired(by_variant[base], by_variant[name], column) for column in columns]
        print(f"| {name} | {base} | " + " | ".join(cells) + " |", flush=True)


def _cells(found: Sequence[Mapping[str, float]]) -> list[str]:
    return [cell([f.get(column) for f in found], digits) for column, digits in COLUMNS.items()]


def _paired(first: Sequence[Mapping[str, float]], found: Sequence[Mapping[str, float]], column: str) -> str:
    """How much more than the first row, clip by clip."""
    pairs = [(a[column], b[column]) for a, b in zip(first, found, strict=True) if column in a and column in b]
    return difference([a for a, _ in pairs], [b for _, b in pairs]) if pairs else ""


def toy() -> None:
    """14 frames of a smooth source, a constant edit and flicker of 0.25: what temporal consistency leaves of both."""
    print("\nTemporal consistency alone\n| | error | flicker | edit kept |\n| --- | --- | --- | --- |")
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(16):
        source, edit, sampled = toy_frames(seed)
        held = torch.zeros(len(source), dtype=torch.bool)
        still = torch.zeros(len(source) - 1, *source.shape[2:], 2)
        around = svgd.neighbours(source, still, still)
        videos = {
            "as sampled": sampled,
            "residual": svgd.smoothed(sampled, source, around, held),
            "literal": svgd.literal(sampled, source),
        }
        for name, frames in videos.items():
            left = frames - source
            error = (left - edit).square().mean().sqrt()
            flicker = (left[1:] - left[:-1]).square().mean().sqrt()
            retained = (left.mean(0) * edit).sum() / edit.square().sum()
            rows.setdefault(name, []).append((float(error), float(flicker), float(retained)))
    for name, found in rows.items():
        print(f"| {name} | " + " | ".join(cell(values) for values in zip(*found, strict=True)) + " |")


def toy_frames(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(source (14, 4, 8, 8), edit (4, 8, 8), sampled): a smooth trajectory, a local edit, the two with flicker."""
    generator = torch.Generator().manual_seed(seed)
    way = torch.randn(2, 4, 8, 8, generator=generator)
    times = torch.linspace(0, 1, 14)[:, None, None, None]
    source = way[0] + 0.5 * times * way[1]
    edit = torch.zeros(4, 8, 8)
    edit[:, 2:6, 2:6] = torch.randn(4, 1, 1, generator=generator)
    return source, edit, source + edit + 0.25 * torch.randn(source.shape, generator=generator)


def cost(model: str) -> None:
    """Seconds and passes of one clip, by what drives them."""
    for name, parameters in {"two branches": {}, "one pass": {"branches": "region"}, "guided": {"guidance": 2}}.items():
        clip = next(clips(1, 9, 500))
        started = time.perf_counter()
        _, passes = clip.shot.result(model, **parameters)
        print(f"{name}: {passes / 8:.0f} passes a frame, {(time.perf_counter() - started) / 8:.2f} s a frame")


def memory(model: str) -> None:
    """Peak resident memory of shots of 30 and 300 frames, each with a runner and a store on disk."""
    for frames in (30, 300):
        run = [sys.executable, __file__, "--model", model, "--frames", str(frames), "one-shot"]
        report = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        print(f"{frames} frames: {json.loads(report)['megabytes']:.0f} MB at most")


def one_shot(model: str, frames: int) -> None:
    """A whole shot through the store, as a worker runs it; prints the peak of memory."""
    import tempfile
    from pathlib import Path

    import cv2
    from paintover_engine.jobs import outputs
    from paintover_engine.jobs.folders import DataFolder
    from paintover_engine.jobs.runner import Runner
    from paintover_engine.jobs.store import Store
    from paintover_engine.media.keyframe import load_keyframe
    from paintover_engine.media.source import open_source, probe

    world = grids.sample(np.random.default_rng(500), 1, (GridEdit.RECOLOUR,))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(frames):
            rendered = grids.render(world, np.array([number / (frames - 1)], np.float32), SIDE, SIDE)
            picture = np.rint(255 * rendered.source[0, ..., ::-1]).astype(np.uint8)
            cv2.imwrite(f"{folder}/shot.{number:04d}.png", picture)
            if number == 0:
                cv2.imwrite(f"{folder}/key.png", np.rint(255 * rendered.edited[0, ..., ::-1]).astype(np.uint8))
        info = probe(f"{folder}/shot.####.png")
        data = DataFolder(Path(folder) / "data")
        data.create()
        key = load_keyframe(f"{folder}/key.png", info.first, open_source(info).read(info.first), info)
        outputs.save_keyframe(data.keyframes / f"{key.digest}.safetensors", key)
        settings = VP4Parameters(steps=2, consistency_steps=5)  # memory does not depend on how many
        refs = [KeyframeRef(info.first, key.digest)]
        with Runner(Store(data), info, "vp4", settings, refs, model=model) as runner:
            runner.run_all()
    print(json.dumps({"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small-inpaint")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--seed", type=int, default=500)
    parser.add_argument("--rows", nargs="+", default=[""], help="only rows whose names hold one of these")
    parser.add_argument("tables", nargs="*", default=["main", "consistency", "parts", "curve", "toy", "cost", "memory"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    shots: list[Clip] = []
    for name in given.tables:
        if name in TABLES:
            shots = shots or list(clips(given.clips, given.frames, given.seed))
            rows = {row: what for row, what in TABLES[name].items() if any(part in row for part in given.rows)}
            table(name, rows, shots, given.model)
        elif name == "one-shot":
            one_shot(given.model, given.frames)
        elif name == "toy":
            toy()
        else:
            {"cost": cost, "memory": memory}[name](given.model)


if __name__ == "__main__":
    main()
