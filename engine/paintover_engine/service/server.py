"""The daemon: listens, serves, runs the queue, and stops in good order."""

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
from paintover_engine.service.workers.joining import machines_may_join
from paintover_engine.service.workers.listener import WorkerListener

log = logging.getLogger(__name__)

LINGER_SECONDS = 5.0  # that an ephemeral daemon waits for another client
GRACE_SECONDS = 2.0


class FolderTaken(PaintoverError):
    """Another daemon has the data folder; perhaps it is just stopping, so a client may try again."""


async def serve(
    folder: DataFolder,
    listen: str,
    ephemeral: bool,
    roots: Sequence[Path] = (),
    cache_budget: int = DEFAULT_BUDGET,
    gpu_memory: int = 0,
    cpu_workers: int = 1,
    with_metrics: bool = False,
    workers_listen: str = "",
    ray: str = "",
) -> None:
    """Runs the daemon until it is stopped.

    listen: as for `bind`.
    ephemeral: ends by itself when no job is left and no client has been there for some seconds.
    cache_budget: bytes on disk for what can be made again; gpu_memory: bytes of a GPU to use at most, 0: all.
    cpu_workers: processes that compute on the CPU.
    with_metrics: the monitor's server runs from the start, and answers /metrics.
    workers_listen: "HOST:PORT" at which devices of other machines may join; "": none may. ray: the address of a Ray
    cluster whose nodes do.
    Raises PaintoverError when another daemon has the data folder, the address cannot be had, or the queue's file was
    damaged while it ran.
    """
    check_address(listen)
    folder.create()
    with _locked(folder):
        take_address_back(folder)
        engine = _open_engine(folder, roots, cache_budget, gpu_memory, cpu_workers)
        token = secrets.token_urlsafe(32)  # anew at each start: one that was shown to a stranger is worth nothing
        guard = Guard(token)
        stop = _Stop(ephemeral)
        page = LazyMonitor(engine, folder, token, with_metrics)
        workers = WorkerListener(engine, folder)

        def is_used() -> bool:  # an open page keeps an engine from ending by itself, not from being stopped
            return guard.active > 0 or engine.busy or (page.is_watched and not stop.requested)

        server = grpc.aio.server(interceptors=[guard], options=server_options())
        health_servicer = _add_services(server, engine, stop.request, page.open, workers)
        guard.address = bind(server, folder, listen)
        await server.start()
        await engine.start()
        await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        publish(folder, guard.address, token)
        log.info("engine %s (protocol %d) answers at %s", __version__, PROTOCOL, guard.address)
        stop.on_signals()
        page.start_again()
        idle = asyncio.create_task(stop.when_idle(is_used))
        try:
            async with host_watchers(folder), machines_may_join(workers, workers_listen, ray):
                await _first(asyncio.ensure_future(stop.now.wait()), engine.failure)
        finally:
            take_address_back(folder)
            idle.cancel()
            await page.stop()
            await health_servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
            await server.stop(GRACE_SECONDS)
            await engine.stop()
            log.info("engine stopped")


def _open_engine(
    folder: DataFolder, roots: Sequence[Path], cache_budget: int, gpu_memory: int, cpu_workers: int
) -> Engine:
    """The engine, also on a full disk: it is needed to make room there."""
    removed = Cache(folder).make_room_to_start()
    engine = Engine(folder, roots, cache_budget, gpu_memory, cpu_workers)
    if removed:
        engine.notes.append(
            f"The disk was full: {removed / 10**6:.1f} MB of the cache were removed so that the engine could start; "
            "make more room, or remove all of it with `paintover cache prune`."
        )
        log.warning("%s", engine.notes[-1])
    return engine


class _Stop:
    """When the daemon ends. now: set to end it; requested: a client has asked for it, at once or when idle."""

    def __init__(self, ephemeral: bool) -> None:
        self.now = asyncio.Event()
        self.requested = False
        self._idle_wanted = asyncio.Event()
        if ephemeral:
            self._idle_wanted.set()

    def on_signals(self) -> None:
        """Ends the daemon on SIGINT and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows has neither in asyncio
                asyncio.get_running_loop().add_signal_handler(number, self.now.set)

    def request(self, when_idle: bool) -> None:
        self.requested = True
        (self._idle_wanted if when_idle else self.now).set()

    async def when_idle(self, is_used: Callable[[], bool]) -> None:
        """Once that is wanted, ends the daemon after `LINGER_SECONDS` in which it was not used."""
        await self._idle_wanted.wait()
        clock = asyncio.get_running_loop().time
        since = clock()
        while clock() - since < LINGER_SECONDS:
            await asyncio.sleep(0.2)
            if is_used():
                since = clock()
        self.now.set()


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Waits for the first of some futures; raises what that one raised."""
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
    workers: WorkerListener,
) -> health.aio.HealthServicer:
    whole = servicers.EngineServicer(engine, stop, open_monitor, workers)
    engine_pb2_grpc.add_EngineServiceServicer_to_server(whole, server)
    shot_pb2_grpc.add_ShotServiceServicer_to_server(servicers.ShotServicer(engine), server)
    keyframe_pb2_grpc.add_KeyframeServiceServicer_to_server(servicers.KeyframeServicer(engine), server)
    job_pb2_grpc.add_JobServiceServicer_to_server(servicers.JobServicer(engine), server)
    frame_pb2_grpc.add_FrameServiceServicer_to_server(servicers.FrameServicer(engine), server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    services = [
        file.DESCRIPTOR.services_by_name[name].full_name
        for file in (engine_pb2, shot_pb2, keyframe_pb2, job_pb2, frame_pb2, health_pb2)
        for name in file.DESCRIPTOR.services_by_name
    ]
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server)
    return health_servicer
