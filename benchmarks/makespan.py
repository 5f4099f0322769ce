"""How long a graph of stages takes on so many workers, and the tables of `cores.py`.

List scheduling in the plan's order, as a runner does it (Graham: Bounds on multiprocessing timing anomalies, 1969).
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

WORKERS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Task:
    """A stage that ran. seconds: of the processor; inputs: the places of its inputs among the tasks; stored: bytes."""

    name: str
    seconds: float
    inputs: tuple[int, ...] = ()
    needs_keyframe: bool = True
    stored: int = 0


def makespan(tasks: Sequence[Task], workers: int) -> float:
    """Seconds that workers take for tasks, each of which comes after its inputs: a free one takes the first task whose
    inputs are done."""
    waits = [len(task.inputs) for task in tasks]
    readers: list[list[int]] = [[] for _ in tasks]
    for place, task in enumerate(tasks):
        for needed in task.inputs:
            readers[needed].append(place)
    ready = [place for place, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            place = heapq.heappop(ready)
            heapq.heappush(running, (now + tasks[place].seconds, place))
        now, done = heapq.heappop(running)
        for reader in readers[done]:
            waits[reader] -= 1
            if not waits[reader]:
                heapq.heappush(ready, reader)
    return now


def after_preparation(tasks: Sequence[Task]) -> list[Task]:
    """The same where what needs no keyframe is done."""
    return [task if task.needs_keyframe else dataclasses.replace(task, seconds=0.0) for task in tasks]


def costs(tasks: Sequence[Task], frames: int) -> list[str]:
    """Rows of the first table, the dearest kind of stage first."""
    total = sum(task.seconds for task in tasks)
    rows = []
    for name in sorted({task.name for task in tasks}, key=lambda name: -seconds_of(name, tasks)):
        seconds, stored = seconds_of(name, tasks), sum(task.stored for task in tasks if task.name == name)
        prepared = "" if any(task.needs_keyframe for task in tasks if task.name == name) else "yes"
        rows.append(f"| {name} | {1000 * seconds / frames:.1f} | {seconds / total:.0%} | {stored / frames / 1e6:.2f} "
                    f"| {prepared} |")  # fmt: skip
    return ["| stages | ms a frame | share | MB a frame | prepared |", "|---|---|---|---|---|", *rows]


def seconds_of(name: str, tasks: Sequence[Task]) -> float:
    """Of all tasks of a name."""
    return sum(task.seconds for task in tasks if task.name == name)


def speedups(tasks: Sequence[Task]) -> list[str]:
    """Rows of the second table."""
    rows = ["| | seconds of work | chain | " + " | ".join(f"{workers} workers" for workers in WORKERS) + " |"]
    rows.append("|---" * (3 + len(WORKERS)) + "|")
    for name, chosen in (("all", tasks), ("after preparation", after_preparation(tasks))):
        work = makespan(chosen, 1)
        times = [makespan(chosen, workers) for workers in WORKERS]
        cells = [f"{seconds:.2f} s ({work / seconds:.1f}×)" for seconds in times]
        rows.append(f"| {name} | {work:.2f} | {makespan(chosen, len(chosen)):.2f} | " + " | ".join(cells) + " |")
    return rows
