"""Writing a job's result: the painted frames composited over the plate at its native depth, published as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from paintover_engine.compose.composite import composite
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs, publication
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.store import StoredFrame
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.mattes import MatteSink, open_matte_sink
from paintover_engine.media.output import check_sidecar, open_sink
from paintover_engine.media.plate import Plate
from paintover_engine.media.sink import Sink, failed
from paintover_engine.media.source import check_unchanged

_POLL_SECONDS = 0.05  # between two checks of what is waited for


class _Abandoned(Exception):
    """The writing was abandoned."""


class Delivery:
    """Writes one result in a thread of its own, started while the stages that compute it still run.

    plate, painted: give a frame by its number; `painted` gives None while that frame is not computed.
    describe: the sidecar's text, from the frames, ascending, and notes about what was written;
        called once all frames are written and the job is complete.
    record: the file that makes publishing repeatable (`jobs.publication`); None: it is not.
    """

    def __init__(
        self,
        output: Output,
        info: SourceInfo,
        plate: Callable[[int], Plate],
        painted: Callable[[int], StoredFrame | None],
        describe: Callable[[Sequence[StoredFrame], Sequence[str]], str],
        record: Path | None = None,
    ) -> None:
        self._output = output
        self._info = info
        self._plate = plate
        self._painted = painted
        self._describe = describe
        self._record = record
        self._frames: list[StoredFrame] = []
        self._complete = threading.Event()  # all frames are computed: the output may appear
        self._abandoned = threading.Event()
        self._written = 0
        self._thread = ThreadPoolExecutor(1, "delivery")
        self._notes = self._thread.submit(self._write)

    def finish(self, check: Callable[[], None], progress: Callable[[int], None]) -> tuple[str, ...]:
        """Waits until the result is written, and publishes it. All its frames are computed.

        check: raises to end the writing; progress: called regularly with the number of frames written so far. Returns
        notes for the user, such as what the format could not hold."""
        try:
            check()
            self._complete.set()
            while not self._notes.done():
                check()
                progress(self._written)
                wait([self._notes], _POLL_SECONDS)
            return self._notes.result()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Ends the writing and removes an unfinished output."""
        self._abandoned.set()
        self._thread.shutdown()

    def _write(self) -> tuple[str, ...]:
        info, output = self._info, self._output
        if (notes := self._published()) is not None:
            return notes
        with (
            open_sink(output.path, info, output.overwrite, output.paintings) as sink,
            open_matte_sink(output.mattes, info, output.overwrite, output.paintings) as mattes,
        ):
            with ThreadPoolExecutor(1) as writer:  # one frame is encoded while the next is decoded and composited
                before: Future[None] | None = None
                for written, number in enumerate(range(info.first, info.last + 1), start=1):
                    frame = self._awaited(number)
                    self._frames.append(frame)
                    painted = outputs.load_painted(frame)
                    composited = composite(self._plate(number), painted, frame.bounds)
                    if before:
                        before.result()
                    before = writer.submit(sink.write, composited)
                    if mattes:
                        mattes.write(number, painted, frame.bounds)
                    self._written = written
                if before:
                    before.result()
            while not self._complete.wait(_POLL_SECONDS):
                self._check()
            if (notes := self._published()) is not None:  # by another task of a farm, while this one wrote
                return notes
            self._publish(sink, mattes)
            return tuple(sink.notes)

    def _published(self) -> tuple[str, ...] | None:
        """The notes of the output where it lies under its name already; else None."""
        return publication.resume(self._record) if self._record else None

    def _publish(self, sink: Sink, mattes: MatteSink | None) -> None:
        check_unchanged(self._info)  # frames that were read early may have been rendered again since
        sidecar = check_sidecar(self._output.path, self._info, self._output.overwrite)
        renames = [*(mattes.stage() if mattes else []), *sink.stage()]
        renames.append(sink.stage_beside(sidecar, self._describe(self._frames, sink.notes)))
        try:
            publication.publish(renames, self._record, sink.notes, self._output.overwrite)
        except OSError as error:
            raise failed(sink.path, error) from error
        sink.abort()
        if mattes:
            mattes.abort()

    def _awaited(self, number: int) -> StoredFrame:
        """Waits for a frame of the result. UNAVAILABLE where it was computed but removed since."""
        while True:
            self._check()
            if frame := self._painted(number):
                return frame
            if self._complete.is_set():
                raise PaintoverError(Code.UNAVAILABLE, f"Frame {number} of the result was removed while it was read.")
            self._abandoned.wait(_POLL_SECONDS)

    def _check(self) -> None:
        if self._abandoned.is_set():
            raise _Abandoned
