"""The program that the artist paints in: how it is chosen, and how it is started (never through a shell)."""

from __future__ import annotations

import glob
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paintover_bridge.errors import ClientError, bad_input

NONE = "none"
PICTURE = "{}"
"""Placeholder of the picture's path in a command line; without it, the path is the last argument."""


@dataclass(frozen=True)
class Editor:
    """A program to paint in. command: its arguments; `PICTURE` stands for the picture's path."""

    name: str
    command: tuple[str, ...]

    @property
    def saving(self) -> str:
        """How a save reaches the shot in this program, a sentence; "" for a program that is not known."""
        return next((text for name, text in _SAVING.items() if self.name.lower().startswith(name)), "")

    def open(self, picture: Path) -> None:
        """Starts the program with a picture and returns at once. Raises ClientError when the program cannot be
        started."""
        words = [str(picture) if word == PICTURE else word for word in self.command]
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **_detached_gui()
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise ClientError(
                "FAILED_PRECONDITION",
                f"The editor '{words[0]}' cannot be started ({reason}); name another with --editor.",
            ) from error
        threading.Thread(target=process.wait, name="paintover-editor", daemon=True).start()  # reaps the process


_SAVING = {
    "photoshop": "Ctrl+S (⌘S on a Mac), with Maximize Compatibility on.",
    "affinity": "Ctrl+S (⌘S on a Mac), with Save Over Imported PSD Files on in its settings; else export that PSD.",
    "krita": "Ctrl+S. A .kra or PNG of that name beside it is taken too.",
    "gimp": "File > Overwrite (Ctrl+S writes an .xcf beside it, which is taken too, a few seconds later).",
}
"""How programs save an opened PSD, by how their names begin."""


@dataclass(frozen=True)
class _PaintingProgram:
    """A painting program and where to look for it: its macOS bundle identifier, glob patterns of its location on
    Windows and macOS, and the names of its commands on the search path."""

    name: str
    bundle: str
    locations: tuple[str, ...]
    commands: tuple[str, ...]


_PROGRAMS = (
    _PaintingProgram(
        "Photoshop",
        "com.adobe.Photoshop",
        (
            "{programfiles}/Adobe/Adobe Photoshop*/Photoshop.exe",
            "/Applications/Adobe Photoshop */Adobe Photoshop *.app",
        ),
        (),
    ),
    _PaintingProgram(
        "Affinity",
        "com.seriflabs.affinityphoto2",
        (
            "{programfiles}/Affinity/*/*.exe",
            "/Applications/Affinity*.app",
        ),
        (),
    ),
    _PaintingProgram(
        "Krita",
        "org.kde.krita",
        ("{programfiles}/Krita*/bin/krita.exe", "/Applications/krita.app"),
        ("krita",),
    ),
    _PaintingProgram(
        "GIMP",
        "org.gimp.gimp",
        ("{programfiles}/GIMP*/bin/gimp-?.*.exe", "/Applications/GIMP*.app"),
        ("gimp", "gimp-3.0", "gimp-2.10"),
    ),
)


def choose(given: str | None, data_folder: Path, environment: Mapping[str, str] = os.environ) -> Editor | None:
    """The editor to use: the one given, else $PAINTOVER_EDITOR, else `editor` in the data folder's settings.json, else
    the first that is found (Photoshop before all others), else what the system opens pictures with.

    An editor is named ("photoshop", "affinity", "krita", "gimp") or given as a command line; None for "none".
    Raises ClientError for a known one that is not found, and for a command line that is none."""
    wanted = given or environment.get("PAINTOVER_EDITOR") or _setting(data_folder)
    if wanted is None:
        return next(_installed(environment), None) or _system_opener()
    if wanted.strip().lower() == NONE:
        return None
    known = {program.name.lower(): program for program in _PROGRAMS}
    program = known.get(wanted.strip().lower())
    if program is None:
        return _from_command_line(wanted)
    editor = _locate(program, environment)
    if editor is None:
        others = ", ".join(found.name for found in _installed(environment)) or "none of those that are known"
        raise bad_input(
            f"{program.name} was not found on this machine (found: {others}); give its command to --editor."
        )
    return editor


def _setting(data_folder: Path) -> str | None:
    path = data_folder / "settings.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise bad_input(f'{path} cannot be read ({error}); write it like {{"editor": "gimp"}}.') from error
    editor = settings.get("editor") if isinstance(settings, dict) else None
    if editor is not None and not isinstance(editor, str):
        raise bad_input(f'"editor" in {path} is not a text; write it like {{"editor": "gimp"}}.')
    return editor or None


def _from_command_line(text: str) -> Editor:
    if os.path.exists(text):  # a program's own path may hold spaces
        return Editor(os.path.basename(text), _open_command(text))
    try:
        words = shlex.split(text, posix=os.name == "posix")
    except ValueError as error:
        raise bad_input(f"The editor '{text}' is no command line ({error}).") from error
    words = [word.strip('"') for word in words]
    program = shutil.which(words[0]) if words else None
    if program is None:
        raise bad_input(f"The editor '{text}' was not found; give its whole path to --editor, or 'none'.")
    rest = tuple(words[1:]) if PICTURE in words[1:] else (*words[1:], PICTURE)
    return Editor(os.path.basename(words[0]), (program, *rest))


def _installed(environment: Mapping[str, str]) -> Iterator[Editor]:
    for program in _PROGRAMS:
        editor = _locate(program, environment)
        if editor is not None:
            yield editor


def _locate(program: _PaintingProgram, environment: Mapping[str, str]) -> Editor | None:
    roots = [environment[name] for name in ("ProgramFiles", "ProgramW6432") if environment.get(name)]
    for location in program.locations:
        if location.startswith("/") != (sys.platform == "darwin"):
            continue
        for root in roots or [""]:
            found = (
                sorted(glob.glob(location.replace("{programfiles}", glob.escape(root))))
                if root or location[0] == "/"
                else []
            )
            if found:  # the newest version's name sorts last
                return Editor(program.name, _open_command(found[-1]))
    for command in program.commands:
        path = shutil.which(command, path=environment.get("PATH"))
        if path:
            return Editor(program.name, (path, PICTURE))
    return None


def _open_command(program: str) -> tuple[str, ...]:
    return ("open", "-a", program, PICTURE) if program.endswith(".app") else (program, PICTURE)


def _system_opener() -> Editor | None:
    if sys.platform == "darwin":
        return Editor("the program that opens such pictures", ("open", PICTURE))
    if sys.platform == "win32":
        return Editor("the program that opens such pictures", ("explorer", PICTURE))
    program = shutil.which("xdg-open")
    return Editor("the program that opens such pictures", (program, PICTURE)) if program else None


def _detached_gui() -> dict[str, Any]:
    """The arguments of `subprocess.Popen` for a program with windows that this terminal's Ctrl-C does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    return {"start_new_session": True}
