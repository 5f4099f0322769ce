"""The daemon's side of a worker process: starts it when needed, calls it, lets it go when idle, survives its death."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.folders import DataFolder

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 64 * 2**20  # a plan of many thousand stages is one line of some megabytes


class WorkerDied(Exception):
    """The worker process ended while it worked: a crash of a library, out of memory, or somebody killed it."""


@dataclass
class _Call:
    future: asyncio.Future[Any]
    progress: Callable[[Any], None] | None = None


@dataclass
class _Process:
    process: asyncio.subprocess.Process
    reader: asyncio.Task[None]
    calls: dict[int, _Call] = field(default_factory=dict)


class WorkerClient:
    """One worker process, started on first use. Calls are answered one at a time, in order.

    arguments: of its command line, besides the data folder.
    idle_seconds: how long it may wait for the next call before its memory is given back.
    """

    def __init__(
        self, name: str, folder: DataFolder, arguments: Sequence[str] = (), idle_seconds: float = 60.0
    ) -> None:
        self.name = name
        self.generation = 0  # raised at each start: plans that an older process held are gone
        self._folder = folder
        self._arguments = arguments
        self._idle_seconds = idle_seconds
        self._numbers = itertools.count(1)
        self._worker: _Process | None = None
        self._starting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        """Whether its process runs, so that a call starts none."""
        return self._worker is not None

    async def call(
        self,
        call: str,
        *,
        generation: int | None = None,
        progress: Callable[[Any], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Calls the worker and waits for its answer; cancelling the waiting task cancels the call's work.

        generation: of the process that the call is for; None for any.
        Raises PaintoverError as the worker did, WorkerDied when the process ended meanwhile."""
        worker = await self._running()
        if generation not in (None, self.generation):
            raise WorkerDied("between two calls")
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        worker.calls[number] = _Call(future, progress)
        self._write(worker, {"id": number, "call": call, "arguments": arguments})
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._write(worker, {"cancel": number})
            with contextlib.suppress(PaintoverError, WorkerDied):
                await future  # the stage has let go of its files when this returns
            raise

    async def stop(self) -> None:
        """Ends the process; what it was writing stays unpublished."""
        if self._idle:
            self._idle.cancel()
        if worker := self._worker:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            await worker.reader

    async def _running(self) -> _Process:
        async with self._starting:
            if self._worker is None:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "paintover_engine.jobs.worker", "--data-dir", str(self._folder.root),
                    *self._arguments,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MESSAGE_LIMIT,
                    # Its own session: Ctrl-C in the daemon's terminal is the daemon's to handle.
                    start_new_session=os.name == "posix",
                    # Else glibc keeps freed memory for each of many short threads: a fifth more in all.
                    env={**os.environ, "MALLOC_ARENA_MAX": "2"},
                )  # fmt: skip
                self.generation += 1
                self._worker = _Process(process, asyncio.current_task())  # type: ignore[arg-type]
                self._worker.reader = asyncio.create_task(self._read(self._worker), name=f"{self.name} worker")
                log.info("worker %s started, pid %d", self.name, process.pid)
            return self._worker

    @staticmethod
    def _write(worker: _Process, message: dict[str, Any]) -> None:
        assert worker.process.stdin
        with contextlib.suppress(ConnectionError, RuntimeError):  # a dead process is told by the reader
            worker.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self, worker: _Process) -> None:
        assert worker.process.stdout
        while line := await worker.process.stdout.readline():
            message = json.loads(line)
            call = worker.calls[message["id"]]
            if "progress" in message:
                if call.progress:
                    call.progress(message["progress"])
                continue
            del worker.calls[message["id"]]
            if error := message.get("error"):
                if trace := error.get("traceback"):
                    log.error("worker %s: %s", self.name, trace)
                call.future.set_exception(PaintoverError(Code(error["code"]), error["message"]))
            else:
                call.future.set_result(message["result"])
            self._rest(worker)
        status = await worker.process.wait()
        if self._worker is worker:
            self._worker = None
        for call in worker.calls.values():
            call.future.set_exception(WorkerDied(_how(status)))
        log.log(logging.WARNING if worker.calls else logging.INFO, "worker %s ended: %s", self.name, _how(status))

    def _rest(self, worker: _Process) -> None:
        """Starts the idle clock when nothing is asked of the worker."""
        if self._idle:
            self._idle.cancel()
        if not worker.calls:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._let_go, worker)

    def _let_go(self, worker: _Process) -> None:
        if not worker.calls and self._worker is worker:
            assert worker.process.stdin
            self._worker = None  # a call that comes now starts another
            worker.process.stdin.close()  # it leaves when its input ends


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"
