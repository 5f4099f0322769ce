"""The daemon's core, independent of how clients reach it: a data folder's queue, store and workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from paintover_engine.errors import PaintoverError
from paintover_engine.jobs import device_probe, protocol
from paintover_engine.jobs.cache import DEFAULT_BUDGET, Cache
from paintover_engine.jobs.changes import ChangeSignal
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import Device, find_cpu, find_gpus
from paintover_engine.jobs.entities import JobState
from paintover_engine.jobs.finals import Finals
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.media_workers import MediaWorkers
from paintover_engine.jobs.recovery import check_results, open_queue
from paintover_engine.jobs.remote_device import RemoteDevice
from paintover_engine.jobs.resources.frames import Frames
from paintover_engine.jobs.resources.jobs import Jobs
from paintover_engine.jobs.resources.keyframes import Keyframes
from paintover_engine.jobs.resources.shots import Shots
from paintover_engine.jobs.resources.state import EngineState
from paintover_engine.jobs.resources.storage import Storage
from paintover_engine.jobs.roots import AllowedRoots
from paintover_engine.jobs.scheduler import Scheduler
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.worker_client import WorkerClient
from paintover_engine.media.info import SourceInfo

log = logging.getLogger(__name__)


class Engine:
    """Runs the queue of one data folder, whose lock the caller holds. Its resources: `shots`, `keyframes`, `jobs`,
    `frames`, `storage`.

    roots: when given, only sources, keyframes and outputs below these folders are touched.
    cache_budget: bytes on disk for what can be computed again; gpu_memory: bytes of a GPU to use at most, 0: all.
    cpu_workers: processes that compute on the CPU, each a stage at a time.
    notes: sentences for the user about this start.
    failure: gets the error that ends the engine, should one.
    """

    def __init__(
        self,
        folder: DataFolder,
        roots: Sequence[Path] = (),
        cache_budget: int = DEFAULT_BUDGET,
        gpu_memory: int = 0,
        cpu_workers: int = 1,
    ) -> None:
        folder.create()
        self.folder = folder
        self.store = Store(folder)
        for store in (self.store, Store(folder.own)):
            store.clear_temporary()
        self._cache = Cache(folder, cache_budget)
        opened = open_queue(folder, self.store)
        self.queue, self.notes, self._unclean_since = opened.queue, opened.notes, opened.unclean_since
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gpu_memory = gpu_memory
        self._media = MediaWorkers(folder)
        names = ["job", *(f"job {number}" for number in range(2, cpu_workers + 1))]
        workers = [DeviceWorker(find_cpu(), WorkerClient(name, folder)) for name in names]
        changes = ChangeSignal()
        self._scheduler = Scheduler(self.queue, self.store, self._cache, workers, changes.announce)
        self._running: asyncio.Task[None] | None = None
        self._trial: asyncio.Task[None] | None = None
        state = EngineState(
            folder=folder,
            queue=self.queue,
            store=self.store,
            views=Store(folder.own, results=folder.views),
            cache=self._cache,
            roots=AllowedRoots(roots),
            media=self._media,
            scheduler=self._scheduler,
            changes=changes,
        )
        self.shots = Shots(state)
        self.finals = Finals(lambda: self.devices, self._media)
        self.jobs = Jobs(state, self.shots, self.finals)
        self.keyframes = Keyframes(state, self.shots, self.jobs)
        self.frames = Frames(state, self.shots, self.jobs)
        self.storage = Storage(state, self.keyframes)
        self.roots = state.roots

    async def start(self) -> None:
        """Begins to run the queue."""
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._report_failure)

    async def _run(self) -> None:
        if self._unclean_since is not None:
            await check_results(self.queue, self.store, self._unclean_since)
        self._cache.take(await asyncio.to_thread(self._cache.scan))
        for gpu in await find_gpus():
            arguments = ["--device", gpu.kind, "--visible", gpu.visible, "--device-name", gpu.words]
            arguments += ["--gpu-memory", str(self._gpu_memory)]
            self._scheduler.add(DeviceWorker(gpu, WorkerClient(gpu.id, self.folder, arguments)))
        self._trial = asyncio.create_task(self._try_gpus())
        await self._scheduler.run()

    async def _try_gpus(self) -> None:
        """Finds out, beside the queue, what each GPU can do."""
        for worker in list(self.workers):
            if worker.device.kind != "cpu" and not worker.is_remote:
                worker.device = await device_probe.tried(worker.device)
                log.info("%s: %s", worker.device.words, worker.device.problem or worker.device.tried)
        self.finals.tried.set()
        await self.finals.count()

    def _report_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            trace = None if isinstance(error, PaintoverError) else error
            log.critical("the queue ended: %s", error, exc_info=trace)
            if not self.failure.done():
                self.failure.set_exception(error)

    async def stop(self) -> None:
        """Stops at once; unfinished jobs go on with the next daemon."""
        for task in filter(None, (self._running, self._trial)):
            task.cancel()
        await asyncio.gather(self._media.stop(), *(worker.client.stop() for worker in self.workers))
        await asyncio.gather(*filter(None, (self._running, self._trial)), return_exceptions=True)
        with contextlib.suppress(PaintoverError):
            self.queue.end_session()
        self.queue.close()

    @property
    def workers(self) -> Sequence[DeviceWorker]:
        """What computes jobs."""
        return self._scheduler.workers

    @property
    def devices(self) -> list[Device]:
        """What jobs are computed on, in this machine."""
        return list(dict.fromkeys(worker.device for worker in self.workers if not worker.is_remote))

    # Devices of other machines.

    def join(self, device: Device, machine: str) -> tuple[DeviceWorker, RemoteDevice]:
        """A device of another machine begins to compute."""

        def leave() -> None:
            log.info("%s is gone: %s", client.name, client.gone)
            self._scheduler.remove(worker)

        client = RemoteDevice(f"{machine} {device.id}", self.store.has, leave)
        worker = DeviceWorker(device, client, machine)
        self._scheduler.add(worker)
        log.info("%s joined: %s", client.name, device.words)
        return worker, client

    async def describe_source(self, info: SourceInfo) -> protocol.SourceContentReply:
        """What another machine needs to find, or to get, a shot's plate."""
        return await self._media.call(protocol.SourceContentRequest(info=info))

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits to run."""
        return self.queue.count(JobState.QUEUED, JobState.PREPARING, JobState.RUNNING) > 0
