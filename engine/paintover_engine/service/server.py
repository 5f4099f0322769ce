"""The daemon: binds, answers, runs the queue, and leaves in good order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from paintover.v1 import (
    engine_pb2,
    engine_pb2_grpc,
    frame_pb2,
    frame_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    keyframe_pb2,
    keyframe_pb2_grpc,
    shot_pb2,
    shot_pb2_grpc,
)

from paintover_engine import __version__
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.cache import DEFAULT_BUDGET, Cache
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.service import servicers
from paintover_engine.service.address import bind, check_address, publish, take_address_back
from paintover_engine.service.guard import PROTOCOL, Guard
from paintover_engine.service.hosts import host_watchers
from paintover_engine.service.limits import server_options
from paintover_engine.service.monitor.lazy import LazyMonitor

log = logging.getLogger(__name__)

LINGER_SECONDS = 5.0  # how long an ephemeral daemon waits for another client
GRACE_SECONDS = 2.0


class FolderTaken(PaintoverError):
    """Another daemon has the data folder, perhaps one that is just stopping: trying again may help."""


async def serve(
    folder: DataFolder,
    listen: str,
    ephemeral: bool,
    roots: Sequence[Path] = (),
    cache_budget: int = DEFAULT_BUDGET,
    gpu_memory: int = 0,
    with_metrics: bool = False,
) -> None:
    """Runs the daemon until it is told to stop.

    listen: as for `bind`.
    ephemeral: ends by itself when no job is left and no client has been there for some seconds.
    cache_budget: bytes on disk for what can be made again; gpu_memory: bytes of a GPU to use at most, 0: all.
    with_metrics: the monitor's server runs from the start, and answers /metrics.
    Raises PaintoverError when another daemon has the data folder, the address cannot be had, or the queue's file was
    damaged while it ran.
    """
    check_address(listen)
    folder.create()
    with _locked(folder):
        take_address_back(folder)
        engine = _open_engine(folder, roots, cache_budget, gpu_memory)
        token = secrets.token_urlsafe(32)  # anew at each start: one that was shown to a stranger is worth nothing
        guard = Guard(token)
        stopping = asyncio.Event()
        idle_wanted = asyncio.Event()
        if ephemeral:
            idle_wanted.set()
        server = grpc.aio.server(interceptors=[guard], options=server_options())

        told_to_stop = False

        def stop(when_idle: bool) -> None:
            nonlocal told_to_stop
            told_to_stop = True
            (idle_wanted if when_idle else stopping).set()

        def is_used() -> bool:  # a page that stands open keeps an engine from ending by itself, not from being stopped
            return guard.active > 0 or engine.busy or (page.is_watched and not told_to_stop)

        page = LazyMonitor(engine, folder, token, with_metrics)
        serving = _add_services(server, engine, stop, page.open)
        guard.address = bind(server, folder, listen)
        await server.start()
        await engine.start()
        await serving.set("", health_pb2.HealthCheckResponse.SERVING)
        publish(folder, guard.address, token)
        log.info("engine %s (protocol %d) answers at %s", __version__, PROTOCOL, guard.address)
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows has neither in asyncio
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        page.start_again()
        idle = asyncio.create_task(_watch_idle(is_used, idle_wanted, stopping))
        try:
            async with host_watchers(folder):
                await _first(asyncio.ensure_future(stopping.wait()), engine.failure)
        finally:
            take_address_back(folder)
            idle.cancel()
            await page.stop()
            await serving.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
            await server.stop(GRACE_SECONDS)
            await engine.stop()
            log.info("engine stopped")


def _open_engine(folder: DataFolder, roots: Sequence[Path], cache_budget: int, gpu_memory: int) -> Engine:
    """The engine, also on a full disk: it is needed to make room there."""
    removed = Cache(folder).make_room_to_start()
    engine = Engine(folder, roots, cache_budget, gpu_memory)
    if removed:
        engine.notes.append(
            f"The disk was full: {removed / 10**6:.1f} MB of the cache were removed so that the engine could start; "
            "make more room, or remove all of it with `paintover cache prune`."
        )
        log.warning("%s", engine.notes[-1])
    return engine


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Waits for one of them; raises what that one raised."""
    done, pending = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for future in pending:
        future.cancel()
    for future in done:
        future.result()


@contextlib.contextmanager
def _locked(folder: DataFolder) -> Iterator[None]:
    lock = filelock.FileLock(folder.lock, timeout=0)
    try:
        with lock:
            yield
    except filelock.Timeout as error:
        raise FolderTaken(
            Code.FAILED_PRECONDITION,
            f"Another engine ({_holder(folder)}) has the data folder {folder.root}; "
            "use that one, stop it with `paintover stop`, or choose another --data-dir.",
        ) from error


def _holder(folder: DataFolder) -> str:
    try:
        found = json.loads(folder.address.read_text())
        return f"pid {found['pid']} at {found['address']}"
    except (OSError, ValueError, KeyError):
        return "just starting or stopping"


def _add_services(
    server: grpc.aio.Server,
    engine: Engine,
    stop: Callable[[bool], None],
    open_monitor: Callable[[], Awaitable[str]],
) -> health.aio.HealthServicer:
    engine_pb2_grpc.add_EngineServiceServicer_to_server(servicers.EngineServicer(engine, stop, open_monitor), server)
    shot_pb2_grpc.add_ShotServiceServicer_to_server(servicers.ShotServicer(engine), server)
    keyframe_pb2_grpc.add_KeyframeServiceServicer_to_server(servicers.KeyframeServicer(engine), server)
    job_pb2_grpc.add_JobServiceServicer_to_server(servicers.JobServicer(engine), server)
    frame_pb2_grpc.add_FrameServiceServicer_to_server(servicers.FrameServicer(engine), server)
    serving = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(serving, server)
    services = [
        file.DESCRIPTOR.services_by_name[name].full_name
        for file in (engine_pb2, shot_pb2, keyframe_pb2, job_pb2, frame_pb2, health_pb2)
        for name in file.DESCRIPTOR.services_by_name
    ]
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server)
    return serving


async def _watch_idle(is_used: Callable[[], bool], wanted: asyncio.Event, stopping: asyncio.Event) -> None:
    """Ends the daemon once that is wanted, nothing runs and no client has been there for a while."""
    await wanted.wait()
    clock = asyncio.get_running_loop().time
    since = clock()
    while clock() - since < LINGER_SECONDS:
        await asyncio.sleep(0.2)
        if is_used():
            since = clock()
    stopping.set()
