"""Opens a secret link in the browser. Every user of the machine can read a browser's command line, so that names a page
in a private file, which leads to the link."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import webbrowser
from pathlib import Path

from paintover_local.private_files import write_private

PAGE = "monitor.html"
_TEMPLATE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Paintover</title><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={link}"></head><body><a href="{link}">Open Paintover</a></body></html>
"""


def open_link(link: str, folder: Path) -> bool:
    """Opens a link that other users must not see; False where there is no browser.

    folder: the data folder, private to this user, which holds the page. Raises OSError where it cannot be written."""
    page = (_folder_of_snap() or folder) / PAGE
    write_private(page, _TEMPLATE.format(link=html.escape(link)).encode())
    return webbrowser.open(page.absolute().as_uri())


def _folder_of_snap() -> Path | None:
    """A folder that the desktop's browser can read where that is a snap: those see no hidden folders of the home."""
    if sys.platform != "linux":
        return None
    command = ["xdg-settings", "get", "default-web-browser"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    snap = re.match(r"([a-z0-9-]+)_[\w.-]+\.desktop", found)  # snapd's names: "firefox_firefox.desktop"
    folder = Path.home() / "snap" / snap[1] / "common" if snap else None
    return folder if folder and folder.is_dir() else None
