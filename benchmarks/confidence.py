#!/usr/bin/env python3
"""How well the draft's confidence ranks the frames of a shot by their true error, and what painting its advice gives.

    benchmarks/confidence.py [--davis FOLDER] [--cases NAME ...] [--frames 50] [--keys 0 24 48]

The cases are those of `benchmarks/draft.py` with one keyframe, grades left out.

The first table: `gain` and `outside` are Spearman's rank correlations, over the frames of a case but the keyframe, of
the confidence with the dB gained inside the edit over leaving the plate, and with the share of changed pixels that lie
outside the edit, negated; `whole`: with the dB gained over the whole frame. `worst`: whether the frame that is
suggested first (the least sure one, if none is) is among the worst quarter by `gain`; `worst all`: by `whole`.

The second: the case is run again with the true edit of the frame that was suggested first as a second keyframe (or with
the keyframes of `--keys`). `one`, `two`: dB gained inside the edit, the mean over the frames that are keyframes in
neither; `least`: the least change of a frame, `at`: its number; `worse`: the share of frames that lost more than 0.5
dB; `all`: the mean change over the whole frame, with its `least` and `worse`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import draft
import numpy as np
from numpy.typing import NDArray
from paintover_engine.jobs.store import StoredFrame, read_header
from paintover_engine.jobs.unsure import suggested_keyframes, unsure_ranges

Numbers = NDArray[np.float64]

RANK = ("gain", "outside", "whole", "worst", "worst all")
ADVICE = ("frame", "one", "two", "least", "at", "worse", "all", "least", "worse")
ALLOWED = -0.5  # dB that a frame may change by a second keyframe


@dataclasses.dataclass(frozen=True)
class Errors:
    """Of a frame whose edit is seen. gain: dB gained inside it over leaving the plate; outside: the share of changed
    pixels that lie outside it; whole: dB gained over the whole frame."""

    gain: float
    outside: float
    whole: float


def ranks(values: Numbers) -> Numbers:
    """The mean rank of each of (n,) values among all."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def spearman(first: Numbers, second: Numbers) -> float:
    """Spearman's rank correlation; NaN where either is constant."""
    first, second = ranks(first), ranks(second)
    return float(np.corrcoef(first, second)[0, 1]) if first.std() and second.std() else float("nan")


def errors(plate: draft.Frame, truth: draft.Frame, found: draft.Frame) -> Errors:
    """Those of a frame."""
    edit, changed = (truth != plate).any(-1), (found != plate).any(-1)
    error, before = (np.square(each.astype(np.float64) - truth).mean(-1) for each in (found, plate))
    inside, whole = (10 * np.log10(before.sum() / max(part.sum(), 1e-3)) for part in (error[edit], error))
    return Errors(float(inside), float((changed & ~edit).sum() / max(1, changed.sum())), float(whole))


def write_case(case: draft.BenchmarkCase, folder: Path) -> None:
    """Writes a case's plates and truths."""
    for number in range(case.count):
        plate, truth = case.frame(number)
        draft.write(folder / "plate", number, plate)
        draft.write(folder / "truth", number, truth)


def run(case: draft.BenchmarkCase, folder: Path) -> tuple[list[StoredFrame], dict[int, Errors]]:
    """The frames of a case's result, ascending, and the errors of those that are no keyframes and show the edit. What
    an earlier run left in the folder is found again."""
    for number in case.keyframes:
        draft.write(folder, f"key{number}", case.frame(number)[1])
    before = set((folder / "data").rglob("results/**/*.safetensors"))
    with tempfile.TemporaryDirectory(dir=folder) as result:
        draft.run_draft(case, folder)
        (folder / "draft").rename(Path(result) / "draft")
        found = {}
        for number in (each for each in range(case.count) if each not in case.keyframes):
            plate, truth = draft.read(folder / "plate", number), draft.read(folder / "truth", number)
            if (plate != truth).any():
                found[number] = errors(plate, truth, draft.read(Path(result) / "draft", number))
    frames = [read_header(path) for path in set((folder / "data").rglob("results/**/*.safetensors")) - before]
    return sorted(frames, key=lambda frame: frame.number), found


def suggestion(case: draft.BenchmarkCase, frames: Sequence[StoredFrame]) -> int | None:
    """The frame that a result suggests to paint next."""
    return next(iter(suggested_keyframes(unsure_ranges(frames, (0, case.count - 1)))), None)


