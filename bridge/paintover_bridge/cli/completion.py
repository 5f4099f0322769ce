"""`paintover completion`: the shell completes commands and options."""

from __future__ import annotations

import os

import click

from paintover_bridge.cli import context
from paintover_bridge.errors import OK, bad_input

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", required=False, type=click.Choice(_SHELLS))
@click.option("--install", is_flag=True, help="Write it where the shell looks, instead of printing it.")
@context.common
@click.pass_context
def completion(ctx: click.Context, shell: str | None, install: bool) -> int:
    """Print what makes your shell complete `paintover` commands, or install it.

    \b
    Examples:
      paintover completion --install
      paintover completion bash > /etc/bash_completion.d/paintover
    """
    from click.shell_completion import get_completion_class

    chosen = shell or _shell_of_user()
    made = get_completion_class(chosen)
    assert made is not None
    source = made(ctx.find_root().command, {}, "paintover", "_PAINTOVER_COMPLETE").source()
    if not install:
        click.echo(source)
        return OK
    path = _place(chosen)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(source + "\n")
    except OSError as error:
        raise bad_input(f"{path} cannot be written ({error.strerror}); print it and put it elsewhere.") from error
    output = context.output()
    output.record({"shell": chosen, "path": path})
    output.say(f"Wrote {path}; shells that start from now on complete `paintover`.")
    if chosen == "zsh":
        output.say("zsh looks there once ~/.zshrc has: fpath+=~/.zfunc; autoload -Uz compinit && compinit")
    return OK


def _shell_of_user() -> str:
    name = os.path.basename(os.environ.get("SHELL", ""))
    if name not in _SHELLS:
        raise bad_input(f"Say which shell: {', '.join(_SHELLS)} ($SHELL is '{name}').")
    return name


def _place(shell: str) -> str:
    """The file that a user's shell reads completions of `paintover` from."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return {
        "bash": os.path.join(data, "bash-completion", "completions", "paintover"),
        "zsh": os.path.expanduser("~/.zfunc/_paintover"),
        "fish": os.path.join(config, "fish", "completions", "paintover.fish"),
    }[shell]
