"""`paintover demo`: the whole of Paintover on a small shot that is made for it."""

from __future__ import annotations

import click

from paintover_bridge.cli import context
from paintover_bridge.errors import ClientError


@click.command()
@click.option(
    "-o", "--output", "folder", metavar="FOLDER", default="paintover-demo", show_default=True, help="Where it goes."
)
@click.option("--small", is_flag=True, help="At 320×180, to see in a few seconds whether this machine can do it.")
@context.common
def demo(folder: str, small: bool) -> int:
    """Render a small shot, paint a frame of it, carry the paint through, and say where to look.

    Takes about half a minute. Its engine works in a temporary data folder, unless --data-dir names one.

    \b
    Example:
      paintover demo
    """
    import importlib.util
    import os
    import subprocess
    from pathlib import Path

    from paintover_local.processes import module_command

    module = "paintover_evaluation"
    if importlib.util.find_spec(module) is None:
        raise ClientError(
            "FAILED_PRECONDITION", "The demo's shot is not in this Python; pip install paintover brings it."
        )
    output, data = context.output(), context.given_data_folder()
    environment = {**os.environ, **({"PAINTOVER_DATA": data} if data else {})}
    command = [*module_command(f"{module}.demo"), "--output", folder, *(["--small"] if small else [])]
    silent = subprocess.DEVNULL if output.as_json else None
    status = subprocess.run(command, env=environment, stdout=silent, check=False).returncode
    output.record({"folder": str(Path(folder).absolute()), "status": status})
    return status
