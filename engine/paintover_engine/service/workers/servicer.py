"""WorkerService: devices of other machines join, fetch what their stages read, and store what they compute."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from paintover.v1 import worker_pb2, worker_pb2_grpc

from paintover_engine import __version__
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.remote_device import Grant, RemoteDevice
from paintover_engine.jobs.store import Store, has_its_size, read_header
from paintover_engine.service.workers.wire import (
    BEAT_SECONDS,
    LOST_SECONDS,
    FileWriter,
    check_key,
    parts_of,
)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

log = logging.getLogger(__name__)

_KINDS = ("cpu", "cuda", "rocm", "mps")
_TENSORS = "tensors.safetensors"
_FRAME = re.compile(r"-?\d{1,19}\.safetensors")


class WorkerServicer(worker_pb2_grpc.WorkerServiceServicer):
    """What a machine that joined may ask for; each call but `Join` carries the session that `Join` gave."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: dict[str, RemoteDevice] = {}

    async def Join(
        self, requests: AsyncIterator[worker_pb2.JoinRequest], context: Context
    ) -> AsyncIterator[worker_pb2.JoinResponse]:
        messages = requests.__aiter__()
        worker, client = self._engine.join(*_announced(await _next(messages), self._engine.store))
        self._sessions[client.session] = client
        reading = asyncio.ensure_future(self._read(messages, worker, client))
        try:
            yield worker_pb2.JoinResponse(joined=worker_pb2.Joined(session=client.session))
            async for line in client.lines(BEAT_SECONDS):
                if line is None:
                    yield worker_pb2.JoinResponse(beat=worker_pb2.Beat())
                else:
                    yield worker_pb2.JoinResponse(call=line)
        finally:
            del self._sessions[client.session]
            reading.cancel()
            client.end("its connection ended")

    @staticmethod
    async def _read(
        messages: AsyncIterator[worker_pb2.JoinRequest], worker: DeviceWorker, client: RemoteDevice
    ) -> None:
        """Reads what a device sends until it is gone, or silent for too long."""
        try:
            while True:
                message = await _next(messages)
                kind = message.WhichOneof("kind")
                if kind == "answer":
                    client.receive(message.answer)
                elif kind == "beat":
                    worker.memory_used = message.beat.memory_used_bytes
                elif kind == "crash":
                    crash = message.crash
                    client.crashed(crash.call, crash.reason, crash.signal, crash.before_call)
                elif kind == "leaving":
                    client.end("it left", in_order=True)
        except PaintoverError as error:
            client.end(error.message)
        except Exception as error:  # of gRPC's, when the connection breaks
            client.end(f"its connection failed ({error})")

    async def DescribeSource(
        self, request: worker_pb2.DescribeSourceRequest, context: Context
    ) -> worker_pb2.DescribeSourceResponse:
        info = self._session(request.session).source(request.job)
        if info is None:
            raise _not_granted()
        described = await self._engine.describe_source(info)
        return worker_pb2.DescribeSourceResponse(content=described.content)

    async def Fetch(
        self, request: worker_pb2.FetchRequest, context: Context
    ) -> AsyncIterator[worker_pb2.FetchResponse]:
        files = await self._granted_files(self._session(request.session), request)
        parts = iter(parts_of(files))
        try:
            while part := await asyncio.to_thread(next, parts, None):
                yield worker_pb2.FetchResponse(part=part)
        except FileNotFoundError as error:
            raise PaintoverError(Code.NOT_FOUND, f"'{error.filename}' is gone from the engine's store.") from error

    async def _granted_files(self, client: RemoteDevice, request: worker_pb2.FetchRequest) -> Sequence[Path]:
        """The files that are asked for. Raises PaintoverError where the device needs none of them."""
        what = request.WhichOneof("what")
        if what == "output" and client.readable(check_key(request.output)):
            folder = self._engine.store.path(request.output, publishes=False)
            return sorted(folder.iterdir()) if folder.is_dir() else []
        if what == "keyframe" and client.may_read_keyframe(check_key(request.keyframe)):
            return [self._engine.folder.keyframes / f"{request.keyframe}.safetensors"]
        if what == "source" and (info := client.source(request.source)):
            files = [Path(file) for file in (await self._engine.describe_source(info)).files]
            if all(map(self._may_send, files)):
                return files
        raise _not_granted()

    def _may_send(self, file: Path) -> bool:
        """Whether a plate's file is still where the engine may read: it may have become a link since it was checked."""
        uploads = self._engine.folder.uploads.resolve()
        return self._engine.roots.allows(file) or file.resolve().is_relative_to(uploads)

    async def Store(
        self, requests: AsyncIterator[worker_pb2.StoreRequest], context: Context
    ) -> worker_pb2.StoreResponse:
        messages = requests.__aiter__()
        first = await messages.__anext__()
        client, store = self._session(first.session), self._engine.store
        grant = client.writable(check_key(first.key))
        if grant is None:
            raise _not_granted()
        writing = store.writing(grant.key, grant.publishes)
        async with contextlib.AsyncExitStack() as stack:
            folder = await asyncio.to_thread(writing.__enter__)
            stack.push_async_exit(_in_thread(writing))
            writer = FileWriter(folder)
            async for message in messages:
                await asyncio.to_thread(writer.write, message.part)
            await asyncio.to_thread(_check_output, store, grant, folder, writer.names)
            if client.writable(grant.key) is None:
                raise _not_granted()
        return worker_pb2.StoreResponse()

    def _session(self, session: str) -> RemoteDevice:
        if client := self._sessions.get(session):
            return client
        raise PaintoverError(Code.PERMISSION_DENIED, "The device has not joined, or was taken for lost; join again.")


