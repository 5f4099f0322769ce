"""The `paintover` command. Only click is imported here; the rest when a command runs, so that help is instant."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from paintover_bridge import __version__
from paintover_bridge.errors import BAD_INPUT, FAILED, INTERRUPTED, OK, UNAVAILABLE, ClientError, bad_input

if TYPE_CHECKING:
    from pathlib import Path

    from paintover_bridge.client import Client
    from paintover_bridge.install import Installer
    from paintover_bridge.output import Output
    from paintover_bridge.timeline import ClipMedia

Command = TypeVar("Command", bound=Callable[..., Any])

_DATA_DIR = "paintover.data_dir"
_JSON = "paintover.json"


def _remember(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Keeps an option for the whole command line, at whichever of its commands it was given."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            context.meta[key] = value

    return callback


def common(command: Command) -> Command:
    """The options that every command takes."""
    data_dir = click.option(
        "--data-dir",
        metavar="FOLDER",
        expose_value=False,
        callback=_remember(_DATA_DIR),
        help="The engine's data folder.  [default: $PAINTOVER_DATA, else your user data folder]",
    )
    as_json = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_remember(_JSON),
        help="Print one JSON object a line, for programs.",
    )
    return data_dir(as_json(command))


def _output() -> Output:
    from paintover_bridge.output import Output

    return Output(as_json=bool(click.get_current_context().meta.get(_JSON)))


def _folder() -> Path:
    from paintover_bridge.daemon import data_folder

    return data_folder(click.get_current_context().meta.get(_DATA_DIR))


@contextlib.contextmanager
def _client(*, start: bool = True, ephemeral: bool = True) -> Iterator[Client]:
    from paintover_bridge.client import connect

    with connect(_folder(), start=start, ephemeral=ephemeral) as client:
        yield client


class Group(click.Group):
    """A group that names the nearest command when it has not the one asked for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(f"There is no command '{name}'.{_nearest(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


def _nearest(name: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), valid, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else f" Valid: {', '.join(valid)}."


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Group, context_settings=_SETTINGS, invoke_without_command=True)
@click.version_option(__version__, prog_name="paintover", message="%(prog)s %(version)s")
@common
@click.pass_context
def cli(context: click.Context) -> None:
    """Paint over one frame; Paintover carries the edit through the whole shot.

    \b
    Example:
      paintover propagate shot.mov --keyframe 0=painted.png -o edited.mov
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("source")
@click.option(
    "--keyframe",
    "-k",
    "keyframes",
    metavar="FRAME=IMAGE",
    multiple=True,
    required=True,
    help="A frame number and the painted picture of it; give several for several frames.",
)
@click.option(
    "--matte",
    "mattes",
    metavar="FRAME=IMAGE",
    multiple=True,
    help="Where the keyframe's edit applies (white).  [default: where picture and plate differ]",
)
@click.option("--method", metavar="METHOD", default="draft", show_default=True, help="See `paintover methods`.")
@click.option(
    "-p",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="A parameter of the method; see `paintover methods`.",
)
@click.option("--model", metavar="NAME|FOLDER|HUB-ID", default="", help="The model, for methods that take one.")
@click.option("--range", "frames", metavar="FIRST-LAST", help="Frame numbers, inclusive.  [default: the whole source]")
@click.option(
    "--colorspace", metavar="NAME", default="", help="An OpenColorIO colour space.  [default: from the file's tags]"
)
@click.option("--layer", metavar="NAME", default="", help="A layer of an EXR source.  [default: its beauty]")
@click.option("-o", "--output", "out", metavar="OUT", required=True, help="Where the edited shot goes.")
@click.option("--write-mattes", metavar="PATH", help="A pattern or folder to write the propagated mattes to.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--versioned", is_flag=True, help="Write the next free version of OUT: out_v001.mov, out_v002.mov, …")
@click.option("--priority", metavar="N", type=int, default=0, show_default=True, help="Higher jobs run first.")
@click.option("--detach", is_flag=True, help="Leave the job in the engine's queue and print its number.")
@common
def propagate(
    source: str,
    keyframes: tuple[str, ...],
    mattes: tuple[str, ...],
    method: str,
    parameters: tuple[str, ...],
    model: str,
    frames: str | None,
    colorspace: str,
    layer: str,
    out: str,
    write_mattes: str | None,
    overwrite: bool,
    versioned: bool,
    priority: int,
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
    """
    from paintover_bridge.arguments import check_source, parse_keyframes, parse_parameters, parse_range

    checked = parse_keyframes(keyframes, mattes)
    chosen = parse_parameters(parameters)
    span = parse_range(frames) if frames is not None else None
    place = _place(source, span, out, overwrite)
    check_source(place.source)
    if detach and place.clip is not None:
        raise bad_input("A timeline's result is written when its media is; leave out --detach.")

    from paintover_bridge.propagate import Request, cancel_on_terminate, run, submit
    from paintover_bridge.records import job_number

    request = Request(
        source=place.source,
        keyframes=checked,
        output=place.output or out,
        method=method,
        parameters=chosen,
        model=model,
        frames=place.frames,
        colorspace=colorspace,
        layer=layer,
        mattes=write_mattes,
        overwrite=overwrite,
        versioned=versioned,
        priority=priority,
        clip=place.clip,
    )
    output = _output()
    with _client(ephemeral=not detach) as client:
        if detach:
            job = submit(client, request, output)
            output.say(f"Queued {job.name}; see `paintover jobs watch {job_number(job)}`.")
            return OK
        cancel_on_terminate()
        return run(client, request, output, place.finished(output))


