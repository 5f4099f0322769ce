"""One device of a machine that joined: answers the engine's calls by a worker process of this machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from paintover.v1 import engine_pb2, worker_pb2, worker_pb2_grpc

from paintover_engine import __version__
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.environment import environment_error
from paintover_engine.jobs.path_mapping import PathMap
from paintover_engine.jobs.protocol import Message, PlanJobRequest, Request, RunStageRequest
from paintover_engine.jobs.worker_client import WorkerClient, WorkerDied
from paintover_engine.media.info import SourceInfo
from paintover_engine.service.workers.connection import EngineAddress, Refused, open_channel
from paintover_engine.service.workers.scratch import Scratch
from paintover_engine.service.workers.wire import BEAT_SECONDS, LOST_SECONDS, check_key, sentence_of

log = logging.getLogger(__name__)

PAUSES = (0.5, 1.0, 2.0, 5.0)  # seconds before the engine is looked for again, longer each time
END_SECONDS = 5.0  # that a stage may take to end once the engine is lost
_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT,
             grpc.StatusCode.UNIMPLEMENTED)  # fmt: skip


class DeviceAgent:
    """A device, as the engine sees it, from this side.

    load: bytes of the device's memory in use now. said: called with what a person may want to know."""

    def __init__(
        self,
        device: Device,
        machine: str,
        worker: WorkerClient,
        scratch: Scratch,
        engine: EngineAddress,
        mapped: PathMap,
        load: Callable[[], int],
        said: Callable[[str], None],
    ) -> None:
        self._device = device
        self._machine = machine
        self._worker = worker
        self._scratch = scratch
        self._engine = engine
        self._mapped = mapped
        self._load = load
        self._said = said

    async def run(self) -> None:
        """Joins, and joins again whenever the engine was lost; until cancelled. Raises Refused."""
        failures = 0
        while True:
            session = _Session(self._engine, self._announcement(), self._load)
            calls = _Calls(self._worker, self._scratch, self._mapped, session)
            try:
                await session.run(calls.answer, lambda: self._said(f"{self._device.name} joined."))
            except Refused:
                raise
            except PaintoverError as error:
                if failures == 0 or session.joined:
                    self._said(f"{error.message} It is looked for again.")
            finally:
                await calls.end()
            failures = 0 if session.joined else failures + 1
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])

    def _announcement(self) -> worker_pb2.JoiningDevice:
        device = engine_pb2.Device(
            name=self._device.name,
            kind=self._device.kind,
            memory_bytes=self._device.memory,
            driver=self._device.driver,
            tried=self._device.tried,
        )
        store = self._scratch.shared_identity
        return worker_pb2.JoiningDevice(machine=self._machine, version=__version__, device=device, store=store)


Answer = Callable[[protocol.CallLine], Awaitable[worker_pb2.JoinRequest]]


