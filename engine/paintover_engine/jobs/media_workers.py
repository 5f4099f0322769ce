"""The workers that read sources and keyframes: apart from the devices' workers, so that no client waits for a stage,
and several, so that none waits for what another opens.

What they read comes from anywhere. Sizes are checked where they are read; whatever gets past that ends here: a call
that takes too much memory, or computes on without reading or writing, ends with its process and a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import weakref
from dataclasses import dataclass, field

import psutil

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.capacity import machine_memory
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import ReplyT, Request
from paintover_engine.jobs.worker_client import WorkerClient, WorkerDied

WORKERS = 4
POLL_SECONDS = 0.1
CANCELLED_SECONDS = 3.0  # that a call whose client has left may still take


def memory_for_media() -> int:
    """Three quarters of the bytes of memory that this machine, or the container, has. A keyframe of 16K by 8K takes 13
    GiB."""
    return machine_memory() * 3 // 4


@dataclass(frozen=True)
class Limits:
    """memory: bytes that all workers may have resident together. stalled_seconds: that a call may go on without reading
    or writing anything, or altogether where the system does not tell what a process reads; a long sequence on a slow
    disk is read for as long as it takes."""

    memory: int = field(default_factory=memory_for_media)
    stalled_seconds: float = 600.0  # a keyframe of 16K by 8K may compute for minutes


class MediaWorkers:
    """Calls that read files which users gave. Those about one file come one after the other, at one worker, which has
    it open; those about different files run side by side."""

    def __init__(self, folder: DataFolder, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._free = [WorkerClient(f"media {number}", folder) for number in range(1, WORKERS + 1)]
        self._workers = tuple(self._free)
        self._slots = asyncio.Semaphore(WORKERS)
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._last: dict[WorkerClient, str] = {}  # what each worker read last
        self._resident: dict[WorkerClient, int] = {}  # bytes, of those that are busy
        self._calls: set[asyncio.Task[object]] = set()

    async def call(self, request: Request[ReplyT]) -> ReplyT:
        """Makes a call. One that crashes its worker is not tried again: PaintoverError names the file.

        Cancelling the waiting task lets the worker finish if that is a matter of seconds, else kills it."""
        left = asyncio.Event()
        call = asyncio.ensure_future(self._in_turn(request, left))
        self._calls.add(call)
        call.add_done_callback(self._forget)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            left.set()
            raise

    async def stop(self) -> None:
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    def _forget(self, call: asyncio.Task[object]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # taken, though the client may have left

    async def _in_turn(self, request: Request[ReplyT], left: asyncio.Event) -> ReplyT:
        file = _file_of(request)
        async with self._turns.setdefault(file, asyncio.Lock()), self._slots:
            if left.is_set():
                raise asyncio.CancelledError
            worker = max(self._free, key=lambda each: (self._last.get(each) == file, each.alive))
            self._free.remove(worker)
            self._last[worker] = file
            try:
                return await self._limited(worker, request, file, left)
            except WorkerDied as death:
                raise _crash(file, death) from death
            finally:
                self._resident.pop(worker, None)
                self._free.append(worker)

    async def _limited(self, worker: WorkerClient, request: Request[ReplyT], file: str, left: asyncio.Event) -> ReplyT:
        """A call that is watched while it runs."""
        clock = asyncio.get_running_loop().time
        call = asyncio.ensure_future(worker.call(request))
        transferred, since, left_at = -1, clock(), None
        try:
            while not (await asyncio.wait([call], timeout=POLL_SECONDS))[0]:
                load = _load(worker.pid)
                if load is None:
                    continue  # just starting, or just ended
                now = clock()
                if load.transferred != transferred:
                    transferred, since = load.transferred, now
                left_at = (left_at or now) if left.is_set() else None
                self._resident[worker] = load.resident
                if left_at is not None and now - left_at > CANCELLED_SECONDS:
                    worker.kill(WorkerDied("its client has left"))
                elif self._is_too_much(worker):
                    worker.kill(self._too_large(file, load.resident))
                elif now - since > self._limits.stalled_seconds:
                    worker.kill(_too_slow(file, self._limits.stalled_seconds))
            return call.result()
        finally:
            call.cancel()

    def _is_too_much(self, worker: WorkerClient) -> bool:
        """Whether the workers have too much memory together, and this one the most of it."""
        together = sum(self._resident.values())
        return together > self._limits.memory and self._resident[worker] == max(self._resident.values())

    def _too_large(self, file: str, resident: int) -> PaintoverError:
        limit = f"{self._limits.memory / 2**30:.1f} GiB"
        if resident > self._limits.memory:
            return PaintoverError(
                Code.RESOURCE_EXHAUSTED,
                f"{file} is too large to open: it takes more than {limit} of memory, three quarters of what there is.",
            )
        return PaintoverError(
            Code.RESOURCE_EXHAUSTED,
            f"{file} could not be opened: with what others are opening now it takes more than {limit} of memory; "
            "try again.",
        )


@dataclass(frozen=True)
class _Load:
    """resident: bytes of memory; transferred: bytes read and written since the process started."""

    resident: int
    transferred: int


def _load(pid: int | None) -> _Load | None:
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        resident, transferred = process.memory_info().rss, 0
        if hasattr(process, "io_counters"):  # not on macOS: there the time since the call began is limited
            with contextlib.suppress(psutil.AccessDenied):
                counters = process.io_counters()
                read = getattr(counters, "read_chars", counters.read_bytes)  # Linux: from the page cache too
                transferred = read + getattr(counters, "write_chars", counters.write_bytes)
    except psutil.Error:
        return None
    return _Load(resident, transferred)


def _file_of(request: Request[ReplyT]) -> str:
    """What a call reads, as a sentence names it."""
    info = getattr(request, "info", None)
    path = getattr(request, "path", "") or getattr(request, "model", "") or (info.path if info else "")
    return f"'{path}'" if path else "The model"


def _too_slow(file: str, seconds: float) -> PaintoverError:
    return PaintoverError(
        Code.RESOURCE_EXHAUSTED,
        f"{file} takes too long to open: for {seconds:.0f} seconds nothing more of it was read; if it is whole and its "
        "disk answers, save it in a simpler form.",
    )


def _crash(file: str, death: WorkerDied) -> PaintoverError:
    if os.name == "posix" and death.signal == signal.SIGKILL:  # by none of us: the system's way to find memory
        return PaintoverError(
            Code.RESOURCE_EXHAUSTED,
            f"{file} could not be opened: the system killed the process that read it, most likely for want of memory; "
            "close other programs and try again.",
        )
    return PaintoverError(Code.INTERNAL, f"{file} crashed the worker that read it ({death}); the file may be damaged.")
