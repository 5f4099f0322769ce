"""Copies of a source, on machines that do not see it where it was probed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import sequence
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.source import check_unchanged, content_digest, probe


def find_copy(info: SourceInfo, path: str, content: str) -> SourceInfo:
    """A source as it lies at a path of this machine.

    info: as it was probed elsewhere; content: `content_digest` of it there. A source at its own path is taken if it is
    unchanged. Raises PaintoverError where the path holds nothing, or another source."""
    if path == info.path:
        try:
            check_unchanged(info)
            return info
        except PaintoverError:
            if not content:
                raise
    found = probe(path, info.first, info.last, info.colorspace, info.stream, info.layer)
    alike = dataclasses.replace(found, path=info.path, fingerprint=info.fingerprint, notes=info.notes)
    if alike != info or content_digest(found) != content:
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"'{path}' is not the source that the job was made of ('{info.path}'); copy that one.",
        )
    return found


def files_to_copy(info: SourceInfo) -> list[Path]:
    """What a folder has to hold so that `find_copy` finds the source in it: of a sequence the files of the range."""
    if info.kind == "video":
        return [Path(info.path)]
    frames = sequence.uploaded(Path(info.path)) if info.kind == "frames" else sequence.find(info.path)
    if frames is None:
        raise PaintoverError(Code.NOT_FOUND, f"The uploaded frames in '{info.path}' are gone.")
    files = [frames.path(number) for number in range(info.first, info.last + 1, info.step)]
    rate = Path(info.path) / "shot.json"
    return [*files, rate] if info.kind == "frames" and rate.is_file() else files


def path_in_copy(info: SourceInfo, folder: Path) -> str:
    """What to open in a folder that holds such a copy and nothing else."""
    return str(folder / Path(info.path).name) if info.kind == "video" else str(folder)
