"""Numbered outputs: each job writes a version of its own, none replaces another."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

VIDEOS = (".mov", ".mp4", ".mkv")


def version_path(asked: str, number: int) -> str:
    """Where a version of an output goes: "shot.mov" → "shot_v001.mov"; a folder → "folder/v001"; a pattern in a folder
    → "folder/v001/pattern"."""
    path, version = Path(asked), f"v{number:03d}"
    if path.suffix.lower() in VIDEOS:
        return str(path.with_name(f"{path.stem}_{version}{path.suffix}"))
    if path.suffix and not path.is_dir():
        return str(path.parent / version / path.name)
    return str(path / version)


def next_version(asked: str, reserved: Iterable[str]) -> int:
    """One more than the highest version that lies on disk or that a job is going to write."""
    shape = Path(version_path(asked, 1))
    # Of the path's parts, one alone holds the number: the video's name, or the folder "v001".
    holder = shape if Path(asked).suffix.lower() in VIDEOS or shape.name == "v001" else shape.parent
    name = re.compile(re.escape(holder.name).replace("v001", r"v(\d{3,})"))
    on_disk = [path.name for path in holder.parent.iterdir()] if holder.parent.is_dir() else []
    tail = shape.parts[len(holder.parts) :]
    planned = [path.parts[-1 - len(tail)] for path in map(Path, reserved) if len(path.parts) > len(tail)]
    numbers = [int(found[1]) for found in map(name.fullmatch, [*on_disk, *planned]) if found]
    return max(numbers, default=0) + 1
