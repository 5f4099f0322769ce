"""Frames that a job takes from an earlier one's result instead of making them: all but those that were to be redone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paintover_engine.jobs.entities import JobFrame

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
