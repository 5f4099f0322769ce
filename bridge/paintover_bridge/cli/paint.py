"""`paintover paint`: one frame in the artist's editor, every save of it through the shot."""

from __future__ import annotations

import os

import click

from paintover_bridge.cli import context
from paintover_bridge.cli.job_options import JobOptions, method_options, output_options, takes_job
from paintover_bridge.errors import bad_input


@click.command()
@click.option("--frame", "-f", metavar="N", type=int, required=True, help="The frame to paint on.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["psd", "png", "tif", "tiff", "exr"], case_sensitive=False),
    default=None,
    help="What to paint on.  [default: psd]",
)
@click.option(
    "--editor",
    metavar="NAME|COMMAND",
    help="photoshop, affinity, krita, gimp, a command line, or none.  [default: the first found, Photoshop before all]",
)
@click.option("--picture", metavar="FILE", help="The file to paint on.  [default: one in the data folder]")
@method_options
@output_options(
    required=False,
    default="nowhere but the engine",
    versioned="Write a new version of OUT with each save: out_v001.mov, …",
    priority=10,
)
@click.option("--only", is_flag=True, help="Use this frame alone, not others of the shot that were painted before.")
@click.option("--fix", is_flag=True, help="Start from the frame's newest result, to correct it, not from the plate.")
@click.option("--once", is_flag=True, help="End when the first save is carried through.")
@click.option("--no-wait", is_flag=True, help="Write the file to paint on, begin what needs no painting, and end.")
@context.common
@takes_job
def paint(
    job: JobOptions,
    frame: int,
    kind: str | None,
    editor: str | None,
    picture: str | None,
    only: bool,
    fix: bool,
    once: bool,
    no_wait: bool,
) -> int:
    """Paint on one frame in your editor; every save is carried through the shot.

    Puts the frame into a layered PSD (or a PNG, TIFF, EXR), opens it, and watches it until Ctrl-C. Paint on the layers
    above the plate: what they cover is the edit. A picture that is there already is gone on with, never replaced.
    SOURCE and OUT are as for `propagate`. $PAINTOVER_EDITOR, or "editor" in the data folder's settings.json, names
    another editor for good.

    \b
    Examples:
      paintover paint shot.mov --frame 12 -o edited.mov
      paintover paint shot.mov --frame 40 --fix
      paintover paint 'plates/sh010.####.exr' --frame 1001 --editor krita
    """
    if job.mattes is not None and job.output is None:
        raise bad_input("Mattes are written beside an output: give -o as well.")
    if picture is not None and kind is not None and os.path.splitext(picture)[1].lower() != f".{kind.lower()}":
        raise bad_input(f"--picture {picture} is no .{kind} file; leave out --format, or name it otherwise.")
    if fix and (kind or "psd").lower() != "psd":
        raise bad_input("--fix corrects a layer: leave out --format, or make it psd.")
    request = job.parse()

    from paintover_bridge.editors import choose
    from paintover_bridge.paint import PaintOptions, PaintSession

    options = PaintOptions(frame, picture, (kind or "psd").lower(), only=only, fix=fix, once=once, wait=not no_wait)
    folder = context.data_folder()
    program = choose(editor, folder)
    with context.connected() as client:
        return PaintSession(client, request, options, program, folder, context.output()).run()
