"""`paintover propagate` and `prepare`: create a job, follow it, report how it ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

from paintover.v1 import job_pb2, keyframe_pb2, shot_pb2

from paintover_bridge.arguments import KeyframeFile
from paintover_bridge.client import Client
from paintover_bridge.errors import INTERRUPTED, OK, ClientError, bad_input
from paintover_bridge.job_request import JobRequest
from paintover_bridge.output import CommandOutput
from paintover_bridge.progress import display_for, duration, range_in_words
from paintover_bridge.records import as_record, job_number, word
from paintover_bridge.timeline import check_rate, from_timecode, write_result

CANCEL_SECONDS = 10.0
BEST = "best"  # a job's method: the best that the engine's machine can run


def create_shot(client: Client, request: JobRequest, output: CommandOutput) -> shot_pb2.Shot:
    """The request's shot; what the engine noted about the source is printed.

    Raises ClientError where the source's frame rate is not what the timeline of the request's clip says."""
    shot = client.create_shot(
        request.source,
        frames=request.frames,
        colorspace=request.colorspace,
        stream=request.stream,
        layer=request.layer,
    )
    output.event("shot", as_record(shot))
    output.notes(shot.notes)
    if request.clip is not None:
        check_rate(request.clip, shot.rate_numerator / (shot.rate_denominator or 1))
    return shot


def located(client: Client, request: JobRequest, output: CommandOutput) -> JobRequest:
    """The request with the frames of its timeline's clip counted as the video counts them; where that takes the video's
    timecode, the frames are printed."""
    if request.clip is None or request.clip.placed:
        return request
    shot = client.create_shot(request.source, colorspace=request.colorspace, stream=request.stream)
    clip = from_timecode(request.clip, shot.timecode, shot.range.last)
    if clip != request.clip:
        first, last = clip.frames
        output.say(f"By the video's timecode, which starts at {shot.timecode}, these are its frames {first} to {last}.")
    return replace(request, clip=clip, frames=clip.frames)


def earlier_keyframes(client: Client, request: JobRequest) -> list[KeyframeFile]:
    """The keyframes and corrections of the newest propagation of the request's source and frames, whoever made it: an
    effect in a host, a script.

    Raises ClientError where there is none, or its pictures are gone."""
    shots = {shot.name for shot in client.list_shots() if _spelt(shot.source) == _spelt(request.source)}
    for job in sorted(client.list_jobs(), key=job_number, reverse=True):
        if job.spec.shot not in shots or not job.spec.keyframes:
            continue
        current = {keyframe.name: keyframe for keyframe in client.list_keyframes(job.spec.shot, corrections=True)}
        named = [current[name] for name in (*job.spec.keyframes, *job.spec.corrections) if name in current]
        first, last = request.frames or (-sys.maxsize, sys.maxsize)
        pictures = [
            _as_given(keyframe)
            for keyframe in named
            if first <= keyframe.frame <= last
            and (keyframe.drag or (keyframe.files and all(map(os.path.isfile, keyframe.files))))
        ]
        if any(picture.kind == "paint" for picture in pictures):
            return pictures
    raise bad_input(f"Nothing was painted on {request.source} yet; give a painted frame with --keyframe.")


def _as_given(keyframe: keyframe_pb2.Keyframe) -> KeyframeFile:
    kind = word(keyframe_pb2.KeyframeKind.DESCRIPTOR, keyframe.kind)
    picture, matte = [*keyframe.files[:2], None, None][:2]
    drag = tuple((point.x, point.y, point.to_x, point.to_y) for point in keyframe.drag)
    return KeyframeFile(keyframe.frame, picture, matte, kind, drag)


def _spelt(source: str) -> str:
    """A source's name with #### as %04d, to compare."""
    return re.sub("#+", lambda number: f"%0{len(number[0])}d", source)


def submit(
    client: Client, request: JobRequest, keyframes: Sequence[KeyframeFile], output: CommandOutput
) -> job_pb2.Job:
    """Creates the job of a request with these keyframes and corrections, or without a keyframe with the earlier ones,
    too; what the engine noted about source and pictures is printed."""
    if all(given.kind != "paint" for given in keyframes):
        corrected = {given.frame for given in keyframes}
        earlier = earlier_keyframes(client, request)
        keyframes = [*(each for each in earlier if each.kind == "paint" or each.frame not in corrected), *keyframes]
    shot = create_shot(client, request, output)
    names, corrections = put_keyframes(client, shot.name, keyframes, output)
    with interrupts_held():  # else a job could be left whose name nobody knows
        job = client.create_job(
            shot.name, names, corrections, priority=request.priority, **request.job_settings()
        )  # fmt: skip
    output.event("job", as_record(job))
    tell_best(client, request, output)
    return job


def tell_best(client: Client, request: JobRequest, output: CommandOutput) -> None:
    """Notes which method a request for the best is carried by, once the engine has chosen it."""
    if request.method == BEST:
        output.note(client.get_engine().final.why)


