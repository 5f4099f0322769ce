"""`paintover paint`: exports a frame to the artist's editor, and propagates every save of it."""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from paintover.v1 import job_pb2, shot_pb2
from paintover_local.pictures import draft_picture, keyframe_picture

from paintover_bridge.client import Client, is_finished
from paintover_bridge.editors import Editor
from paintover_bridge.errors import FAILED, INTERRUPTED, OK, ClientError, bad_input
from paintover_bridge.job_request import JobRequest
from paintover_bridge.messages import absolute
from paintover_bridge.native_files import readable
from paintover_bridge.output import CommandOutput
from paintover_bridge.progress import duration, frame_record, progress_record, range_in_words
from paintover_bridge.propagate import (
    CANCEL_SECONDS,
    create_shot,
    done_record,
    interrupts_held,
    located,
    tell_best,
    write_timeline,
)
from paintover_bridge.records import as_record, job_number
from paintover_bridge.save_watcher import PICTURES, SaveWatcher

_FRESH_SECONDS = 10.0
_LEAST_CERTAIN = 3  # frames that are shown after each save
_PARTS = 12  # of a shot; two of those frames are at least one of them apart
_TICK_SECONDS = 0.2  # Windows delivers Ctrl-C only between two waits


@dataclass(frozen=True)
class PaintOptions:
    """What to paint on.

    picture: the file to paint on; None: one in the data folder, the same each time for the same frame.
    only: takes this frame alone, without the shot's other keyframes.
    once: ends when the first save is carried through. wait: False: ends when the picture is there, and leaves the
    stages that need no keyframe to the engine. fix: starts from the frame's newest result, to be corrected, instead of
    from the plate.
    """

    frame: int
    picture: str | None = None
    format: str = "psd"
    only: bool = False
    once: bool = False
    wait: bool = True
    fix: bool = False


def _picture_path(options: PaintOptions, shot: shot_pb2.Shot, data_folder: Path) -> Path:
    """The file to paint on: the one that the options name, else the frame's own in the data folder."""
    if options.picture is not None:
        return Path(absolute(options.picture))
    return keyframe_picture(data_folder, shot.source, options.frame, options.format)


