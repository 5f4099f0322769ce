"""`paintover jobs`: the engine's queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from paintover_bridge.cli import context
from paintover_bridge.errors import OK, bad_input

if TYPE_CHECKING:
    from paintover_bridge.client import Client


@click.group(invoke_without_command=True)
@context.common
@click.pass_context
def jobs(ctx: click.Context) -> int | None:
    """List the engine's jobs, or act on one; ID is the job's number.

    \b
    Examples:
      paintover jobs
      paintover jobs watch 3
    """
    return _list_jobs() if ctx.invoked_subcommand is None else None


@jobs.command("list")
@context.common
def list_jobs() -> int:
    """List all jobs.

    \b
    Example:
      paintover jobs list --json
    """
    return _list_jobs()


def _list_jobs() -> int:
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_jobs

    with context.connected() as client:
        found = client.list_jobs()
        shots = client.list_shots() if found and not context.output().as_json else ()
    output = context.output()
    for job in found:
        output.record(as_record(job))
    if not output.as_json and found:
        print_jobs(found, shots)
    if not found:
        output.say("No jobs.")
    return OK


@jobs.command("show")
@click.argument("id")
@context.common
def show_job(id: str) -> int:
    """Show everything about a job.

    Progress, settings, confidence, and where to paint next.

    \b
    Example:
      paintover jobs show 3
    """
    from paintover_bridge.arguments import parse_job
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_job

    name = parse_job(id)
    with context.connected() as client:
        job = client.get_job(name)
    output = context.output()
    output.record(as_record(job))
    if not output.as_json:
        print_job(job)
    return OK


@jobs.command("watch")
@click.argument("id")
@context.common
def watch_job(id: str) -> int:
    """Follow a job until it is finished.

    Exits as `propagate` would. Ctrl-C stops following, not the job.

    \b
    Example:
      paintover jobs watch 3
    """
    from paintover_bridge.arguments import parse_job
    from paintover_bridge.propagate import follow

    name = parse_job(id)
    with context.connected() as client:
        return follow(client, name, context.output())


def _act(id: str, action: Callable[[Client, str], Any], done: str, *, may_be_late: bool = False) -> int:
    """may_be_late: the job may come out done instead."""
    from paintover.v1 import job_pb2

    from paintover_bridge.arguments import parse_job
    from paintover_bridge.records import as_record

    name = parse_job(id)
    with context.connected() as client:
        job = action(client, name)
    output = context.output()
    output.record({"job": name, "removed": True} if job is None else as_record(job))
    late = may_be_late and job.state == job_pb2.JOB_STATE_DONE
    output.say(f"{name} is done: its output was being published." if late else f"{name} {done}.")
    return OK


@jobs.command("cancel")
@click.argument("id")
@context.common
def cancel_job(id: str) -> int:
    """Cancel a job; `retry` runs it again from where it was.

    \b
    Example:
      paintover jobs cancel 3
    """
    return _act(id, lambda client, name: client.cancel_job(name), "is cancelled", may_be_late=True)


@jobs.command("pause")
@click.argument("id")
@context.common
def pause_job(id: str) -> int:
    """Let a job wait until `resume`.

    \b
    Example:
      paintover jobs pause 3
    """
    return _act(id, lambda client, name: client.update_job(name, paused=True), "is paused", may_be_late=True)


@jobs.command("resume")
@click.argument("id")
@context.common
def resume_job(id: str) -> int:
    """Let a paused job go on.

    \b
    Example:
      paintover jobs resume 3
    """
    return _act(id, lambda client, name: client.update_job(name, paused=False), "goes on")


@jobs.command("retry")
@click.argument("id")
@click.option("--frames", metavar="A-B", help="Only these frames of a finished job; the others are kept.")
@click.option("--keyframe", "-k", "keyframes", metavar="FRAME=IMAGE", multiple=True, help="With --frames: one more.")
@click.option(
    "--hold",
    "holdouts",
    metavar="FRAME=IMAGE",
    multiple=True,
    help="With --frames: a matte, white where the edit is wrong.",
)
@click.option("--roto", "rotos", metavar="FRAME=IMAGE", multiple=True,
              help="With --frames: a matte, white exactly where the edit belongs.")  # fmt: skip
@click.option("--drag", "drags", metavar="FRAME=X,Y:X,Y", multiple=True,
              help="With --frames: moves a part of the edit, from one pixel to another.")  # fmt: skip
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="With --frames: another parameter.")
@click.option("-o", "--output", metavar="OUT", help="With --frames: where it goes.  [default: the next version]")
@click.option("--overwrite", is_flag=True, help="With --frames: replace OUT if it exists.")
@context.common
def retry_job(
    id: str, frames: str | None, keyframes: tuple[str, ...], holdouts: tuple[str, ...], rotos: tuple[str, ...],
    drags: tuple[str, ...], parameters: tuple[str, ...], output: str | None, overwrite: bool,
) -> int:  # fmt: skip
    """Run a failed or cancelled job again, or some frames of a finished one.

    Its finished stages are found, not redone. With --frames a new job makes those anew, with the keyframes that the
    shot has now, corrections and other parameters, and writes them together with the frames that were good.

    \b
    Examples:
      paintover jobs retry 3
      paintover jobs retry 3 --frames 40-52 -k 46=painted.png
    """
    if frames is None:
        if keyframes or holdouts or rotos or drags or parameters or output or overwrite:
            raise bad_input("A job is run again as it was; add --frames A-B to make some frames otherwise.")
        return _act(id, lambda client, name: client.retry_job(name), "is queued again")

    from paintover_bridge.arguments import (
        parse_corrections,
        parse_job,
        parse_keyframes,
        parse_parameters,
        parse_range,
    )
    from paintover_bridge.propagate import redo

    chosen, files = parse_range(frames, "--frames"), parse_keyframes(keyframes, ())
    files += parse_corrections(holdouts, rotos, drags, files)
    changed = parse_parameters(parameters)
    with context.connected() as client:
        return redo(client, parse_job(id), chosen, files, changed, output, overwrite, context.output())


@jobs.command("remove")
@click.argument("id")
@context.common
def remove_job(id: str) -> int:
    """Forget a finished job and its results.

    The files that it wrote for you stay.

    \b
    Example:
      paintover jobs remove 3
    """
    return _act(id, lambda client, name: client.delete_job(name), "is removed")


@jobs.command("move")
@click.argument("id")
@click.option("--before", metavar="ID", help="Run it just before that job, at that one's priority.")
@click.option("--last", is_flag=True, help="Run it after all others of its priority.")
@click.option("--priority", metavar="N", type=int, help="Higher jobs run first.")
@context.common
def move_job(id: str, before: str | None, last: bool, priority: int | None) -> int:
    """Change when a job's turn comes.

    \b
    Examples:
      paintover jobs move 7 --before 3
      paintover jobs move 7 --priority 5
    """
    from paintover_bridge.arguments import parse_job

    if sum((before is not None, last, priority is not None)) != 1:
        raise bad_input("Say where the job goes: one of --before, --last and --priority.")
    place = parse_job(before) if before is not None else "" if last else None
    return _act(id, lambda client, name: client.update_job(name, priority=priority, before=place), "is moved")


@jobs.command("export")
@click.argument("id")
@click.option("-o", "--output", "path", metavar="FILE", help="Where to write it.  [default: standard output]")
@context.common
def export_job(id: str, path: str | None) -> int:
    """Write down all that is known of a job, for support.

    Settings, frames, log and machine as JSON; no pixels. It names your files: look through it before you send it.

    \b
    Example:
      paintover jobs export 3 -o job3.json
    """
    from pathlib import Path

    from paintover_bridge.arguments import parse_job

    name = parse_job(id)
    with context.connected() as client:
        text = client.export_job(name)
    if path is None:
        click.echo(text)
        return OK
    try:
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise bad_input(f"'{path}' cannot be written: {error.strerror}; choose another place.") from error
    context.output().say(f"Wrote {path}.")
    return OK
