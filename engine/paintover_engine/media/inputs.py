"""The files that a job reads: none of them is ever written to, whatever it is called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import sequence
from paintover_engine.media.info import SourceInfo


def source_files(info: SourceInfo) -> Iterator[Path]:
    """The files of a source, those outside the shot's range too."""
    if info.kind == "video":
        yield Path(info.path)
        return
    frames = sequence.uploaded(Path(info.path)) if info.kind == "frames" else sequence.find(info.path)
    if frames is not None:
        yield from (frames.path(number) for number in frames.numbers)


def refuse_inputs(targets: Iterable[Path], info: SourceInfo, paintings: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raises PaintoverError where a file that would be written is one of the source's, a keyframe or a matte.

    Files are compared as the file system knows them, so that neither another spelling nor a link hides one, nor
    another case where the file system does not tell cases apart. paintings: the keyframes' and mattes' paths.
    """
    there = {identity: target for target in targets if (identity := _identity(target))}
    if not there:
        return
    for painting in paintings:
        if (identity := _identity(painting)) and (target := there.get(identity)):
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"'{target}' is a keyframe or a matte of this job, which is never overwritten; write to another place.",
            )
    try:
        read = [there[identity] for file in source_files(info) if (identity := _identity(file)) in there]
    except PaintoverError:  # the source is gone: nothing of it can be overwritten
        return
    if read:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{read[0]}' is the source itself; write to another place.")


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Device and number of the file behind a path, links followed; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
