#!/usr/bin/env python3
"""How well the methods on models of Wan's kind repaint clips whose true edit is known, and what their parts are worth.

    benchmarks/flow.py [--model NAME] [--clips 8] [--steps 10] [--seed 90000] [tables …]

Tables: methods (FlowEdit, Videoshop on the flow, SDEdit, with controls), curve (how far up the schedule each begins),
matte (the edit multiplied by the latent matte, or not), noise (fresh in every step, or one draw), draft (starting from
the draft's result, in fewer steps), windows (nine windows, one after the other, by the methods' stages), cost
(evaluations of the network a frame, and time, by the methods' stages). All on clips that the model was not trained on
(`paintover_evaluation.window_clips`, seeds from --seed on); half have their sprite recoloured, half marked. The first
five compute all clips at once, on the mattes of the true edit; the stages track theirs as for any shot. Figures are
means over the clips with the standard error of that mean. Frame 0, which is given, is left out.

    recon      PSNR of the clip repainted from its own, unedited first frame, dB
    psnr       PSNR of the edited clip, dB; out: outside the true edit
    recolour,  explained fraction of the edit in the last frame: 1 - |out - truth|² / |source - truth|² over the true
    mark       edit's region; 1 is the truth, 0 the source returned
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from clip_job import ClipJob, Video
from figures import cell, psnr
from numpy.typing import NDArray
from paintover_engine.diffusion import flowedit as algorithm
from paintover_engine.diffusion import models, schedule, videoshop_flow, wan
from paintover_engine.diffusion.flow import Velocity
from paintover_engine.diffusion.videoshop import Rescaling
from paintover_engine.diffusion.videoshop_flow import Inversion
from paintover_engine.diffusion.wan import Conditioning
from paintover_engine.methods import draft, flow_stages, flowedit, videoshop, videoshop_wan
from paintover_engine.methods.flow_parameters import FlowEditParameters
from paintover_engine.methods.parameters import DraftParameters, VideoshopParameters
from paintover_engine.methods.stage import KeyframeRef, Stage
from paintover_evaluation.clips import ClipCase, EditKind, explained, random_case
from paintover_evaluation.window_clips import FRAMES, random_clip
from passes import counting
from torch import Tensor

KINDS: tuple[EditKind, ...] = ("recolour", "mark")
SHARES = (0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Of the schedule, in `curve`."""
STARTS = ((4, 2), (8, 3), (8, 6), (15, 15))
"""Steps of the schedule, and those of them that are edited in, in `draft`."""


def cases(count: int, seed: int, windows: int = 1) -> list[ClipCase]:
    """Cases of so many windows."""
    draw = partial(random_clip, windows=windows)
    return [random_case(np.random.default_rng(seed + n), KINDS[n % 2], draw) for n in range(count)]


# All clips at once, by the algorithms.


