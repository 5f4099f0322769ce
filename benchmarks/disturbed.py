#!/usr/bin/env python3
"""What the draft loses on footage and keyframes as people have them: flashes, pulldown, fades, jumps, JPEG, shifts.

    benchmarks/disturbed.py [--davis FOLDER] [--cases NAME ...] [--rows NAME ...] [--frames N] [--size 854x480]

Plate and true edit are disturbed alike (`paintover_evaluation.disturbances`), or the keyframe is; the first frame is
painted. Cases are those of benchmarks/draft.py: the hue of each DAVIS sequence in FOLDER (or $PAINTOVER_DAVIS), or
rendered scenes where neither is given. Prints a table: what a case gains undisturbed (`gain_in`, dB), and for each
disturbance how much more or less; `refused` where the keyframe is, as the next frame's painting has to be.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import draft
from paintover_engine.errors import PaintoverError
from paintover_engine.jobs import outputs
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.runner import Runner
from paintover_engine.jobs.store import Store
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.source import open_source, probe
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef
from paintover_evaluation.disturbances import KEYFRAMES, SHOTS, Frame
from paintover_evaluation.scores import Scorer

SCENES = ("glaze", "recolour", "mark")


def gain(plates: Sequence[Frame], truths: Sequence[Frame], key: tuple[str, bytes] | None, folder: Path) -> float:
    """`gain_in` of a draft from the first frame, dB. key: the keyframe's file, its ending and bytes; None: the truth as
    a PNG. Raises PaintoverError where that is refused."""
    for number, (plate, truth) in enumerate(zip(plates, truths, strict=True)):
        draft.write(folder / "plate", number, plate)
        draft.write(folder / "truth", number, truth)
    file = folder / "truth" / "00000.png"
    if key is not None:
        file = folder / f"key{key[0]}"
        file.write_bytes(key[1])
    store = Store(DataFolder(folder / "data"))
    store.folder.create()
    info = probe(str(folder / "plate"))
    with open_source(info) as source:
        keyframe = load_keyframe(file, 0, source.read(0), info, neighbour=source.read)
    outputs.save_keyframe(store.folder.keyframes / f"{keyframe.digest}.safetensors", keyframe)
    (folder / "result").mkdir()
    output = Output(str(folder / "result" / "%05d.png"), overwrite=True)
    with Runner(store, info, "draft", DraftParameters(), [KeyframeRef(0, keyframe.digest)], output=output) as runner:
        runner.run_all()
        runner.deliver()
    scorer = Scorer((0,))
    for number, (plate, truth) in enumerate(zip(plates, truths, strict=True)):
        scorer.add(number, plate, truth, draft.read(folder / "result", number))
    gained = scorer.scores().gain_in
    return float("nan") if gained is None else gained


def row(name: str, plates: Sequence[Frame], truths: Sequence[Frame]) -> float | None:
    """`gain_in` of one case under one disturbance, dB; None where its keyframe is refused."""
    key = None
    if name in SHOTS:
        plates, truths = SHOTS[name](plates), SHOTS[name](truths)
    else:
        key = KEYFRAMES[name](truths[0], truths[1])
    with tempfile.TemporaryDirectory() as folder:
        try:
            return gain(plates, truths, key, Path(folder))
        except PaintoverError:
            return None


def cell(gained: float | None, undisturbed: float) -> str:
    """A cell of the table."""
    return "refused" if gained is None else f"{gained - undisturbed:+.1f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, default=os.environ.get("PAINTOVER_DAVIS"))
    parser.add_argument("--cases", nargs="*", default=())
    parser.add_argument("--rows", nargs="*", default=(), choices=[*SHOTS, *KEYFRAMES])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", default="854x480", help="of rendered scenes")
    arguments = parser.parse_args()
    if arguments.davis:
        cases = list(draft.davis_cases(Path(arguments.davis), ("hue",), draft.QUICK_FRAMES))
    else:
        width, height = (int(side) for side in arguments.size.split("x"))
        cases = [case for case in draft.scene_cases(width, height) if case.name in (arguments.cases or SCENES)]
    cases = [case for case in cases if not arguments.cases or case.name.removesuffix(" hue") in arguments.cases]
    shots = {}
    for case in cases:
        pairs = [case.frame(number) for number in range(min(case.count, arguments.frames))]
        plates, truths = ([pair[index] for pair in pairs] for index in (0, 1))
        shots[case.name] = plates, truths, row("undisturbed", plates, truths) or 0.0
    print("| | " + " | ".join(name.removesuffix(" hue") for name in shots) + " |")
    print("| --- |" + " ---: |" * len(shots))
    print("| undisturbed, dB | " + " | ".join(f"{undisturbed:.1f}" for *_, undisturbed in shots.values()) + " |")
    for name in arguments.rows or [name for name in (*SHOTS, *KEYFRAMES) if name != "undisturbed"]:
        cells = [cell(row(name, plates, truths), undisturbed) for plates, truths, undisturbed in shots.values()]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
