#!/usr/bin/env python3
"""How well the methods on models of Wan's kind repaint clips whose true edit is known, and what their parts are worth.

    benchmarks/flow.py [--model NAME] [--clips 16] [--seed 90000] [tables …]

Tables: methods (FlowEdit, Videoshop on the flow, SDEdit, with controls), curve (how far up the schedule each begins),
windows (nine windows, one after the other), matte (the edit multiplied by the latent matte, or not), noise (fresh in
every step, or one draw), draft (starting from the draft's result, in fewer steps), cost (evaluations of the network a
frame, and time). All on clips that the model was not trained on (`paintover_evaluation.window_clips`, seeds from --seed
on); half have their sprite recoloured, half marked. The mattes are the draft's own tracking of the clip. Figures are
means over the clips with the standard error of that mean. Frame 0, which is given, is left out.

    recon      PSNR of the clip repainted from its own, unedited first frame, dB
    psnr       PSNR of the edited clip, dB; out: outside the true edit
    recolour,  explained fraction of the edit in the last frame: 1 - |out - truth|² / |source - truth|² over the true
    mark       edit's region; 1 is the truth, 0 the source returned
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from clip_job import ClipJob, Video
from figures import cell, psnr
from numpy.typing import NDArray
from paintover_engine.diffusion import flowedit as algorithm
from paintover_engine.diffusion import models, wan
from paintover_engine.methods import draft, flow_stages, flowedit, videoshop
from paintover_engine.methods.flow_parameters import FlowEditParameters
from paintover_engine.methods.parameters import DraftParameters, VideoshopParameters
from paintover_engine.methods.stage import KeyframeRef, Stage
from paintover_evaluation.clips import ClipCase, EditKind, explained, random_case
from paintover_evaluation.window_clips import FRAMES, random_clip

KINDS: tuple[EditKind, ...] = ("recolour", "mark")

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "flowedit": ("flowedit", {}),
    "videoshop, extrapolated": ("videoshop", {}),
    "videoshop, midpoint": ("videoshop", {"inversion": "midpoint"}),
    "SDEdit: noise added instead of inverting": ("videoshop", {"inversion": "noise"}),
    "SDEdit from noise alone": ("videoshop", {"inversion": "none"}),
}
SHARES = (0.4, 0.6, 0.8, 1.0)
"""Of the schedule, in `curve`."""

STARTS = ((4, 2), (8, 3), (8, 6), (15, 12), (30, 24))
"""Steps of the schedule, and those of them that are edited in, in `draft`."""

PLANS: dict[str, tuple[Any, Any]] = {
    "flowedit": (flowedit, FlowEditParameters),
    "videoshop": (videoshop, VideoshopParameters),
}


# A clip as a job.


class FlowShot(ClipJob):
    """A clip and its keyframe, as the methods see them."""

    def stages(self, model: str, method: str = "flowedit", **parameters: Any) -> list[Stage]:
        """All that publish nothing."""
        module, of = PLANS[method]
        key = KeyframeRef(0, f"{self.name} {hash(self.painted.tobytes())}")
        return [stage for stage in module.plan(self.info, [key], of(**parameters), model) if not stage.publishes]

    def repainted(self, model: str, method: str = "flowedit", **parameters: Any) -> Video:
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
        key = KeyframeRef(0, f"{self.name} {hash(self.painted.tobytes())}")
        shown = self.video.copy()
        for stage in draft.plan(self.info, [key], DraftParameters()):
            if not stage.publishes:
                self.run([stage])
                continue
            for frame in stage.function(self, stage):
                x, y, width, height = frame.bounds
                place = (frame.number, slice(y, y + height), slice(x, x + width))
                painted, alpha = frame.painted[..., :3].astype(np.float32), frame.painted[..., 3:].astype(np.float32)
                shown[place] += alpha * (painted - shown[place])
        return np.clip(shown, 0, 1)


@dataclass(frozen=True)
class Held:
    """A case, with the shot as it is edited and as it is repainted without an edit."""

    case: ClipCase
    edited: FlowShot
    plain: FlowShot


def cases(count: int, seed: int, windows: int = 1) -> list[Held]:
    """Cases of so many windows."""
    held = []
    for n in range(count):
        draw = functools.partial(random_clip, windows=windows)
        case = random_case(np.random.default_rng(seed + n), KINDS[n % 2], draw)
        outputs: dict[str, Mapping[str, NDArray[Any]]] = {}
        name = f"clip {seed + n} of {windows}"
        held.append(Held(case, *(FlowShot(name, case.source, v[0], outputs) for v in (case.truth, case.source))))
    return held


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


def judged(model: str, held: Held, method: str = "flowedit", recon: bool = False, **parameters: Any) -> Figures:
    """The figures of one case under some parameters. recon: whether it is repainted without an edit, too."""
    result = held.edited.repainted(model, method, **parameters)
    return figures(held.case, result, held.plain.repainted(model, method, **parameters) if recon else None)


def header(first: str) -> None:
    """The head of a Markdown table."""
    print(f"\n| {first} | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")


def row(name: str, found: Sequence[Figures]) -> None:
    """A line of a Markdown table: means and standard errors."""
    print(
        f"| {name} | " + " | ".join(cell([getattr(f, column) for f in found]) for column in COLUMNS) + " |", flush=True
    )


# The tables.


def methods(model: str, held: Sequence[Held]) -> None:
    """Each method at its defaults, after the controls that need no model."""
    header("controls")
    controls: dict[str, Callable[[Held], Video]] = {
        "the source returned": lambda one: one.case.source,
        "the sprite erased": lambda one: one.case.erased,
        "edited pixels held still": lambda one: np.clip(one.case.source + one.case.truth[0] - one.case.source[0], 0, 1),
        "the truth through the VAE": lambda one: through_vae(model, one.case),
        "the draft": lambda one: one.edited.drafted(),
    }
    for name, control in controls.items():
        row(name, [figures(one.case, control(one)) for one in held])
    header("methods")
    for name, (method, parameters) in METHODS.items():
        row(name, [judged(model, one, method, recon=True, **parameters) for one in held])


def through_vae(name: str, case: ClipCase) -> Video:
    """The source with the true change as the VAE shows it."""
    model = wan.load(models.locate(name, "wan").path, "wan")
    source, truth = (
        model.decode(model.encode(torch.from_numpy(video).permute(0, 3, 1, 2) * 2 - 1)) / 2
        for video in (case.source, case.truth)
    )
    changed = case.source + (truth - source).permute(0, 2, 3, 1).cpu().numpy()
    return np.asarray(changed.clip(0, 1))


def curve(model: str, held: Sequence[Held]) -> None:
    """Over the share of the schedule that each method is at work in."""
    header("share of the schedule")
    for share in SHARES:
        row(f"flowedit, {share}", [judged(model, one, n_max=max(1, round(30 * share))) for one in held])
    for share in SHARES[:-1]:
        row(f"videoshop, {share}", [judged(model, one, "videoshop", strength=share) for one in held])


def windows(model: str, seed: int, count: int, most: int = 9) -> None:
    """What is left of the edit, and how far it leaks, window by window."""
    held = cases(count, seed, most)
    print("\n| window | flowedit: recolour | mark | out, dB | videoshop: recolour | mark | out, dB |")
    print("|---|---|---|---|---|---|---|")
    results = {name: [one.edited.repainted(model, name) for one in held] for name in PLANS}
    for window in range(1, most + 1):
        last = (FRAMES - 1) * window
        cells = []
        for found in results.values():
            pairs = list(zip(held, found, strict=True))
            cells += [
                cell([explained(video, one.case, last) for one, video in pairs if one.case.kind == kind])
                for kind in KINDS
            ]
            span = slice(last - FRAMES + 2, last + 1)
            cells.append(cell([psnr((v - one.case.truth)[span][~one.case.region[span]]) for one, v in pairs]))
        print(f"| {window} | " + " | ".join(cells) + " |", flush=True)


def matte(model: str, held: Sequence[Held]) -> None:
    """The edit multiplied by the latent matte, or not."""
    header("the latent matte")
    for method, (name, where) in itertools.product(PLANS, (("multiplied", "tracked"), ("left out", "whole"))):
        row(f"{method}, {name}", [judged(model, one, method, recon=True, matte=where) for one in held])


def noise(model: str, held: Sequence[Held]) -> None:
    """Fresh noise in every step, and one draw for all; on the true mattes, of FlowEdit's algorithm alone."""
    header("noise")
    for name, fresh, average in (("fresh", True, 1), ("one draw for all steps", False, 1), ("fresh, n_avg 4", True, 4)):
        row(name, [figures(one.case, edited_directly(model, one.case, fresh, average)) for one in held])


