"""The daemon's side of a worker process: starts it on the first call, ends it when idle, survives its crashes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from paintover_local.processes import module_command

from paintover_engine.errors import PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import ReplyT, Request

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 64 * 2**20  # a plan of many thousand stages is one line of some megabytes
END_SECONDS = 5.0  # that a process may take to end once it has closed its output


class WorkerDied(Exception):
    """The worker process ended before it answered: a library crashed, memory ran out, or it was killed.

    signal: by which one, 0 for none."""

    def __init__(self, reason: str, signal: int = 0) -> None:
        super().__init__(reason)
        self.signal = signal


class WorkerLeft(WorkerDied):
    """A device of another machine left in good order: nothing is wrong with the stage that it ran."""


Progress = Callable[[protocol.DeliveryProgress], None]


@dataclass
class _Call:
    """A call that the worker has not answered yet."""

    types: protocol.CallTypes[Any]
    future: asyncio.Future[Any]
    progress: Progress | None

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass
class _Process:
    process: asyncio.subprocess.Process
    reader: asyncio.Task[None]
    calls: dict[int, _Call] = field(default_factory=dict)


class WorkerClient:
    """One worker process, started on the first call. Calls are answered one at a time, in order.

    arguments: of its command line, besides the data folder.
    idle_seconds: after this long without a call the process ends, so that its memory is free again; not while it
        writes a job's output, whose frames devices elsewhere may be computing.
    """

    def __init__(
        self, name: str, folder: DataFolder, arguments: Sequence[str] = (), idle_seconds: float = 60.0
    ) -> None:
        self.name = name
        self.generation = 0  # raised at each start: an older process took its plans with it
        self._folder = folder
        self._arguments = arguments
        self._idle_seconds = idle_seconds
        self._numbers = itertools.count(1)
        self._worker: _Process | None = None
        self._starting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._writes: set[int] = set()  # jobs whose output the process writes

    @property
    def alive(self) -> bool:
        """Whether the process runs; if not, the next call starts one."""
        return self._worker is not None

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._worker.process.pid if self._worker else None

    def kill(self, error: Exception) -> None:
        """Kills the process. Its calls fail with the error now: one that waits for a server which does not answer may
        not end for long. The next call starts another."""
        if worker := self._worker:
            self._worker = None
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            for call in worker.calls.values():
                call.fail(error)

    async def call(
        self, request: Request[ReplyT], *, generation: int | None = None, progress: Progress | None = None
    ) -> ReplyT:
        """Makes a call and waits for its reply; cancelling the waiting task cancels the call's work.

        generation: of the process that the call is for; None for any.
        Raises PaintoverError as the worker did, WorkerDied when the process ended meanwhile."""
        worker = await self._running()
        if generation not in (None, self.generation):
            raise WorkerDied("between two calls")
        if isinstance(request, protocol.PlanJobRequest) and request.output:
            self._writes.add(request.job)
        elif isinstance(request, protocol.ForgetJobRequest):
            self._writes.discard(request.job)
        number = next(self._numbers)
        line = protocol.call_line(number, request)
        future: asyncio.Future[ReplyT] = asyncio.get_running_loop().create_future()
        worker.calls[number] = _Call(protocol.CALLS[line.call], future, progress)
        self._write(worker, line)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._write(worker, protocol.CancelLine(cancel=number))
            with contextlib.suppress(PaintoverError, WorkerDied):
                await future  # the stage has closed its files when this returns
            raise

    async def stop(self) -> None:
        """Kills the process; what it was writing stays unpublished."""
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
                    *module_command("paintover_engine.jobs.worker"), "--data-dir", str(self._folder.root),
                    *(["--store", str(self._folder.shared)] if self._folder.shared else []), *self._arguments,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MESSAGE_LIMIT,
                    # Its own session: Ctrl-C in the daemon's terminal is the daemon's to handle.
                    start_new_session=os.name == "posix",
                    # Else glibc keeps freed memory for each of many short threads: a fifth more in all.
                    env={**os.environ, "MALLOC_ARENA_MAX": "2"},
                )  # fmt: skip
                self.generation += 1
                self._writes.clear()
                self._worker = _Process(process, asyncio.current_task())  # type: ignore[arg-type]
                self._worker.reader = asyncio.create_task(self._read(self._worker), name=f"{self.name} worker")
                log.info("worker %s started, pid %d", self.name, process.pid)
            return self._worker

    @staticmethod
    def _write(worker: _Process, line: protocol.CallLine | protocol.CancelLine) -> None:
        assert worker.process.stdin
        with contextlib.suppress(ConnectionError, RuntimeError):  # that the process is dead is found by the reader
            worker.process.stdin.write(protocol.encode(line))

    async def _read(self, worker: _Process) -> None:
        """Reads answers until the process ends, or is ended because it sends what cannot be read. Every call that is
        then unanswered fails: none may wait for ever."""
        assert worker.process.stdout
        failure: Exception | None = None
        try:
            while (line := await worker.process.stdout.readline()).endswith(b"\n"):  # without: cut off by a kill
                self._receive(worker, protocol.decode_answer(line))
        except PaintoverError as error:
            failure = error
        except Exception as error:  # a line above the limit, an answer to no call
            failure = WorkerDied(f"what it sent cannot be read: {error!r}")
        if not failure:  # it is ending: killed now, it might be reaped before asyncio sees how it ended
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(worker.process.wait(), END_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()  # nothing that it may still send would be understood
        await worker.process.stdout.read()  # asyncio sees the end of a process only after that of its output
        status = await worker.process.wait()
        if self._worker is worker:
            self._worker = None
        for call in worker.calls.values():
            call.fail(failure or WorkerDied(_exit_reason(status), max(0, -status)))
        unexpected = worker.calls or failure
        log.log(logging.WARNING if unexpected else logging.INFO, "worker %s ended: %s", self.name,
                failure or _exit_reason(status))  # fmt: skip

    def _receive(self, worker: _Process, line: protocol.AnswerLine) -> None:
        if line.id == protocol.NO_CALL and line.error:
            raise line.error.exception()
        call = worker.calls[line.id]
        if line.progress:
            if call.progress:
                try:
                    call.progress(line.progress)
                except Exception as error:  # the caller's; the next lines are read all the same
                    call.fail(error)
            return
        if line.error:
            if line.error.traceback:
                log.error("worker %s: %s", self.name, line.error.traceback)
            call.fail(line.error.exception())
        else:
            reply = protocol.decode_reply(call.types, line.reply or {})
            if not call.future.done():
                call.future.set_result(reply)
        del worker.calls[line.id]
        self._start_idle_timer(worker)

    def _start_idle_timer(self, worker: _Process) -> None:
        """Starts it anew where no call is left."""
        if self._idle:
            self._idle.cancel()
        if not worker.calls:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._end_if_idle, worker)

    def _end_if_idle(self, worker: _Process) -> None:
        if not worker.calls and not self._writes and self._worker is worker:
            assert worker.process.stdin
            self._worker = None  # a call that comes now starts another
            worker.process.stdin.close()  # it exits when its input ends


def _exit_reason(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"
