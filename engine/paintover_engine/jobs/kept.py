"""Frames that a job takes from an earlier one's result instead of making them: all but those that were to be redone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paintover_engine.jobs.entities import Job, JobFrame
from paintover_engine.jobs.protocol import PlannedStage
from paintover_engine.jobs.unsure import ResultFrame

Kept = tuple[str, int, int]
"""A run of frames, first and last inclusive, and the key of the stage that published them."""


def kept_frames(frames: Iterable[JobFrame], first: int, last: int) -> list[Kept]:
    """The runs of a job's frames outside first..last."""
    runs: list[Kept] = []
    for frame in frames:
        if first <= frame.number <= last:
            continue
        if runs and runs[-1][0] == frame.key and runs[-1][2] == frame.number - 1:
            runs[-1] = (frame.key, runs[-1][1], frame.number)
        else:
            runs.append((frame.key, frame.number, frame.number))
    return runs


def keys_by_frame(kept: Sequence[Sequence[str | int]]) -> dict[int, str]:
    """The key of the stage that published each kept frame."""
    return {number: str(key) for key, first, last in kept for number in range(int(first), int(last) + 1)}


def frames_made(job: Job, stage: PlannedStage, frames: Sequence[ResultFrame]) -> list[JobFrame]:
    """The frames of a job among those that a stage published: not those that it kept."""
    kept = keys_by_frame(job.spec.kept)
    return [
        JobFrame(each.number, stage.key, each.confidence, each.reason) for each in frames if each.number not in kept
    ]
