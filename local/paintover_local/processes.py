"""How child processes are started."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def detached() -> dict[str, Any]:
    """The arguments of `subprocess.Popen` for a child without this process's terminal: Ctrl-C here does not reach it,
    and on Windows it shows no console window."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
