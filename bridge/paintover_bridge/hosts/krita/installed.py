"""The files of Krita's plug-in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paintover_bridge.hosts.copies import copied_modules

NAME = "paintover_krita"  # of the module that Krita imports

_DESKTOP = f"""[Desktop Entry]
Type=Service
ServiceTypes=Krita/PythonPlugin
X-KDE-Library={NAME}
X-Python-2-Compatible=false
Name=Paintover
Comment=Paint over one frame of a shot, and see what each save makes of the others
"""

_INIT = """# Paintover. Krita imports this module when the plug-in is enabled.
import os
import sys

if os.path.dirname(__file__) not in sys.path:
    sys.path.append(os.path.dirname(__file__))

from paintover_bridge.hosts.krita import plugin

plugin.register()
"""


def files(pykrita: Path, command: Sequence[str]) -> dict[Path, str]:
    """What to install. pykrita: the folder of the user's plug-ins; command: what runs `paintover`."""
    place = pykrita / NAME
    modules = copied_modules(place, command, ["hosts/painting.py", "hosts/krita/__init__.py", "hosts/krita/plugin.py"])
    return {**modules, pykrita / f"{NAME}.desktop": _DESKTOP, place / "__init__.py": _INIT}