@dataclass(frozen=True)
class _Place:
    """Where a shot comes from and its result goes. given: the source as it was typed."""

    given: str
    source: str
    frames: tuple[int, int] | None
    output: str | None
    clip: ClipMedia | None = None
    timeline: str = ""

    def finished(self, output: Output) -> Callable[[str], None]:
        """What is to be done with the media once it is written."""

        def write(path: str) -> None:
            if self.clip is None or not path:
                return
            from paintover_bridge.timeline import write_result

            write_result(self.given, self.clip, path, self.timeline)
            output.event("timeline", {"path": self.timeline})
            output.say(f"Wrote {self.timeline} (timeline).")

        return write


def _place(source: str, span: tuple[int, int] | None, out: str | None, overwrite: bool) -> _Place:
    """A source and an output as given, or those that a clip of a timeline means."""
    if "#" not in source:  # nothing of timelines is loaded for sources of their own
        return _Place(source, source, span, out)
    from paintover_bridge.timeline import is_clip, locate, result_paths

    if not is_clip(source):
        return _Place(source, source, span, out)
    if span is not None:
        raise bad_input("A clip of a timeline has its own range; leave out --range.")
    clip = locate(source)
    media, timeline = result_paths(clip, out) if out is not None else (None, "")
    if timeline and os.path.exists(timeline) and not overwrite:
        raise bad_input(f"The timeline {timeline} is there already; name another output, or add --overwrite.")
    first, last = clip.frames
    _output().event("clip", {"path": clip.path, "first": first, "last": last})
    _output().say(f"'{clip.clip}' shows frames {first} to {last} of {clip.path}.")
    return _Place(source, clip.path, clip.frames, media, clip, timeline)


@cli.command()
@click.argument("source")
@click.option("--method", metavar="METHOD", default="draft", show_default=True, help="See `paintover methods`.")
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter of the method.")
@click.option("--model", metavar="NAME|FOLDER|HUB-ID", default="", help="The model, for methods that take one.")
@click.option("--range", "frames", metavar="FIRST-LAST", help="Frame numbers, inclusive.  [default: the whole source]")
@click.option(
    "--colorspace", metavar="NAME", default="", help="An OpenColorIO colour space.  [default: from the file's tags]"
)
@click.option("--layer", metavar="NAME", default="", help="A layer of an EXR source.  [default: its beauty]")
@click.option("--detach", is_flag=True, help="Leave the job in the engine's queue and print its number.")
@common
def prepare(
    source: str,
    method: str,
    parameters: tuple[str, ...],
    model: str,
    frames: str | None,
    colorspace: str,
    layer: str,
    detach: bool,
) -> int:
    """Compute ahead what needs no keyframe: flow, encoding, inversion, training.

    A later `propagate` or `paint` of the same SOURCE, range, method, model and parameters finds it and starts with the
    paint. Ctrl-C stops; what was computed is kept.

    \b
    Examples:
      paintover prepare shot.mov
      paintover prepare shot.mov --method i2vedit --detach
    """
    from paintover_bridge.arguments import check_source, parse_parameters, parse_range

    chosen = parse_parameters(parameters)
    span = parse_range(frames) if frames is not None else None
    place = _place(source, span, None, False)
    check_source(place.source)

    from paintover_bridge.propagate import cancel_on_terminate, prepare_shot, until_done
    from paintover_bridge.records import job_number

    output = _output()
    with _client(ephemeral=not detach) as client:
        job = prepare_shot(client, place.source, place.frames, colorspace, layer, method, chosen, model, output)
        if detach:
            output.say(f"Queued {job.name}; see `paintover jobs watch {job_number(job)}`.")
            return OK
        cancel_on_terminate()
        return until_done(client, job.name, output)


