#!/usr/bin/env python3
"""How many cores one draft keeps busy: the measured costs of its stages, scheduled on 1 to 32 workers.

    benchmarks/cores.py [--davis FOLDER] [--case 'bmx-trees hue'] [--frames 80] [--keyframe first|middle]

Runs each stage of one draft alone, and counts the processor's seconds in it, threads summed. The first table: what the
kinds of stage cost, what they leave in the store, and which run before there is a keyframe. The second: how long the
whole draft takes on so many workers, and what comes after the preparation alone, by list scheduling (Graham: Bounds on
multiprocessing timing anomalies, 1969) in the plan's order, as the runner does; `chain` is the longest way through the
graph of stages, which no number of workers shortens.

The cases are those of `benchmarks/draft.py` with one keyframe; the plate's frames are PNG.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import draft
import numpy as np
from makespan import Task, costs, speedups
from paintover_engine.compose.analysis_frame import cielab
from paintover_engine.jobs.runner import Runner
from paintover_engine.methods.parameters import DraftParameters


def measured(case: draft.BenchmarkCase, folder: Path) -> list[Task]:
    """The stages of a draft of a case whose plate and keyframe lie in a folder, in the plan's order."""
    store, info, keys = draft.opened(case, folder)
    # What is loaded once a process is no stage's cost: OpenCV's tables, and modules that NumPy loads late.
    cielab(np.zeros((1, 1, 3), np.uint8))
    np.median(np.random.default_rng(0).random(3))
    tasks: list[Task] = []
    with Runner(store, info, "draft", DraftParameters(), keys) as runner:
        places = {stage.key: place for place, stage in enumerate(runner.stages)}
        for stage in runner.stages:
            started = time.process_time()
            runner.run(stage)
            seconds = time.process_time() - started
            files = store.path(stage.key, stage.publishes).rglob("*")
            tasks.append(
                Task(
                    stage.name,
                    seconds,
                    tuple(sorted({places[needed.key] for needed in stage.inputs})),
                    stage.needs_keyframe,
                    sum(file.stat().st_size for file in files if file.is_file()),
                )
            )
    return tasks


def chosen_case(name: str, davis: Path | None, frames: int, middle: bool) -> draft.BenchmarkCase:
    """A case of `benchmarks/draft.py` by its name, of at most so many frames."""
    cases = [*draft.scene_cases(854, 480), *(draft.davis_cases(davis) if davis else ())]
    case = next(case for case in cases if case.name == name)
    count = min(case.count, frames)
    return dataclasses.replace(case, count=count, keyframes=(count // 2 if middle else 0,))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, default=os.environ.get("PAINTOVER_DAVIS"))
    parser.add_argument("--case", default="bmx-trees hue", help="as benchmarks/draft.py names it")
    parser.add_argument("--frames", type=int, default=80, help="at most")
    parser.add_argument("--keyframe", choices=("first", "middle"), default="first", help="which frame is painted")
    arguments = parser.parse_args()
    middle = arguments.keyframe == "middle"
    case = chosen_case(arguments.case, arguments.davis, arguments.frames, middle)
    with tempfile.TemporaryDirectory() as name:
        for number in range(case.count):
            plate, truth = case.frame(number)
            draft.write(Path(name) / "plate", number, plate)
            if number in case.keyframes:
                draft.write(Path(name), f"key{number}", truth)
        tasks = measured(case, Path(name))
    print("\n".join([*costs(tasks, case.count), "", *speedups(tasks)]))


if __name__ == "__main__":
    main()
