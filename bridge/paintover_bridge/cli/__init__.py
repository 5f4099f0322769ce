"""The `paintover` command line, one module for each group of commands.

Modules here import click and nothing else that is not in the standard library; what a command runs on is imported when
it runs, so that `--help` and shell completion stay fast.
"""

from __future__ import annotations

from paintover_bridge.cli.app import cli, main

__all__ = ["cli", "main"]