@cli.command()
@click.argument("source")
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
@click.option(
    "-o", "--output", "out", metavar="OUT", help="Where the edited shot goes.  [default: nowhere but the engine]"
)
@click.option("--method", metavar="METHOD", default="draft", show_default=True, help="See `paintover methods`.")
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter of the method.")
@click.option("--model", metavar="NAME|FOLDER|HUB-ID", default="", help="The model, for methods that take one.")
@click.option("--range", "frames", metavar="FIRST-LAST", help="Frame numbers, inclusive.  [default: the whole source]")
@click.option(
    "--colorspace", metavar="NAME", default="", help="An OpenColorIO colour space.  [default: from the file's tags]"
)
@click.option("--layer", metavar="NAME", default="", help="A layer of an EXR source.  [default: its beauty]")
@click.option("--write-mattes", metavar="PATH", help="A pattern or folder to write the propagated mattes to.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--versioned", is_flag=True, help="Write a new version of OUT with each save: out_v001.mov, …")
@click.option("--only", is_flag=True, help="Use this frame alone, not others of the shot that were painted before.")
@click.option("--once", is_flag=True, help="End when the first save is carried through.")
@click.option("--priority", metavar="N", type=int, default=10, show_default=True, help="Higher jobs run first.")
@common
def paint(
    source: str,
    frame: int,
    kind: str | None,
    editor: str | None,
    picture: str | None,
    out: str | None,
    method: str,
    parameters: tuple[str, ...],
    model: str,
    frames: str | None,
    colorspace: str,
    layer: str,
    write_mattes: str | None,
    overwrite: bool,
    versioned: bool,
    only: bool,
    once: bool,
    priority: int,
) -> int:
    """Paint on one frame in your editor; every save is carried through the shot.

    Puts the frame into a layered PSD (or a PNG, TIFF, EXR), opens it, and watches it until Ctrl-C. Paint on the layers
    above the plate: what they cover is the edit. A picture that is there already is gone on with, never replaced.
    SOURCE and OUT are as for `propagate`. $PAINTOVER_EDITOR, or "editor" in the data folder's settings.json, names
    another editor for good.

    \b
    Examples:
      paintover paint shot.mov --frame 12 -o edited.mov
      paintover paint 'plates/sh010.####.exr' --frame 1001 --editor krita
    """
    from pathlib import Path

    from paintover_bridge.arguments import check_source, parse_parameters, parse_range

    chosen = parse_parameters(parameters)
    span = parse_range(frames) if frames is not None else None
    if write_mattes is not None and out is None:
        raise bad_input("Mattes are written beside an output: give -o as well.")
    if picture is not None and kind is not None and Path(picture).suffix.lower() != f".{kind.lower()}":
        raise bad_input(f"--picture {picture} is no .{kind} file; leave out --format, or name it otherwise.")
    place = _place(source, span, out, overwrite)
    check_source(place.source)

    from paintover_bridge.editors import choose
    from paintover_bridge.keyframe import Painting, Session

    painting = Painting(
        source=place.source,
        frame=frame,
        picture=picture,
        format=(kind or "psd").lower(),
        output=place.output,
        mattes=write_mattes,
        method=method,
        parameters=chosen,
        model=model,
        frames=place.frames,
        colorspace=colorspace,
        layer=layer,
        overwrite=overwrite,
        versioned=versioned,
        only=only,
        once=once,
        priority=priority,
        clip=place.clip,
    )
    program = choose(editor, _folder())
    with _client() as client:
        return Session(client, painting, program, _folder(), _output(), place.finished(_output())).run()