def _in_thread(writing: Any) -> Any:
    """The end of a synchronous context, which writes to the disk, in a thread."""

    async def leave(*error: Any) -> Any:
        return await asyncio.to_thread(writing.__exit__, *error)

    return leave


def _not_granted() -> PaintoverError:
    return PaintoverError(Code.PERMISSION_DENIED, "The stage that the device runs does not need that.")


def _announced(message: worker_pb2.JoinRequest, store: Store) -> tuple[Device, str]:
    """The device that joins, and its machine. Raises PaintoverError where it is of another version, writes to another
    store, or is no device."""
    given = message.device
    if message.WhichOneof("kind") != "device" or given.device.kind not in _KINDS or not given.machine.strip():
        raise PaintoverError(Code.INVALID_ARGUMENT, "A device joins by saying first what it is.")
    if given.version != __version__:
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The engine is Paintover {__version__} and the worker {given.version}; install one version on all "
            "machines.",
        )
    if given.store and not (store.folder.shared and given.store == store.identity()):
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The worker's --store is not the engine's ({store.folder.shared or 'it has none'}); give both the same "
            "folder, or neither.",
        )
    device = given.device
    found = Device(
        device.name[:200],
        device.kind,
        0,
        device.memory_bytes,
        driver=device.driver[:200],
        tried=device.tried[:500],
        problem=device.problem[:500],
        remedy=device.remedy[:500],
    )
    return found, given.machine[:100]


async def _next(messages: AsyncIterator[worker_pb2.JoinRequest]) -> worker_pb2.JoinRequest:
    """The next message. Raises PaintoverError where the connection ended, or none came for too long."""
    try:
        return await asyncio.wait_for(messages.__anext__(), LOST_SECONDS)
    except StopAsyncIteration as error:
        raise PaintoverError(Code.UNAVAILABLE, "its connection ended") from error
    except asyncio.TimeoutError as error:
        raise PaintoverError(Code.UNAVAILABLE, f"no sign of life for {LOST_SECONDS:.0f} seconds") from error


def _check_output(store: Store, grant: Grant, folder: Path, names: Sequence[str]) -> None:
    """Raises PaintoverError where what was sent is no output of a stage, or was damaged on the way."""
    try:
        if not grant.publishes:
            whole = list(names) == [_TENSORS] and has_its_size(folder / _TENSORS)
        else:
            whole = all(_FRAME.fullmatch(name) for name in names) and all(
                store.is_undamaged(read_header(folder / name)) for name in names
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise PaintoverError(Code.DATA_LOSS, "What was sent is no whole output of a stage.")