class PaintSession:
    """Paints one frame: opens the editor, watches the picture, and runs a job for each save.

    request: the shot and what its jobs compute. editor: opens the picture; None: the artist does.
    """

    def __init__(
        self,
        client: Client,
        request: JobRequest,
        options: PaintOptions,
        editor: Editor | None,
        data_folder: Path,
        output: CommandOutput,
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
        self._confidences: dict[int, float] = {}  # of the frames of the last save's job
        self._picture = Path()

    def run(self) -> int:
        """Runs until Ctrl-C, which waits for the last save's job; a second one, or SIGTERM, cancels that job.

        Returns the exit status. Raises ClientError for invalid options, before the editor opens."""
        self._picture, resumed = self._export()
        self._prepare()
        if not self._options.wait:
            return OK
        watcher = SaveWatcher(
            self._picture,
            on_save=lambda path: self._events.put(("saved", path)),
            on_unreadable=lambda path: self._events.put(("foreign", path)),
            on_error=lambda error: self._events.put(("failed", error)),
            existing_known=not resumed,
        )
        try:
            self._open(self._picture)
            with _terminable():
                return self._serve()
        finally:
            watcher.stop()
            self._tidy_up()

    # Before the editor opens.

    def _export(self) -> tuple[Path, bool]:
        """Writes the picture to paint on; returns its path, and whether it existed already."""
        options = self._options
        self._shot = shot = create_shot(self._client, self._request, self._output)
        first, last = shot.range.first, shot.range.last
        if not first <= options.frame <= last:
            raise bad_input(f"Frame {options.frame} does not exist: the shot has frames {first} to {last}.")
        self._client.create_job(shot.name, validate_only=True, **self._request.job_settings())
        tell_best(self._client, self._request, self._output)
        picture = _picture_path(options, shot, self._data_folder)
        if picture.suffix.lower() not in PICTURES:
            raise bad_input(f"'{picture.name}' is no picture that is read; name a .psd, .png, .tif or .exr file.")
        resumed = picture.exists()
        if resumed and options.fix:
            raise bad_input(f"{picture} is there already, with what was painted on it; name another file by --picture.")
        if not resumed:
            result = self._newest_result() if options.fix else ""
            if options.picture is None:
                picture.parent.mkdir(parents=True, exist_ok=True)
            self._output.notes(self._client.export_frame(shot.name, options.frame, picture, job=result))
        record = {"path": str(picture), "shot": shot.name, "frame": options.frame, "resumed": resumed}
        self._output.event("exported", record)
        done = "Going on with" if resumed else f"Frame {options.frame} is in"
        self._output.say(f"{done} {picture}.")
        if picture.suffix.lower() in (".psd", ".psb"):
            self._output.say(
                "Correct the layer above the plate, and save."
                if options.fix
                else "Paint on the layers above the plate, and save."
            )
        self._note_other_keyframes()
        return picture, resumed

    def _newest_result(self) -> str:
        """The name of the shot's newest job that has a result of the frame."""
        number = self._options.frame
        jobs = [job for job in self._client.list_jobs() if job.spec.shot == self._shot.name]
        for job in sorted(jobs, key=lambda job: int(job_number(job)), reverse=True):
            if any(frame.number == number for frame in self._client.get_job(job.name).frames):
                return job.name
        raise bad_input(f"Frame {number} has no result yet to correct; propagate the shot first, or leave out --fix.")

    def _note_other_keyframes(self) -> None:
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
        """Starts the job of the stages that need no keyframe, so that the first save finds their output."""
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
        saving = self._editor.saving
        if saving:
            self._output.say(f"To save in {self._editor.name}: {saving}")
        try:
            self._editor.open(picture)
        except ClientError as error:
            self._output.error(error)
            self._output.say("Open it yourself; press Ctrl-C when you are done.")
            return
        if self._editor.name == "Photoshop":
            self._client.open_monitor()  # the panel connects to its port
        self._output.event("editor", {"name": self._editor.name, "saving": saving or None})
        self._output.say(f"Opening {self._editor.name}; press Ctrl-C here when you are done.")

    # While the editor is open.

    def _serve(self) -> int:
        try:
            while True:
                self._handle(*self._next())
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

    def _handle(self, kind: str, what: Any) -> None:
        if kind == "saved":
            self._submit_save(what)
        elif kind == "job":
            self._report_progress(what)
        elif kind == "foreign":
            self._output.note(
                f"'{what.name}' is the editor's own kind, which is not read; "
                f"save or export a {self._options.format.upper()} of the same name beside it."
            )
        else:  # the folder or the engine is gone
            raise what

    def _submit_save(self, path: Path) -> None:
        """Turns a save into a keyframe and a job, which replaces the last save's job."""
        self._output.event("saved", {"path": str(path)})
        self._saved_at = _last_change(path)
        try:
            keyframe = self._client.put_keyframe(self._shot.name, self._options.frame, readable(path))
            self._output.event("keyframe", as_record(keyframe))
            if keyframe.name == self._keyframe:
                self._output.say(f"Saved {path.name}, with nothing painted differently.")
                return
            self._output.say(f"Saved {path.name}.")
            self._output.notes(keyframe.notes)
            self._cancel_outdated_job()
            self._submit(keyframe.name)
        except ClientError as error:
            if error.code in ("UNAVAILABLE", "UNAUTHENTICATED"):
                raise
            if error.code == "NOT_FOUND":  # nothing painted yet, or the file was taken away again
                self._output.note(error.message)
            else:
                self._output.error(error)  # the next save may be right

    def _cancel_outdated_job(self) -> None:
        if self._job is None or is_finished(self._job):
            return
        with contextlib.suppress(ClientError):  # it may have finished meanwhile
            self._client.cancel_job(self._job.name)
        self._client.wait_until_finished(self._job.name, CANCEL_SECONDS)
        if self._client.get_job(self._job.name).state == job_pb2.JOB_STATE_DONE:  # before it could be cancelled
            self._request = replace(self._request, overwrite=True)
            return
        self._output.event("outdated", {"job": self._job.name})
        self._output.say(f"{self._job.name} is cancelled: this save outdates it.")

    def _submit(self, keyframe: str) -> None:
        names = [keyframe] if self._options.only else []
        with interrupts_held():  # else a job could be left that nobody follows
            job = self._client.create_job(
                self._shot.name, names, priority=self._request.priority, **self._request.job_settings()
            )
            self._keyframe, self._job, self._confidences = keyframe, job, {}
            threading.Thread(target=self._follow, args=(job.name,), name=f"paintover-{job.name}", daemon=True).start()
        self._output.event("job", as_record(job))

    def _follow(self, name: str) -> None:
        try:
            for event in self._client.watch(name):
                self._events.put(("job", event.job))
            self._events.put(("job", self._client.get_job(name)))
        except ClientError as error:
            self._events.put(("failed", error))

    def _report_progress(self, job: job_pb2.Job) -> None:
        if self._job is None or job.name != self._job.name or is_finished(self._job):
            return
        fresh = [frame for frame in job.frames if frame.number not in self._confidences]
        if fresh and not self._confidences:
            seconds = time.time() - self._saved_at
            number = fresh[0].number if len(fresh) == 1 else self._options.frame
            self._output.say(f"Frame {number} is there, {seconds:.1f} s after the save.")
        for frame in fresh:
            self._confidences[frame.number] = frame.confidence
            self._output.record(frame_record(job, frame))
        self._output.record(progress_record(job))
        if is_finished(job):
            self._job = job
            self._report_end(job)

    def _report_end(self, job: job_pb2.Job) -> None:
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
        for unsure in job.unsure:
            self._output.say(f"Not sure at {range_in_words(unsure)}.")
        if job.suggested_keyframes:
            self._output.say(f"Paint frame {job.suggested_keyframes[0]} next.")
        self._export_draft(job)

    def _export_draft(self, job: job_pb2.Job) -> None:
        """Writes the frames to judge this save by into a file beside the picture, which a painting program can show."""
        frames = frames_to_judge(self._confidences, self._options.frame)
        if not frames:
            return
        path = draft_picture(self._picture)
        try:
            self._client.export_frames(job.name, frames, path)
        except ClientError as error:
            self._output.note(error.message)
            return
        self._output.event("draft", {"path": str(path), "frames": frames})
        self._output.say(f"To look at beside it: frames {', '.join(map(str, frames))} in {path}.")

    # When the artist is done.

    def _finish(self) -> int:
        """Waits for the last save's job; a second Ctrl-C cancels it. Returns the exit status."""
        if self._job is None or is_finished(self._job):
            return self._status()
        self._output.say("Waiting for the last save to be carried through; press Ctrl-C again to cancel it.")
        try:
            while not is_finished(self._job):
                kind, what = self._next()
                if kind == "job":
                    self._report_progress(what)
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
        """The exit status: 0 when the last save was propagated, or nothing was saved."""
        return FAILED if self._job is not None and self._job.state != job_pb2.JOB_STATE_DONE else OK

    def _tidy_up(self) -> None:
        """Cancels the preparation if no save came."""
        if self._prepared and self._job is None:
            with contextlib.suppress(ClientError):
                self._client.cancel_job(self._prepared)


def frames_to_judge(confidences: Mapping[int, float], painted: int) -> list[int]:
    """The least certain frames of a result, and the neighbours of the painted one.

    confidences: 0 to 1, by frame. The uncertain ones lie apart, so that they show different places of the shot."""
    apart = len(confidences) // _PARTS
    chosen: list[int] = []
    for frame in sorted(confidences, key=lambda frame: (confidences[frame], frame)):
        if len(chosen) < _LEAST_CERTAIN and all(abs(frame - one) > apart for one in (*chosen, painted)):
            chosen.append(frame)
    return chosen + [frame for frame in (painted - 1, painted + 1) if frame in confidences and frame not in chosen]


def _last_change(path: Path) -> float:
    """The time of a save, seconds since the epoch: the file's modification time if that is recent, else now."""
    now = time.time()
    with contextlib.suppress(OSError):
        changed = path.stat().st_mtime
        if now - _FRESH_SECONDS < changed <= now:
            return changed
    return now


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM."""


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
