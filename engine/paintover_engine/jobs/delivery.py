"""Writing a job's result: the painted frames over the plate at its native depth, whole, or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from paintover_engine.compose.composite import composite
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.store import StoredFrame
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.mattes import open_matte_sink
from paintover_engine.media.plate import Plate
from paintover_engine.media.sink import open_sink

_PATIENCE = 0.05  # seconds between two looks at what is waited for


class _Abandoned(Exception):
    """What is being written is not wanted any more."""


class Delivery:
    """One writing of a result, in a thread of its own: begun beside the stages that make it, and finished after them.

    plate, painted: of a frame's number; `painted` gives None while that frame is not made yet.
    """

    def __init__(
        self,
        output: Output,
        info: SourceInfo,
        plate: Callable[[int], Plate],
        painted: Callable[[int], StoredFrame | None],
    ) -> None:
        self._output = output
        self._info = info
        self._plate = plate
        self._painted = painted
        self._wanted = threading.Event()  # what is written may appear
        self._abandoned = threading.Event()
        self._written = 0
        self._thread = ThreadPoolExecutor(1, "delivery")
        self._notes = self._thread.submit(self._write)

    def finish(self, check: Callable[[], None], progress: Callable[[int], None]) -> tuple[str, ...]:
        """Makes the result, of which all is made, appear when it is written.

        check: raises to end it; progress: called now and then with the number of frames written so far. Returns notes
        for the user (what the format could not hold)."""
        try:
            check()
            self._wanted.set()
            while not self._notes.done():
                check()
                progress(self._written)
                wait([self._notes], _PATIENCE)
            return self._notes.result()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Ends the writing and removes what is not finished."""
        self._abandoned.set()
        self._thread.shutdown()

    def _write(self) -> tuple[str, ...]:
        info, output = self._info, self._output
        with (
            open_sink(output.path, info, output.overwrite, output.paintings) as sink,
            open_matte_sink(output.mattes, info, output.overwrite, output.paintings) as mattes,
        ):
            with ThreadPoolExecutor(1) as writer:  # one frame is encoded while the next is decoded and composited
                before: Future[None] | None = None
                for written, number in enumerate(range(info.first, info.last + 1), start=1):
                    frame = self._awaited(number)
                    painted = outputs.load_painted(frame)
                    over = composite(self._plate(number), painted, frame.window)
                    if before:
                        before.result()
                    before = writer.submit(sink.write, over)
                    if mattes:
                        mattes.write(number, painted, frame.window)
                    self._written = written
                if before:
                    before.result()
            while not self._wanted.wait(_PATIENCE):
                self._check()
            if mattes:
                mattes.commit()
            sink.commit()
            return tuple(sink.notes)

    def _awaited(self, number: int) -> StoredFrame:
        """A frame of the result, when it is made; UNAVAILABLE where all was and it is gone again."""
        while True:
            self._check()
            if frame := self._painted(number):
                return frame
            if self._wanted.is_set():
                raise PaintoverError(Code.UNAVAILABLE, f"Frame {number} of the result was removed while it was read.")
            self._abandoned.wait(_PATIENCE)

    def _check(self) -> None:
        if self._abandoned.is_set():
            raise _Abandoned
