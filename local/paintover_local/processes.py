"""How child processes are started."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

_UTF8 = ("-X", "utf8")  # file names cross the wire as UTF-8, whatever the locale is
_WITHOUT_CWD = "import sys; del sys.path[0]; "
"""Begins a program for `python -c`: takes the working folder off the module search path before any import."""

_RUN_MODULE = f"{_WITHOUT_CWD}import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"


def module_command(module: str) -> list[str]:
    """The command that runs a module with this Python as `python -m` does, but without the working folder on the module
    search path: that may be a folder of plates, whose Python files must never be run."""
    if sys.version_info >= (3, 11):
        return [sys.executable, *_UTF8, "-P", "-m", module]
    return [sys.executable, *_UTF8, "-c", _RUN_MODULE, module]


def code_command(python: str, code: str) -> list[str]:
    """The command that runs a line of code with a Python of any version, as safely as `module_command`."""
    return [python, "-c", _WITHOUT_CWD + code]


def detached() -> dict[str, Any]:
    """The arguments of `subprocess.Popen` for a child without this process's terminal: Ctrl-C here does not reach it,
    and on Windows it shows no console window."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
