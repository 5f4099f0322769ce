"""The monitor's server: the page's files, the jobs as JSON, their pictures, and all changes as server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from paintover_engine import __version__
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.devices import gauges
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.entities import Job, JobFrame, JobState
from paintover_engine.jobs.store import PICTURE
from paintover_engine.jobs.unsure import suggested_keyframes
from paintover_engine.jobs.versions import VIDEOS
from paintover_engine.methods.registry import METHODS
from paintover_engine.service.monitor.access import HEADERS, Access
from paintover_engine.service.monitor.correcting import CorrectingFace
from paintover_engine.service.monitor.desktop import show
from paintover_engine.service.monitor.devices import shown_devices
from paintover_engine.service.monitor.dropped import DroppedClips
from paintover_engine.service.monitor.folders import listing
from paintover_engine.service.monitor.painting import PaintingFace
from paintover_engine.service.support import export_job

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {path.name: path for path in PAGE.iterdir() if path.suffix in KINDS}
BODY_LIMIT = 4096  # bytes: a priority, or a job to stand before
SIDES = (160, 320, 640, 1280, 2560, 16383)  # of pictures: what the page asks for; the last is WebP's most
VIEWS = ("plate", "result", "matte")
PICTURES = {"webp": PICTURE, "jpeg": "picture.jpg"}  # a painting program's panel shows no WebP
PICTURE_TYPES = {".webp": "image/webp", ".jpg": "image/jpeg"}
GAUGE_SECONDS = 3.0
STATUS = {
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 409,
    Code.ALREADY_EXISTS: 409,
    Code.RESOURCE_EXHAUSTED: 507,
    Code.UNAVAILABLE: 503,
}


class Monitor:
    """Serves the page on loopback. open_pages: how many browsers receive its events."""

    def __init__(self, engine: Engine, access: Access, with_metrics: bool = False) -> None:
        self._engine = engine
        self.access = access
        self._runner: web.AppRunner | None = None
        self._painting: PaintingFace | None = None
        self._with_metrics = with_metrics
        self.open_pages = 0

    async def start(self, port: int) -> int:
        """Listens on a port of 127.0.0.1, on any free one where that is taken or 0; returns the port."""
        app = web.Application(middlewares=[self.access.check, _errors_as_sentences], client_max_size=BODY_LIMIT)
        app.add_routes(
            [
                web.get("/open", self._open),
                web.get("/", self._file),
                web.get(r"/{name:[a-z-]+\.[a-z]+}", self._file),
                web.get("/events", self._events),
                web.get(r"/jobs/{id:\d{1,15}}", self._job),
                web.get(r"/jobs/{id:\d{1,15}}/support", self._support),
                web.get(r"/jobs/{id:\d{1,15}}/{view:plate|result|matte}/{number:-?\d{1,12}}", self._picture),
                web.get(r"/shots/{shot:[0-9a-f]{12}}/plate/{number:-?\d{1,12}}", self._plate),
                web.get("/folders", self._folders),
                web.post(r"/jobs/{id:\d{1,15}}/{where:open|reveal}", self._show),
                web.post(r"/jobs/{id:\d{1,15}}/{action:[a-z]+}", self._act),
            ]
        )
        self._painting = PaintingFace(self._engine, _body)
        app.add_routes(self._painting.routes())
        app.add_routes(CorrectingFace(self._engine).routes())
        app.add_routes(DroppedClips(self._engine.folder.dropped, self._engine.roots).routes())
        if self._with_metrics:
            app.add_routes([web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, "127.0.0.1", port)
            await site.start()
        except OSError:
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
        self.access.port = self._runner.addresses[0][1]
        return self.access.port

    async def stop(self) -> None:
        if self._painting:
            await self._painting.stop()
        if self._runner:
            await self._runner.cleanup()

    def url(self) -> str:
        """A link to the page that works once."""
        return f"http://127.0.0.1:{self.access.port}{self.access.link()}"

    async def _open(self, request: web.Request) -> web.StreamResponse:
        cookie = self.access.redeem(request.query.get("link", ""))
        if cookie is None:
            return web.Response(status=401, text="This link was used or is too old; run `paintover monitor` again.")
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            self.access.cookie_name, cookie, httponly=True, samesite="Strict", path="/", max_age=180 * 86400
        )
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = FILES.get(request.match_info.get("name", "index.html"))
        if path is None:
            return web.Response(status=404, text="There is no such page.")
        return web.Response(
            body=path.read_bytes(),
            content_type=KINDS[path.suffix],
            charset="utf-8",
            headers={"Cache-Control": "no-cache"},
        )

    async def _job(self, request: web.Request) -> web.StreamResponse:
        job = self._engine.queue.job(int(request.match_info["id"]))
        shown = self._shown(job, self._engine.queue.frames(job.id))
        unsure = self._engine.jobs.unsure_ranges(job)
        shown["suggested"] = suggested_keyframes(unsure)
        shown["unsure"] = [{"first": one.first, "last": one.last, "cause": one.cause} for one in unsure]
        shown["parameters"] = dict(job.spec.parameters)
        return web.json_response(shown)

    async def _support(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["id"])
        return web.Response(text=export_job(self._engine, number), content_type="application/json")

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        side = _side(request)
        name = PICTURES.get(request.query.get("as", "webp"))
        if name is None:
            raise PaintoverError(Code.INVALID_ARGUMENT, f"Pictures come as {', '.join(PICTURES)}.")
        number, view = int(request.match_info["number"]), request.match_info["view"]
        return _picture_file(
            request, await self._engine.frames.picture(int(request.match_info["id"]), number, view, side, name)
        )

    async def _plate(self, request: web.Request) -> web.StreamResponse:
        shot, number = request.match_info["shot"], int(request.match_info["number"])
        return _picture_file(request, await self._engine.frames.plate_picture(shot, number, _side(request)))

    async def _folders(self, request: web.Request) -> web.StreamResponse:
        roots = self._engine.roots
        return web.json_response(await asyncio.to_thread(listing, request.query.get("path", ""), roots))

    async def _show(self, request: web.Request) -> web.StreamResponse:
        """Opens what a job wrote on this machine's desktop, or its folder."""
        output = self._engine.queue.job(int(request.match_info["id"])).spec.output
        if not output:
            raise PaintoverError(Code.FAILED_PRECONDITION, "This job wrote no file: its result is in the engine.")
        path = Path(output)
        await show(
            path.parent if re.search("[#%@]", path.name) else path, folder=request.match_info["where"] == "reveal"
        )
        return web.json_response({"path": output})

    async def _act(self, request: web.Request) -> web.StreamResponse:
        number, engine = int(request.match_info["id"]), self._engine
        actions: dict[str, Callable[[], Job | Awaitable[Job]]] = {
            "pause": lambda: engine.jobs.pause(number),
            "resume": lambda: engine.jobs.resume(number),
            "cancel": lambda: engine.jobs.cancel(number),
            "retry": lambda: engine.jobs.retry(number),
        }
        name = request.match_info["action"]
        given = await _body(request)
        if name == "remove":
            engine.jobs.delete(number)
            return web.json_response({"removed": number})
        if name == "priority":
            changed: Any = engine.jobs.set_priority(number, _whole(given, "priority"))
        elif name == "place":
            changed = engine.jobs.place(number, _whole(given, "before") if given.get("before") is not None else None)
        elif name in actions:
            changed = actions[name]()
        else:
            raise PaintoverError(Code.NOT_FOUND, f"There is no action '{name}'.")
        job = await changed if asyncio.iscoroutine(changed) else changed
        return web.json_response(self._shown(job, []))

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        from paintover_engine.service.metrics import metrics  # only daemons with --metrics load its library

        return web.Response(body=await metrics(self._engine), content_type="text/plain", charset="utf-8")

    # Events.

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """All jobs, then each change of one, numbered so that a browser continues with `Last-Event-ID`; the devices'
        load every few seconds."""
        async with sse_response(request, headers=HEADERS, sep="\n") as stream:
            seen = stream.last_event_id or ""
            since = int(seen) + 1 if re.fullmatch("[0-9]{1,15}", seen) else 0
            tasks = [
                asyncio.create_task(self._send_jobs(stream, since)),
                asyncio.create_task(self._send_gauges(stream)),
            ]
            self.open_pages += 1
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # either ends when the page is closed
            finally:
                self.open_pages -= 1
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return stream

    async def _send_jobs(self, stream: EventSourceResponse, since: int) -> None:
        queue = self._engine.queue
        if since > queue.sequence + 1:  # of another queue: the damaged one that this replaced
            since = 0
        jobs = queue.changed_jobs(since)
        # Of a finished job the page asks for the frames when it shows them: there may be a thousand such jobs.
        shown = [self._shown(job, queue.frames(job.id, since) if _streams_frames(job) else []) for job in jobs]
        ids = sorted(queue.ids())
        await _send(stream, "start", {"jobs": shown, "ids": ids, "fresh": since == 0}, queue.sequence)
        next_one = queue.sequence + 1
        known = set(ids)
        async for job, frames in self._engine.jobs.watch(None, next_one):
            known.add(job.id)
            gone = known - queue.ids()
            known -= gone
            if gone:
                await _send(stream, "gone", {"ids": sorted(gone)})
            await _send(stream, "job", self._shown(job, frames), job.sequence)

    async def _send_gauges(self, stream: EventSourceResponse) -> None:
        while True:
            usage = self._engine.storage.cache_usage()
            values = {
                "version": __version__,
                "notes": self._engine.notes,
                "devices": shown_devices(self._engine.workers, await gauges()),
                "disk": {**usage, "free": shutil.disk_usage(self._engine.folder.root).free},
                "ids": sorted(self._engine.queue.ids()),
            }
            await _send(stream, "gauges", values)
            await asyncio.sleep(GAUGE_SECONDS)

    def _shown(self, job: Job, frames: list[JobFrame]) -> dict[str, Any]:
        """A job as the page shows it. frames: those to add to what the page has, as [number, confidence]."""
        shot = self._engine.queue.shot(job.shot)
        info = shot.info
        method = METHODS.get(job.spec.method)
        return {
            "id": job.id,
            "state": job.state.name.lower(),
            "word": job.state.value,
            "priority": job.priority,
            "position": job.position,
            "message": job.message,
            "method": method.title if method else job.spec.method,
            "shot": shot.id,
            "uploaded": shot.uploaded,
            "source": _short(shot.source),
            "path": shot.source,
            "output": job.spec.output,
            "prepare": job.spec.prepare_only or not job.spec.keyframes,
            "first": info.first if info else 0,
            "last": info.last if info else 0,
            "width": round(info.width * float(info.pixel_aspect)) if info else 0,
            "height": info.height if info else 0,
            "plate": [info.width, info.height] if info else [0, 0],
            "rate": float(info.rate) if info and info.rate else 24.0,
            "progress": vars(job.progress),
            "framesDone": job.frames_done,
            "seconds": max(0.0, (job.ended or time.time()) - job.started) if job.started else 0.0,
            "finished": job.state.finished,
            "canRetry": job.state in (JobState.FAILED, JobState.CANCELLED),
            "keyframes": [int(name.partition("/")[2].rpartition("-")[0]) for name in job.spec.keyframes],
            "frames": [[frame.number, round(frame.confidence, 3)] for frame in frames],
        }


