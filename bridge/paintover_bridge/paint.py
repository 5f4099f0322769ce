"""`paintover paint`: one frame out to the artist's editor; every save of it back into the shot."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from paintover.v1 import job_pb2, shot_pb2

from paintover_bridge.client import Client, absolute, is_finished
from paintover_bridge.editors import Editor
from paintover_bridge.errors import FAILED, INTERRUPTED, OK, ClientError, bad_input
from paintover_bridge.job_request import JobRequest
from paintover_bridge.output import Output
from paintover_bridge.progress import duration, frame_record, progress_record
from paintover_bridge.propagate import (
    CANCEL_SECONDS,
    create_shot,
    done_record,
    interrupts_held,
    located,
    write_timeline,
)
from paintover_bridge.records import as_record, job_number
from paintover_bridge.saves import PICTURES, Saves

FORMATS = ("psd", "png", "tif", "exr")
_FRESH_SECONDS = 10.0
_TICK_SECONDS = 0.2  # Windows tells of Ctrl-C only between two waits


@dataclass(frozen=True)
class PaintOptions:
    """What to paint on.

    picture: the file to paint on; None: one in the data folder, the same each time for the same frame.
    only: takes this frame alone, without the shot's other keyframes.
    once: ends when the first save is carried through.
    """

    frame: int
    picture: str | None = None
    format: str = "psd"
    only: bool = False
    once: bool = False


def picture_path(options: PaintOptions, shot: shot_pb2.Shot, data_folder: Path) -> Path:
    """Where the picture of a frame lies."""
    if options.picture is not None:
        return Path(absolute(options.picture))
    source = Path(shot.source)
    stem = source.stem if not source.is_dir() else f"{source.parent.name}_{source.name}".strip("_")
    stem = re.sub(r"[.\s]*(%0?\d*d|[#@]+|\[\d+-\d+\])", "", stem) or "shot"
    folder = hashlib.sha256(shot.source.encode()).hexdigest()[:8]
    return data_folder / "paint" / f"{stem}-{folder}" / f"{stem}_{options.frame:04d}.{options.format}"


class PaintSession:
    """The time that an artist paints on one frame.

    request: the shot and what its jobs compute. editor: opens the picture; None: the artist does.
    """

    def __init__(
        self,
        client: Client,
        request: JobRequest,
        options: PaintOptions,
        editor: Editor | None,
        data_folder: Path,
        output: Output,
    ) -> None:
        self._client = client
        self._request = located(client, request, output)
        self._options = options
        self._editor = editor
        self._data_folder = data_folder
        self._output = output
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._shot = shot_pb2.Shot()
        self._job: job_pb2.Job | None = None  # the last save's
        self._keyframe = ""
        self._prepared = ""
        self._saved_at = 0.0
        self._numbers: set[int] = set()

    def run(self) -> int:
        """Paints until Ctrl-C, which waits for the last save's job; a second one, or SIGTERM, cancels that job.

        Returns the exit status. Raises ClientError for what is wrong before there is anything to paint on."""
        picture, resumed = self._export()
        self._prepare()
        saves = Saves(
            picture,
            taken=lambda path: self._events.put(("saved", path)),
            foreign=lambda path: self._events.put(("foreign", path)),
            failed=lambda error: self._events.put(("failed", error)),
            known=not resumed,
        )
        try:
            self._open(picture)
            with _terminable():
                return self._serve()
        finally:
            saves.stop()
            self._tidy_up()

    # Before the editor opens.

    def _export(self) -> tuple[Path, bool]:
        """The picture to paint on, and whether it was there already."""
        options = self._options
        self._shot = shot = create_shot(self._client, self._request, self._output)
        first, last = shot.range.first, shot.range.last
        if not first <= options.frame <= last:
            raise bad_input(f"Frame {options.frame} does not exist: the shot has frames {first} to {last}.")
        self._client.create_job(shot.name, validate_only=True, **self._request.job_settings())
        picture = picture_path(options, shot, self._data_folder)
        if picture.suffix.lower() not in PICTURES:
            raise bad_input(f"'{picture.name}' is no picture that is read; name a .psd, .png, .tif or .exr file.")
        resumed = picture.exists()
        if not resumed:
            if options.picture is None:
                picture.parent.mkdir(parents=True, exist_ok=True)
            self._output.notes(self._client.export_frame(shot.name, options.frame, picture))
        record = {"path": str(picture), "shot": shot.name, "frame": options.frame, "resumed": resumed}
        self._output.event("exported", record)
        done = "Going on with" if resumed else f"Frame {options.frame} is in"
        self._output.say(f"{done} {picture}.")
        if picture.suffix.lower() in (".psd", ".psb"):
            self._output.say("Paint on the layers above the plate, and save.")
        self._tell_of_others()
        return picture, resumed

    def _tell_of_others(self) -> None:
        if self._options.only:
            return
        frames = [key.frame for key in self._client.list_keyframes(self._shot.name) if key.frame != self._options.frame]
        if frames:
            listed = ", ".join(map(str, frames))
            which = "frame" if len(frames) == 1 else "frames"
            self._output.note(
                f"The shot has been painted at {which} {listed} too, which is used; --only leaves it out."
            )

    def _prepare(self) -> None:
        """Starts what needs no keyframe, so that it is done when the first save comes."""
        request = self._request
        self._prepared = self._client.prepare_shot(
            self._shot.name, request.method, parameters=request.parameters, model=request.model
        )
        self._output.event("preparing", {"job": self._prepared})

    def _open(self, picture: Path) -> None:
        if self._editor is None:
            self._output.event("editor", {"name": None})
            self._output.say("Open it in your editor; press Ctrl-C when you are done.")
            return
        try:
            self._editor.open(picture)
        except ClientError as error:
            self._output.error(error)
            self._output.say("Open it yourself; press Ctrl-C when you are done.")
            return
        if self._editor.name == "Photoshop":
            self._client.open_monitor()  # its panel asks there
        self._output.event("editor", {"name": self._editor.name})
        self._output.say(f"Opening {self._editor.name}; press Ctrl-C here when you are done.")

    # While it is open.

    def _serve(self) -> int:
        try:
            while True:
                self._answer(*self._next())
                if self._options.once and self._job is not None and is_finished(self._job):
                    return self._status()
        except Terminated:
            return self._cancel()
        except KeyboardInterrupt:
            return self._finish()

    def _next(self) -> tuple[str, Any]:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=_TICK_SECONDS)

    def _answer(self, kind: str, what: Any) -> None:
        if kind == "saved":
            self._take(what)
        elif kind == "job":
            self._show(what)
        elif kind == "foreign":
            self._output.note(
                f"'{what.name}' is the editor's own kind, which is not read; "
                f"save or export a {self._options.format.upper()} of the same name beside it."
            )
        else:  # the folder is gone, or the engine is
            raise what

    def _take(self, path: Path) -> None:
        """A save: its keyframe replaces the last one, and its job the last one's."""
        self._output.event("saved", {"path": str(path)})
        self._saved_at = _last_change(path)
        try:
            keyframe = self._client.put_keyframe(self._shot.name, self._options.frame, path)
            self._output.event("keyframe", as_record(keyframe))
            if keyframe.name == self._keyframe:
                self._output.say(f"Saved {path.name}, with nothing painted differently.")
                return
            self._output.say(f"Saved {path.name}.")
            self._output.notes(keyframe.notes)
            self._outdate()
            self._submit(keyframe.name)
        except ClientError as error:
            if error.code in ("UNAVAILABLE", "UNAUTHENTICATED"):
                raise
            if error.code == "NOT_FOUND":  # nothing painted yet, or the file was taken away again
                self._output.note(error.message)
            else:
                self._output.error(error)  # the next save may be right

    def _outdate(self) -> None:
        if self._job is None or is_finished(self._job):
            return
        with contextlib.suppress(ClientError):  # it may have finished: then nothing is to be cancelled
            self._client.cancel_job(self._job.name)
            self._output.event("outdated", {"job": self._job.name})
            self._output.say(f"{self._job.name} is cancelled: this save outdates it.")

    def _submit(self, keyframe: str) -> None:
        names = [keyframe] if self._options.only else []
        with interrupts_held():  # else a job could be left that nobody follows
            job = self._client.create_job(
                self._shot.name, names, priority=self._request.priority, **self._request.job_settings()
            )
            self._keyframe, self._job, self._numbers = keyframe, job, set()
            threading.Thread(target=self._follow, args=(job.name,), name=f"paintover-{job.name}", daemon=True).start()
        self._output.event("job", as_record(job))

    def _follow(self, name: str) -> None:
        try:
            for event in self._client.watch(name):
                self._events.put(("job", event.job))
            self._events.put(("job", self._client.get_job(name)))
        except ClientError as error:
            self._events.put(("failed", error))

    def _show(self, job: job_pb2.Job) -> None:
        if self._job is None or job.name != self._job.name or is_finished(self._job):
            return
        fresh = [frame for frame in job.frames if frame.number not in self._numbers]
        if fresh and not self._numbers:
            seconds = time.time() - self._saved_at
            number = fresh[0].number if len(fresh) == 1 else self._options.frame
            self._output.say(f"Frame {number} is there, {seconds:.1f} s after the save.")
        for frame in fresh:
            self._numbers.add(frame.number)
            self._output.record(frame_record(job, frame))
        self._output.record(progress_record(job))
        if is_finished(job):
            self._job = job
            self._end(job)

    def _end(self, job: job_pb2.Job) -> None:
        if job.state == job_pb2.JOB_STATE_FAILED:
            again = f"{job.name} failed; see `paintover jobs show {job_number(job)}`."
            self._output.error(ClientError(job.error_code or "INTERNAL", job.message or again))
            return
        if job.state == job_pb2.JOB_STATE_CANCELLED:
            self._output.error(ClientError("CANCELLED", f"{job.name} was cancelled."))
            return
        if job.spec.output.path:  # the next save's result replaces this one
            self._request = replace(self._request, overwrite=True)
        self._output.event("done", done_record(job))
        took = duration(max(time.time() - self._saved_at, 1.0))
        where = f"Wrote {job.spec.output.path}" if job.spec.output.path else f"{job.name} is done"
        self._output.say(f"{where} ({job.progress.frames_total} frames, {took} after the save).")
        if job.message:
            self._output.note(job.message)
        write_timeline(self._request, job.spec.output.path, self._output)
        if job.suggested_keyframes:
            self._output.say(f"Least sure at frame {job.suggested_keyframes[0]}: paint that one too.")

    # When the artist is done.

    def _finish(self) -> int:
        """Waits for the last save's job, until a second Ctrl-C."""
        if self._job is None or is_finished(self._job):
            return self._status()
        self._output.say("Waiting for the last save to be carried through; press Ctrl-C again to cancel it.")
        try:
            while not is_finished(self._job):
                kind, what = self._next()
                if kind == "job":
                    self._show(what)
                elif kind == "failed":
                    raise what
            return self._status()
        except KeyboardInterrupt:
            return self._cancel()

    def _cancel(self) -> int:
        job = self._job
        if job is None or is_finished(job):
            return self._status()
        with contextlib.suppress(ClientError):
            self._client.cancel_job(job.name)
        self._client.wait_until_finished(job.name, CANCEL_SECONDS)
        self._output.error(ClientError("CANCELLED", f"{job.name} was cancelled."))
        return INTERRUPTED

    def _status(self) -> int:
        """0 when the last save was carried through, or nothing was saved."""
        return FAILED if self._job is not None and self._job.state != job_pb2.JOB_STATE_DONE else OK

    def _tidy_up(self) -> None:
        """What was prepared for a save that never came need not go on."""
        if self._prepared and self._job is None:
            with contextlib.suppress(ClientError):
                self._client.cancel_job(self._prepared)


def _last_change(path: Path) -> float:
    """When a save was written, by the clock: now, for one that was found lying there."""
    now = time.time()
    with contextlib.suppress(OSError):
        changed = path.stat().st_mtime
        if now - _FRESH_SECONDS < changed <= now:
            return changed
    return now


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises Terminated within the block."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