@cli.command()
@click.option(
    "--listen",
    metavar="ADDRESS",
    default="127.0.0.1:0",
    show_default=True,
    help="Loopback address and port (0: any free one), or unix:/path/of/socket.",
)
@click.option("--gpu-memory", metavar="SIZE", help="Use that much of a GPU at most: 8G.  [default: all]")
@click.option("--cache-size", metavar="SIZE", help="Room on disk for what can be made again.  [default: 50G]")
@click.option("--metrics", is_flag=True, help="Answer /metrics for Prometheus, on the monitor's port, with the token.")
@common
def serve(listen: str, gpu_memory: str | None, cache_size: str | None, metrics: bool) -> int:
    """Run the engine in this terminal.

    It serves every client on this machine until Ctrl-C or `paintover stop`.

    \b
    Example:
      paintover serve --listen unix:/tmp/paintover.sock
    """
    from paintover_bridge.arguments import parse_size
    from paintover_bridge.daemon import serve as serve_here

    sizes = {"--gpu-memory": gpu_memory, "--cache-size": cache_size}
    options = [part for name, text in sizes.items() if text for part in (name, str(parse_size(text)))]
    return serve_here(_folder(), listen, [*options, *(["--metrics"] if metrics else [])])


@cli.command()
@click.option("--now", is_flag=True, help="Do not wait for jobs: they resume when an engine runs again.")
@common
def stop(now: bool) -> int:
    """Stop the engine, when its jobs are done.

    \b
    Example:
      paintover stop --now
    """
    from paintover_bridge import daemon

    output, endpoint = _output(), daemon.find(_folder())
    if endpoint is None:
        output.say("No engine is running.")
        output.record({"running": False})
        return OK
    try:
        with _client(start=False) as client:
            engine = client.get_engine()
            waits = not now and engine.jobs_running + engine.jobs_waiting > 0
            client.stop_engine(when_idle=waits)
    except ClientError as error:
        if error.code not in ("FAILED_PRECONDITION", "UNAUTHENTICATED", "UNIMPLEMENTED"):
            raise
        daemon.terminate(endpoint)  # it speaks another protocol: all that can be told to it
        waits = False
    if waits:
        output.record({"running": True, "pid": endpoint.pid})
        output.say("The engine stops when its jobs are done; `paintover stop --now` does not wait for them.")
        return OK
    if not daemon.wait_until_gone(endpoint, daemon.START_SECONDS):
        raise ClientError("DEADLINE_EXCEEDED", f"The engine (process {endpoint.pid}) does not end; see {endpoint.log}.")
    output.record({"running": False, "pid": endpoint.pid})
    output.say("Stopped.")
    return OK


@cli.command()
@common
def status() -> int:
    """Show the engine that runs.

    Version, devices, models found, room, jobs. Exit status 3 when none runs.

    \b
    Example:
      paintover status --json
    """
    from paintover_bridge import daemon

    output, folder = _output(), _folder()
    endpoint = daemon.find(folder)
    if endpoint is None:
        output.record({"running": False, "data_folder": str(folder)})
        output.say(f"No engine is running on {folder}; commands start one when they need it.")
        return UNAVAILABLE
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_engine

    with _client(start=False) as client:
        engine = client.get_engine()
    if output.as_json:
        output.record({"running": True, "address": endpoint.address, **as_record(engine)})
    else:
        print_engine(engine, endpoint.address)
    return OK


@cli.command()
@common
def doctor() -> int:
    """Check this machine and say what to mend.

    Exit status 1 if anything is broken.

    \b
    Example:
      paintover doctor
    """
    from dataclasses import asdict

    from paintover_bridge.doctor import examine

    output, broken = _output(), False
    for check in examine(_folder()):
        broken |= not check.ok
        output.record(asdict(check))
        output.say(f"{_mark(check.ok)} {check.name}: {check.found}")
        if not check.ok:
            output.say(f"  → {check.remedy}" if _can_print("→") else f"  -> {check.remedy}")
    return FAILED if broken else OK


def _mark(ok: bool) -> str:
    if _can_print("✓✗"):
        return "✓" if ok else "✗"
    return "ok  " if ok else "FAIL"


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


_WHAT = click.argument("targets", nargs=-1, metavar="[resolve|nuke|photoshop|ofx|service|all]...")
_DRY = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_ROOT = click.option(
    "--root", metavar="FOLDER", help="A folder that stands for the whole disk, for packages and tests."
)
_ALL_USERS = click.option("--all-users", is_flag=True, help="For every user of this machine, not you alone.")


def _installer(root: str | None, all_users: bool, bundle: str | None = None) -> Installer:
    from pathlib import Path

    from paintover_bridge import places
    from paintover_bridge.install import Installer

    machine = places.Machine.this(all_users, Path(root).resolve() if root else None)
    given = click.get_current_context().meta.get(_DATA_DIR)
    folder = machine.real(places.data_folder(machine)) if root and not given else _folder()
    return Installer(machine, folder, _output(), Path(bundle).resolve() if bundle else None)


