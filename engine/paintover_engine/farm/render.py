"""Renders a job, or a part of it, from a job file and a store: what a farm's task runs.

Any number of these may run at once, on any machines that share the store. Each runs the stages of its steps and windows
that are not stored yet, and what those read; one that another is computing it waits for. Run again, it finds everything
and does nothing.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TextIO

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.farm import job_file
from paintover_engine.farm.job_file import FarmJob
from paintover_engine.farm.leases import Leases
from paintover_engine.farm.plates import find_plate, put_keyframe, store_plate
from paintover_engine.farm.stores import open_store
from paintover_engine.jobs.outputs import OutputDamaged
from paintover_engine.jobs.path_mapping import PathMap
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.runner import Runner, StageReport
from paintover_engine.jobs.store import Store
from paintover_engine.methods.planning import CHUNK, Span
from paintover_engine.methods.registry import find_method, find_model, read_parameters
from paintover_engine.methods.stage import Stage

POLL_SECONDS = 0.5  # between two looks at what other machines have stored
DAMAGED_OUTPUTS = 20  # found and computed again in one run; a disk that damages more is not to be used


class Step(enum.Enum):
    """A part of a job, as farms schedule it."""

    PREPARE = "prepare"  # what needs no keyframe
    PROPAGATE = "propagate"  # the painted frames
    DELIVER = "deliver"  # the output
    PLATE = "plate"  # a copy of the plate in the store, for machines that do not see it


ALL = (Step.PREPARE, Step.PROPAGATE, Step.DELIVER)


class Report:
    """Tells the farm how far a task is, in Open Job Description's lines on standard output."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._last = ""

    def progress(self, fraction: float) -> None:
        """fraction: 0 to 1."""
        self._line(f"openjd_progress: {100 * fraction:.1f}")

    def status(self, text: str) -> None:
        """What is being done."""
        self._line(f"openjd_status: {text}")

    def failure(self, sentence: str) -> None:
        """Why the task fails."""
        self._line(f"openjd_fail: {sentence}")

    def _line(self, line: str) -> None:
        with self._lock:
            if line != self._last:
                self._last = line
                self._stream.write(line + "\n")
                self._stream.flush()


def window_count(first: int, last: int) -> int:
    """How many windows a shot's frames have: chunks of the absolute grid that the stages of all methods lie on or
    near."""
    return last // CHUNK - first // CHUNK + 1


def window_of(frame: int, first: int) -> int:
    """The window of a frame, from 1 on. first: the shot's first frame."""
    return frame // CHUNK - first // CHUNK + 1


def stages_of(job: FarmJob, stages: Iterable[Stage], steps: Sequence[Step], windows: Span | None) -> list[Stage]:
    """The stages of some steps and windows. Each stage is of one step, and of the window of its first frame."""
    first, last = windows or (1, job.windows)
    return [
        stage
        for stage in stages
        if (Step.PROPAGATE if stage.needs_keyframe else Step.PREPARE) in steps
        and first <= window_of(max(stage.frames[0], job.info.first), job.info.first) <= last
    ]


def render(
    path: Path,
    place: str,
    scratch: Path,
    steps: Sequence[Step],
    windows: Span | None,
    mapped: PathMap,
    report: Report,
    cancelled: Callable[[], bool],
) -> None:
    """Runs the steps of a job file's job in some windows (all: None), and publishes the output where that is one of
    them.

    place, scratch: where stages' outputs lie, shared by all machines: as in `open_store`. Raises PaintoverError; with
    the code CANCELLED where `cancelled` says so."""
    job, name = job_file.read(path)
    if windows and not 1 <= windows[0] <= windows[1] <= job.windows:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The job has windows 1 to {job.windows}, not {windows[0]}-{windows[1]}; give a range of those.",
        )
    store, lease_files = open_store(place, scratch)
    for key in job.keyframes:
        put_keyframe(store, path.parent / job_file.KEYFRAMES / f"{key.digest}.safetensors")
    if Step.PLATE in steps:
        store_plate(store, job, path.parent, mapped)
    if not set(steps) - {Step.PLATE}:
        return
    if gone := [first for key, first, _ in job.kept if not store.has(key, publishes=True)]:
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The frames from {gone[0]} on, which were to be kept, are not in this store; give the earlier bundle's "
            "with --store.",
        )
    output = None
    if Step.DELIVER in steps:
        result, mattes = (job_file.located(given, path.parent, mapped) for given in (job.result, job.mattes))
        output = Output(result, job.overwrite, mattes, tuple(map(mapped, job.paintings)))
        for made in (result, mattes):
            if made:
                Path(made).parent.mkdir(parents=True, exist_ok=True)
    record = store.folder.publications / f"{name}.json"
    started = _first_start(store, name)
    with (
        _runner(job, store, path.parent, mapped, output, record, cancelled) as runner,
        Leases(lease_files) as leases,
    ):
        loop = StageLoop(runner, leases, report)
        targets = stages_of(job, runner.stages, steps, windows)

        def run() -> None:
            loop.run(targets)
            if output:
                _deliver(job, runner, loop, leases, record, report, started)

        for _ in range(DAMAGED_OUTPUTS):
            if _finds_all_whole(run, loop, report):
                return
        raise PaintoverError(Code.DATA_LOSS, f"Too many outputs in '{place}' are damaged; check its disk.")


