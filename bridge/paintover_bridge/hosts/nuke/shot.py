"""What of a node becomes the shot: a Read's own files where they are shown as they are, else a rendered sequence."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nuke

from paintover_bridge.hosts.command import HostError

VIDEOS = (".mov", ".mp4", ".mkv", ".mxf", ".avi", ".m4v")
_NUMBER = re.compile(r"%0?\d*d|#+")
_WHOLE = "whole"  # a file that says so of a rendered sequence
# Nuke's own names: curves alone, which every file type's default already is. All else is OpenColorIO's.
_OF_NUKE = frozenset({
    "alexav3logc", "alexav4logc", "blackmagicfilm", "bt1886", "cineon", "clog", "data", "default", "gamma1.8",
    "gamma2.2", "gamma2.4", "gamma2.6", "hybridlogg", "linear", "log3g10", "log3g12", "logc3", "logc4", "none",
    "panalog", "ploglin", "protune", "raw", "rec1886", "rec709", "redlog", "scene_linear", "slog", "slog1", "slog2",
    "slog3", "srgb", "st2084", "viperlog",
})  # fmt: skip


@dataclass(frozen=True)
class NukeShot:
    """A source and the frames of it. first, last: its own numbers, inclusive. shift: added to them it gives Nuke's.
    colorspace: OpenColorIO's name, "" for the file's own. read: knobs that a Read of the result takes over."""

    source: str
    first: int
    last: int
    shift: int
    colorspace: str
    read: dict[str, Any]

    @property
    def is_video(self) -> bool:
        return Path(self.source).suffix.lower() in VIDEOS


def of(node: Any) -> NukeShot:
    """The shot of a node; one that is no plain Read is rendered first. Raises HostError with a sentence."""
    return of_files(node) or _rendered(node)


def of_files(node: Any) -> NukeShot | None:
    """The shot that a Read's files are; None for any other node. Raises HostError with a sentence."""
    return _of_read(node) if shows_its_files(node) else None


def shows_its_files(node: Any) -> bool:
    """Whether a node is a Read whose frames are its files' frames."""
    if node.Class() != "Read":
        return False
    expression = node["frame"].value() if node["frame_mode"].value() == "expression" else "moved"
    return not expression and not (node["proxy"].value() and nuke.root()["proxy"].value())


def _of_read(node: Any) -> NukeShot:
    name = nuke.filename(node)
    if not name:
        raise HostError(f"{node.name()} reads no file; choose one.")
    if "%v" in name.lower():
        raise HostError(f"{node.name()} reads several views; paint a Read of one of them.")
    path = os.path.abspath(os.path.expanduser(name))
    first, last = int(node["first"].value()), int(node["last"].value())
    is_video = Path(path).suffix.lower() in VIDEOS
    if not is_video and not _NUMBER.search(os.path.basename(path)):
        raise HostError(f"{node.name()} reads a still, which has nothing to carry an edit through.")
    shift = int(node["origfirst"].value()) if is_video else 0
    read = {"colorspace": node["colorspace"].value(), "raw": node["raw"].value()}
    read["premultiplied"] = node["premultiplied"].value()
    return NukeShot(
        path, first - shift, last - shift, shift, "" if read["raw"] else opencolorio(read["colorspace"]), read
    )


def opencolorio(name: str) -> str:
    """The name that Paintover takes for one of Nuke's colour spaces; "" for the file's own."""
    found = inner_name(name)
    return "" if found.lower() in _OF_NUKE else found


def inner_name(name: str) -> str:
    """A colour space's name without Nuke's "default (…)" around it."""
    inner = re.fullmatch(r"default \((.*)\)", str(name))
    return inner[1] if inner else str(name)


def _rendered(node: Any) -> NukeShot:
    """The node's range as half float EXRs in the script's working space, rendered once for the same pictures."""
    first, last = int(node.firstFrame()), int(node.lastFrame())
    if last <= first:
        raise HostError(f"{node.name()} has one frame, which is nothing to carry an edit through.")
    state = hashlib.sha256(repr((list(node.opHashes()), first, last)).encode()).hexdigest()[:12]
    name = re.sub(r"[^\w-]", "_", node.fullName())
    folder = place() / f"{name}-{state}"
    pattern = folder / f"{node.name()}.%04d.exr"
    if not (folder / _WHOLE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _render(node, pattern.as_posix(), first, last)
        (folder / _WHOLE).touch()
    working = str(nuke.root()["workingSpaceLUT"].value())
    return NukeShot(str(pattern), first, last, 0, opencolorio(working), {"raw": True})


def _render(node: Any, pattern: str, first: int, last: int) -> None:
    write = nuke.nodes.Write(file=pattern, file_type="exr", channels="rgba", raw=True)
    write.setInput(0, node)
    try:
        nuke.execute(write, first, last, 1)
    except RuntimeError as error:
        raise HostError(f"{node.name()} was not rendered: {str(error).rstrip('.') or 'cancelled'}.") from error
    finally:
        nuke.delete(write)


def place() -> Path:
    """Where what belongs to this script goes: beside it, or the temporary folder while it has no name."""
    script = nuke.root().name()
    if script in ("", "Root"):
        return Path(tempfile.gettempdir()) / "paintover"
    return Path(script).parent / "paintover"


def output_for(shot: NukeShot) -> str:
    """Where results go: in a folder "paintover" beside the shot, or where rendered shots lie anyway."""
    source = Path(shot.source)
    folder = source.parent if place() in source.parents else source.parent / "paintover"
    if shot.is_video:
        return str(folder / f"{source.stem}_paintover.mov")
    stem = re.sub(rf"[._ -]*({_NUMBER.pattern})", "", source.stem) or "frames"
    return str(folder / f"{stem}_paintover" / source.name)
