"""What every command shares: `--data-dir` and `--json`, the output they select, and the connection to the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pathlib import Path

    from paintover_bridge.client import Client
    from paintover_bridge.output import CommandOutput

Command = TypeVar("Command", bound=Callable[..., Any])

_DATA_DIR = "paintover.data_dir"
_JSON = "paintover.json"


def _store(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """An option callback that stores the value for the whole command line: the option may stand after any command."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            context.meta[key] = value

    return callback


def common(command: Command) -> Command:
    """Declares the options that every command takes. Their values are read with `output()` and `data_folder()`."""
    data_dir = click.option(
        "--data-dir",
        metavar="FOLDER",
        expose_value=False,
        callback=_store(_DATA_DIR),
        help="The engine's data folder.  [default: $PAINTOVER_DATA, else your user data folder]",
    )
    as_json = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_store(_JSON),
        help="Print one JSON object a line, for programs.",
    )
    return data_dir(as_json(command))


def output() -> CommandOutput:
    """The output that `--json` selects. Needs a running command."""
    from paintover_bridge.output import CommandOutput

    return CommandOutput(as_json=bool(click.get_current_context().meta.get(_JSON)))


def given_data_folder() -> str | None:
    """The value of `--data-dir`; None without the option."""
    folder: str | None = click.get_current_context().meta.get(_DATA_DIR)
    return folder


def data_folder() -> Path:
    """The data folder of `--data-dir`, $PAINTOVER_DATA or the user."""
    from paintover_bridge.daemon import data_folder as resolve

    return resolve(given_data_folder())


@contextlib.contextmanager
def connected(*, start: bool = True, ephemeral: bool = True) -> Iterator[Client]:
    """A client of the data folder's engine, closed at the end of the block. Parameters and errors: `client.connect`."""
    from paintover_bridge.client import connect

    with connect(data_folder(), start=start, ephemeral=ephemeral) as client:
        yield client
