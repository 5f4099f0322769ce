"""Numbered outputs: each job writes a version of its own, and none replaces another."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

VIDEOS = (".mov", ".mp4", ".mkv")


def version_path(unversioned: str, number: int) -> str:
    """The path of one version of an output: "shot.mov" → "shot_v001.mov"; a folder → "folder/v001"; a pattern in a
    folder → "folder/v001/pattern"."""
    path, version = Path(unversioned), f"v{number:03d}"
    if path.suffix.lower() in VIDEOS:
        return str(path.with_name(f"{path.stem}_{version}{path.suffix}"))
    if path.suffix and not path.is_dir():
        return str(path.parent / version / path.name)
    return str(path / version)


def unversioned_path(version: str) -> str:
    """The path that `version_path` made a version of; a path without a version as it is."""
    path = Path(version)
    if path.suffix.lower() in VIDEOS:
        return str(path.with_name(re.sub(r"_v\d{3,}$", "", path.stem) + path.suffix))
    if re.fullmatch(r"v\d{3,}", path.name):
        return str(path.parent)
    return str(path.parent.parent / path.name) if re.fullmatch(r"v\d{3,}", path.parent.name) else version


def next_version(unversioned: str, reserved: Iterable[str]) -> int:
    """One more than the highest version that lies on disk or that a job is going to write."""
    shape = Path(version_path(unversioned, 1))
    # Of the path's parts, one alone holds the number: the video's name, or the folder "v001".
    holder = shape if Path(unversioned).suffix.lower() in VIDEOS or shape.name == "v001" else shape.parent
    name = re.compile(re.escape(holder.name).replace("v001", r"v(\d{3,})"))
    on_disk = [path.name for path in holder.parent.iterdir()] if holder.parent.is_dir() else []
    tail = shape.parts[len(holder.parts) :]
    planned = [path.parts[-1 - len(tail)] for path in map(Path, reserved) if len(path.parts) > len(tail)]
    numbers = [int(found[1]) for found in map(name.fullmatch, [*on_disk, *planned]) if found]
    return max(numbers, default=0) + 1


def remove_empty_folders(*outputs: str) -> None:
    """Removes the folders "v001" of output paths, where nothing is in them: left empty they would count as versions."""
    for path in map(Path, filter(None, outputs)):
        if re.fullmatch(r"v\d{3,}", path.parent.name):
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()
