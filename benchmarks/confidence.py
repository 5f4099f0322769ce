#!/usr/bin/env python3
"""How well the draft's confidence ranks the frames of a shot by their true error.

    benchmarks/confidence.py [--davis FOLDER] [--cases NAME ...] [--frames 50]

The cases are those of `benchmarks/draft.py` with one keyframe, grades left out. `gain` and `outside` are Spearman's
rank correlations, over the frames of a case but the keyframe, of the confidence with the dB gained inside the edit over
leaving the plate, and with the share of changed pixels that lie outside the edit, negated; `whole`: with the dB gained
over the whole frame. `quarter`: whether the least sure frame is among the worst quarter by `gain`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path

import draft
import numpy as np
from numpy.typing import NDArray
from paintover_engine.jobs.store import read_header

Numbers = NDArray[np.float64]


def ranks(values: Numbers) -> Numbers:
    """The mean rank of each of (n,) values among all."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def spearman(first: Numbers, second: Numbers) -> float:
    """Spearman's rank correlation; NaN where either is constant."""
    first, second = ranks(first), ranks(second)
    return float(np.corrcoef(first, second)[0, 1]) if first.std() and second.std() else float("nan")


def errors(plate: draft.Frame, truth: draft.Frame, found: draft.Frame) -> tuple[float, float, float]:
    """Of a frame whose edit is seen: dB gained inside it, the share of changed pixels outside it, dB gained in all."""
    edit, changed = (truth != plate).any(-1), (found != plate).any(-1)
    error, before = (np.square(each.astype(np.float64) - truth).mean(-1) for each in (found, plate))
    inside, whole = (10 * np.log10(before.sum() / max(part.sum(), 1e-3)) for part in (error[edit], error))
    return float(inside), float((changed & ~edit).sum() / max(1, changed.sum())), float(whole)


def case_figures(case: draft.BenchmarkCase, folder: Path) -> tuple[float, float, float, float]:
    """`gain`, `outside`, `whole` and `quarter` of a case, whose files are written to a folder."""
    for number in range(case.count):
        plate, truth = case.frame(number)
        draft.write(folder / "plate", number, plate)
        draft.write(folder / "truth", number, truth)
        if number in case.keyframes:
            draft.write(folder, f"key{number}", truth)
    draft.run_draft(case, folder)
    frames = map(read_header, (folder / "data" / "results").rglob("*.safetensors"))
    confidence = {frame.number: frame.confidence for frame in frames}
    rows = []
    for number in (each for each in range(case.count) if each not in case.keyframes):
        plate, truth = draft.read(folder / "plate", number), draft.read(folder / "truth", number)
        if (plate != truth).any():
            rows.append((confidence[number], *errors(plate, truth, draft.read(folder / "draft", number))))
    sure, gain, outside, whole = np.array(rows).T
    quarter = float((gain <= gain[sure.argmin()]).mean() <= 0.25 + 1 / len(gain))
    return spearman(sure, gain), spearman(sure, -outside), spearman(sure, whole), quarter


def main() -> None:
    """Runs the cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, default=os.environ.get("PAINTOVER_DAVIS"))
    parser.add_argument("--cases", nargs="+", default=[], help="only cases whose name begins so")
    parser.add_argument("--frames", type=int, default=50, help="of a sequence, at most")
    arguments = parser.parse_args()
    cases = list(draft.scene_cases(854, 480))
    if arguments.davis:
        cases += draft.davis_cases(Path(arguments.davis), quick=False)
    print(f"{'case':24}" + "".join(f"{title:>9}" for title in ("gain", "outside", "whole", "quarter")))
    table = []
    for case in cases:
        chosen = not arguments.cases or case.name.startswith(tuple(arguments.cases))
        if not chosen or len(case.keyframes) > 1 or case.name.endswith("grade"):
            continue
        case = dataclasses.replace(case, count=min(case.count, max(arguments.frames, case.keyframes[0] + 1)))
        with tempfile.TemporaryDirectory() as name:
            table.append(case_figures(case, Path(name)))
        print(f"{case.name:24}" + "".join(f"{figure:9.2f}" for figure in table[-1]), flush=True)
    print(f"{'MEAN':24}" + "".join(f"{figure:9.2f}" for figure in np.nanmean(np.array(table), 0)))


if __name__ == "__main__":
    main()
