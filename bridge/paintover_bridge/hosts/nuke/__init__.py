"""Paintover in Nuke: a menu, a toolbar, a panel, and `batch` for `nuke -t`.

Runs in Nuke's own Python (3.9 on, PySide2 or PySide6), which has none of Paintover's libraries: the work is done by the
`paintover` command, in a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from paintover_local import processes

from paintover_bridge.hosts import command as command_module

FOLDER = "paintover"  # in the user's .nuke, or any folder of NUKE_PATH
LINE = f'nuke.pluginAddPath("./{FOLDER}")'  # what that folder's init.py is to hold
_BRIDGE = Path(command_module.__file__).parents[1]
_COPIED = (  # the light modules, by the package that they belong to
    (
        Path(command_module.__file__).parents[1],
        ("__init__.py", "hosts/__init__.py", "hosts/command.py", "hosts/nuke/*.py"),
    ),
    (Path(processes.__file__).parent, ("__init__.py", "processes.py")),
)

_INIT = """# Paintover. Nuke runs this file in every mode, because its folder is a plug-in path.
import os
import sys

if os.path.dirname(__file__) not in sys.path:
    sys.path.append(os.path.dirname(__file__))
"""

_MENU = """# Paintover. Nuke runs this file where it has an interface.
from paintover_bridge.hosts.nuke import menu

menu.install()
"""


def files(nuke_folder: Path, command: Sequence[str]) -> dict[Path, str]:
    """What to install. nuke_folder: the user's .nuke, or another folder of NUKE_PATH, whose init.py also needs `LINE`;
    command: what runs `paintover`.

    The packages' light modules are copied, so that no other library comes onto Nuke's path."""
    place = nuke_folder / FOLDER
    copied = {
        place / package.name / path.relative_to(package): path.read_text("utf-8")
        for package, parts in _COPIED
        for part in parts
        for path in sorted(package.glob(part))
    }
    settings = json.dumps({"command": list(command)}, indent=1) + "\n"
    return {**copied, place / "init.py": _INIT, place / "menu.py": _MENU, place / command_module.SETTINGS: settings}


def find_command() -> list[str]:
    """What runs `paintover`, as it was installed."""
    return command_module.find_command(_BRIDGE.parent)