@cli.command()
@_WHAT
@_DRY
@_ALL_USERS
@_ROOT
@click.option("--bundle", metavar="FOLDER", help="The OpenFX effect's bundle, where it is not with this installation.")
@common
def install(targets: tuple[str, ...], dry_run: bool, all_users: bool, root: str | None, bundle: str | None) -> int:
    """Put menus, scripts, the panel, the OpenFX effect and the service where hosts and the system look.

    Everything that is done is written down, and what is replaced is kept, so that `uninstall` leaves no trace. Hosts
    should be closed. The OpenFX effect has no place of a user's own: it may need administrator's rights.

    \b
    Examples:
      paintover install nuke --dry-run
      paintover install all
    """
    from paintover_bridge.install import choose_targets

    return _installer(root, all_users, bundle).install(choose_targets(targets), dry_run)


@cli.command()
@_WHAT
@_DRY
@_ROOT
@common
def uninstall(targets: tuple[str, ...], dry_run: bool, root: str | None) -> int:
    """Take out what `install` put in, and put back what was there before.

    The engine's data folder keeps your jobs and results.

    \b
    Example:
      paintover uninstall nuke
    """
    from paintover_bridge.install import choose_targets

    return _installer(root, False).uninstall(choose_targets(targets), dry_run)


@cli.command()
@click.argument("name", required=False)
@click.option("--plan", "source", metavar="SOURCE", help="Print what NAME would take in memory and on disk for a shot.")
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="With --plan: a parameter of the method.")
@click.option("--model", metavar="NAME|FOLDER|HUB-ID", default="", help="With --plan: the model.")
@common
def methods(name: str | None, source: str | None, parameters: tuple[str, ...], model: str) -> int:
    """List the methods, their parameters and what they need.

    \b
    Examples:
      paintover methods draft
      paintover methods i2vedit --plan shot.mov
    """
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_methods

    if source is not None:
        return _plan_method(name, source, parameters, model)

    with _client() as client:
        found = list(client.list_methods())
    if name is not None:
        names = [method.name for method in found]
        if name not in names:
            raise bad_input(f"There is no method '{name}'.{_nearest(name, names)}")
        found = [method for method in found if method.name == name]
    output = _output()
    if output.as_json:
        for method in found:
            output.record(as_record(method))
    else:
        print_methods(found)
    return OK


def _plan_method(name: str | None, source: str, parameters: tuple[str, ...], model: str) -> int:
    """Prints what a method would take for a shot."""
    from paintover_bridge.arguments import check_source, parse_parameters
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_plan

    if name is None:
        raise bad_input("--plan needs a method's name; see `paintover methods`.")
    chosen = parse_parameters(parameters)
    check_source(source)
    with _client() as client:
        plan = client.plan_method(client.create_shot(source).name, name, chosen, model)
    if _output().as_json:
        _output().record(as_record(plan))
    else:
        print_plan(plan)
    return OK


@cli.group(cls=Group, invoke_without_command=True)
@common
@click.pass_context
def jobs(context: click.Context) -> int | None:
    """List the engine's jobs, or act on one; ID is the job's number.

    \b
    Examples:
      paintover jobs
      paintover jobs watch 3
    """
    return _list_jobs() if context.invoked_subcommand is None else None


@jobs.command("list")
@common
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

    with _client() as client:
        found = client.list_jobs()
    output = _output()
    for job in found:
        output.record(as_record(job))
    if not output.as_json and found:
        print_jobs(found)
    if not found:
        output.say("No jobs.")
    return OK


@jobs.command("show")
@click.argument("id")
@common
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
    with _client() as client:
        job = client.get_job(name)
    output = _output()
    output.record(as_record(job))
    if not output.as_json:
        print_job(job)
    return OK


@jobs.command("watch")
@click.argument("id")
@common
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
    with _client() as client:
        return follow(client, name, _output())


def _act(id: str, action: Callable[[Client, str], Any], done: str) -> int:
    from paintover_bridge.arguments import parse_job
    from paintover_bridge.records import as_record

    name = parse_job(id)
    with _client() as client:
        job = action(client, name)
    output = _output()
    output.record({"job": name, "removed": True} if job is None else as_record(job))
    output.say(f"{name} {done}.")
    return OK


@jobs.command("cancel")
@click.argument("id")
@common
def cancel_job(id: str) -> int:
    """Cancel a job; `retry` runs it again from where it was.

    \b
    Example:
      paintover jobs cancel 3
    """
    return _act(id, lambda client, name: client.cancel_job(name), "is cancelled")


