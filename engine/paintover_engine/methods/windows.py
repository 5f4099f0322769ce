"""How a shot of any length is cut into the windows that a video model sees: a fixed number of frames, anchor first.

The shot's frames lie on a grid: its first frame, every (length - 1)th after it, and its last. Between two neighbours of
the grid lie two windows, one forward that starts on the left, one backward that starts on the right. Which windows
there are depends on the shot alone, so what is computed of the plate in them serves every keyframe.

From a keyframe the shot is walked outward both ways, each window starting on a frame that the one before has repainted.
A keyframe between two frames of the grid takes one window of its own on each side, up to the next frame of the grid, or
to the shot's end where that lies in it. A last stretch that is shorter than a window has its window moved back to full
length. In shots shorter than a window, and where a keyframe's own window does not fit, frames are reflected at the
shot's end and left out afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """What a model sees at once.

    frames: the shot's frame numbers, anchor first, then one by one in the direction of `step` (1 or -1), reflected at
    the shot's ends. written: the first and the last frame, ascending, that are taken from it; the anchor is not."""

    frames: tuple[int, ...]
    step: int
    written: tuple[int, int]

    @property
    def anchor(self) -> int:
        """The frame that the others follow from."""
        return self.frames[0]

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last frame that it looks at."""
        return min(self.frames), max(self.frames)

    def index(self, number: int) -> int:
        """Where a frame stands in the window."""
        return self.frames.index(number)

    def indices(self) -> list[int]:
        """Where the written frames stand in the window, by ascending frame number."""
        return [self.index(number) for number in range(self.written[0], self.written[1] + 1)]


@dataclass(frozen=True)
class Grid:
    """The windows of a shot. first, last: its frame numbers, inclusive; length: frames of a window, at least 2."""

    first: int
    last: int
    length: int

    def anchors(self) -> list[int]:
        """The frames of the grid, ascending: the ends of its windows."""
        return [*range(self.first, self.last, self.length - 1), self.last]

    def chunks(self) -> list[tuple[int, int]]:
        """First and last frame of each stretch from an anchor to before the next; the shot's last frame by itself."""
        anchors = self.anchors()
        return [*((left, right - 1) for left, right in itertools.pairwise(anchors)), (self.last, self.last)]

    def windows(self) -> list[Window]:
        """All windows of the grid, forward ones first."""
        pairs = list(itertools.pairwise(self.anchors()))
        return [self._on_grid(pair, 1) for pair in pairs] + [self._on_grid(pair, -1) for pair in reversed(pairs)]

    def walk(self, key: int, end: int) -> Iterator[Window]:
        """The windows from a keyframe to the frame `end`, in the order in which they follow from each other; every
        frame but the keyframe is written by one of them."""
        step = 1 if end > key else -1
        edge = self.last if step > 0 else self.first
        start = key
        while start != end:
            left, right = self._around(start, step)
            goal = min(right, end) if step > 0 else max(left, end)
            window = self._on_grid((left, right), step)
            if start not in (left, right) or (window.anchor - key) * step < 0:
                goal = end if abs(edge - start) < self.length else goal
                window = self._window(start, step, (start, goal))
            written = (start + 1, goal) if step > 0 else (goal, start - 1)
            yield Window(window.frames, step, written)
            start = goal

    def between(self, key: int, other: int) -> Window | None:
        """The window that starts on a keyframe and holds another after it; None where they are too far apart. The
        frames between them are written by it."""
        if not key < other < key + self.length:
            return None
        return self._window(key, 1, (key + 1, other - 1))

    def _around(self, start: int, step: int) -> tuple[int, int]:
        """The stretch of the grid that a walk in a direction enters at a frame."""
        anchors = self.anchors()
        return next(
            (a, b) for a, b in itertools.pairwise(anchors) if a <= start <= b and start != (b if step > 0 else a)
        )

    def _on_grid(self, stretch: tuple[int, int], step: int) -> Window:
        left, right = stretch
        if step > 0:
            return self._window(max(self.first, min(left, self.last - self.length + 1)), step, (left + 1, right))
        return self._window(min(self.last, max(right, self.first + self.length - 1)), step, (left, right - 1))

    def _window(self, anchor: int, step: int, written: tuple[int, int]) -> Window:
        return Window(tuple(self._reflected(anchor + step * n) for n in range(self.length)), step, written)

    def _reflected(self, number: int) -> int:
        """A frame number beyond the shot's ends, reflected into the shot."""
        period = max(1, 2 * (self.last - self.first))
        offset = (number - self.first) % period
        return self.first + min(offset, period - offset)