def ranking(sure: Mapping[int, float], found: Mapping[int, Errors], suggested: int | None) -> tuple[float, ...]:
    """The figures `RANK` of a case. sure: the frames' confidences; found: their errors."""
    if suggested not in found:
        suggested = min(found, key=lambda number: sure[number])
    confidence = np.array([sure[number] for number in found])
    gain, outside, whole = (
        np.array([getattr(each, name) for each in found.values()]) for name in ("gain", "outside", "whole")
    )
    place = list(found).index(suggested)
    worst = (float((column <= column[place]).mean() <= 0.25 + 1 / len(column)) for column in (gain, whole))
    return (*(spearman(confidence, column) for column in (gain, -outside, whole)), *worst)


def advice(one: Mapping[int, Errors], two: Mapping[int, Errors], suggested: int | None) -> tuple[float, ...]:
    """The figures `ADVICE` of a case. one, two: the errors with its keyframe alone and with others."""
    both = [number for number in one if number in two]
    gain = {number: two[number].gain - one[number].gain for number in both}
    whole = [two[number].whole - one[number].whole for number in both]
    means = (float(np.mean([each[number].gain for number in both])) for each in (one, two))
    least = min(gain, key=lambda number: gain[number])
    return (
        math.nan if suggested is None else suggested,
        *means,
        gain[least],
        least,
        float(np.mean([change < ALLOWED for change in gain.values()])),
        float(np.mean(whole)),
        min(whole),
        float(np.mean([change < ALLOWED for change in whole])),
    )


def figures(
    case: draft.BenchmarkCase, keys: Sequence[int], folder: Path
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`RANK` and `ADVICE` of a case; the second is NaN where no frame that shows the edit is suggested. keys: those of
    the second run; none: the case's own and the suggested frame."""
    write_case(case, folder)
    frames, one = run(case, folder)
    suggested = suggestion(case, frames)
    rank = ranking({frame.number: frame.confidence for frame in frames}, one, suggested)
    added = tuple(keys) or ((*case.keyframes, suggested) if suggested in one else ())
    if not added:
        return rank, (math.nan,) * len(ADVICE)
    _, two = run(dataclasses.replace(case, keyframes=tuple(sorted(added))), folder)
    return rank, advice(one, two, suggested)


def chosen_cases(arguments: argparse.Namespace) -> Iterator[draft.BenchmarkCase]:
    """The cases that the command line asks for."""
    cases = list(draft.scene_cases(854, 480))
    if arguments.davis:
        cases += draft.davis_cases(Path(arguments.davis))
    for case in cases:
        chosen = not arguments.cases or case.name.startswith(tuple(arguments.cases))
        if chosen and len(case.keyframes) == 1 and not case.name.endswith("grade"):
            count = min(case.count, max(arguments.frames, case.keyframes[0] + 1))
            yield dataclasses.replace(case, count=count)


def row(name: str, values: Sequence[float]) -> str:
    """A line of a table."""
    return f"{name:24}" + "".join(f"{value:10.2f}" for value in values)


def main() -> None:
    """Runs the cases and prints the tables, each case's line in the first one as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, default=os.environ.get("PAINTOVER_DAVIS"))
    parser.add_argument("--cases", nargs="+", default=[], help="only cases whose name begins so")
    parser.add_argument("--frames", type=int, default=50, help="of a sequence, at most")
    parser.add_argument("--keys", type=int, nargs="+", default=[], help="keyframes instead of the advice's")
    arguments = parser.parse_args()
    ranks_of, advice_of = {}, {}
    print(f"{'case':24}" + "".join(f"{title:>10}" for title in RANK))
    for case in chosen_cases(arguments):
        with tempfile.TemporaryDirectory() as name:
            keys = [key for key in arguments.keys if key < case.count]
            ranks_of[case.name], advice_of[case.name] = figures(case, keys, Path(name))
        print(row(case.name, ranks_of[case.name]), flush=True)
    print(row("MEAN", np.nanmean(np.array(list(ranks_of.values())), 0)))
    print(f"\n{'case':24}" + "".join(f"{title:>10}" for title in ADVICE))
    for case_name, values in advice_of.items():
        print(row(case_name, values))
    print(row("MEAN", np.nanmean(np.array(list(advice_of.values())), 0)))


if __name__ == "__main__":
    main()
