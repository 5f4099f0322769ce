"""The `paintover` command itself: its groups put together, and how it ends."""

from __future__ import annotations

import os
import sys

import click

from paintover_bridge import __version__
from paintover_bridge.cli import (
    cache,
    completion,
    context,
    demo,
    engine,
    farm,
    install,
    jobs,
    methods,
    paint,
    propagate,
)
from paintover_bridge.errors import BAD_INPUT, FAILED, INTERRUPTED, OK, ClientError

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_SETTINGS, invoke_without_command=True)
@click.version_option(__version__, prog_name="paintover", message="%(prog)s %(version)s")
@context.common
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Paint over one frame; Paintover carries the edit through the whole shot.

    \b
    Example:
      paintover propagate shot.mov --keyframe 0=painted.png -o edited.mov
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (
    propagate.propagate,
    propagate.prepare,
    paint.paint,
    engine.serve,
    engine.worker,
    engine.stop,
    engine.status,
    engine.doctor,
    engine.monitor,
    install.install,
    install.uninstall,
    methods.methods,
    jobs.jobs,
    farm.farm,
    farm.render,
    cache.cache,
    completion.completion,
    demo.demo,
):
    cli.add_command(_command)


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
    from paintover_bridge.output import CommandOutput

    CommandOutput(as_json="--json" in sys.argv[1:]).error(ClientError(code, message))
