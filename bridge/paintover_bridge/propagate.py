"""`paintover propagate`: a source and its keyframes in, the edited shot out."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from paintover.v1 import job_pb2

from paintover_bridge.arguments import KeyframeFile
from paintover_bridge.client import Client
from paintover_bridge.errors import INTERRUPTED, OK, ClientError
from paintover_bridge.output import Output
from paintover_bridge.progress import display_for, duration
from paintover_bridge.records import as_record, job_number
from paintover_bridge.timeline import ClipMedia, check_rate

CANCEL_SECONDS = 10.0


@dataclass(frozen=True)
class Request:
    """What to propagate, as `paintover propagate` was asked. frames: first and last, None for the whole source.

    clip: of a timeline, which the source, its frames and its rate come from; None for sources of their own."""

    source: str
    keyframes: Sequence[KeyframeFile]
    output: str
    method: str = "draft"
    parameters: Mapping[str, str] | None = None
    model: str = ""
    frames: tuple[int, int] | None = None
    colorspace: str = ""
    layer: str = ""
    mattes: str | None = None
    overwrite: bool = False
    versioned: bool = False
    priority: int = 0
    clip: ClipMedia | None = None


def submit(client: Client, request: Request, output: Output) -> job_pb2.Job:
    """Puts the request into the engine's queue, saying what the engine noted about source and keyframes."""
    shot = client.create_shot(request.source, frames=request.frames, colorspace=request.colorspace, layer=request.layer)
    output.event("shot", as_record(shot))
    output.notes(shot.notes)
    if request.clip is not None:
        check_rate(request.clip, shot.rate_numerator / (shot.rate_denominator or 1))
    names = []
    for given in request.keyframes:
        keyframe = client.put_keyframe(shot.name, given.frame, given.picture, given.matte)
        output.event("keyframe", as_record(keyframe))
        output.notes(keyframe.notes)
        names.append(keyframe.name)
    with interrupts_held():  # else a job could be left whose name nobody knows
        job = client.create_job(
            shot.name,
            names,
            method=request.method,
            parameters=request.parameters,
            model=request.model,
            output=request.output,
            overwrite=request.overwrite,
            mattes=request.mattes,
            versioned=request.versioned,
            priority=request.priority,
        )
    output.event("job", as_record(job))
    return job


def follow(client: Client, name: str, output: Output) -> int:
    """Shows a job until it is finished; returns the exit status that its end deserves."""
    job = job_pb2.Job(name=name)
    with display_for(as_json=output.as_json) as display:
        for event in client.watch(name):
            job = event.job
            display.event(job)
    return report_end(client.get_job(name), output)


def run(client: Client, request: Request, output: Output, finished: Callable[[str], None] = lambda path: None) -> int:
    """Submits and follows. Ctrl-C (or SIGTERM) cancels the job; a second one leaves at once.

    finished: called with what was written, once the result is whole."""
    job = submit(client, request, output)
    status = until_done(client, job.name, output)
    if status == OK:
        finished(client.get_job(job.name).spec.output.path)
    return status


def prepare_shot(
    client: Client,
    source: str,
    frames: tuple[int, int] | None,
    colorspace: str,
    layer: str,
    method: str,
    parameters: Mapping[str, str],
    model: str,
    output: Output,
) -> job_pb2.Job:
    """Queues what needs no keyframe of a shot."""
    shot = client.create_shot(source, frames=frames, colorspace=colorspace, layer=layer)
    output.event("shot", as_record(shot))
    output.notes(shot.notes)
    with interrupts_held():
        job = client.get_job(client.prepare_shot(shot.name, method, parameters=parameters, model=model))
    output.event("job", as_record(job))
    return job


def until_done(client: Client, name: str, output: Output) -> int:
    """Follows a job; Ctrl-C cancels it, a second one leaves at once."""
    try:
        return follow(client, name, output)
    except KeyboardInterrupt:
        output.say("Cancelling; press Ctrl-C again to leave at once.")
        return _cancel(client, name, output)


def _cancel(client: Client, name: str, output: Output) -> int:
    """Cancels a job and waits until its files are let go; a job that finished meanwhile is reported as it ended."""
    try:
        with contextlib.suppress(ClientError):  # it may have finished: the next line knows
            client.cancel_job(name)
        if not client.wait_until_finished(name, CANCEL_SECONDS):
            raise ClientError("CANCELLED", f"{name} is still being cancelled; see `paintover jobs`.")
        return report_end(client.get_job(name), output)
    except KeyboardInterrupt:
        return INTERRUPTED


def report_end(job: job_pb2.Job, output: Output) -> int:
    """Says how a finished job ended; returns the exit status."""
    number = job_number(job)
    if job.state == job_pb2.JOB_STATE_FAILED:
        message = job.message or f"{job.name} failed; see `paintover jobs show {number}`."
        failure = ClientError(job.error_code or "INTERNAL", message)
        output.error(failure)
        return failure.exit_code
    if job.state == job_pb2.JOB_STATE_CANCELLED:
        again = f"`paintover jobs retry {number}` goes on from where it was"
        output.error(ClientError("CANCELLED", f"{job.name} was cancelled; {again}."))
        return INTERRUPTED
    output.event("done", done_record(job))
    seconds = max(job.end_time - job.start_time, 0.0)
    if job.spec.prepare_only:
        output.say(f"Prepared in {_short(seconds)}; what needs the paint starts from here.")
        return OK
    made = f"Wrote {job.spec.output.path}" if job.spec.output.path else f"Finished {job.name}"
    output.say(f"{made} ({job.progress.frames_total} frames in {_short(seconds)}).")
    if job.spec.output.mattes_path:
        output.say(f"Wrote {job.spec.output.mattes_path} (mattes).")
    if job.message:
        output.note(job.message)
    if job.suggested_keyframes:
        frame = job.suggested_keyframes[0]
        output.say(f"Least sure at frame {frame}: paint that one next and add --keyframe {frame}=IMAGE.")
    return OK


def done_record(job: job_pb2.Job) -> dict[str, Any]:
    """How a job ended well, for programs."""
    return {
        "job": job.name,
        "state": "done",
        "output": job.spec.output.path,
        "mattes": job.spec.output.mattes_path or None,
        "frames": job.progress.frames_total,
        "seconds": round(max(job.end_time - job.start_time, 0.0), 3),
        "message": job.message or None,
        "suggested_keyframes": list(job.suggested_keyframes),
    }


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM within the block take effect at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def cancel_on_terminate() -> None:
    """SIGTERM, which a render farm sends, cancels as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if sys.platform != "win32":
        signal.signal(signal.SIGTERM, interrupt)
