#!/usr/bin/env python3
"""How good and how quick the draft method is, beside a plain chain of optical flow.

    benchmarks/draft.py [--davis FOLDER] [--cases NAME ...] [--edits EDIT ...] [--frames N] [--quick]
                        [--size 854x480] [--sheets FOLDER]

The cases have an exact answer. Scenes are rendered (`paintover_evaluation.scenes`). From a folder of DAVIS
sequences (SEQUENCE/frames/*.jpg and SEQUENCE/masks/*.png; also $PAINTOVER_DAVIS) it makes, with the masks, a hue
turned on the object, the same on its lower half, a grade of everything, and the hue with three keyframes.
Every case runs as a job does: PNG frames decoded, stages through the store, result composited and encoded.
`f/s` is frames a second of all that, `again` of a second edit of the shot, whose flow is there already; `first` the
seconds until the first frame of that second edit is there; `cpu` the processor's milliseconds a frame of all that,
threads summed, which a busy machine stretches less. Figures are defined in `paintover_evaluation.scores`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from paintover_engine.jobs import outputs
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.runner import Runner
from paintover_engine.jobs.store import Store
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.source import SourceInfo, open_source, probe
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef
from paintover_evaluation.scenes import CASES
from paintover_evaluation.scores import Scorer, Scores
from paintover_evaluation.sheets import contact_sheet

Frame = NDArray[np.uint8]
EDITS = ("hue", "stripe", "grade", "hue x3")
QUICK = ("mark", "glaze", "removal")
QUICK_FRAMES = 16


@dataclass(frozen=True)
class BenchmarkCase:
    """A shot with a known answer. frame: plate and truth (H, W, 3) uint8 RGB of a number from 0. painted: the same of
    a keyframe, as the artist paints it; None where that is the truth."""

    name: str
    count: int
    keyframes: tuple[int, ...]
    frame: Callable[[int], tuple[Frame, Frame]]
    painted: Callable[[int], Frame] | None = None


@dataclass(frozen=True)
class Timing:
    """Frames a second of a first and of a second edit, the second's seconds until its first frame, and the processor's
    milliseconds a frame."""

    whole: float
    again: float = 0.0
    first: float = 0.0
    cpu: float = 0.0


# The cases.


def scene_cases(width: int, height: int) -> Iterator[BenchmarkCase]:
    """The rendered scenes."""
    for scene in CASES.values():

        def frame(number: int, scene=scene) -> tuple[Frame, Frame]:
            rendered = scene.render(number, width, height)
            return rendered.plate, rendered.truth

        def painted(number: int, scene=scene) -> Frame:
            return scene.render(number, width, height).painted

        yield BenchmarkCase(scene.name, scene.length, (scene.keyframe,), frame, painted if scene.clean else None)


def davis_cases(folder: Path, edits: Sequence[str] = EDITS, most: int = 10_000) -> Iterator[BenchmarkCase]:
    """Edits of every sequence in a folder, of at most so many frames each."""
    for sequence in sorted(path for path in folder.iterdir() if (path / "frames").is_dir()):
        pictures = sorted((sequence / "frames").glob("*.jpg"))
        masks = [sequence / "masks" / f"{picture.stem}.png" for picture in pictures]
        count = min(len(pictures), most)
        for edit in edits:

            def frame(number: int, edit=edit, pictures=pictures, masks=masks) -> tuple[Frame, Frame]:
                plate = cv2.cvtColor(cv2.imread(str(pictures[number])), cv2.COLOR_BGR2RGB)
                mask = cv2.imread(str(masks[number]), cv2.IMREAD_GRAYSCALE) > 0
                return plate, edited(plate, mask, edit.split()[0])

            keyframes = (0, count // 2, count - 1) if edit.endswith("x3") else (0,)
            yield BenchmarkCase(f"{sequence.name} {edit}", count, keyframes, frame)


def edited(plate: Frame, mask: NDArray[np.bool_], edit: str) -> Frame:
    """The true edit: a grade of everything, or hue turned by 100/256 and saturation raised, on the object or on the
    half of it that lies below the mean of its rows."""
    if edit == "grade":
        graded = np.clip(plate / np.float32(255) * (0.75, 0.95, 1.25), 0, 1) ** (1.15, 1.0, 0.85)
        return (graded * 255 + 0.5).astype(np.uint8)
    if edit == "stripe" and mask.any():
        rows = np.arange(mask.shape[0])[:, None]
        mask = mask & (rows >= np.nonzero(mask)[0].mean())
    hue, saturation, value = cv2.split(cv2.cvtColor(plate, cv2.COLOR_RGB2HSV_FULL))
    turned = ((hue.astype(np.int32) + 100) % 256).astype(np.uint8)
    raised = np.clip(saturation.astype(np.int32) * 1.2 + 70, 0, 255).astype(np.uint8)
    painted = cv2.cvtColor(cv2.merge([turned, raised, value]), cv2.COLOR_HSV2RGB_FULL)
    return np.where(mask[..., None], painted, plate)


# The two methods.


def opened(case: BenchmarkCase, folder: Path) -> tuple[Store, SourceInfo, list[KeyframeRef]]:
    """An empty store, the case's plate in folder/plate as a source, and its keyframes, stored."""
    store = Store(DataFolder(folder / "data"))
    store.folder.create()
    info = probe(str(folder / "plate"))
    keys = []
    source = open_source(info)
    for number in case.keyframes:
        keyframe = load_keyframe(folder / f"key{number}.png", number, source.read(number), info)
        outputs.save_keyframe(store.folder.keyframes / f"{keyframe.digest}.safetensors", keyframe)
        keys.append(KeyframeRef(number, keyframe.digest))
    source.close()
    return store, info, keys


