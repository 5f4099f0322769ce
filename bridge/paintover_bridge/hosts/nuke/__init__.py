"""Paintover in Nuke: a menu, a toolbar, a panel, and `batch` for `nuke -t`.

Runs in Nuke's own Python (3.9 on, PySide2 or PySide6), which has none of Paintover's libraries: the work is done by the
`paintover` command, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paintover_bridge.hosts import command as command_module
from paintover_bridge.hosts.copies import copied_modules

FOLDER = "paintover"  # in the user's .nuke, or any folder of NUKE_PATH
LINE = f'nuke.pluginAddPath("./{FOLDER}")'  # what that folder's init.py is to hold
_BRIDGE = Path(command_module.__file__).parents[1]
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
    copied = copied_modules(place, command, ["hosts/copies.py", "hosts/nuke/*.py"])
    return {**copied, place / "init.py": _INIT, place / "menu.py": _MENU}


def find_command() -> list[str]:
    """What runs `paintover`, as it was installed."""
    return command_module.find_command(_BRIDGE.parent)
