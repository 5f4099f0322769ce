"""The `paintover` command line, one module for each group of commands; `app` puts them together.

Modules here import click and nothing else that is not in the standard library; what a command runs on is imported when
it runs, so that `--help` and shell completion stay fast.
"""
