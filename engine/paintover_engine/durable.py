"""Files that survive a power cut: what was written is on the disk before its name is.

A rename may reach the disk before the samples of the file that it names, and a new name only once its folder is synced;
so files are synced first, then renamed, then their folder is synced.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def sync_file(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk. Windows writes them with the files."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(partial: Path, final: Path) -> None:
    """Renames a finished file; after this it is there whole, whatever happens. An existing file is replaced."""
    replace_files([(partial, final)])


def replace_files(renames: Iterable[tuple[Path, Path]]) -> None:
    """The same for several files, whose folders are synced once."""
    renames = list(renames)
    for partial, _ in renames:
        sync_file(partial)
    for partial, final in renames:
        os.replace(partial, final)
    for folder in {final.parent for _, final in renames}:
        sync_folder(folder)


def write_file(path: Path, content: str | bytes) -> None:
    """Replaces a small file as a whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    replace_file(partial, path)
