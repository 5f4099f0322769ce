"""Mattes written beside a result: one grey picture a frame, 16-bit PNG unless a pattern says otherwise."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.output import check_output, kind_of, open_sink
from paintover_engine.media.plate import ImagePlate

Path = str | os.PathLike[str]


def check_mattes(
    path: Path, info: SourceInfo, overwrite: bool, paintings: Sequence[str] = (), result: Sequence[pathlib.Path] = ()
) -> None:
    """Checks, before any work, that mattes can be written where they are asked for. Raises PaintoverError if not.

    paintings: the paths of keyframes and mattes, which are never overwritten; result: the files of the result."""
    files = check_output(path, _matte_info(info), overwrite, paintings)
    if kind_of(pathlib.Path(path), os.fspath(path)) == "video":
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"Mattes are written as images: give a folder or a pattern, not the video '{path}'."
        )
    if shared := {os.path.realpath(file) for file in files} & {os.path.realpath(file) for file in result}:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{min(shared)}' would be the result and its matte; write mattes to another place."
        )


def _matte_info(info: SourceInfo) -> SourceInfo:
    """What is known of a shot's mattes."""
    return dataclasses.replace(info, sample="uint16", channels=1, format="png uint16", has_audio=False)


class MatteSink:
    """Takes the frames that the result takes, and keeps their mattes. Aborts when an exception passes."""

    def __init__(self, path: Path, info: SourceInfo, overwrite: bool, paintings: Sequence[str] = ()) -> None:
        self._size = (info.height, info.width)
        self._sink = open_sink(path, _matte_info(info), overwrite, paintings)

    def write(self, number: int, painted: NDArray[np.float16], window: tuple[int, int, int, int]) -> None:
        """Adds a frame's matte. painted: (h, w, 4), its last channel the matte 0..1; window: where it lies."""
        x, y, width, height = window
        matte = np.zeros((*self._size, 1), np.uint16)
        matte[y : y + height, x : x + width, 0] = np.ceil(painted[..., 3].astype(np.float32) * 65535)  # > 0 stays > 0
        self._sink.write(ImagePlate(number, matte, (0, 0, 0), None, ""))

    def stage(self) -> list[tuple[pathlib.Path, pathlib.Path]]:
        """Finishes the files and returns them with their final paths, as a sink does."""
        return self._sink.stage()

    def abort(self) -> None:
        """Removes the staged files that were not renamed."""
        self._sink.abort()

    def __enter__(self) -> MatteSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.__exit__(kind, error, trace)


def open_matte_sink(
    path: Path, info: SourceInfo, overwrite: bool, paintings: Sequence[str] = ()
) -> contextlib.AbstractContextManager[MatteSink | None]:
    """A sink for mattes, or nothing where `path` is empty."""
    return MatteSink(path, info, overwrite, paintings) if path else contextlib.nullcontext()
