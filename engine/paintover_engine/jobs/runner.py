"""Runs a job's stages against the store: in the worker process, and in-process for benchmarks and tests."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel

from paintover_engine.compose.composite import composite
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs
from paintover_engine.jobs.store import Store
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe import Keyframe
from paintover_engine.media.mattes import open_matte_sink
from paintover_engine.media.plate import Plate
from paintover_engine.media.sink import open_sink
from paintover_engine.media.source import open_source
from paintover_engine.methods.registry import find_method
from paintover_engine.methods.stage import AHEAD, KeyframeRef, Stage, Tensors


class Cancelled(PaintoverError):
    """The job was cancelled or paused while a stage ran."""

    def __init__(self) -> None:
        super().__init__(Code.CANCELLED, "The job was cancelled.")


@dataclass(frozen=True)
class StageReport:
    """What running one stage gave: its time in seconds, and (number, confidence) of the frames it published."""

    seconds: float
    frames: list[tuple[int, float]]


class Runner:
    """One job's plan and what its stages need to run. It is the `Context` of its stages' functions.

    Beside a stage, one that need not wait for it is run, so that all of a processor is used; but of a method with a
    model one at a time, whose memory it needs whole.

    cancelled: asked once a frame; True ends the stage with `Cancelled`.
    model: the name of the model, for methods that take one; "": the method's own choice.
    """

    def __init__(
        self,
        store: Store,
        info: SourceInfo,
        method: str,
        parameters: BaseModel,
        keyframes: Sequence[KeyframeRef],
        cancelled: Callable[[], bool] = lambda: False,
        model: str = "",
    ) -> None:
        self.info = info
        self.store = store
        self.cancelled = cancelled
        spec = find_method(method)
        self._module: ModuleType = importlib.import_module(spec.module)
        self._settings = (parameters, model or spec.default_model) if spec.takes_model else (parameters,)
        self.stages: list[Stage] = self._module.plan(info, keyframes, *self._settings)
        self._source = open_source(info)
        self._keyframes: dict[str, Keyframe] = {}
        self._slots = 1 if spec.takes_model else 2
        self._threads = ThreadPoolExecutor(self._slots, "stage")
        self._begun: dict[str, Future[StageReport]] = {}
        self._next: Sequence[Stage] = ()
        self._beginning = threading.RLock()
        self._closed = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what still runs and lets go of the source."""
        with self._beginning:
            self._closed = True
        self._threads.shutdown()
        self._keyframes.clear()
        self._source.close()

    def whole_cost(self) -> float:
        """The cost of all stages; of a plan without keyframes, of what they would be with one on the first frame."""
        keyed = any(stage.needs_keyframe for stage in self.stages)
        supposed = [KeyframeRef(self.info.first, "")]
        stages = self.stages if keyed else self._module.plan(self.info, supposed, *self._settings)
        return float(sum(stage.cost for stage in stages))

    # What stages may read (methods.stage.Context).

    def plate(self, number: int) -> Plate:
        return self._source.read(number)

    def keyframe(self, digest: str) -> Keyframe:
        if digest not in self._keyframes:
            path = self.store.folder.keyframes / f"{digest}.safetensors"
            self._keyframes[digest] = outputs.load_keyframe(path)
        return self._keyframes[digest]

    def load(self, stage: Stage) -> Mapping[str, NDArray[Any]]:
        return outputs.load_tensors(self.store, stage)

    def checkpoint(self, stage: Stage) -> Mapping[str, NDArray[Any]] | None:
        return outputs.load_checkpoint(self.store, stage)

    def keep_checkpoint(self, stage: Stage, tensors: Tensors) -> None:
        outputs.save_checkpoint(self.store, stage, tensors)

    def check(self) -> None:
        if self._closed or self.cancelled():
            raise Cancelled

    def notes(self) -> list[str]:
        """What the method has to tell of a finished job, read off its stages' output: the preset it chose, say."""
        tell = getattr(self._module, "notes", None)
        there = [stage for stage in self.stages if self.store.has(stage.key, stage.publishes)]  # not evicted
        return list(tell(self, there)) if tell else []

    # What runs them.

    def run(self, stage: Stage, then: Sequence[Stage] = ()) -> StageReport:
        """Runs one stage whose inputs are in the store and keeps its output there.

        then: what will be asked for next, in order. It may be begun already, and is then only waited for."""
        with self._beginning:
            self._next = then[:AHEAD] if self._slots > 1 else ()
            asked = self._begun.get(stage.key)
            there = self.store.has(stage.key, stage.publishes)
            if asked is None and there:  # another job made it meanwhile
                return StageReport(0.0, self._published(stage))
            if asked is None or (asked.done() and not there and not _failed(asked)):  # cancelled, or its output is gone
                asked = self._begin(stage)
            self._begin_next()
        try:
            return asked.result()
        finally:
            with self._beginning:
                self._begun.pop(stage.key, None)

    def run_all(self) -> None:
        """Runs every stage that is not in the store yet."""
        absent = [stage for stage in self.stages if not self.store.has(stage.key, stage.publishes)]
        for number, stage in enumerate(absent, start=1):
            self.run(stage, absent[number:])

    def _published(self, stage: Stage) -> list[tuple[int, float]]:
        found = self.store.frames(stage.key) if stage.publishes else []
        return [(frame.number, frame.confidence) for frame in found]

    def _begin(self, stage: Stage) -> Future[StageReport]:
        begun = self._begun[stage.key] = self._threads.submit(self._run, stage)
        begun.add_done_callback(lambda _: self._begin_next())
        return begun

    def _begin_next(self) -> None:
        """Begins those of the next stages that have their inputs, while there is room."""
        with self._beginning:
            for stage in self._next:
                if self._closed or sum(not begun.done() for begun in self._begun.values()) >= self._slots:
                    return
                known = stage.key in self._begun or self.store.has(stage.key, stage.publishes)
                if not known and all(self.store.has(needed.key, needed.publishes) for needed in stage.inputs):
                    self._begin(stage)

    def _run(self, stage: Stage) -> StageReport:
        self.check()
        started = time.perf_counter()
        output = getattr(self._module, stage.function)(self, stage)
        frames: list[tuple[int, float]] = []
        if stage.publishes:
            frames = outputs.save_frames(self.store, stage, output, (self.info.width, self.info.height))
        else:
            outputs.save_tensors(self.store, stage, output)
        outputs.drop_checkpoint(self.store, stage)
        return StageReport(time.perf_counter() - started, frames)

    def deliver(
        self,
        path: str,
        overwrite: bool,
        mattes_path: str = "",
        progress: Callable[[int], None] = lambda frames: None,
    ) -> tuple[str, ...]:
        """Composites the result into the plate at its native depth and writes it; whole, or nothing.

        progress: called with the number of frames written so far. Returns notes for the user (what the format
        could not hold)."""
        stored = {
            frame.number: frame for stage in self.stages if stage.publishes for frame in self.store.frames(stage.key)
        }
        with (
            open_sink(path, self.info, overwrite) as sink,
            open_matte_sink(mattes_path, self.info, overwrite) as mattes,
        ):
            with ThreadPoolExecutor(1) as writer:  # one frame is encoded while the next is decoded and composited
                before: Future[None] | None = None
                for written, number in enumerate(range(self.info.first, self.info.last + 1), start=1):
                    self.check()
                    frame = stored[number]
                    painted = outputs.load_painted(frame)
                    over = composite(self.plate(number), painted, frame.window)
                    if before:
                        before.result()
                    before = writer.submit(sink.write, over)
                    if mattes:
                        mattes.write(number, painted, frame.window)
                    progress(written)
                if before:
                    before.result()
            if mattes:
                mattes.commit()
            sink.commit()
            return tuple(sink.notes)


def _failed(run: Future[StageReport]) -> bool:
    """Whether a run that is done ended in an error that tells of its stage; run ahead, it may have been cancelled
    with another."""
    error = run.exception()
    return error is not None and not isinstance(error, Cancelled)