def put_keyframes(
    client: Client, shot: str, given: Sequence[KeyframeFile], output: CommandOutput
) -> tuple[list[str], list[str]]:
    """Gives a shot keyframes and corrections; the names of both. What the engine noted about them is printed."""
    keyframes: list[str] = []
    corrections: list[str] = []
    for each in given:
        keyframe = client.put_keyframe(shot, each.frame, each.picture, each.matte, each.kind, each.drag)
        output.event("keyframe", as_record(keyframe))
        output.notes(keyframe.notes)
        (keyframes if each.kind == "paint" else corrections).append(keyframe.name)
    return keyframes, corrections


def follow(client: Client, name: str, output: CommandOutput) -> int:
    """Displays a job's progress until its end; returns the exit status."""
    job = job_pb2.Job(name=name)
    with display_for(as_json=output.as_json) as display:
        for event in client.watch(name):
            job = event.job
            display.event(job)
    return report_end(client.get_job(name), output)


def run(client: Client, request: JobRequest, keyframes: Sequence[KeyframeFile], output: CommandOutput) -> int:
    """Submits a job and follows it to its end; returns the exit status. Ctrl-C (or SIGTERM) cancels the job; a second
    one leaves at once."""
    request = located(client, request, output)
    job = submit(client, request, keyframes, output)
    status = until_done(client, job.name, output)
    if status == OK:
        write_timeline(request, client.get_job(job.name).spec.output.path, output)
    return status


def redo(
    client: Client,
    name: str,
    frames: tuple[int, int],
    keyframes: Sequence[KeyframeFile],
    parameters: Mapping[str, str],
    target: str | None,
    overwrite: bool,
    output: CommandOutput,
) -> int:
    """Makes some frames of a finished job anew and follows that to its end; returns the exit status. keyframes: further
    ones and corrections, put first; target: where the whole goes, None: the next version."""
    put_keyframes(client, client.get_job(name).spec.shot, keyframes, output)
    with interrupts_held():
        job = client.redo_frames(name, frames, parameters=parameters, output=target, overwrite=overwrite)
    output.event("job", as_record(job))
    return until_done(client, job.name, output)


def write_timeline(request: JobRequest, media: str, output: CommandOutput) -> None:
    """Writes the timeline of a request for a clip, once the edited media is written. Does nothing for other
    requests, and for a job without an output.

    media: the path that the job wrote."""
    if request.clip is None or not media:
        return
    write_result(request.clip, media, request.timeline)
    output.event("timeline", {"path": request.timeline})
    output.say(f"Wrote {request.timeline} (timeline).")


def prepare_shot(client: Client, request: JobRequest, output: CommandOutput) -> job_pb2.Job:
    """Creates the job that computes what needs no keyframe of a request's shot."""
    shot = create_shot(client, located(client, request, output), output)
    with interrupts_held():
        name = client.prepare_shot(shot.name, request.method, parameters=request.parameters, model=request.model)
        job = client.get_job(name)
    output.event("job", as_record(job))
    return job


def until_done(client: Client, name: str, output: CommandOutput) -> int:
    """Follows a job to its end; returns the exit status. Ctrl-C cancels the job, a second one leaves at once."""
    try:
        return follow(client, name, output)
    except KeyboardInterrupt:
        output.say("Cancelling; press Ctrl-C again to leave at once.")
        return _cancel(client, name, output)


def _cancel(client: Client, name: str, output: CommandOutput) -> int:
    """Cancels a job and waits until it has ended; one that finished meanwhile is reported as such. Returns the exit
    status."""
    try:
        with contextlib.suppress(ClientError):  # it may have finished: the next line knows
            client.cancel_job(name)
        if not client.wait_until_finished(name, CANCEL_SECONDS):
            raise ClientError("CANCELLED", f"{name} is still being cancelled; see `paintover jobs`.")
        return report_end(client.get_job(name), output)
    except KeyboardInterrupt:
        return INTERRUPTED


def report_end(job: job_pb2.Job, output: CommandOutput) -> int:
    """Prints how a job ended; returns the exit status."""
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
    headline = f"Wrote {job.spec.output.path}" if job.spec.output.path else f"Finished {job.name}"
    output.say(f"{headline} ({job.progress.frames_total} frames in {_short(seconds)}).")
    if job.spec.output.mattes_path:
        output.say(f"Wrote {job.spec.output.mattes_path} (mattes).")
    if job.message:
        output.note(job.message)
    for unsure in job.unsure:
        output.say(f"Not sure at {range_in_words(unsure)}.")
    if job.suggested_keyframes:
        frame = job.suggested_keyframes[0]
        output.say(f"Paint frame {frame} next, and add --keyframe {frame}=IMAGE.")
    return OK


def done_record(job: job_pb2.Job) -> dict[str, Any]:
    """The JSON record of a job that succeeded."""
    return {
        "job": job.name,
        "state": "done",
        "output": job.spec.output.path,
        "mattes": job.spec.output.mattes_path or None,
        "frames": job.progress.frames_total,
        "seconds": round(max(job.end_time - job.start_time, 0.0), 3),
        "message": job.message or None,
        "suggested_keyframes": list(job.suggested_keyframes),
        "unsure": [as_record(unsure) for unsure in job.unsure],
    }


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Delays SIGINT and SIGTERM until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def cancel_on_terminate() -> None:
    """Makes SIGTERM, which render farms send, cancel the job as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if sys.platform != "win32":
        signal.signal(signal.SIGTERM, interrupt)
