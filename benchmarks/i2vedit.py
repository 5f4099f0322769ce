#!/usr/bin/env python3
"""I2VEdit's parts on and off, on a small video model and clips whose true edit is known.

    python benchmarks/i2vedit.py parts      # attention matching, motion adapters, perturbation: each left out
    python benchmarks/i2vedit.py choices    # where the authors' paper and code differ
    python benchmarks/i2vedit.py windows    # a shot of nine windows with and without skip-interval attention
    python benchmarks/i2vedit.py flat       # how Gaussian the inverted latents of flat backgrounds are

    --model FOLDER (the shipped small model)  --clips 6  --steps 25  --training-steps 60  --kind recolour|mark  --seed 1
    --rows "all parts" "without motion adapters" (of parts, choices and windows; all of them without it)
    --world clips|motions (of the shipped model or of the proof model, `training/README.md`; there held-out motions)

Columns, all means over clips with their standard errors, the given first frame left out; below a table what every row
has more than the first, clip by clip, with two standard errors, bold where it is beyond them: `explained`, of the edit
in the last frame (1: the truth, 0: the source returned); `inside` and `outside`, PSNR in dB in and out of the true
region of the edit; `motion`, the mean distance in pixels between the middle of what stands out from the background and
where it truly is; `unedited`, PSNR of the same procedure told to change nothing, against the source.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import figures
import numpy as np
import torch
from numpy.typing import NDArray
from paintover_engine.diffusion import i2vedit, lora, models, sarp, svd, training
from paintover_engine.diffusion.blending import anchored
from paintover_engine.diffusion.schedule import initial_scale
from paintover_evaluation import motions
from paintover_evaluation.clips import Background, ClipCase, explained, random_case

Video = NDArray[np.float32]  # (F, H, W, 3), 0..1
Case = ClipCase | motions.MotionCase
HELD_OUT: tuple[motions.Motion, ...] = ("fast", "circling")
COLUMNS = ("explained", "inside", "outside", "motion", "unedited")


@dataclass(frozen=True)
class Variant:
    """One way to run the method."""

    name: str
    style: i2vedit.EditSettings = dataclasses.field(default_factory=i2vedit.EditSettings)
    trained: bool = True
    placement: lora.Placement = "block"
    perturbed: bool = True
    latent_noise: bool = False


@dataclass(frozen=True)
class Way:
    """One way from window to window."""

    name: str
    skip_interval: bool = True
    anchors: bool = False


Row = TypeVar("Row", Variant, Way)
PARTS = (
    Variant("all parts"),
    Variant("without attention matching", i2vedit.EditSettings(matching=False)),
    Variant("without motion adapters", trained=False),
    Variant("without perturbation", perturbed=False),
    Variant("without any", i2vedit.EditSettings(matching=False), trained=False, perturbed=False),
)
CHOICES = (
    Variant("ours"),
    Variant("source at the next lower level (code)", i2vedit.EditSettings(lower_source_level=True)),
    Variant("coarse layers as in the code", i2vedit.EditSettings(coarse="reference")),
    Variant("adapters on temporal attention alone (paper)", placement="attention"),
    Variant("adapters on the source too (paper's figure)", i2vedit.EditSettings(adapted_source=True)),
    Variant("noise on the first frame's latents (paper)", latent_noise=True),
    Variant("preset style", i2vedit.EditSettings(bounds=(0.8, 0.9))),
    Variant("preset shape", i2vedit.EditSettings(bounds=(0.4, 0.5))),
)
WAYS = (
    Way("anchored", anchors=True),
    Way("as in the paper"),
    Way("without skip-interval attention", skip_interval=False),
)


def main() -> None:
    """Prints the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("parts", "choices", "windows", "flat"))
    parser.add_argument("--model", default="small-svd")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--training-steps", type=int, default=60)
    parser.add_argument("--kind", default="recolour", choices=("recolour", "mark"))
    parser.add_argument("--world", default="clips", choices=("clips", "motions"))
    parser.add_argument("--rows", nargs="+", metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(
        svd.load(models.locate(arguments.model, "svd").path, "cpu"), arguments.steps, arguments.training_steps
    )
    rng = np.random.default_rng(arguments.seed)
    cases: list[Case]
    if arguments.world == "motions":
        cases = [motions.random_case(rng, HELD_OUT[n % 2]) for n in range(arguments.clips)]
    else:
        cases = [random_case(rng, arguments.kind) for _ in range(arguments.clips)]
    if arguments.table == "flat":
        flat(bench, cases)
    elif arguments.table == "windows":
        windows(bench, cases, chosen(parser, WAYS, arguments.rows))
    else:
        compare(bench, cases, chosen(parser, PARTS if arguments.table == "parts" else CHOICES, arguments.rows))


def chosen(parser: argparse.ArgumentParser, rows: tuple[Row, ...], names: list[str] | None) -> tuple[Row, ...]:
    """The rows with these names, all without any."""
    unknown = set(names or ()) - {row.name for row in rows}
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are: {', '.join(row.name for row in rows)}")
    return tuple(row for row in rows if names is None or row.name in names)


@dataclass
class Bench:
    """A model and what is done with it."""

    model: svd.VideoModel
    steps: int
    training_steps: int

    def __post_init__(self) -> None:
        self.sigmas = self.model.config.sigmas(self.steps)

    def source(
        self,
        video: Video,
        variant: Variant,
        first: i2vedit.SourceWindow | None = None,
        adapters: lora.Adapters | None = None,
    ) -> i2vedit.SourceWindow:
        pictures = tensor(video)
        pictures = sarp.perturb(pictures, seed=5) if variant.perturbed else pictures
        condition = self.condition(pictures[:1], variant)
        acting = adapters if variant.style.adapted_source else None
        clean = self.model.encode(pictures)
        states = i2vedit.invert(self.model, clean, condition, self.sigmas, first=first, adapters=acting)
        return i2vedit.SourceWindow(states, condition)

    def condition(self, picture: torch.Tensor, variant: Variant) -> svd.Condition:
        latent = None
        if variant.latent_noise:
            latent = self.model.encode(picture)[:, 0] / self.model.config.scale
            latent = latent + 0.02 * torch.randn(latent.shape, generator=torch.Generator().manual_seed(23))
        return self.model.condition(picture, noise_aug=0.02, seed=23, latent=latent)

    def train(
        self, adapters: lora.Adapters, video: Video, variant: Variant, first: i2vedit.SourceWindow | None = None
    ) -> None:
        if not variant.trained:
            return
        pictures = sarp.perturb(tensor(video), seed=5) if variant.perturbed else tensor(video)
        adapters.add("window", seed=23)
        settings = training.TrainingSettings(steps=self.training_steps, early=False)
        i2vedit.train(
            self.model, adapters, self.model.encode(pictures), self.condition(pictures[:1], variant), settings,
            first=first, sigmas=self.sigmas,
        )  # fmt: skip

    def paint(self, case: Case, variant: Variant) -> tuple[Video, Video]:
        """The clip with its edit, and with none, by the same procedure."""
        with lora.Adapters(self.model.unet, placement=variant.placement) as adapters:
            self.train(adapters, case.source, variant)
            acting = adapters if variant.trained else None
            source = self.source(case.source, variant, adapters=acting)
            edited = self.condition(tensor(case.truth[:1]), variant)
            painted, same = (
                i2vedit.denoise(self.model, source, given, self.sigmas, variant.style, adapters=acting)[-1:]
                for given in (edited, source.condition)
            )
        return self.video(painted), self.video(same)

    def video(self, latents: torch.Tensor) -> Video:
        decoded = self.model.decode(latents) / 2 + 0.5
        return decoded.permute(0, 2, 3, 1).clamp(0, 1).numpy()


def compare(bench: Bench, cases: list[Case], variants: Iterable[Variant]) -> None:
    """One row a variant."""
    print("| | " + " | ".join(COLUMNS) + " | seconds a clip |\n|---|---|---|---|---|---|---|")
    controls: list[tuple[str, list[Video]]] = [
        ("source returned", [case.source for case in cases]),
        ("the VAE's ceiling", [bench.video(bench.model.encode(tensor(case.truth))) for case in cases]),
    ]
    for name, videos in controls:
        print(f"| {name} | {_cells(measures(cases, videos))} | | |", flush=True)
    rows: dict[str, list[list[float]]] = {}
    for variant in variants:
        started = time.perf_counter()
        pairs = [bench.paint(case, variant) for case in cases]
        seconds = (time.perf_counter() - started) / len(cases)
        unedited = [psnr(same, case.source) for (_, same), case in zip(pairs, cases, strict=True)]
        rows[variant.name] = [*measures(cases, [video for video, _ in pairs]), unedited]
        print(f"| {variant.name} | {_cells(rows[variant.name])} | {seconds:.1f} |", flush=True)
    (first, base), *others = rows.items()
    print(f"\n| more than {first} | " + " | ".join(COLUMNS) + " |\n|---|---|---|---|---|---|")
    for name, columns in others:
        print(f"| {name} | " + " | ".join(map(figures.difference, base, columns)) + " |", flush=True)


def _cells(columns: list[list[float]]) -> str:
    return " | ".join(figures.cell(column) for column in columns)


def measures(cases: list[Case], videos: list[Video]) -> list[list[float]]:
    """Columns: explained, inside, outside, motion."""
    pairs = list(zip(videos, cases, strict=True))
    return [
        [explained(video, case) for video, case in pairs],
        [psnr(video, case.truth, case.region) for video, case in pairs],
        [psnr(video, case.truth, ~case.region) for video, case in pairs],
        [motion(video, case) for video, case in pairs],
    ]


def windows(bench: Bench, cases: list[Case], ways: tuple[Way, ...], count: int = 9) -> None:
    """A shot that goes back and forth through a clip, window by window, each told the last frame of the one before: all
    of it as it was painted, as in the paper, or around the edit the source's own."""
    print("Explained of the edit in each window's last frame, and outside: PSNR there, by window")
    print("| | " + " | ".join(str(n + 1) for n in range(count)) + " |")
    print("|---" * (count + 1) + "|")
    declines: dict[str, NDArray[np.float64]] = {}
    for way in ways:
        scores = np.array([chain(bench, case, way, count) for case in cases])  # (clips, windows, 2)
        for index, what in enumerate(("explained", "outside")):
            cells = " | ".join(figures.cell(list(scores[:, n, index])) for n in range(count))
            print(f"| {way.name}: {what} | {cells} |", flush=True)
        centred = np.arange(count) - (count - 1) / 2
        declines[way.name] = (centred[:, None] * scores).sum(1) / np.square(centred).sum()  # least squares, (clips, 2)
    print("\n| change a window | explained | outside, dB |\n|---|---|---|")
    for name, slopes in declines.items():
        print(f"| {name} | " + " | ".join(figures.cell(list(column), 3) for column in slopes.T) + " |")
    *others, (least, base) = declines.items()
    for name, slopes in others:
        cells = " | ".join(figures.difference(list(a), list(b), 3) for a, b in zip(base.T, slopes.T, strict=True))
        print(f"| {name}, more than {least} | {cells} |", flush=True)


def chain(bench: Bench, case: Case, way: Way, count: int) -> list[tuple[float, float]]:
    """(explained, outside) of each window of one shot."""
    variant, scores = Variant("all parts"), []
    condition = bench.condition(tensor(case.truth[:1]), variant)
    first: i2vedit.EditedWindow | None = None
    motion: dict[str, torch.Tensor] = {}
    for number in range(count):
        turned = case if number % 2 == 0 else dataclasses.replace(
            case, source=case.source[::-1].copy(), truth=case.truth[::-1].copy()
        )  # fmt: skip
        region = case.region[:: 1 if number % 2 == 0 else -1]
        with lora.Adapters(bench.model.unet) as adapters:
            seen = first.source if first else None
            bench.train(adapters, turned.source, variant, seen)
            own = {key: value.clone() for key, value in adapters.weights("window").items()}
            if first:
                adapters.add("first", motion)
            source = bench.source(turned.source, variant, seen)
            states = i2vedit.denoise(
                bench.model, source, condition, bench.sigmas, variant.style, adapters=adapters, first=first
            )
        painted = bench.video(states[-1:])
        scores.append((explained_at(painted, turned, region), psnr(painted, turned.truth, ~region)))
        if way.skip_interval and number == 0:
            first, motion = i2vedit.EditedWindow(source, condition, states), own
        last = states[-1:, -1:]
        if way.anchors:
            matte = torch.from_numpy(region[-1])[None, None].float()
            last = anchored(last[0], source.states[-1:, -1], matte)[None]
        condition = bench.model.condition(
            bench.model.decode(last), noise_aug=0.02, seed=23, latent=last[:, 0] / bench.model.config.scale
        )
    return scores


def explained_at(out: Video, case: Case, region: NDArray[np.bool_], frame: int = -1) -> float:
    """`evaluate.clips.explained` with a region given."""
    here = region[frame]
    error = np.square(out[frame][here] - case.truth[frame][here]).sum()
    return float(1 - error / np.square(case.source[frame][here] - case.truth[frame][here]).sum())


def flat(bench: Bench, cases: list[Case]) -> None:
    """A² of inverted latents, whose number is the same in all columns; smaller is nearer to normal."""
    print(
        "| background | values | without | with perturbation | with, more | noise itself |\n|---|---|---|---|---|---|"
    )
    for name, videos in backgrounds(cases).items():
        found: dict[bool, list[float]] = {False: [], True: []}
        size = 0
        for video in videos:
            for perturbed in found:
                states = bench.source(video, Variant("", perturbed=perturbed)).states
                found[perturbed].append(sarp.anderson_darling(states[0] / initial_scale(bench.sigmas[0])))
                size = states[0].numel()
        noise = [sarp.anderson_darling(torch.randn(size)) for _ in cases]
        cells = [figures.cell(found[False]), figures.cell(found[True]), figures.difference(found[False], found[True])]
        print(f"| {name} | {size} | " + " | ".join([*cells, figures.cell(noise)]) + " |", flush=True)


def backgrounds(cases: list[Case]) -> dict[str, list[Video]]:
    """Each clip before plain backgrounds, and as it is."""
    found: dict[str, list[Video]] = {}
    for case in cases:
        if isinstance(case, motions.MotionCase):
            found.setdefault("plain", []).append(case.clip.flattened().render())
        else:
            for name, colour in (("white", (1.0, 1.0, 1.0)), ("grey", (0.5, 0.5, 0.5))):
                clip = dataclasses.replace(case.clip, background=Background(colour, colour, 0.0))
                found.setdefault(name, []).append(clip.render())
        found.setdefault("as it is", []).append(case.source)
    return found


def motion(video: Video, case: Case) -> float:
    """Mean distance in pixels of the middle of what stands out from the background from where it truly is."""
    plate = case.erased
    return float(
        np.mean([np.hypot(*np.subtract(middle(out, back), middle(truth, back)))
                 for out, truth, back in zip(video[1:], case.truth[1:], plate[1:], strict=True)])
    )  # fmt: skip


def middle(frame: NDArray[np.float32], back: NDArray[np.float32]) -> tuple[float, float]:
    """Mean place (y, x) of what is plainly unlike the background, weighted by how much."""
    weight = np.clip(np.abs(frame - back).max(-1) - 0.15, 0, None)
    total = weight.sum()
    if not total:
        return (frame.shape[0] / 2, frame.shape[1] / 2)
    rows, columns = np.indices(weight.shape)
    return float((rows * weight).sum() / total), float((columns * weight).sum() / total)


def psnr(video: Video, truth: Video, where: NDArray[np.bool_] | None = None) -> float:
    """In dB, of the frames after the first, in a region or everywhere."""
    error = video[1:] - truth[1:]
    return figures.psnr(error if where is None else error[where[1:]])


def tensor(video: Video) -> torch.Tensor:
    """(F, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2) * 2 - 1


if __name__ == "__main__":
    main()
