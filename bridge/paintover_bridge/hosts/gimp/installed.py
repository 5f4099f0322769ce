"""The files of GIMP's plug-in.

GIMP 2.10 has no Python of its own in today's systems: a program of Paintover's Python registers one procedure, which
runs the command, and a Script-Fu file makes menus and dialogs of it. GIMP 3 runs one Python file of ours.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from paintover_local.places import WINDOWS
from paintover_local.processes import module_command

from paintover_bridge.hosts.copies import copied_modules

VERSIONS = ("2.10", "3.0")
NAME = "paintover"  # GIMP starts the program of a plug-in's folder that is called like the folder
_PROGRAM, _FILE = 0o755, 0o644
_HERE = Path(__file__).parent

_LAUNCHER = """#!/bin/sh
PAINTOVER_COMMAND={command} exec {program} "$@"
"""

_GIMP_3 = """#!/usr/bin/env python3
import os
import sys

sys.path.append(os.path.dirname(os.path.realpath(__file__)))

from paintover_bridge.hosts.gimp import gimp3

gimp3.main()
"""


def files(folder: Path, version: str, system: str, data_dir: Sequence[str]) -> dict[Path, tuple[str, int]]:
    """What to install and with which mode. folder: of a GIMP's version in the user's settings; data_dir: the command's
    option, or nothing. Nothing for GIMP 2.10 on Windows, which starts no scripts but its own Python's."""
    command = [*module_command("paintover_bridge"), *data_dir]
    place = folder / "plug-ins" / NAME
    if version.startswith("3"):
        modules = ["hosts/painting.py", "hosts/gimp/__init__.py", "hosts/gimp/gimp3.py"]
        copied = {path: (text, _FILE) for path, text in copied_modules(place, command, modules).items()}
        return {**copied, place / f"{NAME}.py": (_GIMP_3, _PROGRAM)}
    if system == WINDOWS:
        return {}
    launcher = _LAUNCHER.format(
        command=shlex.quote(shlex.join(command)),
        program=shlex.join(module_command("paintover_bridge.hosts.gimp.gimp2")),
    )
    script = (_HERE / "paintover.scm").read_text("utf-8")
    return {place / NAME: (launcher, _PROGRAM), folder / "scripts" / f"{NAME}.scm": (script, _FILE)}