def edited_directly(name: str, case: ClipCase, fresh: bool, average: int, seed: int = 42) -> Video:
    """A clip edited by `diffusion.flowedit` without stages. fresh: noise."""
    folder = models.locate(name, "wan")
    model = wan.load(folder.path, "wan")
    source, truth = (torch.from_numpy(video).permute(0, 3, 1, 2) * 2 - 1 for video in (case.source, case.truth))
    changed = torch.from_numpy(case.region[:, None].astype(np.float32))
    text = torch.zeros(1, 512, model.layout.text)
    plain, edited = (model.velocity(model.condition(clip[:1], len(source)), text) for clip in (source, truth))
    generator = torch.Generator().manual_seed(seed)

    def looked(x: torch.Tensor, s: Any) -> torch.Tensor:
        """The source's velocity, the last thing that is asked for in a draw."""
        if not fresh:
            generator.manual_seed(seed)
        return plain(x, s)

    x0 = model.encode(source)
    n_max = round(30 * folder.default("n_max_share", flowedit.SHARE))
    latents = algorithm.edit(
        looked, edited, x0, algorithm.start_levels(model.levels(30), n_max), generator,
        matte=algorithm.latent_matte(changed, model.layout.factor).to(x0),
        known=algorithm.Known(first=model.encode(truth[:1])), average=average,
    )  # fmt: skip
    change = (model.decode(latents) - model.decode(x0)) / 2
    return np.asarray(np.clip(case.source + change.permute(0, 2, 3, 1).cpu().numpy(), 0, 1))