def run_draft(case: BenchmarkCase, folder: Path) -> Timing:
    """Writes the draft's result to folder/draft, as a job does."""
    store, info, keys = opened(case, folder)
    (folder / "draft").mkdir()
    started, worked = time.perf_counter(), time.process_time()
    with Runner(store, info, "draft", DraftParameters(), []) as prepared:
        prepared.run_all()
    ready, first = time.perf_counter(), 0.0
    output = Output(str(folder / "draft" / "%05d.png"), overwrite=True)
    with Runner(store, info, "draft", DraftParameters(), keys, output=output) as runner:
        absent = [stage for stage in runner.stages if not store.has(stage.key, stage.publishes)]
        for number, stage in enumerate(absent, start=1):
            runner.run(stage, absent[number:])
            first = first or (time.perf_counter() - ready if stage.publishes else 0.0)
        runner.deliver()
    done, cpu = time.perf_counter(), (time.process_time() - worked) * 1000 / case.count
    return Timing(case.count / (done - started), case.count / (done - ready), first, cpu)


def run_chain(case: BenchmarkCase, folder: Path) -> Timing:
    """Writes a plain chain's result to folder/chain: from the nearest keyframe, difference to the plate moved by
    chained flow."""
    started, worked = time.perf_counter(), time.process_time()
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    (folder / "chain").mkdir()
    for key in case.keyframes:
        plate = read(folder / "plate", key)
        change = read(folder, f"key{key}").astype(np.float32) - plate
        rows, columns = np.mgrid[: plate.shape[0], : plate.shape[1]].astype(np.float32)
        own = np.stack([columns, rows], -1)
        write(folder / "chain", key, read(folder, f"key{key}"))
        for step in (1, -1):
            offset, near = np.zeros_like(own), plate
            number = key + step
            while 0 <= number < case.count and nearest(case.keyframes, number) == key:
                here = read(folder / "plate", number)
                grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (here, near)]
                flow = dis.calc(*grey, None)
                offset = flow + cv2.remap(offset, own + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                moved = cv2.remap(change, own + offset, None, cv2.INTER_LINEAR)
                write(folder / "chain", number, np.clip(here + moved + 0.5, 0, 255).astype(np.uint8))
                near, number = here, number + step
    cpu = (time.process_time() - worked) * 1000 / case.count
    return Timing(case.count / (time.perf_counter() - started), cpu=cpu)


def nearest(keyframes: tuple[int, ...], number: int) -> int:
    """The keyframe nearest to a frame."""
    return min(keyframes, key=lambda key: abs(key - number))


# Files and figures.


def read(folder: Path, name: int | str) -> Frame:
    """A picture, RGB."""
    name = f"{name:05d}" if isinstance(name, int) else name
    return cv2.cvtColor(cv2.imread(str(folder / f"{name}.png")), cv2.COLOR_BGR2RGB)


def write(folder: Path, name: int | str, picture: Frame) -> None:
    """Writes a picture, RGB, and its folder."""
    folder.mkdir(exist_ok=True)
    name = f"{name:05d}" if isinstance(name, int) else name
    quick = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quick)