def _side(request: web.Request) -> int:
    side = {str(known): known for known in SIDES}.get(request.query.get("side", ""))
    if side is None:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"Pictures come with a side of {', '.join(map(str, SIDES))}.")
    return side


def _picture_file(request: web.Request, path: Path) -> web.Response:
    # A job's frame stays the same, unless another version of the engine computed it again.
    tag = f'"{path.parent.name[:24]}"'
    headers = {"Cache-Control": "private, max-age=3600", "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=path.read_bytes(), content_type=PICTURE_TYPES[path.suffix], headers=headers)


def _streams_frames(job: Job) -> bool:
    return job.frames_done > 0 and not job.state.finished


def _short(source: str) -> str:
    """A video's name; of a sequence also its folder's, because many sequences have the same name."""
    path = Path(source)
    return "/".join(path.parts[-2:]) if path.suffix.lower() not in VIDEOS else path.name


@web.middleware
async def _errors_as_sentences(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors as one sentence with the right status."""
    try:
        return await handler(request)
    except PaintoverError as error:
        return web.json_response({"message": error.message}, status=STATUS.get(error.code, 500))
    except web.HTTPException as error:
        return web.json_response({"message": error.reason}, status=error.status)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:
        log.exception("%s failed", request.path)
        message = f"Internal error in the engine: {type(error).__name__}: {error}; its log has the details."
        return web.json_response({"message": message}, status=500)


async def _body(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    try:
        given = json.loads(body) if body else {}
    except (ValueError, RecursionError):  # the latter: lists in lists, thousands deep
        given = None
    if not isinstance(given, dict):
        raise PaintoverError(Code.INVALID_ARGUMENT, "The request is no JSON object.")
    return given


def _whole(given: dict[str, Any], name: str) -> int:
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 2**31 - 1:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{name}' takes a whole number.")
    return value


async def _send(stream: EventSourceResponse, event: str, data: dict[str, Any], number: int | None = None) -> None:
    await stream.send(json.dumps(data), id=None if number is None else str(number), event=event)
