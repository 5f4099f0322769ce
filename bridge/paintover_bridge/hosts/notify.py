"""Desktop notifications, for hosts that give their scripts no window."""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
import threading

from paintover_local.processes import detached

_BALLOON = (
    "Add-Type -AssemblyName System.Windows.Forms; $icon = New-Object System.Windows.Forms.NotifyIcon; "
    "$icon.Icon = [System.Drawing.SystemIcons]::Information; $icon.Visible = $true; "
    "$icon.ShowBalloonTip(8000, 'Paintover', $env:PAINTOVER_SENTENCE, 'None'); Start-Sleep 9; $icon.Dispose()"
)


def notify(sentence: str) -> bool:
    """Shows a sentence; returns whether the desktop can. It is passed as an argument or variable, never as program
    text."""
    command = _command(sentence)
    if command is None:
        return False
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PAINTOVER_SENTENCE": sentence},
            **detached(),
        )
    except OSError:
        return False
    threading.Thread(target=process.wait, name="paintover-notify", daemon=True).start()  # reaps the process
    return True


def _command(sentence: str) -> list[str] | None:
    if sys.platform == "darwin":
        lines = ("on run argv", 'display notification (item 1 of argv) with title "Paintover"', "end run")
        return ["osascript", *(part for line in lines for part in ("-e", line)), sentence]
    if sys.platform == "win32":
        return ["powershell", "-NoProfile", "-WindowStyle", "Hidden", "-Command", _BALLOON]
    program = shutil.which("notify-send")
    return [program, "--app-name=Paintover", "--", "Paintover", html.escape(sentence)] if program else None
