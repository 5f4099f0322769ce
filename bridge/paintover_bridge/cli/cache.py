"""`paintover cache`: what the engine keeps on disk."""

from __future__ import annotations

import click

from paintover_bridge.cli import context
from paintover_bridge.errors import OK


@click.group(invoke_without_command=True)
@context.common
@click.pass_context
def cache(ctx: click.Context) -> int | None:
    """Show what lies on the engine's disk, or make room.

    \b
    Examples:
      paintover cache
      paintover cache prune --keep 10G
    """
    return _show_cache() if ctx.invoked_subcommand is None else None


@cache.command("show")
@context.common
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

    with context.connected() as client:
        found = client.get_cache()
    output = context.output()
    output.record(as_record(found))
    if not output.as_json:
        print_cache(found)
    return OK


@cache.command("prune")
@click.option("--keep", metavar="SIZE", default="0", show_default=True, help="What may stay: 500M, 10G.")
@context.common
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

    keep_bytes = parse_size(keep)
    with context.connected() as client:
        answer = client.prune_cache(keep_bytes)
    output = context.output()
    output.record(as_record(answer))
    output.say(f"Gave back {size(answer.freed_bytes)}.")
    return OK
