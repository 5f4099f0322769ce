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

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs
from paintover_engine.jobs.delivery import Delivery
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.store import Store, StoredFrame
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe import Keyframe
from paintover_engine.media.plate import Plate
from paintover_engine.media.source import open_source
from paintover_engine.methods.registry import find_method
from paintover_engine.methods.stage import AHEAD, KeyframeRef, Out, Stage, Tensors
from paintover_engine.methods.tensors import from_tensors, to_tensors


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
    output: where the result is written, beside the stages as far as it is there.
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
        output: Output | None = None,
    ) -> None:
        self.info = info
        self.store = store
        self.cancelled = cancelled
        spec = find_method(method)
        self._module: ModuleType = importlib.import_module(spec.module)
        self._settings = (parameters, model or spec.default_model) if spec.takes_model else (parameters,)
        self.stages: list[Stage] = self._module.plan(info, keyframes, *self._settings)
        self._publishing = {
            number: stage
            for stage in self.stages
            if stage.publishes
            for number in range(stage.frames[0], stage.frames[1] + 1)
        }
        self._output = output
        self._source = open_source(info)
        self._keyframes: dict[str, Keyframe] = {}
        self._slots = 1 if spec.takes_model else 2
        self._threads = ThreadPoolExecutor(self._slots, "stage")
        self._names: dict[str, str] = {}
        self._begun: dict[str, Future[StageReport]] = {}
        self._next: Sequence[Stage] = ()
        self._beginning = threading.RLock()
        self._closed = False
        self._delivery: Delivery | None = None

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
        if self._delivery:
            self._delivery.abandon()
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

    def load(self, stage: Stage[Any, Out]) -> Out:
        return from_tensors(stage.function.output, outputs.load_tensors(self.store, stage.key))

    def checkpoint(self, stage: Stage) -> Mapping[str, NDArray[Any]] | None:
        return outputs.load_checkpoint(self.store, stage.key)

    def keep_checkpoint(self, stage: Stage, tensors: Tensors) -> None:
        outputs.save_checkpoint(self.store, stage.key, tensors)

    def check(self) -> None:
        if self._closed or self.cancelled():
            raise Cancelled

    def notes(self) -> list[str]:
        """What the method has to tell of a finished job, read off its stages' output: the preset it chose, say."""
        tell = getattr(self._module, "notes", None)
        there = [stage for stage in self.stages if self._has(stage)]  # not evicted
        return list(tell(self, there)) if tell else []

    # What runs them.

    def run(self, stage: Stage, then: Sequence[Stage] = ()) -> StageReport:
        """Runs one stage whose inputs are in the store and keeps its output there.

        then: what will be asked for next, in order. It may be begun already, and is then only waited for."""
        with self._beginning:
            self._next = then[:AHEAD] if self._slots > 1 else ()
            asked = self._begun.get(stage.key)
            there = self._has(stage)
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
        absent = [stage for stage in self.stages if not self._has(stage)]
        for number, stage in enumerate(absent, start=1):
            self.run(stage, absent[number:])

    def _has(self, stage: Stage) -> bool:
        return self.store.has(stage.key, stage.publishes)

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
                known = stage.key in self._begun or self._has(stage)
                if not known and all(self._has(needed) for needed in stage.inputs):
                    self._begin(stage)

    def _run(self, stage: Stage) -> StageReport:
        self.check()
        started = time.perf_counter()
        name = None if stage.publishes else self._name(stage)
        if name and name != stage.key and self.store.find_again(name, stage.key):
            return StageReport(time.perf_counter() - started, [])
        output = stage.function(self, stage)
        frames: list[tuple[int, float]] = []
        if stage.publishes:
            frames = outputs.save_frames(self.store, stage.key, output, (self.info.width, self.info.height))
            self._deliver_soon()
        else:
            outputs.save_tensors(self.store, stage.key, to_tensors(output))
            if name and name != stage.key:
                self.store.remember(name, stage.key)
        outputs.drop_checkpoint(self.store, stage.key)
        return StageReport(time.perf_counter() - started, frames)

    def _name(self, asked: Stage) -> str | None:
        """What a stage's output is called whatever made those inputs that count by content; its key where none does.
        None where such an input is not there."""
        for stage in self.stages:  # inputs before their readers; not recursive, for a long shot's carry is a long chain
            if stage.key not in self._names:
                found = [outputs.digest(self.store, needed.key) if needed.by_content else self._names.get(needed.key)
                         for needed in stage.inputs]  # fmt: skip
                names = [name for name in found if name]
                if len(names) == len(found):
                    self._names[stage.key] = stage.named(names)
            if stage.key == asked.key:
                break
        return self._names.get(asked.key)

    # Writing the result.

    def deliver(self, progress: Callable[[int], None] = lambda frames: None) -> tuple[str, ...]:
        """Makes the result appear when it is written, which may have begun beside the stages; whole, or nothing.

        progress: called now and then with the number of frames written so far. Returns notes for the user (what the
        format could not hold)."""
        with self._beginning:
            delivery = self._delivery or self._begin_delivery()
            self._delivery = None
        return delivery.finish(self.check, progress)

    def _deliver_soon(self) -> None:
        """Begins to write the result as soon as its first frame is there."""
        with self._beginning:
            if self._output and not self._delivery and not self._closed and self._painted(self.info.first):
                self._delivery = self._begin_delivery()

    def _begin_delivery(self) -> Delivery:
        assert self._output
        return Delivery(self._output, self.info, self.plate, self._painted)

    def _painted(self, number: int) -> StoredFrame | None:
        """A frame of the result; None while it is not made."""
        stage = self._publishing.get(number)
        return self.store.frame(stage.key, number) if stage and self._has(stage) else None


def _failed(run: Future[StageReport]) -> bool:
    """Whether a run that is done ended in an error that tells of its stage; run ahead, it may have been cancelled
    with another."""
    error = run.exception()
    return error is not None and not isinstance(error, Cancelled)
