"""Clips that are dropped onto the page: a browser tells no path of a dropped file, so its bytes are kept here."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.environment import environment_error
from paintover_engine.jobs.roots import AllowedRoots
from paintover_engine.service.monitor.folders import IMAGES, VIDEOS

_CHUNK = 1 << 20  # bytes
_LEFT_FREE = 1 << 30  # bytes of the disk that a dropped file does not take


class DroppedClips:
    """Receives files. folder: of all of them; roots: what the engine may touch."""

    def __init__(self, folder: Path, roots: AllowedRoots) -> None:
        self._folder = folder
        self._roots = roots

    def routes(self) -> Sequence[web.RouteDef]:
        """The routes, for the monitor's server, which checks the cookie or the token."""
        return [web.post(r"/dropped/{clip:[0-9a-f]{12}}/{name}", self._receive)]

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        """Stores one file; a sequence's files have the same `clip`. Answers with the folder that they are in."""
        folder, name = self._folder / request.match_info["clip"], request.match_info["name"]
        if Path(name).name != name or name.startswith(".") or Path(name).suffix.lower() not in (*VIDEOS, *IMAGES):
            raise PaintoverError(Code.INVALID_ARGUMENT, f"'{name}' is no video and no image that is read.")
        self._roots.check(str(folder / name), "The dropped file")
        length = request.content_length or 0
        folder.mkdir(parents=True, exist_ok=True)
        if length > shutil.disk_usage(folder).free - _LEFT_FREE:
            raise PaintoverError(
                Code.RESOURCE_EXHAUSTED,
                f"There is no room for '{name}' on the disk of {folder}; open it in its folder.",
            )
        partial = folder / f".{name}.partial"
        try:
            with open(partial, "wb") as file:
                async for chunk in request.content.iter_chunked(_CHUNK):
                    await asyncio.to_thread(file.write, chunk)
            partial.replace(folder / name)
        except OSError as error:
            raise environment_error(error) from error
        finally:
            partial.unlink(missing_ok=True)
        return web.json_response({"folder": str(folder)})