@jobs.command("pause")
@click.argument("id")
@common
def pause_job(id: str) -> int:
    """Let a job wait until `resume`.

    \b
    Example:
      paintover jobs pause 3
    """
    return _act(id, lambda client, name: client.update_job(name, paused=True), "is paused")


@jobs.command("resume")
@click.argument("id")
@common
def resume_job(id: str) -> int:
    """Let a paused job go on.

    \b
    Example:
      paintover jobs resume 3
    """
    return _act(id, lambda client, name: client.update_job(name, paused=False), "goes on")


@jobs.command("retry")
@click.argument("id")
@common
def retry_job(id: str) -> int:
    """Run a failed or cancelled job again.

    Its finished stages are found, not redone.

    \b
    Example:
      paintover jobs retry 3
    """
    return _act(id, lambda client, name: client.retry_job(name), "is queued again")


@jobs.command("remove")
@click.argument("id")
@common
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
@common
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
@common
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
    with _client() as client:
        text = client.export_job(name)
    if path is None:
        click.echo(text)
        return OK
    try:
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise bad_input(f"'{path}' cannot be written: {error.strerror}; choose another place.") from error
    _output().say(f"Wrote {path}.")
    return OK


@cli.group(cls=Group, invoke_without_command=True)
@common
@click.pass_context
def cache(context: click.Context) -> int | None:
    """Show what lies on the engine's disk, or make room.

    \b
    Examples:
      paintover cache
      paintover cache prune --keep 10G
    """
    return _show_cache() if context.invoked_subcommand is None else None


@cache.command("show")
@common
def show_cache() -> int:
    """Show what lies on the engine's disk.

    \b
    Example:
      paintover cache show
    """
    return _show_cache()


def _show_cache() -> int:
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import print_cache

    with _client() as client:
        found = client.get_cache()
    output = _output()
    output.record(as_record(found))
    if not output.as_json:
        print_cache(found)
    return OK


@cache.command("prune")
@click.option("--keep", metavar="SIZE", default="0", show_default=True, help="What may stay: 500M, 10G.")
@common
def prune_cache(keep: str) -> int:
    """Remove what can be made again, least recently used first.

    Never what a running job reads, never a job's results, never a file of yours.

    \b
    Example:
      paintover cache prune --keep 10G
    """
    from paintover_bridge.arguments import parse_size
    from paintover_bridge.records import as_record
    from paintover_bridge.tables import size

    kept = parse_size(keep)
    with _client() as client:
        answer = client.prune_cache(kept)
    output = _output()
    output.record(as_record(answer))
    output.say(f"Gave back {size(answer.freed_bytes)}.")
    return OK


@cli.command()
@click.option("--no-browser", is_flag=True, help="Print the link only.")
@common
def monitor(no_browser: bool) -> int:
    """Open the queue's page in a browser.

    The link works once, within ten minutes; the browser that opened it stays known. An engine is started if none runs,
    and goes on until `paintover stop`.

    \b
    Example:
      paintover monitor
    """
    import webbrowser

    with _client(ephemeral=False) as client:
        url = client.open_monitor()
    output = _output()
    output.record({"url": url})
    output.say(url)
    if not no_browser and not output.as_json:
        webbrowser.open(url)
    return OK


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and exits with its status; the user reads sentences, never a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC tells of every lost connection on standard error
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    sys.exit(_run(given))


def _run(arguments: list[str]) -> int:
    try:
        return cli.main(arguments, prog_name="paintover", standalone_mode=False) or OK
    except click.UsageError as error:
        _report("INVALID_ARGUMENT", error.format_message())
        command = error.ctx.command_path if error.ctx else "paintover"
        sys.stderr.write(f"Try `{command} --help`.\n")
        return BAD_INPUT
    except ClientError as error:
        _report(error.code, error.message)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's own flush would complain
        return FAILED
    except Exception as error:
        if os.environ.get("PAINTOVER_DEBUG"):
            raise
        kind = type(error).__name__
        _report("INTERNAL", f"internal error ({kind}: {error}); run it again with PAINTOVER_DEBUG=1 and report it.")
        return FAILED


def _report(code: str, message: str) -> None:
    """An error that ended the command. `--json` is looked for in the text: the line may not have been understood."""
    from paintover_bridge.output import Output

    Output(as_json="--json" in sys.argv[1:]).error(ClientError(code, message))


if __name__ == "__main__":
    main()
