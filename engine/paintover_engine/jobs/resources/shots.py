"""Shots: of sources on disk, and of frames that clients upload."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

from paintover_engine.durable import replace_file, sync_folder, write_file
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.entities import Shot
from paintover_engine.jobs.resources.state import EngineState
from paintover_engine.jobs.store import write_tensor
from paintover_engine.media.info import SourceInfo


class Shots:
    """Creates and deletes shots, and stores uploaded frames."""

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self._queue = state.queue

    async def create(
        self,
        path: str,
        first: int | None,
        last: int | None,
        colorspace: str,
        stream: int | None = None,
        layer: str = "",
    ) -> Shot:
        """The shot of a source on disk, probed anew; the same source, range, colour space, stream and layer give the
        same."""
        self._state.roots.check(path, "The source")
        info = await self._probe(path, first, last, colorspace, stream, layer)
        shot_id = _shot_id(path, first, last, colorspace, stream, layer)
        shot = Shot(shot_id, path, first, last, colorspace, False, info)
        self._queue.put_shot(shot)
        return shot

    def create_uploaded(self, key: str, first: int, last: int, rate: tuple[int, int], colorspace: str) -> Shot:
        """A shot whose frames a client sends; the same key gives the same shot. rate: frames per second as numerator
        and denominator, 0 where unknown."""
        if not key or last < first:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, "Frames to follow need a key and a range of at least one frame."
            )
        shot = Shot(_shot_id(f"upload:{key}", first, last, colorspace), key, first, last, colorspace, True, None)
        folder = self._state.folder.uploads / shot.id
        folder.mkdir(exist_ok=True)
        write_file(folder / "shot.json", json.dumps({"rate": rate if rate[0] and rate[1] else None}))
        sync_folder(folder.parent)
        self._queue.put_shot(shot)
        return shot

    def store_frame(self, shot_id: str, number: int, shape: tuple[int, int, int], dtype: str, data: bytes) -> None:
        """Stores one uploaded frame. shape: height, width, channels; dtype: safetensors' name."""
        shot = self._queue.shot(shot_id)
        if not shot.uploaded:
            raise PaintoverError(Code.FAILED_PRECONDITION, f"The shot '{shot_id}' reads a file; it takes no frames.")
        assert shot.first is not None and shot.last is not None
        if not shot.first <= number <= shot.last:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"Frame {number} is outside the shot's range {shot.first}-{shot.last}."
            )
        final = self._state.folder.uploads / shot.id / f"{number:08d}.safetensors"
        partial = self._state.folder.own.temporary / f"{shot.id}-{number}.safetensors"
        write_tensor(partial, "frame", dtype, shape, data)
        replace_file(partial, final)
        if shot.info is not None:  # the frames are to be probed anew
            self._queue.put_shot(dataclasses.replace(shot, info=None))

    async def probed(self, shot_id: str) -> tuple[Shot, SourceInfo]:
        """A shot and what its source is, which is probed where it is not known: uploaded frames have come."""
        shot = self._queue.shot(shot_id)
        if shot.info is None:
            path = str(self._state.folder.uploads / shot.id) if shot.uploaded else shot.source
            info = await self._probe(path, shot.first, shot.last, shot.colorspace)
            shot = dataclasses.replace(shot, info=info)
            self._queue.put_shot(shot)
        assert shot.info
        return shot, shot.info

    async def _probe(
        self,
        path: str,
        first: int | None,
        last: int | None,
        colorspace: str,
        stream: int | None = None,
        layer: str = "",
    ) -> SourceInfo:
        request = protocol.ProbeRequest(
            path=path, first=first, last=last, colorspace=colorspace, stream=stream, layer=layer
        )
        return (await self._state.media.call(request)).info

    def delete(self, shot_id: str) -> None:
        """Deletes a shot, its keyframes, and frames that were uploaded or dropped; refused while it has jobs."""
        source = Path(self._queue.shot(shot_id).source)
        self._queue.delete_shot(shot_id)
        dropped = source.parent.parent == self._state.folder.dropped
        if dropped and not any(Path(shot.source).parent == source.parent for shot in self._queue.shots()):
            shutil.rmtree(source.parent, ignore_errors=True)
        shutil.rmtree(self._state.folder.uploads / shot_id, ignore_errors=True)


def _shot_id(
    source: str, first: int | None, last: int | None, colorspace: str, stream: int | None = None, layer: str = ""
) -> str:
    chosen = {"stream": stream, "layer": layer or None}
    identity = [
        source,
        first,
        last,
        colorspace,
        *([name, value] for name, value in chosen.items() if value is not None),
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
