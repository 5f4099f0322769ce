"""Keyframes: edited pictures of a shot's frames, checked against the plate; and mattes that correct other frames."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator, Sequence

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.entities import Shot, StoredKeyframe
from paintover_engine.jobs.resources.jobs import Jobs
from paintover_engine.jobs.resources.shots import Shots
from paintover_engine.jobs.resources.state import EngineState
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe_kind import DragPoint, KeyframeKind

_NAMES = {
    KeyframeKind.PAINT: "The keyframe",
    KeyframeKind.HOLDOUT: "The holdout",
    KeyframeKind.ROTO: "The roto matte",
    KeyframeKind.DRAG: "The drag",
}


class Keyframes:
    """Puts keyframes, exports frames to paint on, and removes keyframes that nothing uses."""

    def __init__(self, state: EngineState, shots: Shots, jobs: Jobs) -> None:
        self._state = state
        self._queue = state.queue
        self._shots = shots
        self._jobs = jobs
        self._reading = 0  # keyframes whose file may exist before the queue knows it
        self._idle = asyncio.Event()
        self._idle.set()

    async def put(
        self,
        shot_id: str,
        frame: int,
        picture: str | bytes,
        matte: str | bytes | None,
        kind: KeyframeKind = KeyframeKind.PAINT,
    ) -> StoredKeyframe:
        """Checks an edited picture against the plate, stores it, and gives it to the jobs that wait for one.

        picture, matte: a path, or the bytes of a file. kind: of a correction, the picture is its matte."""
        if kind is KeyframeKind.DRAG:
            raise PaintoverError(Code.INVALID_ARGUMENT, f"The drag of frame {frame} takes points, not a picture.")
        shot, info = await self._shot_of(shot_id, frame, kind)
        if kind is not KeyframeKind.PAINT and matte:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"{_NAMES[kind]} of frame {frame} is a matte itself; leave out its matte."
            )
        with self._counted():
            keyframe = await self._read(shot, info, frame, picture, matte, kind)
            self._queue.put_keyframe(keyframe)
        if kind is KeyframeKind.PAINT:
            self._jobs.use_keyframes(shot.id)
        return keyframe

    async def put_drag(self, shot_id: str, frame: int, points: Sequence[DragPoint]) -> StoredKeyframe:
        """Stores a correction by a drag."""
        shot, info = await self._shot_of(shot_id, frame, KeyframeKind.DRAG)
        with self._counted():
            request = protocol.KeyframeRequest(
                info=info, frame=frame, path="", matte_path="", kind=KeyframeKind.DRAG, drag=list(points)
            )
            drag = await self._stored(shot, request, [])
            self._queue.put_keyframe(drag)
        return drag

    async def _shot_of(self, shot_id: str, frame: int, kind: KeyframeKind) -> tuple[Shot, SourceInfo]:
        """The shot that a frame is given for. Raises PaintoverError where it has no such frame."""
        shot, info = await self._shots.probed(shot_id)
        if not info.first <= frame <= info.last:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"{_NAMES[kind]}'s frame {frame} does not exist: the shot has frames {info.first} to {info.last}.",
            )
        return shot, info

    async def _read(
        self,
        shot: Shot,
        info: SourceInfo,
        frame: int,
        picture: str | bytes,
        matte: str | bytes | None,
        kind: KeyframeKind,
    ) -> StoredKeyframe:
        with self._as_file(picture, _NAMES[kind]) as path, self._as_file(matte, "The matte") as matte_path:
            request = protocol.KeyframeRequest(info=info, frame=frame, path=path, matte_path=matte_path, kind=kind)
            return await self._stored(
                shot, request, [given for given in (picture, matte) if isinstance(given, str) and given]
            )

    async def _stored(self, shot: Shot, request: protocol.KeyframeRequest, files: list[str]) -> StoredKeyframe:
        """Has a media worker check and store what is given for a frame. files: the paths that it was given as."""
        read = await self._state.media.call(request)
        return StoredKeyframe(
            id=f"{shot.id}/{request.frame}-{read.digest[:12]}",
            shot=shot.id,
            frame=request.frame,
            digest=read.digest,
            has_matte=read.has_matte,
            notes=read.notes,
            current=True,
            files=files,
            kind=request.kind,
            drag=request.drag,
        )

    @contextlib.contextmanager
    def _as_file(self, given: str | bytes | None, what: str) -> Iterator[str]:
        """A path for a picture given as a path or as bytes; "" for none."""
        if isinstance(given, bytes):
            suffix = ".psd" if given.startswith(b"8BPS") else ""  # whose layers are read; other kinds tell themselves
            path = self._state.folder.temporary / f"picture-{hashlib.sha256(given).hexdigest()[:16]}{suffix}"
            path.write_bytes(given)
            try:
                yield str(path)
            finally:
                path.unlink(missing_ok=True)
        else:
            yield self._state.roots.check(given, what) if given else ""

    async def export_frame(
        self, shot_id: str, frame: int, path: str, overwrite: bool, job_id: int | None = None
    ) -> list[str]:
        """Writes a frame of the plate as a file to paint on; returns notes for the artist.

        job_id: a job of the shot whose result in this frame is to be corrected."""
        self._state.roots.check(path, "The picture")
        _, info = await self._shots.probed(shot_id)
        if not info.first <= frame <= info.last:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"Frame {frame} does not exist: the shot has frames {info.first} to {info.last}.",
            )
        result = "" if job_id is None else self._result_key(shot_id, job_id, frame)
        request = protocol.ExportFrameRequest(info=info, frame=frame, path=path, overwrite=overwrite, result=result)
        return (await self._state.media.call(request)).notes

    def _result_key(self, shot_id: str, job_id: int, frame: int) -> str:
        if self._queue.job(job_id).shot != shot_id:
            raise PaintoverError(Code.INVALID_ARGUMENT, f"Job {job_id} is of another shot.")
        stored = self._queue.frame(job_id, frame)
        if stored is None:
            raise PaintoverError(Code.NOT_FOUND, f"Job {job_id} has no result of frame {frame} yet.")
        return stored.key

    async def remove_unused(self) -> int:
        """Removes keyframes that were replaced and that no job uses; returns the bytes that this freed.

        Waits until no keyframe is being read."""
        while self._reading:
            await self._idle.wait()
        freed = 0
        self._queue.forget_keyframes(self._queue.unused_keyframes())
        known = self._queue.keyframe_digests() | self._queue.protected
        for path in self._state.folder.keyframes.glob("*.safetensors"):
            if path.stem not in known:
                with contextlib.suppress(OSError):
                    freed += path.stat().st_size
                    path.unlink()
        return freed

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._reading += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._reading -= 1
            if not self._reading:
                self._idle.set()
