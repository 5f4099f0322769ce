"""While an engine runs: machines may join it, and a Ray cluster's nodes, to which a child process speaks."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
from collections.abc import AsyncIterator

from paintover_local.processes import module_command

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.service.workers.listener import WorkerListener

log = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0  # before the cluster is looked for again


def _check_ray() -> None:
    """Raises PaintoverError where no cluster can be used, or none that is closed to strangers."""
    if importlib.util.find_spec("ray") is None:
        raise PaintoverError(
            Code.FAILED_PRECONDITION, "Ray is not installed in the engine's Python: run pip install 'paintover[ray]'."
        )
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            "Whoever reaches a Ray cluster without authentication runs programs on it: start it, and this engine, with "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH.",
        )


@contextlib.asynccontextmanager
async def machines_may_join(listener: WorkerListener, listen: str, ray: str) -> AsyncIterator[None]:
    """Devices of other machines may join while the block lasts. listen: where, "" nowhere; ray: the address of a
    cluster whose nodes do, "" for none."""
    cluster = None
    if ray:
        _check_ray()
    if listen:
        await listener.start(listen)
    try:
        cluster = RayCluster(ray, listener) if ray else None
        yield
    finally:
        if cluster:
            await cluster.stop()
        await listener.stop()


class RayCluster:
    """A cluster whose nodes join. address: as `ray start` prints it."""

    def __init__(self, address: str, listener: WorkerListener) -> None:
        self._arguments = [
            *("--ray", address, "--join", listener.reached_at, "--fingerprint", listener.fingerprint),
            *("--token-file", str(listener.token_file)),
        ]
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                *module_command("paintover_engine.service.workers.ray_actors"), *self._arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            )  # fmt: skip
            assert process.stderr
            last = b""
            try:
                async for line in process.stderr:
                    last = line.strip() or last
                await process.wait()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            log.warning("the Ray cluster is looked for again: %s", last.decode(errors="replace")[:500])
            await asyncio.sleep(PAUSE_SECONDS)

    async def stop(self) -> None:
        """Its nodes leave."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