class Batch:
    """Clips of one window as a model sees them. source, truth: latents (B, T, C, h, w); matte: (B, T, 1, h, w)."""

    def __init__(self, name: str, held: Sequence[ClipCase], steps: int, seed: int = 42) -> None:
        self.folder = models.locate(name, "wan")
        self.model, self.held, self.seed = wan.load(self.folder.path, "wan"), held, seed
        self.levels = self.model.levels(steps)
        self.source, self.truth = (self.encode([getattr(case, clip) for case in held]) for clip in ("source", "truth"))
        regions = [torch.from_numpy(case.region[:, None].astype(np.float32)) for case in held]
        self.matte = torch.cat([algorithm.latent_matte(region, self.model.layout.factor) for region in regions])
        self.everywhere = torch.ones_like(self.matte)
        self.plain, self.edited = (self._on([getattr(c, clip)[:1] for c in held]) for clip in ("source", "truth"))
        self._decoded = self.decode(self.source)

    def encode(self, clips: Sequence[Video]) -> Tensor:
        """(B, T, C, h, w)."""
        return torch.cat([self.model.encode(torch.from_numpy(clip).permute(0, 3, 1, 2) * 2 - 1) for clip in clips])

    def decode(self, latents: Tensor) -> NDArray[np.float32]:
        """(B, F, H, W, 3), around 0..1."""
        shown = torch.stack([self.model.decode(one[None]) for one in latents]) / 2 + 0.5
        return np.asarray(shown.permute(0, 1, 3, 4, 2).cpu().numpy())

    def videos(self, latents: Tensor) -> list[Video]:
        """The sources with what an edit changes."""
        changes = self.decode(latents) - self._decoded
        return [np.clip(case.source + change, 0, 1) for case, change in zip(self.held, changes, strict=True)]

    def _on(self, firsts: Sequence[Video]) -> Velocity:
        """The velocity on the clips' first frames. The model knows no words: of 512 equal tokens it sees one."""
        pictures = [torch.from_numpy(first).permute(0, 3, 1, 2) * 2 - 1 for first in firsts]
        latent = [self.model.condition(picture, FRAMES).latent for picture in pictures]
        condition = Conditioning(torch.cat([one for one in latent if one is not None]))
        return self.model.velocity(condition, torch.zeros(len(firsts), 1, self.model.layout.text))

    def flowedit(
        self, target: Velocity, n_max: int = 0, matte: Tensor | None = None, fresh: bool = True, **others: Any
    ) -> Tensor:
        """Edited latents. n_max: 0: the model's own share. fresh: noise; else one draw for all steps."""
        generator = torch.Generator().manual_seed(self.seed)

        def source(x: Tensor, s: Any) -> Tensor:
            if not fresh:  # it is asked last in a step: the next draw is this one again
                generator.manual_seed(self.seed)
            return self.plain(x, s)

        own = round((len(self.levels) - 1) * self.folder.default("n_max_share", flowedit.SHARE))
        levels = algorithm.start_levels(self.levels, n_max or own)
        others.setdefault("known", algorithm.Known(first=(self.source if target is self.plain else self.truth)[:, :1]))
        where = self.matte if matte is None else matte
        return algorithm.edit(source, target, self.source, levels, generator, matte=where, **others)

    def videoshop(
        self,
        target: Velocity,
        how: Inversion | None = "extrapolation",
        strength: float = 0,
        matte: Tensor | None = None,
        rescaling: Rescaling | None = None,
    ) -> Tensor:
        """Edited latents. how: it is inverted; None: not, from noise alone."""
        strength = strength or self.folder.default("strength", videoshop_wan.STRENGTH)
        threshold = self.folder.default("threshold", videoshop_wan.THRESHOLD)
        state, levels = schedule.noise_like(self.source, self.seed), self.levels
        if how:
            levels = videoshop_flow.inverted_levels(self.levels, strength)
            state = videoshop_flow.invert(self.plain, self.source, levels, state, how, threshold)
        first = (self.source if target is self.plain else self.truth)[:, :1]
        rescaling = rescaling or self.folder.settings.get("rescaling", "match")
        painted = videoshop_flow.paint(target, state, levels, first, how or "naive", rescaling if how else "none")
        return self.source + (self.matte if matte is None else matte) * (painted - self.source)


Method = Callable[[Batch, Velocity], Tensor]

METHODS: dict[str, Method] = {
    "flowedit": Batch.flowedit,
    "videoshop, extrapolated": Batch.videoshop,
    "videoshop, midpoint": partial(Batch.videoshop, how="midpoint"),
    "videoshop, the first latent's statistics matched": partial(Batch.videoshop, rescaling="match"),
    "SDEdit: noise added, not inverted": partial(Batch.videoshop, how="noise"),
    "SDEdit from noise alone": partial(Batch.videoshop, how=None),
}


# Figures.


@dataclass(frozen=True)
class Figures:
    """What one variant did to one case; None where a figure has no meaning."""

    recon: float | None
    psnr: float
    out: float
    recolour: float | None
    mark: float | None


COLUMNS = tuple(Figures.__annotations__)


def figures(case: ClipCase, result: Video, recon: Video | None = None) -> Figures:
    """A result's figures. recon: what came of the clip's own first frame."""
    fraction = explained(result, case)
    return Figures(
        recon=None if recon is None else psnr(recon[1:] - case.source[1:]),
        psnr=psnr(result[1:] - case.truth[1:]),
        out=psnr((result - case.truth)[1:][~case.region[1:]]),
        recolour=fraction if case.kind == "recolour" else None,
        mark=fraction if case.kind == "mark" else None,
    )


def judged(batch: Batch, method: Method, recon: bool = False) -> list[Figures]:
    """The figures of all cases. recon: whether they are repainted without an edit, too."""
    results = batch.videos(method(batch, batch.edited))
    recons: list[Video] | list[None] = [None] * len(results)
    if recon:
        recons = batch.videos(method(batch, batch.plain))
    return [figures(*one) for one in zip(batch.held, results, recons, strict=True)]


def header(first: str) -> None:
    """The head of a Markdown table."""
    print(f"\n| {first} | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")


def row(name: str, found: Sequence[Figures]) -> None:
    """A line of a Markdown table: means and standard errors."""
    print(
        f"| {name} | " + " | ".join(cell([getattr(f, column) for f in found]) for column in COLUMNS) + " |", flush=True
    )


