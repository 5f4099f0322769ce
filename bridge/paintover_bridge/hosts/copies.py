"""The light modules that are copied to hosts whose own Python runs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from paintover_local import processes

from paintover_bridge.hosts import command as command_module

_BRIDGE = Path(command_module.__file__).parents[1]
_LOCAL = Path(processes.__file__).parent


def copied_modules(place: Path, command: Sequence[str], modules: Sequence[str]) -> dict[Path, str]:
    """Files of a folder that goes onto a host's module search path, without any other library.

    command: what runs `paintover`, for `find_command(place)`. modules: patterns of files below `paintover_bridge`."""
    parts = (
        (_BRIDGE, ("__init__.py", "hosts/__init__.py", "hosts/command.py", *modules)),
        (_LOCAL, ("__init__.py", "processes.py")),
    )
    copied = {
        place / package.name / path.relative_to(package): path.read_text("utf-8")
        for package, patterns in parts
        for pattern in patterns
        for path in sorted(package.glob(pattern))
    }
    return {**copied, place / command_module.SETTINGS: json.dumps({"command": list(command)}, indent=1) + "\n"}
