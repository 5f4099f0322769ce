"""How a job's progress is shown: a bar in a terminal, plain lines in a log, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from paintover.v1 import job_pb2

from paintover_bridge.output import write_line
from paintover_bridge.records import as_record, json_line, word

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Display(Protocol):
    """Where a job's events are shown."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def event(self, job: job_pb2.Job) -> None: ...


def display_for(*, as_json: bool) -> Display:
    """The display that suits where standard output goes."""
    if as_json:
        return JsonDisplay()
    return BarDisplay() if sys.stdout.isatty() and sys.stderr.isatty() else LineDisplay()


def state_word(state: int) -> str:
    """ "waiting for keyframe"."""
    return word(job_pb2.JobState.DESCRIPTOR, state).replace("_", " ")


def activity(job: job_pb2.Job) -> str:
    """What the job does now: its stage while it runs ("flow 24-31"), else its state ("queued")."""
    busy = job.state in (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_PREPARING)
    return job.progress.stage if busy and job.progress.stage else state_word(job.state)


def duration(seconds: float) -> str:
    """ "8 s", "3 min 20 s", "2 h 5 min"; empty when negative (not known)."""
    if seconds < 0:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _Plain:
    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonDisplay(_Plain):
    """Every event, as a line, after a line for each frame that it adds."""

    def event(self, job: job_pb2.Job) -> None:
        for frame in job.frames:
            write_line(json_line(frame_record(job, frame)))
        write_line(json_line(progress_record(job)))


def frame_record(job: job_pb2.Job, frame: job_pb2.FrameSummary) -> dict[str, Any]:
    """One frame that is there, for programs."""
    return {"event": "frame", "job": job.name, **as_record(frame)}


def progress_record(job: job_pb2.Job) -> dict[str, Any]:
    """One event for programs; `frames` are those that it adds."""
    progress = as_record(job.progress)
    if job.progress.seconds_left < 0:
        progress["seconds_left"] = None
    frames = [as_record(frame) for frame in job.frames]
    state = word(job_pb2.JobState.DESCRIPTOR, job.state)
    return {"event": "progress", "job": job.name, "state": state, **progress, "frames": frames}


class LineDisplay(_Plain):
    """A line at every tenth of the work and at every change of state: a log stays short."""

    def __init__(self) -> None:
        self._shown: tuple[int, int] | None = None

    def event(self, job: job_pb2.Job) -> None:
        step = (job.state, int(job.progress.fraction * 10))
        if step == self._shown:
            return
        self._shown = step
        progress = job.progress
        parts = [f"{progress.fraction:4.0%}", activity(job)]
        if progress.frames_total:
            parts.append(f"{progress.frames_done}/{progress.frames_total} frames")
        if job.state == job_pb2.JOB_STATE_RUNNING and duration(progress.seconds_left):
            parts.append(f"{duration(progress.seconds_left)} left")
        write_line("  ".join(parts))


class BarDisplay:
    """One line that is drawn again: what it does, a bar, frames, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
        from rich.text import Text

        class Left(ProgressColumn):
            """Counts down between events, which a long stage keeps far apart."""

            def render(self, task: Task) -> Text:
                left = task.fields["ends"] - time.monotonic()
                return Text(f"{duration(left)} left" if left > 0 else "")

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[frames]}"),
            Left(),
        )
        self._progress: Progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task: TaskID = self._progress.add_task("queued", total=1.0, frames="", ends=0.0)

    def __enter__(self) -> BarDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def event(self, job: job_pb2.Job) -> None:
        progress = job.progress
        frames = f"{progress.frames_done}/{progress.frames_total} frames" if progress.frames_total else ""
        self._progress.update(
            self._task,
            completed=progress.fraction,
            description=activity(job),
            frames=frames,
            ends=time.monotonic() + progress.seconds_left,
        )


def range_in_words(unsure: job_pb2.UnsureRange) -> str:
    """ "12-20: part of the edit was lost"."""
    frames = str(unsure.first) if unsure.first == unsure.last else f"{unsure.first}-{unsure.last}"
    return f"{frames}: {unsure.cause}"