def drafts(model: str, held: Sequence[Held]) -> None:
    """Steps against quality, from the source and from the draft."""
    header("steps, edited in, start")
    row("the draft itself", [figures(one.case, one.edited.drafted()) for one in held])
    for (steps, n_max), start in itertools.product(STARTS, ("source", "draft")):
        found = [judged(model, one, steps=steps, n_max=n_max, start=start) for one in held]
        row(f"{steps}, {n_max}, {start}", found)


def cost(model: str, held: Sequence[Held]) -> None:
    """The network's evaluations of an edit, and its time beside theirs alone."""
    print("\n| method | evaluations | a frame | seconds | seconds over evaluations times one pass |")
    print("|---|---|---|---|---|")
    one = pass_seconds(model)
    for name, (method, parameters) in METHODS.items():
        counts, seconds = [], []
        for each in held:
            shot = FlowShot("timed", each.case.source, each.case.truth[0], dict(each.edited.outputs))
            stages = [stage for stage in shot.stages(model, method, **parameters) if stage.name in OF_MODEL]
            for stage in stages:
                shot.outputs.pop(stage.key, None)
            with evaluations(model) as counted:
                started = time.process_time()
                shot.run(stages)
                seconds.append(time.process_time() - started)
            counts.append(len(counted))
        whole = [taken / (count * one) for taken, count in zip(seconds, counts, strict=True)]
        frame = [count / (FRAMES - 1) for count in counts]
        print(f"| {name} | {' | '.join(cell(column) for column in (counts, frame, seconds, whole))} |", flush=True)
    print(f"\nOne pass of a window of {FRAMES} frames: {one * 1000:.1f} ms.")


OF_MODEL = ("encode", "invert", "edit", "denoise", "decode")


@contextmanager
def evaluations(name: str) -> Iterator[list[None]]:
    """Of the network, one entry each."""
    model = wan.load(models.locate(name, "wan").path, "wan")
    counted: list[None] = []
    hooks = [network.register_forward_pre_hook(lambda *_: counted.append(None)) for network in model._experts.values()]
    yield counted
    for hook in hooks:
        hook.remove()


def pass_seconds(name: str) -> float:
    """Of the CPU, for one evaluation; the median of 9."""
    model = wan.load(models.locate(name, "wan").path, "wan")
    case = cases(1, 0)[0].case
    clip = torch.from_numpy(case.source).permute(0, 3, 1, 2) * 2 - 1
    velocity = model.velocity(model.condition(clip[:1], FRAMES), torch.zeros(1, 512, model.layout.text))
    x, taken = model.encode(clip), []
    for _ in range(11):
        started = time.process_time()
        velocity(x, torch.tensor(0.7))
        taken.append(time.process_time() - started)
    return float(np.median(taken[2:]))


TABLES = ("methods", "curve", "windows", "matte", "noise", "draft", "cost")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="[default: all]")
    parser.add_argument("--model", default="small-wan")
    parser.add_argument("--clips", type=int, default=16, metavar="N")
    parser.add_argument("--seed", type=int, default=90000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    held = cases(given.clips, given.seed)
    tables: dict[str, Callable[[], None]] = {
        "methods": lambda: methods(given.model, held),
        "curve": lambda: curve(given.model, held),
        "windows": lambda: windows(given.model, given.seed, given.clips),
        "matte": lambda: matte(given.model, held),
        "noise": lambda: noise(given.model, held),
        "draft": lambda: drafts(given.model, held),
        "cost": lambda: cost(given.model, held),
    }
    for name in given.tables or TABLES:
        tables[name]()


if __name__ == "__main__":
    main()
