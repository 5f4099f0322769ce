"""Which of the files that clients name the engine may touch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError


class AllowedRoots:
    """Absolute paths below some folders; all absolute paths where no folder is given."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [root.resolve() for root in roots]

    def check(self, path: str, what: str) -> str:
        """The path. what: what it is to the user, as a sentence begins ("The source").

        Raises PaintoverError for a path that is relative or outside the roots."""
        if not Path(path).is_absolute():
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"{what} '{path}' is not an absolute path; give the whole path."
            )
        # A pattern's file part names no file: only its folder can be resolved.
        real = Path(path).parent.resolve() / Path(path).name
        real = real.resolve() if real.exists() else real
        if self._roots and not any(real.is_relative_to(root) for root in self._roots):
            raise PaintoverError(
                Code.PERMISSION_DENIED, f"{what} '{path}' lies outside the folders that this engine may touch (--root)."
            )
        return path
