"""What the plug-ins of painting programs share: which shot an artist means by a file, and running `paintover paint`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from paintover_bridge.hosts.command import Event, HostError, Run

IMAGES = (".exr", ".dpx", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_NUMBER = re.compile(r"(\d+)(?=\D*$)")


def chosen_shot(path: str) -> tuple[str, int | None]:
    """The source to give the `paintover` command for a chosen file, and the frame that the file is.

    A numbered image stands for its sequence; for a video the frame is None."""
    file = Path(path)
    found = _NUMBER.search(file.stem)
    if file.suffix.lower() not in IMAGES or found is None:
        return path, None
    stem = file.stem[: found.start()] + "#" * len(found[1]) + file.stem[found.end() :]
    return str(file.with_name(stem + file.suffix)), int(found[1])


def run_paint(
    command: Sequence[str], source: str, frame: int, once: bool, show_progress: Callable[[float], None]
) -> str:
    """Runs `paintover paint` to its end; returns the path of the file to paint on or, with `once`, which carries what
    is saved in that file through the shot, of the file that shows the draft.

    show_progress: called in this thread, several times a second, with a share in 0..1.
    Raises HostError with what the command says is wrong."""
    wanted = "draft" if once else "exported"
    found: dict[str, str] = {}
    progress = 0.0

    def hear(event: Event) -> None:
        nonlocal progress
        if event["event"] in (wanted, "error"):
            found[event["event"]] = event.get("path") or event["message"]
        elif event["event"] == "progress" and event.get("state") == "running":
            progress = float(event["fraction"])

    until = "--once" if once else "--no-wait"
    run = Run(command, ["paint", source, "--frame", str(frame), "--editor", "none", until], hear)
    while not run.wait(0.1):
        show_progress(progress)
    if wanted not in found:
        raise HostError(found.get("error", "Nothing was painted differently."))
    return found[wanted]
