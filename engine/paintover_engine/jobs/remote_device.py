"""The engine's side of a device of another machine, which may be gone at any moment.

It is called as a worker process of this machine is; lines of the same protocol go out by `outgoing` and come in by
`receive`. What carries them is not known here. What the device may read and write is what its calls need, no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.protocol import PlanJobRequest, ReplyT, Request, RunStageRequest
from paintover_engine.jobs.worker_client import WorkerDied, WorkerLeft
from paintover_engine.media.info import SourceInfo

SHOWN_SECONDS = 5.0  # until a network file system shows what another machine renamed
POLL_SECONDS = 0.25


@dataclass
class _Call:
    types: protocol.CallTypes[Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True)
class Grant:
    """An output that a device may read or write now."""

    key: str
    publishes: bool


class RemoteDevice:
    """One device of another machine, from when it joins until it is gone.

    session: the secret by which the device names itself. outgoing: lines for it, None once it is gone.
    has_output: whether the output of a key is stored. left: called when it is gone, before its calls fail."""

    def __init__(self, name: str, has_output: Callable[[str, bool], bool], left: Callable[[], None]) -> None:
        self.name = name
        self.session = secrets.token_urlsafe(24)
        self.alive, self.generation = True, 1
        self.outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.gone = ""
        self._has_output = has_output
        self._left = left
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._jobs: dict[int, PlanJobRequest] = {}
        self._stage: RunStageRequest | None = None

    async def call(
        self,
        request: Request[ReplyT],
        *,
        generation: int | None = None,
        progress: Callable[[protocol.DeliveryProgress], None] | None = None,
    ) -> ReplyT:
        """Makes a call and waits for its reply; cancelling the waiting task has the other machine end its work, and
        does not wait for it: that machine may not answer.

        Raises PaintoverError as its worker did, WorkerDied where it or the machine is gone. progress: not used; such
        calls are made to devices of this machine."""
        if self.gone or generation not in (None, self.generation):
            raise WorkerDied(self.gone or "between two calls")
        if not self.alive:
            self.alive, self.generation = True, self.generation + 1
            self._jobs.clear()
        with self._granting(request):
            return await self._answered(request)

    async def _answered(self, request: Request[ReplyT]) -> ReplyT:
        number = next(self._numbers)
        line = protocol.call_line(number, request)
        future: asyncio.Future[ReplyT] = asyncio.get_running_loop().create_future()
        self._calls[number] = _Call(protocol.CALLS[line.call], future)
        self.outgoing.put_nowait(protocol.encode(line))
        try:
            reply = await future
        except asyncio.CancelledError:
            self.outgoing.put_nowait(protocol.encode(protocol.CancelLine(cancel=number)))
            raise
        finally:
            self._calls.pop(number, None)
        if isinstance(request, RunStageRequest) and not await self._is_stored(request):
            raise PaintoverError(Code.INTERNAL, f"{self.name} did not send the output of a stage.")
        return reply

    async def _is_stored(self, stage: RunStageRequest) -> bool:
        """Whether a stage's output is there; a shared folder may show it late."""
        for _ in range(int(SHOWN_SECONDS / POLL_SECONDS)):
            if self._has_output(stage.key, stage.publishes):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    @contextlib.contextmanager
    def _granting(self, request: Request[Any]) -> Any:
        """What the call needs may be read and written while it lasts; a job's plate and keyframes while it is held."""
        if isinstance(request, protocol.ForgetJobRequest):
            self._jobs.pop(request.job, None)
        elif isinstance(request, PlanJobRequest):
            self._jobs[request.job] = request
        elif isinstance(request, RunStageRequest):
            self._stage = request
        try:
            yield
        finally:
            if self._stage is request:
                self._stage = None

    # What the device asks for.

    def readable(self, key: str) -> bool:
        """Whether it may read the output of a key: an input of the stage that it runs."""
        return self._stage is not None and key in self._stage.inputs

    def writable(self, key: str) -> Grant | None:
        """The output of a key if it may write it: that of the stage that it runs."""
        stage = self._stage
        return Grant(key, stage.publishes) if stage and key == stage.key else None

    def may_read_keyframe(self, digest: str) -> bool:
        """Whether a keyframe belongs to a job that it was given."""
        return any(key.digest == digest for job in self._jobs.values() for key in job.keyframes)

    def source(self, job: int) -> SourceInfo | None:
        """The source of a job that it was given."""
        return self._jobs[job].info if job in self._jobs else None

    # What the device sends.

    def receive(self, line: bytes) -> None:
        """An answer. Raises PaintoverError where it cannot be read."""
        answer = protocol.decode_answer(line)
        if answer.progress or (call := self._calls.get(answer.id)) is None or call.future.done():
            return  # its caller has left
        if answer.error:
            call.future.set_exception(answer.error.exception())
        else:
            call.future.set_result(protocol.decode_reply(call.types, answer.reply or {}))

    def crashed(self, number: int, reason: str, signal: int, before_call: bool) -> None:
        """The process that computes on the device ended, before or in a call; the next call finds another."""
        if before_call:
            self.generation += 1
        else:
            self.alive = False
        if (call := self._calls.get(number)) and not call.future.done():
            call.future.set_exception(WorkerDied(reason, signal))

    def end(self, reason: str, in_order: bool = False) -> None:
        """The machine is gone: every call fails, now and from now on. reason: a phrase; in_order: it said so itself."""
        if self.gone:
            return
        self.gone, self.alive = reason, False
        self._left()
        for call in self._calls.values():
            if not call.future.done():
                call.future.set_exception(WorkerLeft(reason) if in_order else WorkerDied(reason))
        self.outgoing.put_nowait(None)

    async def stop(self) -> None:
        self.end("the engine stops")

    async def lines(self, beat_seconds: float) -> AsyncIterator[bytes | None]:
        """Lines for the device until it is gone; None whenever there was none for so many seconds."""
        while not self.gone:
            try:
                line = await asyncio.wait_for(self.outgoing.get(), beat_seconds)
            except asyncio.TimeoutError:
                yield None
                continue
            if line is None:
                return
            yield line
