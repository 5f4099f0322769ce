"""What plans of all methods share: stages in order, each once; chunks of frames; and the spans between keyframes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from paintover_engine.methods.stage import Stage

CHUNK = 8
"""Frames per stage of the draft and of VP4. Chunks lie on an absolute grid of this pitch, so that any later edit finds
them."""

Span = tuple[int, int]
"""First and last frame number, inclusive."""


class StageList:
    """A plan's stages, each once, after its inputs."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self._keys: set[str] = set()

    def add(self, stage: Stage) -> Stage:
        """Appends a stage, its inputs before it, unless it is there already."""
        if stage.key not in self._keys:
            for needed in stage.inputs:
                self.add(needed)
            self._keys.add(stage.key)
            self.stages.append(stage)
        return stage


def chunk_starts(first: int, last: int, pitch: int = CHUNK) -> list[int]:
    """The first frames of the absolute chunks of `pitch` frames that overlap first..last."""
    return list(range(first // pitch * pitch, last + 1, pitch))


def outward(frame: int, end: int, pitch: int = CHUNK) -> list[Span]:
    """The chunks of `pitch` frames of the frames from beside `frame` to `end`, the nearest first."""
    step = 1 if end > frame else -1
    inner, outer = min(frame + step, end), max(frame + step, end)
    starts = chunk_starts(inner, outer, pitch)
    return [(max(first, inner), min(first + pitch - 1, outer)) for first in starts][::step]


def overlapping(stages: Sequence[Stage], span: Span) -> list[Stage]:
    """Those of the stages that have frames in a span."""
    return [stage for stage in stages if stage.frames[0] <= span[1] and stage.frames[1] >= span[0]]


def length(span: Span) -> int:
    """The number of frames of a span."""
    return span[1] - span[0] + 1


class HasFrame(Protocol):
    """A keyframe, or what is known of one."""

    @property
    def frame(self) -> int: ...


Key = TypeVar("Key", bound=HasFrame)


def intervals(keys: Sequence[Key], shot: Span) -> Iterator[tuple[Key | None, Key | None, Span]]:
    """The frames between neighbouring keyframes, and from the outermost ones to the shot's ends: (before, after, first
    and last frame), in order. keys: ascending, at least one."""
    for before, after in zip([None, *keys], [*keys, None], strict=True):
        first = before.frame + 1 if before else shot[0]
        last = after.frame - 1 if after else shot[1]
        if first <= last:
            yield before, after, (first, last)
