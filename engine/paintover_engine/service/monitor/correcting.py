"""Corrections that are drawn on the page: holdouts, roto mattes and drags; and the jobs that go on from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.entities import StoredKeyframe
from paintover_engine.media.keyframe_kind import DragPoint, KeyframeKind, check_corrected_frames

_LARGEST = 32 << 20  # bytes of a drawn matte as PNG
_MOST_POINTS = 64


class CorrectingFace:
    """The requests of the viewer's hand."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Sequence[web.RouteDef]:
        """The routes, for the monitor's server, which checks the cookie or the token."""
        return [web.post(r"/jobs/{id:\d{1,15}}/correct/{number:-?\d{1,12}}/{kind:holdout|roto|drag}", self._correct)]

    async def _correct(self, request: web.Request) -> web.StreamResponse:
        """Stores a correction of a job's frame, and queues the job again with it. The body: a matte as a picture, or a
        drag's points as JSON, each [x, y, to_x, to_y]."""
        job, number = self._engine.queue.job(int(request.match_info["id"])), int(request.match_info["number"])
        painted = [self._engine.queue.keyframe(name).frame for name in job.spec.keyframes]
        check_corrected_frames(painted, [number])
        kind, body = KeyframeKind(request.match_info["kind"]), await _read(request)
        correction: StoredKeyframe
        if kind is KeyframeKind.DRAG:
            correction = await self._engine.keyframes.put_drag(job.shot, number, _points(body))
        else:
            correction = await self._engine.keyframes.put(job.shot, number, body, None, kind)
        made = await self._engine.jobs.correct(job.id, correction)
        return web.json_response({"job": made.id, "notes": correction.notes})


async def _read(request: web.Request) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _LARGEST:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"The matte has more than {_LARGEST >> 20} MiB; give it with --hold or --roto."
            )
    return bytes(body)


def _points(body: bytes) -> list[DragPoint]:
    try:
        given: Any = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, list) or len(given) > _MOST_POINTS:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"A drag is a list of up to {_MOST_POINTS} points.")
    points: list[DragPoint] = []
    for point in given:
        numbers = isinstance(point, list) and all(type(each) in (int, float) for each in point)
        if not numbers or len(point) != 4:
            raise PaintoverError(Code.INVALID_ARGUMENT, "A point of a drag is four numbers: x, y, to_x, to_y.")
        points.append((float(point[0]), float(point[1]), float(point[2]), float(point[3])))
    return points
