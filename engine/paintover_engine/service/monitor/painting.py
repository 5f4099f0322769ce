"""The requests of a panel inside a painting program: list shots, open a frame to paint on, submit a saved picture."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from paintover_local.pictures import keyframe_picture

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.entities import Job, JobSpec, JobState, Shot
from paintover_engine.jobs.unsure import suggested_keyframes
from paintover_engine.service.monitor.desktop import PaintSessions

METHOD = "draft"
PRIORITY = 10  # as `paintover paint`: somebody waits for it
PICTURES = (".psd", ".psb", ".png", ".tif", ".tiff")
SHOTS = 50  # that are listed, the newest first

Body = Callable[[web.Request], Awaitable[dict[str, Any]]]


class PaintingFace:
    """Pictures lie where `paintover paint` puts them, so that both open the same file of a shot's frame."""

    def __init__(self, engine: Engine, body: Body) -> None:
        self._engine = engine
        self._body = body
        self._sessions = PaintSessions(engine.folder.root)
        self._jobs: dict[str, int] = {}  # the last job that was created here, by shot

    def routes(self) -> Sequence[web.RouteDef]:
        """The routes, for the monitor's server, which checks the cookie or the token."""
        frame = r"/shots/{shot:[0-9a-f]{12}}/frames/{number:-?\d{1,12}}"
        return [
            web.get("/shots", self._shots),
            web.post("/shots", self._create),
            web.post(f"{frame}/open", self._open),
            web.post(f"{frame}/paint", self._paint),
            web.post(frame, self._save),
        ]

    async def stop(self) -> None:
        await self._sessions.stop()

    async def _create(self, request: web.Request) -> web.StreamResponse:
        """The shot of a source on this machine."""
        path = (await self._body(request)).get("path")
        if not isinstance(path, str) or not path:
            raise PaintoverError(Code.INVALID_ARGUMENT, "'path' is to name a video, a folder of images or a pattern.")
        shot = await self._engine.shots.create(path, None, None, "")
        return web.json_response(self._shown(shot, None))

    async def _paint(self, request: web.Request) -> web.StreamResponse:
        """Opens a frame in the artist's painter; each save of it is carried through the shot."""
        shot, number = self._target(request)
        return web.json_response(await self._sessions.open(shot, number))

    async def _shots(self, request: web.Request) -> web.StreamResponse:
        """All shots whose source is known, the newest first, with the latest job of each."""
        latest: dict[str, Job] = {}
        for job in self._engine.queue.jobs():
            if not job.spec.prepare_only and job.spec.keyframes and (
                job.shot not in latest or job.id > latest[job.shot].id
            ):  # fmt: skip
                latest[job.shot] = job
        shots = [shot for shot in reversed(self._engine.queue.shots()) if shot.info][:SHOTS]
        return web.json_response([self._shown(shot, latest.get(shot.id)) for shot in shots])

    def _shown(self, shot: Shot, job: Job | None) -> dict[str, Any]:
        info = shot.info
        assert info
        keyframes = [keyframe.frame for keyframe in self._engine.queue.keyframes(shot.id)]
        return {
            "id": shot.id,
            "name": "/".join(Path(shot.source).parts[-2:]),
            "source": shot.source,
            "first": info.first,
            "last": info.last,
            "width": round(info.width * float(info.pixel_aspect)),
            "height": info.height,
            "rate": float(info.rate) if info.rate else 24.0,
            "notes": list(info.notes),
            "keyframes": keyframes,
            "pictures": self._pictures(shot),
            "job": job and {
                "id": job.id,
                "state": job.state.name.lower(),
                "message": job.message,
                "fraction": job.progress.fraction,
                "frames": job.frames_done,
                "suggested": suggested_keyframes(self._engine.jobs.unsure_ranges(job)),
            },
        }  # fmt: skip

    def _picture(self, shot: Shot, number: int) -> Path:
        return keyframe_picture(self._engine.folder.root, shot.source, number)

    def _pictures(self, shot: Shot) -> list[dict[str, Any]]:
        """The shot's files to paint on, by frame."""
        pattern = self._picture(shot, 0)
        stem = pattern.stem.removesuffix("0000")
        found = []
        if pattern.parent.is_dir():
            for path in sorted(pattern.parent.iterdir()):
                number = path.stem.removeprefix(stem)
                if path.suffix in PICTURES and path.stem.startswith(stem) and re.fullmatch("-?[0-9]+", number):
                    found.append({"frame": int(number), "path": str(path)})
        return found

    def _target(self, request: web.Request) -> tuple[Shot, int]:
        return self._engine.queue.shot(request.match_info["shot"]), int(request.match_info["number"])

    async def _open(self, request: web.Request) -> web.StreamResponse:
        """A file to paint on: the one that exists, else a new one. Starts the stages that need no keyframe."""
        shot, number = self._target(request)
        there = [picture["path"] for picture in self._pictures(shot) if picture["frame"] == number]
        path, notes = Path(there[0]) if there else self._picture(shot, number), []
        if not there:
            path.parent.mkdir(parents=True, exist_ok=True)
            notes = await self._engine.keyframes.export_frame(shot.id, number, str(path), overwrite=False)
        await self._engine.jobs.create(shot.id, _spec([], [], prepare_only=True), priority=-PRIORITY)
        return web.json_response({"path": str(path), "resumed": bool(there), "notes": notes})

    async def _save(self, request: web.Request) -> web.StreamResponse:
        """The saved picture becomes the frame's keyframe and is propagated; the job of an earlier save is cancelled."""
        shot, number = self._target(request)
        path = (await self._body(request)).get("path")
        if not isinstance(path, str) or Path(path).suffix.lower() not in PICTURES:
            kinds = ", ".join(PICTURES)
            raise PaintoverError(Code.INVALID_ARGUMENT, f"'path' is to name the saved picture ({kinds}).")
        keyframe = await self._engine.keyframes.put(shot.id, number, path, None)
        keyframes = self._engine.queue.keyframes(shot.id)
        names = [one.id for one in keyframes]
        painted = {one.frame for one in keyframes}
        corrections = [one.id for one in self._engine.queue.corrections(shot.id) if one.frame not in painted]
        job = self._propagation_of(shot.id, names, corrections)
        if job is None:
            await self._cancel_last(shot.id)
            job = await self._engine.jobs.create(shot.id, _spec(names, corrections), PRIORITY)
            self._jobs[shot.id] = job.id
        return web.json_response({"keyframe": keyframe.id, "notes": keyframe.notes, "job": job.id})

    def _propagation_of(self, shot: str, keyframes: Sequence[str], corrections: Sequence[str]) -> Job | None:
        """A job that propagates exactly these keyframes with these corrections: nothing was painted since, or
        `paintover paint` created it."""
        gone = (JobState.FAILED, JobState.CANCELLED)
        for job in self._engine.queue.jobs():
            same = job.shot == shot and job.spec.method == METHOD and job.spec.pictures == [*keyframes, *corrections]
            if same and not job.spec.prepare_only and job.state not in gone:
                return job
        return None

    async def _cancel_last(self, shot: str) -> None:
        last = self._jobs.pop(shot, None)
        if last in self._engine.queue.ids() and not self._engine.queue.job(last).state.finished:
            await self._engine.jobs.cancel(last)


def _spec(keyframes: Sequence[str], corrections: Sequence[str], prepare_only: bool = False) -> JobSpec:
    return JobSpec(
        method=METHOD,
        parameters={},
        model="",
        keyframes=keyframes,
        corrections=corrections,
        output="",
        overwrite=False,
        mattes="",
        prepare_only=prepare_only,
    )
