"""What an installation did to a disk, written down before it is done, so that all of it can be undone.

A change keeps what it replaces. Undoing removes what was made, if nobody changed it since, and puts back what was
there.
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
class Step:
    """One change.

    kind: "write" (a file), "link", "block" (marked lines in a file of others), "clear" (takes a file or folder away),
    "run" (a command; undo: what is run to take it back).
    digest: of what was written. kept: where what was there before lies; "" for nothing.
    folders: those that were made for it, outermost first.
    ended_bare: of a block: the file's last line had no newline, which was added.
    """

    target: str
    kind: str
    path: str
    digest: str = ""
    kept: str = ""
    folders: list[str] = field(default_factory=list)
    undo: list[str] = field(default_factory=list)
    ended_bare: bool = False


class Receipt:
    """The steps of all that is installed, in the order in which they were done. folder: where it is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        said = self._read()
        self.steps = [Step(**step) for step in said.get("steps", [])]
        self._made: list[str] = said.get("made", [])  # folders above this one that came with it

    @property
    def path(self) -> Path:
        return self.folder / "receipt.json"

    @property
    def targets(self) -> list[str]:
        """What is installed."""
        return list(dict.fromkeys(step.target for step in self.steps))

    def _read(self) -> dict[str, Any]:
        try:
            said = json.loads(self.path.read_text("utf-8"))
            return {"steps": list(said["steps"]), "made": list(said["made"])}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise bad_input(f"{self.path} cannot be read ({error}); mend or remove it, and install again.") from error

    def _save(self) -> None:
        if not self.steps:
            shutil.rmtree(self.folder, ignore_errors=True)
            _remove_empty(self._made)
            return
        if not self.folder.exists():
            self._made = _make(self.folder)
        record = {"steps": [asdict(step) for step in self.steps], "made": self._made}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(partial, self.path)

    # Doing.

    def write(self, target: str, path: Path, contents: bytes, mode: int = 0o644) -> None:
        """Writes a file, keeping what was there."""
        step = Step(target, "write", str(path), digest(contents), *self._keep(path))
        self._note(step)
        _replace(path, contents, mode)

    def link(self, target: str, path: Path, to: str) -> None:
        """Makes a symbolic link."""
        step = Step(target, "link", str(path), to, *self._keep(path))
        self._note(step)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.symlink_to(to)

    def block(self, target: str, path: Path, text: str) -> None:
        """Adds marked lines to the end of a text file that belongs to somebody else, or makes it."""
        before = path.read_bytes() if path.exists() else b""
        bare = bool(before) and not before.endswith(b"\n")
        marked = f"{BEGIN}\n{text}\n{END}\n".encode()
        step = Step(target, "block", str(path), digest(marked), *self._keep(path), ended_bare=bare)
        self._note(step)
        mode = path.stat().st_mode & 0o7777 if path.exists() else 0o644
        _replace(path, without_block(before) + (b"\n" if bare else b"") + marked, mode)

    def clear(self, target: str, path: Path) -> None:
        """Takes a file or folder away; undone, what lies there then goes and what was there comes back."""
        kept = self._keep(path)[0] if os.path.lexists(path) else ""
        self._note(Step(target, "clear", str(path), kept=kept))
        _remove(path)

    def run(self, target: str, command: Sequence[str], undo: Sequence[str]) -> str:
        """Runs a command of the system's; returns what went wrong, "" for nothing."""
        if undo:
            self._note(Step(target, "run", command[0], undo=list(undo)))
        return run(command)

    def _keep(self, path: Path) -> tuple[str, list[str]]:
        """A copy of what lies there, and the folders that are made for what comes."""
        if not self.folder.exists():
            self._made = _make(self.folder)
        made = _make(path.parent)
        if not os.path.lexists(path):
            return "", made
        place = self.folder / "kept" / secrets.token_hex(8)
        _copy(path, place)
        return str(place), made

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        self._save()

    # Undoing.

    def undo(self, targets: Sequence[str]) -> Iterator[str]:
        """Undoes the steps of some targets, the last first; yields sentences about what somebody changed since and is
        therefore left."""
        for step in [step for step in reversed(self.steps) if step.target in targets]:
            yield from _undo(step)
            self.steps.remove(step)
            self._save()

    def missing(self, target: str) -> list[str]:
        """What of a target is not on the disk any more as it was installed."""
        return [step.path for step in self.steps if step.target == target and not _is_there(step)]


def _undo(step: Step) -> Iterator[str]:
    path = Path(step.path)
    if step.kind == "run":
        run(step.undo)
    elif step.kind == "block":
        yield from _take_block_out(step, path)
    elif step.kind != "clear" and os.path.lexists(path) and not _is_there(step):
        yield f"{path} was changed since it was installed; it is left."
    else:
        _remove(path)
        if step.kept:
            _copy(Path(step.kept), path)
    if step.kept:
        _remove(Path(step.kept))
    _remove_empty(step.folders)


def _make(folder: Path) -> list[str]:
    """Makes a folder; returns what was missing of its path, outermost first."""
    missing = [str(path) for path in (folder, *folder.parents) if not path.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: Sequence[str]) -> None:
    """Removes folders that hold nothing of anybody's, outermost last."""
    for folder in reversed(folders):
        for leftover in (".DS_Store", "__pycache__"):  # what systems and Pythons put everywhere
            _remove(Path(folder) / leftover)
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _take_block_out(step: Step, path: Path) -> Iterator[str]:
    if not path.exists():
        return
    now = path.read_bytes()
    if BEGIN.encode() not in now:
        yield f"{path} does not hold Paintover's lines any more; it is left."
        return
    rest = without_block(now)
    if step.ended_bare and rest.endswith(b"\n"):
        before = Path(step.kept).read_bytes() if step.kept else b""
        rest = rest[:-1] if rest[:-1] == before else rest
    if not rest and not step.kept:
        path.unlink()
    else:
        _replace(path, rest, path.stat().st_mode & 0o7777)


def without_block(contents: bytes) -> bytes:
    """A file without the marked lines."""
    return _BLOCK.sub("", contents.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _is_there(step: Step) -> bool:
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
    """Of a file's contents."""
    return base64.b16encode(hashlib.sha256(contents).digest()[:16]).decode().lower()


def run(command: Sequence[str]) -> str:
    """Runs a command of the system's to its end; returns what went wrong, "" for nothing."""
    try:
        ran = subprocess.run(list(command), capture_output=True, text=True, timeout=60, errors="replace", check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} cannot be run ({error})"
    if ran.returncode == 0:
        return ""
    said = (ran.stderr or ran.stdout).strip().splitlines()
    return f"{' '.join(command[:3])} failed: {said[-1] if said else f'exit status {ran.returncode}'}"


def _replace(path: Path, contents: bytes, mode: int) -> None:
    """Writes a file whole or not at all, through links."""
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