# The tables of the algorithms.


def methods(batch: Batch) -> None:
    """Each method at its defaults, after the controls that need no model."""
    header("")
    held = batch.held
    controls: dict[str, list[Video]] = {
        "the source returned": [case.source for case in held],
        "the sprite erased": [case.erased for case in held],
        "edited pixels held still": [np.clip(c.source + c.truth[0] - c.source[0], 0, 1) for c in held],
        "the truth through the VAE": batch.videos(batch.truth),
    }
    for name, videos in controls.items():
        row(name, [figures(*one) for one in zip(held, videos, strict=True)])
    for name, method in METHODS.items():
        row(name, judged(batch, method, recon=True))


def curve(batch: Batch) -> None:
    """Over the share of the schedule that each method is at work in."""
    header("share of the schedule")
    steps = len(batch.levels) - 1
    for share in SHARES:
        row(f"flowedit, {share}", judged(batch, partial(Batch.flowedit, n_max=round(steps * share))))
    for share in SHARES[:-1]:
        row(f"videoshop, {share}", judged(batch, partial(Batch.videoshop, strength=share)))


def matte(batch: Batch) -> None:
    """The edit multiplied by the latent matte, or not."""
    header("the latent matte")
    for name, where in (("multiplied", batch.matte), ("left out", batch.everywhere)):
        row(f"flowedit, {name}", judged(batch, partial(Batch.flowedit, matte=where)))
        row(f"videoshop, {name}", judged(batch, partial(Batch.videoshop, matte=where)))


def noise(batch: Batch) -> None:
    """Fresh noise in every step, one draw for all, and the mean of several."""
    header("noise")
    row("fresh", judged(batch, Batch.flowedit))
    row("one draw for all steps", judged(batch, partial(Batch.flowedit, fresh=False)))
    row("fresh, n_avg 3", judged(batch, partial(Batch.flowedit, average=3)))


def drafts(batch: Batch) -> None:
    """Steps against quality, from the source and from the draft; and from a draft whose paint stays where it was."""
    header("steps, edited in, start")
    drafted = [FlowShot(f"clip {n}", case.source, case.truth[0]).drafted() for n, case in enumerate(batch.held)]
    still = [np.clip(case.source + case.truth[0] - case.source[0], 0, 1) for case in batch.held]
    for name, videos in (("the draft itself", drafted), ("the paint held still", still)):
        row(name, [figures(*one) for one in zip(batch.held, videos, strict=True)])
    starts = {"source": None, "draft": batch.encode(drafted), "held still": batch.encode(still)}
    for (steps, n_max), (name, start) in itertools.product(STARTS, starts.items()):
        batch.levels = batch.model.levels(steps)
        known = algorithm.Known(first=batch.truth[:, :1], start=start)
        row(f"{steps}, {n_max}, {name}", judged(batch, partial(Batch.flowedit, n_max=n_max, known=known)))


# By the methods' stages.

PLANS: dict[str, tuple[Any, Any]] = {
    "flowedit": (flowedit, FlowEditParameters),
    "videoshop": (videoshop, VideoshopParameters),
}
OF_MODEL = ("encode", "invert", "edit", "denoise", "decode")


class FlowShot(ClipJob):
    """A clip and its keyframe as a job."""

    def stages(self, model: str, method: str, **parameters: Any) -> list[Stage]:
        """All that publish nothing."""
        module, of = PLANS[method]
        plan = module.plan(self.info, [self._key()], of(**parameters), model)
        return [stage for stage in plan if not stage.publishes]

    def repainted(self, model: str, method: str, **parameters: Any) -> Video:
        """The source with what the model changed; frame 0 is the keyframe."""
        stages = self.stages(model, method, **parameters)
        self.run(stages)
        shown = self.video.copy()
        shown[0] = self.painted
        for stage in stages:
            if stage.function is flow_stages.decode:
                first, last = stage.parameters.written
                shown[first : last + 1] += self.outputs[stage.key]["change"].astype(np.float32)
        return np.clip(shown, 0, 1)

    def drafted(self) -> Video:
        """The draft's result."""
        shown = self.video.copy()
        for stage in draft.plan(self.info, [self._key()], DraftParameters()):
            if not stage.publishes:
                self.run([stage])
                continue
            for frame in stage.function(self, stage):
                x, y, width, height = frame.bounds
                place = (frame.number, slice(y, y + height), slice(x, x + width))
                painted, alpha = frame.painted[..., :3].astype(np.float32), frame.painted[..., 3:].astype(np.float32)
                shown[place] += alpha * (painted - shown[place])
        return np.clip(shown, 0, 1)

    def _key(self) -> KeyframeRef:
        return KeyframeRef(0, f"{self.name} {hash(self.painted.tobytes())}")


