"""What the page has this machine's desktop do: show a file, open it, or open a frame in the artist's painter."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from paintover_local.processes import detached, module_command

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.entities import Shot

OPEN_SECONDS = 60.0


async def show(path: Path, *, folder: bool) -> None:
    """Opens a file with the program that the desktop has for it, or its folder. Raises PaintoverError where there is no
    such file, or no desktop."""
    if not path.exists():
        raise PaintoverError(Code.NOT_FOUND, f"'{path}' is not there any more.")
    command = _opener(path, folder)
    if command is None:
        raise PaintoverError(
            Code.FAILED_PRECONDITION, f"No desktop program is here to open it with; it lies at {path}."
        )
    await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        **detached(),
    )


def _opener(path: Path, folder: bool) -> list[str] | None:
    if sys.platform == "darwin":
        return ["open", *(["-R"] if folder else []), str(path)]
    if sys.platform == "win32":
        return ["explorer", f"/select,{path}" if folder else str(path)]
    program = shutil.which("xdg-open")
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    target = path.parent if folder and not path.is_dir() else path
    return [program, str(target)] if program and has_display else None


class PaintSessions:
    """`paintover paint`, started for the page: it opens the painter, and carries every save through. They end with the
    monitor."""

    def __init__(self, data_folder: Path) -> None:
        self._data_folder = data_folder
        self._running: dict[tuple[str, int], tuple[asyncio.subprocess.Process, dict[str, Any]]] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def open(self, shot: Shot, number: int) -> dict[str, Any]:
        """Opens a frame in the painter, again where it is being painted already. Returns `picture`, the file to paint
        on, `editor`, the program's name or None where the artist has to open the file, and `saving`, how to save there.

        Raises PaintoverError with the command's own sentence where it fails."""
        key = (shot.id, number)
        known = self._running.pop(key, None)
        if known is not None:
            await _end(known[0])
        process = await asyncio.create_subprocess_exec(
            *self._command(shot, number),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PAINTOVER_DATA": str(self._data_folder)},
            **detached(),
        )
        try:
            opened = await asyncio.wait_for(_until_open(process), OPEN_SECONDS)
        except BaseException:
            await _end(process)
            raise
        self._running[key] = (process, opened)
        reader = asyncio.create_task(_drain(process))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return opened

    async def stop(self) -> None:
        """Ends all sessions; what was saved is in the queue."""
        for process, _ in self._running.values():
            await _end(process)

    def _command(self, shot: Shot, number: int) -> list[str]:
        if importlib.util.find_spec("paintover_bridge") is None:
            raise PaintoverError(
                Code.FAILED_PRECONDITION, "The paintover command is not in the engine's Python; pip install paintover."
            )
        command = [*module_command("paintover_bridge"), "paint", shot.source, "--frame", str(number), "--json"]
        if shot.first is not None and shot.last is not None:
            command += ["--range", f"{shot.first}-{shot.last}"]
        return [*command, *(["--colorspace", shot.colorspace] if shot.colorspace else [])]


async def _until_open(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout
    picture = ""
    async for line in process.stdout:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == "exported":
                picture = str(event["path"])
            elif event.get("event") == "editor":
                return {"picture": picture, "editor": event["name"], "saving": event.get("saving")}
            elif event.get("event") == "error":
                raise PaintoverError(Code.FAILED_PRECONDITION, str(event["message"]))
    raise PaintoverError(Code.INTERNAL, "The paintover command ended before it opened the frame.")


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Reads what a session goes on to say, or its pipe would fill."""
    assert process.stdout
    async for _ in process.stdout:
        pass
    await process.wait()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