class _Session:
    """One connection to the engine. stub, name: for the calls beside `Join`; joined: whether the engine agreed."""

    stub: worker_pb2_grpc.WorkerServiceAsyncStub

    def __init__(self, engine: EngineAddress, announcement: worker_pb2.JoiningDevice, load: Callable[[], int]) -> None:
        self.metadata = engine.metadata
        self.name = ""
        self.joined = False
        self._engine = engine
        self._load = load
        self._outgoing: asyncio.Queue[worker_pb2.JoinRequest] = asyncio.Queue()
        self._outgoing.put_nowait(worker_pb2.JoinRequest(device=announcement))
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self, answer: Answer, joined: Callable[[], None]) -> None:
        """Answers calls until the engine is lost. Raises Refused, or PaintoverError with why it ended."""
        channel = await open_channel(self._engine)
        try:
            self.stub = worker_pb2_grpc.WorkerServiceStub(channel)
            call: Any = self.stub.Join(self._messages(), metadata=self.metadata)
            await self._read(call, answer, joined)
        except grpc.aio.AioRpcError as error:
            kind = Refused if error.code() in _REFUSALS else PaintoverError
            raise kind(Code.UNAVAILABLE, f"The engine at {self._engine.address}: {sentence_of(error)}") from error
        except asyncio.CancelledError:
            self._outgoing.put_nowait(worker_pb2.JoinRequest(leaving=worker_pb2.Leaving()))
            await asyncio.sleep(0.2)  # for it to go out
            raise
        finally:
            for task in list(self._tasks.values()):
                task.cancel()
            await channel.close()

    async def _messages(self) -> AsyncIterator[worker_pb2.JoinRequest]:
        while True:
            yield await self._next_message()

    async def _next_message(self) -> worker_pb2.JoinRequest:
        try:
            return await asyncio.wait_for(self._outgoing.get(), BEAT_SECONDS)
        except asyncio.TimeoutError:
            return worker_pb2.JoinRequest(beat=worker_pb2.DeviceLoad(memory_used_bytes=self._load()))

    async def _read(self, call: Any, answer: Answer, joined: Callable[[], None]) -> None:
        while True:
            try:
                message = await asyncio.wait_for(call.read(), LOST_SECONDS)
            except asyncio.TimeoutError as error:
                raise _lost(self._engine, f"says nothing for {LOST_SECONDS:.0f} seconds") from error
            if message is grpc.aio.EOF:
                raise _lost(self._engine, "ended the connection")
            kind = message.WhichOneof("kind")
            if kind == "joined":
                self.name, self.joined = message.joined.session, True
                joined()
            elif kind == "call":
                line = protocol.decode_request(message.call)
                if isinstance(line, protocol.CallLine):
                    self._tasks[line.id] = asyncio.ensure_future(self._answer(line, answer))
                elif task := self._tasks.get(line.cancel):
                    task.cancel()

    async def _answer(self, line: protocol.CallLine, answer: Answer) -> None:
        try:
            self._outgoing.put_nowait(await answer(line))
        finally:
            self._tasks.pop(line.id, None)


def _lost(engine: EngineAddress, what: str) -> PaintoverError:
    return PaintoverError(Code.UNAVAILABLE, f"The engine at {engine.address} {what}.")


