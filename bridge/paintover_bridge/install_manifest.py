"""The manifest of an installation: every change to the disk, recorded before it is carried out, so that it can be
undone.

A change backs up what it replaces. Undoing removes the installed file, unless it was modified since, and restores the
backup.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paintover_bridge.errors import bad_input

BEGIN, END = "# >>> paintover >>>", "# <<< paintover <<<"
_BLOCK = re.compile(re.escape(BEGIN) + r".*?" + re.escape(END) + r"\n?", re.DOTALL)


@dataclass
class InstallStep:
    """One change to the disk.

    kind: "write" (a file), "link" (a symbolic link), "block" (marked lines in a foreign text file), "clear" (removes a
    file or folder), "run" (runs a command; undo: the command that reverses it).
    digest: of the contents written; of a link, its target. backup: the path of the copy of what was replaced, or "".
    folders: the folders created for it, outermost first.
    ended_bare: of a block: the file's last line had no newline, so one was added.
    """

    target: str
    kind: str
    path: str
    digest: str = ""
    backup: str = ""
    folders: list[str] = field(default_factory=list)
    undo: list[str] = field(default_factory=list)
    ended_bare: bool = False


class InstallManifest:
    """The steps of everything that is installed, in the order of execution; an `InstallActions` that records what it
    does.

    folder: holds the manifest and the backups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        record = self._read()
        self.steps = [InstallStep(**step) for step in record.get("steps", [])]
        self._created: list[str] = record.get("created", [])  # parents of `folder` that were created with it

    @property
    def path(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def targets(self) -> list[str]:
        """The installed targets."""
        return list(dict.fromkeys(step.target for step in self.steps))

    def _read(self) -> dict[str, Any]:
        try:
            record = json.loads(self.path.read_text("utf-8"))
            return {"steps": list(record["steps"]), "created": list(record["created"])}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise bad_input(f"{self.path} cannot be read ({error}); mend or remove it, and install again.") from error

    def _save(self) -> None:
        if not self.steps:
            shutil.rmtree(self.folder, ignore_errors=True)
            _remove_empty(self._created)
            return
        if not self.folder.exists():
            self._created = _create_folder(self.folder)
        record = {"steps": [asdict(step) for step in self.steps], "created": self._created}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(partial, self.path)

    # Installing.

    def write(self, target: str, path: Path, contents: bytes, mode: int = 0o644) -> None:
        """Writes a file; backs up one that exists."""
        step = InstallStep(target, "write", str(path), digest(contents), *self._back_up(path))
        self._append(step)
        _replace(path, contents, mode)

    def link(self, target: str, path: Path, to: str) -> None:
        """Creates a symbolic link; backs up what exists."""
        step = InstallStep(target, "link", str(path), to, *self._back_up(path))
        self._append(step)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.symlink_to(to)

    def block(self, target: str, path: Path, text: str) -> None:
        """Appends lines between markers to a text file of another program, created if missing."""
        before = path.read_bytes() if path.exists() else b""
        bare = bool(before) and not before.endswith(b"\n")
        marked = f"{BEGIN}\n{text}\n{END}\n".encode()
        step = InstallStep(target, "block", str(path), digest(marked), *self._back_up(path), ended_bare=bare)
        self._append(step)
        mode = path.stat().st_mode & 0o7777 if path.exists() else 0o644
        _replace(path, without_block(before) + (b"\n" if bare else b"") + marked, mode)

    def clear(self, target: str, path: Path) -> None:
        """Removes a file or folder. Undoing restores it, in place of whatever lies there then."""
        backup = self._back_up(path)[0] if os.path.lexists(path) else ""
        self._append(InstallStep(target, "clear", str(path), backup=backup))
        _remove(path)

    def run(self, target: str, command: Sequence[str], undo: Sequence[str]) -> str:
        """Runs a system command; returns a sentence about its failure, "" on success."""
        if undo:
            self._append(InstallStep(target, "run", command[0], undo=list(undo)))
        return run(command)

    def _back_up(self, path: Path) -> tuple[str, list[str]]:
        """Copies what exists at a path, and creates the folders above it; returns the copy's path or "", and those
        folders."""
        if not self.folder.exists():
            self._created = _create_folder(self.folder)
        created = _create_folder(path.parent)
        if not os.path.lexists(path):
            return "", created
        place = self.folder / "backup" / secrets.token_hex(8)
        _copy(path, place)
        return str(place), created

    def _append(self, step: InstallStep) -> None:
        self.steps.append(step)
        self._save()

    # Undoing.

    def undo(self, targets: Sequence[str]) -> Iterator[str]:
        """Undoes the steps of some targets, the last first; yields a sentence for each file that is left because it was
        modified since."""
        for step in [step for step in reversed(self.steps) if step.target in targets]:
            yield from _undo_step(step)
            self.steps.remove(step)
            self._save()

    def missing(self, target: str) -> list[str]:
        """The paths of a target that are missing or modified."""
        return [step.path for step in self.steps if step.target == target and not _is_there(step)]


def _undo_step(step: InstallStep) -> Iterator[str]:
    path = Path(step.path)
    if step.kind == "run":
        run(step.undo)
    elif step.kind == "block":
        yield from _take_block_out(step, path)
    elif step.kind != "clear" and os.path.lexists(path) and not _is_there(step):
        yield f"{path} was changed since it was installed; it is left."
    else:
        _remove(path)
        if step.backup:
            _copy(Path(step.backup), path)
    if step.backup:
        _remove(Path(step.backup))
    _remove_empty(step.folders)


def _create_folder(folder: Path) -> list[str]:
    """Creates a folder; returns it and its parents that were missing, outermost first."""
    missing = [str(path) for path in (folder, *folder.parents) if not path.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: Sequence[str]) -> None:
    """Removes those folders that are empty, outermost last."""
    for folder in reversed(folders):
        for leftover in (".DS_Store", "__pycache__"):  # left by macOS and Python
            _remove(Path(folder) / leftover)
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _take_block_out(step: InstallStep, path: Path) -> Iterator[str]:
    if not path.exists():
        return
    now = path.read_bytes()
    if BEGIN.encode() not in now:
        yield f"{path} does not hold Paintover's lines any more; it is left."
        return
    rest = without_block(now)
    if step.ended_bare and rest.endswith(b"\n"):
        before = Path(step.backup).read_bytes() if step.backup else b""
        rest = rest[:-1] if rest[:-1] == before else rest
    if not rest and not step.backup:
        path.unlink()
    else:
        _replace(path, rest, path.stat().st_mode & 0o7777)


def without_block(contents: bytes) -> bytes:
    """A file's contents without the lines between the markers."""
    return _BLOCK.sub("", contents.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _is_there(step: InstallStep) -> bool:
    path = Path(step.path)
    try:
        if step.kind == "write":
            return digest(path.read_bytes()) == step.digest
        if step.kind == "link":
            return os.readlink(path) == step.digest
        if step.kind == "block":
            found = _BLOCK.search(path.read_text("utf-8", "surrogateescape"))
            return found is not None and digest(found[0].encode("utf-8", "surrogateescape")) == step.digest
    except OSError:
        return False
    return True


def digest(contents: bytes) -> str:
    """The first half of the SHA-256 of some contents, hexadecimal."""
    return base64.b16encode(hashlib.sha256(contents).digest()[:16]).decode().lower()


def run(command: Sequence[str]) -> str:
    """Runs a system command to its end; returns a sentence about its failure, "" on success."""
    try:
        ran = subprocess.run(list(command), capture_output=True, text=True, timeout=60, errors="replace", check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} cannot be run ({error})"
    if ran.returncode == 0:
        return ""
    lines = (ran.stderr or ran.stdout).strip().splitlines()
    return f"{' '.join(command[:3])} failed: {lines[-1] if lines else f'exit status {ran.returncode}'}"


def _replace(path: Path, contents: bytes, mode: int) -> None:
    """Writes a file atomically; a symbolic link's target is replaced, not the link."""
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.paintover-partial")
    try:
        partial.write_bytes(contents)
        partial.chmod(mode)
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, to, symlinks=True)
    else:
        shutil.copy2(path, to, follow_symlinks=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