def score(case: BenchmarkCase, folder: Path, method: str) -> Scores:
    """How a method's result in its folder compares with the truth."""
    scorer = Scorer(case.keyframes)
    for number in range(case.count):
        plate, truth = read(folder / "plate", number), read(folder / "truth", number)
        scorer.add(number, plate, truth, read(folder / method, number))
    return scorer.scores()


def sheet(case: BenchmarkCase, folder: Path, path: Path) -> None:
    """Writes a contact sheet of a case."""
    numbers = sorted({*np.linspace(0, case.count - 1, 5).astype(int).tolist(), *case.keyframes})
    rows = [(name, {n: read(folder / name, n) for n in numbers}) for name in ("plate", "truth", "draft", "chain")]
    path.mkdir(parents=True, exist_ok=True)
    write(path, case.name.replace(" ", "-"), contact_sheet(rows, numbers, case.keyframes, 2400))


def line(name: str, method: str, scores: Scores, timing: Timing | None) -> str:
    """A line of the table."""
    figures = dataclasses.astuple(scores)
    digits = (2, 2, 2, 4, 1, 2, 3, 3, 2, 2)
    cells = ["-" if value is None else f"{value:.{n}f}" for value, n in zip(figures, digits, strict=True)]
    if timing is not None:
        cells += [f"{value:.2f}" if value else "" for value in (timing.whole, timing.again, timing.first)]
        cells.append(f"{timing.cpu:.0f}")
    return f"{name:24} {method:6}" + "".join(f"{cell:>9}" for cell in cells)


def mean(scores: list[Scores]) -> Scores:
    """The mean of every figure over the cases where it has a meaning."""
    columns = zip(*(dataclasses.astuple(one) for one in scores), strict=True)
    present = [[value for value in column if value is not None] for column in columns]
    return Scores(*(float(np.mean(values)) if values else None for values in present))


def main() -> None:
    """Runs the cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, default=os.environ.get("PAINTOVER_DAVIS"))
    parser.add_argument("--cases", nargs="+", default=[], help="only cases whose name begins so")
    parser.add_argument("--edits", nargs="+", default=EDITS, choices=EDITS, help="of the sequences")
    parser.add_argument("--frames", type=int, default=10_000, help="of each sequence at most")
    parser.add_argument("--quick", action="store_true", help="three scenes, and 16 frames of the sequences")
    parser.add_argument("--size", default="854x480", help="of the rendered scenes")
    parser.add_argument("--sheets", type=Path, help="a folder for contact sheets")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    cases = [case for case in scene_cases(width, height) if not arguments.quick or case.name in QUICK]
    if arguments.davis:
        most = QUICK_FRAMES if arguments.quick else arguments.frames
        cases += davis_cases(Path(arguments.davis), arguments.edits, most)
    if arguments.cases:
        cases = [case for case in cases if case.name.startswith(tuple(arguments.cases))]
    titles = (
        "psnr_in",
        "gain_in",
        "edge",
        "exact",
        "psnr_out",
        "flicker",
        "missed",
        "leak",
        "sharp",
        "grain",
        "f/s",
        "again",
        "first",
        "cpu",
    )
    print(f"{'case':24} {'method':6}" + "".join(f"{title:>9}" for title in titles))
    groups: dict[tuple[str, str], list[Scores]] = {}
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for number in range(case.count):
                plate, truth = case.frame(number)
                write(folder / "plate", number, plate)
                write(folder / "truth", number, truth)
                if number in case.keyframes:
                    write(folder, f"key{number}", case.painted(number) if case.painted else truth)
            for method, run in (("draft", run_draft), ("chain", run_chain)):
                timing = run(case, folder)
                scores = score(case, folder, method)
                groups.setdefault((case.name.partition(" ")[2] or "scenes", method), []).append(scores)
                print(line(case.name, method, scores, timing), flush=True)
            if arguments.sheets:
                sheet(case, folder, arguments.sheets)
    for (group, method), scores in groups.items():
        print(line(f"MEAN {group}", method, mean(scores), None))


if __name__ == "__main__":
    main()
