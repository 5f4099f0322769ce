"""`paintover propagate` and `prepare`: a job from the command line."""

from __future__ import annotations

import click

from paintover_bridge.cli import context
from paintover_bridge.cli.job_options import JobOptions, keyframe_options, method_options, output_options, takes_job
from paintover_bridge.errors import OK, bad_input

_DETACH = click.option("--detach", is_flag=True, help="Leave the job in the engine's queue and print its number.")


@click.command()
@keyframe_options(default="those propagated last on SOURCE, by an effect or a script")
@method_options
@output_options(
    required=True,
    default="",
    versioned="Write the next free version of OUT: out_v001.mov, out_v002.mov, …",
    priority=0,
)
@_DETACH
@context.common
@takes_job
def propagate(
    job: JobOptions,
    keyframes: tuple[str, ...],
    keyframe_mattes: tuple[str, ...],
    holdouts: tuple[str, ...],
    rotos: tuple[str, ...],
    drags: tuple[str, ...],
    detach: bool,
) -> int:
    """Carry painted keyframes through a shot.

    SOURCE is a video file, a folder of numbered images, or a pattern (shot.%05d.exr, shot.####.exr); OUT likewise
    (.mov, .mp4, .mkv, a pattern, a folder). FRAME is the number in the file's name, and counts from 0 for a video.
    SOURCE may be a clip of a timeline, timeline.otio#CLIP: then the result's timeline is written too, beside OUT or as
    OUT.otio. An engine is started for the command if none runs. Ctrl-C cancels the job; what it computed is found
    again.

    \b
    Examples:
      paintover propagate shot.mov -k 0=painted.png -o edited.mov
      paintover propagate 'plates/sh010.####.exr' -k 1001=a.exr -k 1048=b.exr -o 'out/sh010.####.exr'
      paintover propagate edit.otio#sh010 -k 1001=a.psd -o edit_painted.otio
      paintover propagate shot.mov -k 0=painted.png --hold 29=not_the_kerb.png -o edited_2.mov
    """
    from paintover_bridge.arguments import parse_corrections, parse_keyframes

    files = parse_keyframes(keyframes, keyframe_mattes)
    files += parse_corrections(holdouts, rotos, drags, files)
    request = job.parse()
    if detach and request.clip is not None:
        raise bad_input("A timeline's result is written when its media is; leave out --detach.")

    from paintover_bridge.propagate import cancel_on_terminate, run, submit

    output = context.output()
    with context.connected(ephemeral=not detach) as client:
        if detach:
            return _leave_queued(submit(client, request, files, output).name)
        cancel_on_terminate()
        return run(client, request, files, output)


@click.command()
@method_options
@_DETACH
@context.common
@takes_job
def prepare(job: JobOptions, detach: bool) -> int:
    """Compute ahead what needs no keyframe: flow, encoding, inversion, training.

    A later `propagate` or `paint` of the same SOURCE, range, method, model and parameters finds it and starts with the
    paint. Ctrl-C stops; what was computed is kept.

    \b
    Examples:
      paintover prepare shot.mov
      paintover prepare shot.mov --method i2vedit --detach
    """
    request = job.parse()

    from paintover_bridge.propagate import cancel_on_terminate, prepare_shot, until_done

    output = context.output()
    with context.connected(ephemeral=not detach) as client:
        prepared = prepare_shot(client, request, output)
        if detach:
            return _leave_queued(prepared.name)
        cancel_on_terminate()
        return until_done(client, prepared.name, output)


def _leave_queued(job: str) -> int:
    context.output().say(f"Queued {job}; see `paintover jobs watch {job.rpartition('/')[2]}`.")
    return OK