def _finds_all_whole(run: Callable[[], None], loop: StageLoop, report: Report) -> bool:
    """Whether nothing that was read was damaged; what was, is removed."""
    try:
        run()
    except OutputDamaged as error:
        report.status(f"{error.message} It is computed again.")
        loop.forget()
        return False
    return True


def _first_start(store: Store, name: str) -> float:
    """When the job's first task began, in seconds since 1970."""
    with contextlib.suppress(ValueError):  # another task is just writing it
        return float(store.create_once(f"publications/{name}.started", str(time.time())))
    return time.time()


def _runner(
    job: FarmJob,
    store: Store,
    bundle: Path,
    mapped: PathMap,
    output: Output | None,
    record: Path,
    cancelled: Callable[[], bool],
) -> Runner:
    """The job's stages on this machine. Raises PaintoverError where they would not be those of the bundle."""
    spec = find_method(job.method)
    model = job_file.located(job.model, bundle, mapped) if os.path.isabs(job.model) else job.model
    if spec.takes_model and find_model(spec, model).digest != job.model_digest:
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The model '{model or spec.default_model}' of this machine is not the one that the bundle was made with; "
            "install one version on all machines.",
        )
    runner = Runner(
        store,
        job.info,
        job.method,
        read_parameters(spec, job.parameters),
        job.keyframes,
        cancelled,
        model,
        output,
        record,
        find_plate(store, job, bundle, mapped),
        job.kept,
    )
    if job_file.plan_digest(runner.stages) != job.plan:
        runner.close()
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            "This machine would compute other stages than the one that made the bundle; install one version of "
            "Paintover on all machines, or make the bundle anew.",
        )
    return runner


def _deliver(
    job: FarmJob, runner: Runner, loop: StageLoop, leases: Leases, record: Path, report: Report, started: float
) -> None:
    """Publishes the output, of which all frames are to be stored. record: the file of what was published."""
    absent = [stage.frames[0] for stage in runner.stages if stage.publishes and not loop.has(stage)]
    if absent:
        numbers = sorted({window_of(frame, job.info.first) for frame in absent})
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The windows {', '.join(map(str, numbers))} are not rendered yet; run the step propagate for them first.",
        )
    lease = f"deliver-{record.stem}"
    while not leases.take(lease):
        runner.check()
        time.sleep(POLL_SECONDS)
    try:
        report.status("write")
        runner.store.fetch_file(record)
        notes = runner.notes()
        for sentence in [*notes, *runner.deliver(notes=notes, started=started)]:
            report.status(sentence)
        runner.store.share_file(record)
    finally:
        leases.release(lease)
    report.progress(1.0)


class StageLoop:
    """Runs stages that are not stored yet, those that are ready first, beside other processes that do the same."""

    def __init__(self, runner: Runner, leases: Leases, report: Report) -> None:
        self._runner = runner
        self._leases = leases
        self._report = report
        self._stored: set[str] = set()

    def has(self, stage: Stage) -> bool:
        """Whether a stage's output is stored; asked of the disk until it is."""
        if stage.key not in self._stored and self._runner.store.has(stage.key, stage.publishes):
            self._stored.add(stage.key)
        return stage.key in self._stored

    def forget(self) -> None:
        """Asks the disk again for everything: an output was damaged and removed."""
        self._stored.clear()

    def run(self, targets: Sequence[Stage]) -> None:
        """Returns when all targets are stored. Raises PaintoverError as a stage does; OutputDamaged where one that it
        reads was damaged."""
        running: dict[Future[StageReport], Stage] = {}
        with ThreadPoolExecutor(self._runner.slots, "render") as pool:
            try:
                while missing := self._missing(targets):
                    self._report.progress(self._share(targets))
                    self._runner.check()
                    self._start_ready(missing, running, pool)
                    if not running:  # another process is computing what comes first
                        time.sleep(POLL_SECONDS)
                    for done in wait(running, POLL_SECONDS, FIRST_COMPLETED).done:
                        stage = running.pop(done)
                        self._leases.release(stage.key)
                        done.result()
            finally:
                for done, stage in running.items():
                    wait([done])
                    self._leases.release(stage.key)
        self._report.progress(1.0)

    def _start_ready(self, missing: Sequence[Stage], running: dict[Future[StageReport], Stage],
                     pool: ThreadPoolExecutor) -> None:  # fmt: skip
        for stage in missing:
            if len(running) >= self._runner.slots:
                return
            if stage in running.values() or not all(self.has(needed) for needed in stage.inputs):
                continue
            if self._leases.take(stage.key):
                self._runner.store.look_again()
                if self.has(stage):  # stored between the two looks
                    self._leases.release(stage.key)
                    continue
                self._report.status(stage.label)
                running[pool.submit(self._runner.run, stage)] = stage

    def _missing(self, targets: Sequence[Stage]) -> list[Stage]:
        """The targets that are not stored and, of what they read, what is not; in the plan's order."""
        needed = {stage.key for stage in targets}
        missing: list[Stage] = []
        for stage in reversed(self._runner.stages):
            if stage.key in needed and not self.has(stage):
                missing.append(stage)
                needed.update(each.key for each in stage.inputs)
        return missing[::-1]

    def _share(self, targets: Sequence[Stage]) -> float:
        total = sum(stage.cost for stage in targets)
        return sum(stage.cost for stage in targets if self.has(stage)) / total if total else 1.0
