"""The options of the commands that create a job, declared once, and read into a `JobRequest`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from paintover_bridge.cli import context
from paintover_bridge.cli.context import Command
from paintover_bridge.errors import bad_input

if TYPE_CHECKING:
    from paintover_bridge.job_request import JobRequest


class JobOptions(NamedTuple):
    """The options' values as typed. A command that declares only some of the options leaves the others at their
    defaults."""

    source: str
    method: str
    parameters: tuple[str, ...]
    model: str
    frames: str | None
    colorspace: str
    stream: int | None = None
    layer: str = ""
    output: str | None = None
    mattes: str | None = None
    overwrite: bool = False
    versioned: bool = False
    priority: int = 0

    def parse(self) -> JobRequest:
        """The request that the values describe; a clip of a timeline is resolved to its media.

        Raises ClientError for a malformed value, and for a source that does not exist."""
        from paintover_bridge.arguments import check_output, check_source, parse_parameters, parse_range
        from paintover_bridge.job_request import JobRequest

        request = JobRequest(
            source=self.source,
            parameters=parse_parameters(self.parameters),
            frames=None if self.frames is None else parse_range(self.frames),
            method=self.method,
            model=self.model,
            colorspace=self.colorspace,
            stream=self.stream,
            layer=self.layer,
            output=self.output,
            mattes=self.mattes,
            overwrite=self.overwrite,
            versioned=self.versioned,
            priority=self.priority,
        )
        if "#" in self.source or self.source.lower().endswith(".otio"):  # no other source loads a module for timelines
            request = _with_clip_media(request)
        check_source(request.source)
        for path in filter(None, (request.output, request.mattes)):
            check_output(path, may_exist=request.overwrite or request.versioned)
        return request


def _with_clip_media(request: JobRequest) -> JobRequest:
    """The request with a timeline's clip replaced by the media and frames that it shows, and the paths of its result.
    Unchanged where the source is a path that contains "#"."""
    from dataclasses import replace

    from paintover_bridge.timeline import is_clip, locate, result_paths

    if "#" not in request.source and os.path.isfile(request.source):
        locate(f"{request.source}#")  # raises, with a list of the clips
    if not is_clip(request.source):
        return request
    if request.frames is not None:
        raise bad_input("A clip of a timeline has its own range; leave out --range.")
    clip = locate(request.source)
    media, timeline = (None, "") if request.output is None else result_paths(clip, request.output)
    if timeline and os.path.exists(timeline) and not request.overwrite:
        raise bad_input(f"The timeline {timeline} is there already; name another output, or add --overwrite.")
    first, last = clip.frames
    output = context.output()
    output.event("clip", {"path": clip.path, "first": first, "last": last})
    output.say(f"'{clip.clip}' shows frames {first} to {last} of {clip.path}.")
    return replace(request, source=clip.path, frames=clip.frames, output=media, clip=clip, timeline=timeline)


def takes_job(command: Callable[..., Any]) -> Callable[..., Any]:
    """Passes the values of the job's options to the command as one `JobOptions`, its first argument. Stands below the
    decorators that declare the options."""

    @functools.wraps(command)
    def with_job(**values: Any) -> Any:
        job = JobOptions(**{name: values.pop(name) for name in JobOptions._fields if name in values})
        return command(job, **values)

    return with_job


def _apply(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """Adds options to a command; its help lists them in the list's order."""
    for option in reversed(options):
        command = option(command)
    return command


CORRECTIONS = (
    click.option(
        "--hold",
        "holdouts",
        metavar="FRAME=IMAGE",
        multiple=True,
        help="A holdout matte for any frame: white where the carried edit is wrong, there and from there on.",
    ),
    click.option(
        "--roto",
        "rotos",
        metavar="FRAME=IMAGE",
        multiple=True,
        help="A matte drawn for any frame: white exactly where the edit belongs, to go on from there.",
    ),
    click.option(
        "--drag",
        "drags",
        metavar="FRAME=X,Y:X,Y",
        multiple=True,
        help="Moves a part of the edit in any frame, from one pixel to another, to go on from there; give several "
        "points of it to turn or bend it.",
    ),
)
"""What corrects where an edit was carried to."""


def keyframe_options(default: str = "") -> Callable[[Command], Command]:
    """The painted frames, where their edits apply, and corrections.

    default: what is taken without any; "": they are required."""
    keyframes = "A frame number and the painted picture of it; give several for several frames."
    options = [
        click.option(
            "--keyframe",
            "-k",
            "keyframes",
            metavar="FRAME=IMAGE",
            multiple=True,
            required=not default,
            help=keyframes + (f"  [default: {default}]" if default else ""),
        ),
        click.option(
            "--matte",
            "keyframe_mattes",
            metavar="FRAME=IMAGE",
            multiple=True,
            help="Where the keyframe's edit applies (white).  [default: where picture and plate differ]",
        ),
        *CORRECTIONS,
    ]
    return lambda command: _apply(command, options)


def method_options(command: Command) -> Command:
    """SOURCE, and what to compute on it: method, parameters, model, range, colour space, stream."""
    model = "The model, for methods that take one."
    frames = "Frame numbers, inclusive.  [default: the whole source]"
    colorspace = "An OpenColorIO colour space.  [default: from the file's tags]"
    stream = "Which of a video's streams, by its number in the file.  [default: the default one]"
    parameter = "A parameter of the method; see `paintover methods`."
    return _apply(
        command,
        [
            click.argument("source"),
            click.option(
                "--method",
                metavar="METHOD",
                default="draft",
                show_default=True,
                help="See `paintover methods`; best: the best that this machine can run.",
            ),
            click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help=parameter),
            click.option("--model", metavar="NAME|FOLDER|HUB-ID", default="", help=model),
            click.option("--range", "frames", metavar="FIRST-LAST", help=frames),
            click.option("--colorspace", metavar="NAME", default="", help=colorspace),
            click.option("--stream", metavar="N", type=click.IntRange(0), help=stream),
            click.option(
                "--layer", metavar="NAME", default="", help="A layer of an EXR source.  [default: its beauty]"
            ),
        ],
    )


def output_options(*, required: bool, default: str, versioned: str, priority: int) -> Callable[[Command], Command]:
    """Where the result goes, and when the job runs.

    required: whether -o must be given. default: what help says of -o without a value. versioned: help of --versioned.
    priority: the default of --priority."""

    where = f"Where the edited shot goes.  [default: {default}]" if default else "Where the edited shot goes."
    pattern = "A pattern or folder to write the propagated mattes to."

    def declare(command: Command) -> Command:
        return _apply(
            command,
            [
                click.option("-o", "--output", metavar="OUT", required=required, help=where),
                click.option("--write-mattes", "mattes", metavar="PATH", help=pattern),
                click.option("--overwrite", is_flag=True, help="Replace OUT if it exists."),
                click.option("--versioned", is_flag=True, help=versioned),
                click.option(
                    "--priority",
                    metavar="N",
                    type=int,
                    default=priority,
                    show_default=True,
                    help="Higher jobs run first.",
                ),
            ],
        )

    return declare
