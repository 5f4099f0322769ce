"""Runs a job's stages against the store: in the worker process, and in-process for benchmarks and tests."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs, sidecar
from paintover_engine.jobs.capacity import stages_at_a_time
from paintover_engine.jobs.delivery import Delivery
from paintover_engine.jobs.kept import Kept, keys_by_frame
from paintover_engine.jobs.protocol import Output, PublishedFrame
from paintover_engine.jobs.store import Store, StoredFrame
from paintover_engine.media.correction import Correction, Drag
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe import Keyframe
from paintover_engine.media.plate import Plate
from paintover_engine.media.source import open_source
from paintover_engine.methods.registry import find_method, model_name
from paintover_engine.methods.stage import AHEAD, KeyframeRef, Out, Stage, Tensors
from paintover_engine.methods.tensors import from_tensors, to_tensors


class Cancelled(PaintoverError):
    """The job was cancelled or paused while a stage ran."""

    def __init__(self) -> None:
        super().__init__(Code.CANCELLED, "The job was cancelled.")


@dataclass(frozen=True)
class StageReport:
    """A stage that ran. seconds: what it took; frames: those that it published."""

    seconds: float
    frames: list[PublishedFrame]


class Runner:
    """Runs one job's stages. It is the `Context` of their functions.

    As many stages run at a time as there are cores, where none reads another; of a method with a model only one,
    because each needs the whole memory of the device.

    keyframes: with the corrections of other frames.
    cancelled: called once a frame; True ends the stage with `Cancelled`.
    model: its name, for methods that take one; "": the method's default.
    output: where the result is written; the writing starts with the first frame, while the other stages still run.
    publication: the file that records what of the output was published, for a job that is run again.
    kept: runs of frames that an earlier job made and that are not to be made: the stage's key, first and last frame.
    source: the source as it lies on this machine, where that is not where `info` was found.
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
        publication: Path | None = None,
        source: SourceInfo | None = None,
        kept: Sequence[Kept] = (),
    ) -> None:
        self.info = info
        self._files = source or info
        self.store = store
        self.cancelled = cancelled
        self._spec = spec = find_method(method)
        self._module: ModuleType = importlib.import_module(spec.module)
        self._parameters = parameters
        self._model = model_name(spec, model) if spec.takes_model else ""
        self._settings = (parameters, self._model) if spec.takes_model else (parameters,)
        self.stages: list[Stage] = self._module.plan(info, keyframes, *self._settings)
        self._kept_runs, self._kept = kept, keys_by_frame(kept)
        if kept:
            self.stages = needed_for(self.stages, set(range(info.first, info.last + 1)) - self._kept.keys())
        self._publishing = {
            number: stage
            for stage in self.stages
            if stage.publishes
            for number in range(stage.frames[0], stage.frames[1] + 1)
        }
        self._keys = keyframes
        self._output = output
        self._publication = publication
        self._started = time.time()
        self._closing_notes: Sequence[str] = ()
        self._source = open_source(self._files)
        self._keyframes: dict[str, Keyframe] = {}
        self._corrections: dict[str, Correction | Drag] = {}
        self.slots = 1 if spec.takes_model else stages_at_a_time(info.width, info.height)
        self._threads = ThreadPoolExecutor(self.slots, "stage")
        self._names: dict[str, str] = {}
        self._runs: dict[str, Future[StageReport]] = {}
        self._following: Sequence[Stage] = ()
        self._starting = threading.RLock()
        self._closed = False
        self._delivery: Delivery | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what still runs and closes the source."""
        with self._starting:
            self._closed = True
        self._threads.shutdown()
        if self._delivery:
            self._delivery.abandon()
        self._keyframes.clear()
        self._corrections.clear()
        self._source.close()

    def whole_cost(self) -> float:
        """The cost of all stages; of a plan without keyframes, of what they would be with one on the first frame."""
        keyed = any(stage.needs_keyframe for stage in self.stages)
        supposed = [KeyframeRef(self.info.first, "")]
        stages = self.stages if keyed else self._module.plan(self.info, supposed, *self._settings)
        return float(sum(stage.cost for stage in stages))

    # The context of stages (methods.stage.Context).

    def plate(self, number: int) -> Plate:
        return self._source.read(number)

    def keyframe(self, digest: str) -> Keyframe:
        if digest not in self._keyframes:
            self._keyframes[digest] = outputs.load_keyframe(self._keyframe_path(digest))
        return self._keyframes[digest]

    def correction(self, digest: str) -> Correction | Drag:
        if digest not in self._corrections:
            self._corrections[digest] = outputs.load_correction(self._keyframe_path(digest))
        return self._corrections[digest]

    def _keyframe_path(self, digest: str) -> Path:
        return self.store.folder.keyframes / f"{digest}.safetensors"

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
        """What the method reports of a finished job, read from its stages' output: the preset that it chose, say."""
        report = getattr(self._module, "notes", None)
        stored = [stage for stage in self.stages if self._has(stage)]  # not evicted
        return list(report(self, stored)) if report else []

    # Running stages.

    def run(self, stage: Stage, following: Sequence[Stage] = ()) -> StageReport:
        """Runs one stage whose inputs are in the store, and stores its output.

        following: the stages that will be run next, in order. They may be started already; a later call then only
        waits for them."""
        with self._starting:
            self._following = following[:AHEAD] if self.slots > 1 else ()
            run = self._runs.get(stage.key)
            stored = self._has(stage)
            if run is None and stored:  # another job computed it meanwhile
                return StageReport(0.0, self._published(stage))
            if run is None or (run.done() and not stored and not _failed(run)):  # cancelled, or its output is gone
                run = self._start(stage)
            self._start_following()
        try:
            return run.result()
        finally:
            with self._starting:
                self._runs.pop(stage.key, None)

    def run_all(self) -> None:
        """Runs every stage whose output is not in the store."""
        absent = [stage for stage in self.stages if not self._has(stage)]
        for number, stage in enumerate(absent, start=1):
            self.run(stage, absent[number:])

    def _has(self, stage: Stage) -> bool:
        return self.store.has(stage.key, stage.publishes)

    def _published(self, stage: Stage) -> list[PublishedFrame]:
        found = self.store.frames(stage.key) if stage.publishes else []
        return [PublishedFrame(number=each.number, confidence=each.confidence, reason=each.reason) for each in found]

    def _start(self, stage: Stage) -> Future[StageReport]:
        run = self._runs[stage.key] = self._threads.submit(self._run, stage)
        run.add_done_callback(lambda _: self._start_following())
        return run

    def _start_following(self) -> None:
        """Starts those of the following stages whose inputs are stored, while a thread is free."""
        with self._starting:
            for stage in self._following:
                if self._closed or sum(not run.done() for run in self._runs.values()) >= self.slots:
                    return
                known = stage.key in self._runs or self._has(stage)
                if not known and all(self._has(needed) for needed in stage.inputs):
                    self._start(stage)

    def _run(self, stage: Stage) -> StageReport:
        self.check()
        started = time.perf_counter()
        name = None if stage.publishes else self._name(stage)
        if name and name != stage.key and self.store.find_again(name, stage.key):
            return StageReport(time.perf_counter() - started, [])
        output = stage.function(self, stage)
        frames: list[PublishedFrame] = []
        if stage.publishes:
            frames = outputs.save_frames(self.store, stage.key, output, (self.info.width, self.info.height))
            self._start_delivery_if_ready()
        else:
            outputs.save_tensors(self.store, stage.key, to_tensors(output))
            if name and name != stage.key:
                self.store.remember(name, stage.key)
        outputs.drop_checkpoint(self.store, stage.key)
        return StageReport(time.perf_counter() - started, frames)

    def _name(self, stage: Stage) -> str | None:
        """The stage's key with its `by_content` inputs named by what they contain instead of by their keys: equal for
        stages that compute the same from different keyframes. The key itself where no input is such; None where such
        an input is not in the store."""
        for each in self.stages:  # inputs come before readers; not recursive, because a long shot has long chains
            if each.key not in self._names:
                found = [outputs.digest(self.store, needed.key) if needed.by_content else self._names.get(needed.key)
                         for needed in each.inputs]  # fmt: skip
                names = [name for name in found if name]
                if len(names) == len(found):
                    self._names[each.key] = each.named(names)
            if each.key == stage.key:
                break
        return self._names.get(stage.key)

    # Writing the result.

    def deliver(
        self,
        progress: Callable[[int], None] = lambda frames: None,
        notes: Sequence[str] = (),
        started: float | None = None,
    ) -> tuple[str, ...]:
        """Finishes writing the result, and publishes it as a whole, with its sidecar.

        progress: called regularly with the number of frames written so far. notes: what the job tells at its end, for
        the sidecar. started: when the job did, in seconds since 1970; None: when this runner did. Returns notes for
        the user, such as what the format could not hold."""
        with self._starting:
            self._closing_notes = notes
            self._started = started or self._started
            delivery = self._delivery or self._start_delivery()
            self._delivery = None
        return delivery.finish(self.check, progress)

    def _start_delivery_if_ready(self) -> None:
        """Starts to write the result once its first frame is stored."""
        with self._starting:
            if self._output and not self._delivery and not self._closed and self._painted(self.info.first):
                self._delivery = self._start_delivery()

    def _start_delivery(self) -> Delivery:
        assert self._output
        return Delivery(self._output, self._files, self.plate, self._painted, self._describe, self._publication)

    def _describe(self, frames: Sequence[StoredFrame], notes: Sequence[str]) -> str:
        """The text of the result's sidecar."""
        assert self._output
        return sidecar.describe(
            self.info,
            self._output,
            self._keys,
            self._spec,
            self._parameters,
            self._model,
            kept=self._kept_runs,
            frames=frames,
            notes=[*self._closing_notes, *notes],
            wall_seconds=time.time() - self._started,
        )

    def _painted(self, number: int) -> StoredFrame | None:
        """A frame of the result; None while it is not computed."""
        stage = self._publishing.get(number)
        key = self._kept.get(number) or (stage.key if stage else "")
        if not key or not self.store.has(key, publishes=True):
            return None
        frame = self.store.frame(key, number)
        outputs.check_frame(self.store, frame)
        return frame


def needed_for(stages: Sequence[Stage], numbers: Set[int]) -> list[Stage]:
    """The stages that publish some of these frames, and all that those read, in their order."""
    needed: set[str] = set()
    for stage in reversed(stages):  # inputs come before readers
        first, last = stage.frames
        if stage.key in needed or (stage.publishes and not numbers.isdisjoint(range(first, last + 1))):
            needed.update((stage.key, *(each.key for each in stage.inputs)))
    return [stage for stage in stages if stage.key in needed]


def _failed(run: Future[StageReport]) -> bool:
    """Whether a run ended in an error of its stage. `Cancelled` is none: a stage that was started ahead is cancelled
    together with the call of another."""
    error = run.exception()
    return error is not None and not isinstance(error, Cancelled)
