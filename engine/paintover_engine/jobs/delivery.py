"""Writing a job's result: the painted frames over the plate at its native depth, whole, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from paintover_engine.compose.composite import composite
from paintover_engine.jobs import outputs
from paintover_engine.jobs.store import StoredFrame
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.mattes import open_matte_sink
from paintover_engine.media.plate import Plate
from paintover_engine.media.sink import open_sink


@dataclass(frozen=True)
class Output:
    """Where a job's result goes. path: the file or files; mattes: the mattes', "" for none."""

    path: str
    overwrite: bool = False
    mattes: str = ""


def deliver(
    output: Output,
    info: SourceInfo,
    plate: Callable[[int], Plate],
    painted: Callable[[int], StoredFrame],
    written: Callable[[int], None],
    wanted: Callable[[], None],
) -> tuple[str, ...]:
    """Composites the result into the plate and writes it.

    plate, painted: of a frame's number; asked for in order, they may wait until it is there, and end the writing by an
    error. written: called with the number of frames so far. wanted: returns when what is all written may appear.
    Returns notes for the user (what the format could not hold)."""
    with (
        open_sink(output.path, info, output.overwrite) as sink,
        open_matte_sink(output.mattes, info, output.overwrite) as mattes,
    ):
        with ThreadPoolExecutor(1) as writer:  # one frame is encoded while the next is decoded and composited
            before: Future[None] | None = None
            for count, number in enumerate(range(info.first, info.last + 1), start=1):
                frame = painted(number)
                pixels = outputs.load_painted(frame)
                over = composite(plate(number), pixels, frame.window)
                if before:
                    before.result()
                before = writer.submit(sink.write, over)
                if mattes:
                    mattes.write(number, pixels, frame.window)
                written(count)
            if before:
                before.result()
        wanted()
        if mattes:
            mattes.commit()
        sink.commit()
        return tuple(sink.notes)