def windows(model: str, held: Sequence[ClipCase], steps: int) -> None:
    """What is left of the edit, and how far it leaks, window by window."""
    columns = " | ".join(f"{name}: recolour | mark | out, dB" for name in PLANS)
    print(f"\n| window | {columns} |\n|---" + "|---" * 3 * len(PLANS) + "|")
    results: dict[str, list[Video]] = {name: [] for name in PLANS}
    for number, case in enumerate(held):
        outputs: dict[str, Mapping[str, NDArray[Any]]] = {}
        for name, found in results.items():
            shot = FlowShot(f"long clip {number}", case.source, case.truth[0], outputs)
            found.append(shot.repainted(model, name, steps=steps))
    for last in range(FRAMES - 1, len(held[0].source), FRAMES - 1):
        cells, span = [], slice(last - FRAMES + 2, last + 1)
        for found in results.values():
            pairs = list(zip(held, found, strict=True))
            cells += [cell([explained(v, case, last) for case, v in pairs if case.kind == kind]) for kind in KINDS]
            cells.append(cell([psnr((v - case.truth)[span][~case.region[span]]) for case, v in pairs]))
        print(f"| {last // (FRAMES - 1)} | " + " | ".join(cells) + " |", flush=True)


def cost(model: str, held: Sequence[ClipCase], steps: int) -> None:
    """The network's evaluations of an edit, and its time beside theirs alone."""
    print("\n| method | evaluations | a frame | seconds | seconds over evaluations times one pass |")
    print("|---|---|---|---|---|")
    one = pass_seconds(model)
    variants: dict[str, tuple[str, dict[str, Any]]] = {
        "flowedit": ("flowedit", {}),
        "flowedit from the draft, n_max 6": ("flowedit", {"start": "draft", "n_max": 6}),
        "videoshop": ("videoshop", {}),
        "videoshop, midpoint": ("videoshop", {"inversion": "midpoint"}),
        "videoshop, from noise alone": ("videoshop", {"inversion": "none"}),
    }
    for name, (method, parameters) in variants.items():
        counts, seconds = [], []
        for number, case in enumerate(held):
            shot = FlowShot(f"timed {number}", case.source, case.truth[0])
            stages = shot.stages(model, method, steps=steps, **parameters)
            shot.run([stage for stage in stages if stage.name not in OF_MODEL])
            with counting() as counted:
                started = time.process_time()
                shot.run(stages)
                seconds.append(time.process_time() - started)
            counts.append(sum(counted))
        whole = [taken / (count * one) for taken, count in zip(seconds, counts, strict=True)]
        frame = [count / (FRAMES - 1) for count in counts]
        print(f"| {name} | {' | '.join(cell(column) for column in (counts, frame, seconds, whole))} |", flush=True)
    print(f"\nOne pass of a window of {FRAMES} frames: {one * 1000:.1f} ms.")


def pass_seconds(name: str) -> float:
    """Of the CPU, for one evaluation; the median of 9."""
    model = wan.load(models.locate(name, "wan").path, "wan")
    clip = torch.from_numpy(cases(1, 0)[0].source).permute(0, 3, 1, 2) * 2 - 1
    velocity = model.velocity(model.condition(clip[:1], FRAMES), torch.zeros(1, 512, model.layout.text))
    x, taken = model.encode(clip), []
    for _ in range(11):
        started = time.process_time()
        velocity(x, torch.tensor(0.7))
        taken.append(time.process_time() - started)
    return float(np.median(taken[2:]))


TABLES = ("methods", "curve", "matte", "noise", "draft", "windows", "cost")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="[default: all]")
    parser.add_argument("--model", default="small-wan")
    parser.add_argument("--clips", type=int, default=8, metavar="N")
    parser.add_argument("--steps", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=90000)
    given = parser.parse_args()
    torch.set_num_threads(1)

    def batch() -> Batch:
        return Batch(given.model, cases(given.clips, given.seed), given.steps)

    tables: dict[str, Callable[[], None]] = {
        "methods": lambda: methods(batch()),
        "curve": lambda: curve(batch()),
        "matte": lambda: matte(batch()),
        "noise": lambda: noise(batch()),
        "draft": lambda: drafts(batch()),
        "windows": lambda: windows(given.model, cases(given.clips, given.seed, 9), given.steps),
        "cost": lambda: cost(given.model, cases(given.clips, given.seed), given.steps),
    }
    for name in given.tables or TABLES:
        tables[name]()


if __name__ == "__main__":
    main()
