"""Which of the files that clients name the engine may touch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError


class AllowedRoots:
    """Absolute paths below some folders; all absolute paths where no folder is given.

    A link that is put in place after a check is the kernel's to refuse, where it can: `jobs/confinement.py`."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [root.resolve() for root in roots]

    @property
    def first(self) -> Path | None:
        """The first root; None where all is allowed."""
        return self._roots[0] if self._roots else None

    def allows(self, folder: Path) -> bool:
        """Whether a folder is a root or below one."""
        return not self._roots or self._holds(folder.resolve())

    def check(self, path: str, what: str) -> str:
        """The path. what: what it is to the user, as a sentence begins ("The source").

        Raises PaintoverError for a path that is relative or outside the roots, and for one in whose folder files of
        its kind are links to outside: they may be frames of it."""
        if not Path(path).is_absolute():
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"{what} '{path}' is not an absolute path; give the whole path."
            )
        if not self._roots:
            return path
        # A pattern's file part names no file: only its folder can be resolved.
        real = Path(path).parent.resolve() / Path(path).name
        real = real.resolve() if os.path.lexists(real) else real
        if not self._holds(real):
            raise PaintoverError(
                Code.PERMISSION_DENIED, f"{what} '{path}' lies outside the folders that this engine may touch (--root)."
            )
        for link in _links_beside(real):
            if not self._holds(link.resolve()):
                raise PaintoverError(
                    Code.PERMISSION_DENIED,
                    f"{what} '{path}' holds the link {link.name}, which leads outside the folders that this engine may "
                    "touch (--root); put the file itself there.",
                )
        return path

    def check_model(self, name: str) -> None:
        """Raises PaintoverError for a model's name that is the path of a folder outside the roots."""
        if not self._roots:
            return
        path = Path(name).expanduser()
        if path.is_absolute():
            self.check(str(path), "The model")
        elif ".." in path.parts or (path.exists() and not self._holds(path.resolve())):
            raise PaintoverError(
                Code.PERMISSION_DENIED,
                f"The model '{name}' is a path outside the folders that this engine may touch (--root); give its name.",
            )

    def _holds(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self._roots)


def _links_beside(path: Path) -> Iterator[Path]:
    """The links that may be frames of a source: a folder, a pattern, or a file of a sequence."""
    folder, suffix = (path, "") if path.is_dir() else (path.parent, path.suffix)
    try:
        with os.scandir(folder) as entries:
            yield from (Path(entry) for entry in entries if entry.is_symlink() and entry.name.endswith(suffix))
    except OSError:
        return  # what reads or writes it says why