class _Calls:
    """Answers the engine's calls: fetches what they need, has the worker compute, and sends what came of it."""

    def __init__(self, worker: WorkerClient, scratch: Scratch, mapped: PathMap, session: _Session) -> None:
        self._worker = worker
        self._scratch = scratch
        self._mapped = mapped
        self._session = session
        self._plans: dict[int, int] = {}  # the generation of the worker's process that has a job's plan
        self._running: set[asyncio.Task[Any]] = set()
        self._one_at_a_time = asyncio.Lock()
        self._answers: Mapping[type[Request[Any]], Callable[[Any], Awaitable[Message]]] = {
            PlanJobRequest: self._plan,
            RunStageRequest: self._run,
            protocol.ForgetJobRequest: self._forget,
        }

    async def answer(self, line: protocol.CallLine) -> worker_pb2.JoinRequest:
        """What to send about a call. Cancelled, it has the worker end the call's work."""
        task = asyncio.current_task()
        assert task
        self._running.add(task)
        try:
            async with self._one_at_a_time:
                return await self._answered(line)
        finally:
            self._running.discard(task)

    async def _answered(self, line: protocol.CallLine) -> worker_pb2.JoinRequest:
        try:
            request = line.request()
            if type(request) not in self._answers:
                raise PaintoverError(Code.PERMISSION_DENIED, f"The call '{line.call}' is not for another machine.")
            if isinstance(request, RunStageRequest) and not self._has_plan(request.job):
                crash = worker_pb2.WorkerCrash(call=line.id, reason="between two calls", before_call=True)
                return worker_pb2.JoinRequest(crash=crash)
            reply = await self._answers[type(request)](request)
            answer = protocol.AnswerLine(id=line.id, reply=reply.model_dump(mode="json"))
        except PaintoverError as error:
            answer = protocol.AnswerLine(id=line.id, error=protocol.CallError.of(error))
        except grpc.aio.AioRpcError as error:
            failure = protocol.CallError(code=Code.UNAVAILABLE, message=sentence_of(error))
            answer = protocol.AnswerLine(id=line.id, error=failure)
        except OSError as error:
            answer = protocol.AnswerLine(id=line.id, error=protocol.CallError.of(environment_error(error)))
        except WorkerDied as death:
            crash = worker_pb2.WorkerCrash(call=line.id, reason=str(death), signal=death.signal)
            return worker_pb2.JoinRequest(crash=crash)
        return worker_pb2.JoinRequest(answer=protocol.encode(answer))

    async def end(self) -> None:
        """The engine is lost: what runs is ended, if need be with its process."""
        if running := list(self._running):
            await asyncio.wait(running, timeout=END_SECONDS)
        if self._running:
            self._worker.kill(WorkerDied("the engine is lost"))

    def _has_plan(self, job: int) -> bool:
        return self._worker.alive and self._plans.get(job) == self._worker.generation

    async def _plan(self, request: PlanJobRequest) -> Message:
        for key in request.keyframes:
            asked = worker_pb2.FetchRequest(session=self._session.name, keyframe=check_key(key.digest))
            await self._scratch.fetch_keyframe(key.digest, self._fetched(asked))
        model = self._mapped(request.model) if request.model else ""
        source = await self._source(request.job, request.info)
        changes = {"source": source, "model": model, "output": None}
        reply = await self._worker.call(request.model_copy(update=changes))
        self._plans[request.job] = self._worker.generation
        return reply

    async def _source(self, job: int, info: SourceInfo) -> SourceInfo:
        """The plate as it lies on this machine: under the engine's path, by the path mapping, or copied here."""
        path = self._mapped(info.path)
        if path == info.path:
            try:
                return await self._located(info, path, "")
            except PaintoverError:  # not here, or not by the same times of change
                pass
        asked = worker_pb2.DescribeSourceRequest(session=self._session.name, job=job)
        described = await self._session.stub.DescribeSource(asked, metadata=self._session.metadata)
        content = check_key(described.content)
        try:
            return await self._located(info, path, content)
        except PaintoverError as error:
            log.info("the plate is fetched: %s", error.message)
        with self._scratch.using(content):
            fetched = self._fetched(worker_pb2.FetchRequest(session=self._session.name, source=job))
            folder = await self._scratch.fetch_plate(content, fetched)
            return await self._located(info, str(folder), content, copied=True)

    async def _located(self, info: SourceInfo, path: str, content: str, copied: bool = False) -> SourceInfo:
        asked = protocol.LocateSourceRequest(info=info, path=path, content=content, copied=copied)
        return (await self._worker.call(asked)).info

    async def _run(self, request: RunStageRequest) -> Message:
        with self._scratch.using(request.key, *request.inputs):
            try:
                reply = await self._computed(request)
            except PaintoverError as error:
                if error.code is not Code.UNAVAILABLE:
                    raise
                reply = await self._computed(request)  # a copy of an input was damaged here, and is removed
            if self._scratch.shared_identity:
                return reply
            self._scratch.stored(request.key, request.publishes)
            await self._session.stub.Store(self._upload(request), metadata=self._session.metadata)
        return reply

    async def _computed(self, request: RunStageRequest) -> protocol.RunStageReply:
        for key in request.inputs:
            if await self._scratch.is_shown(check_key(key)):
                continue
            asked = worker_pb2.FetchRequest(session=self._session.name, output=check_key(key))
            await self._scratch.fetch_output(key, self._fetched(asked))
        alone = request.model_copy(update={"following": []})
        return await self._worker.call(alone, generation=self._plans[request.job])

    async def _fetched(self, asked: worker_pb2.FetchRequest) -> AsyncIterator[worker_pb2.FilePart]:
        async for answer in self._session.stub.Fetch(asked, metadata=self._session.metadata):
            yield answer.part

    async def _upload(self, request: RunStageRequest) -> AsyncIterator[worker_pb2.StoreRequest]:
        yield worker_pb2.StoreRequest(session=self._session.name, key=request.key)
        async for part in self._scratch.parts_of_output(request.key, request.publishes):
            yield worker_pb2.StoreRequest(part=part)

    async def _forget(self, request: protocol.ForgetJobRequest) -> Message:
        if self._has_plan(request.job):
            await self._worker.call(request)
        self._plans.pop(request.job, None)
        return protocol.Empty()
