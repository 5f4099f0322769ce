"""Calls to a real worker process, which is killed, misunderstood and cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from paintover_engine.errors import PaintoverError
from paintover_engine.jobs import protocol, worker_client
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import PlanJobRequest, ProbeRequest
from paintover_engine.jobs.worker_client import WorkerClient, WorkerDied
from paintover_engine.media.info import SourceInfo
from paintover_engine.methods.stage import KeyframeRef

from tests.conftest import SmallShot

SECONDS = 60.0
PIPE_BYTES = 65536  # what Linux buffers of a pipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """A data folder; workers have the methods of tests/slow."""
    slow = str(Path(__file__).parents[2] / "slow")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [slow, os.environ.get("PYTHONPATH", "")])))
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@contextlib.asynccontextmanager
async def running(folder: DataFolder) -> AsyncIterator[WorkerClient]:
    client = WorkerClient("job", folder)
    try:
        yield client
    finally:
        await client.stop()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), SECONDS))


def process_of(client: WorkerClient) -> asyncio.subprocess.Process:
    assert client._worker
    return client._worker.process


def plan_of_many_stages(info: SourceInfo) -> PlanJobRequest:
    """A plan of 1,000 stages, whose answer is larger than a pipe."""
    return PlanJobRequest(
        job=1, info=info, method="slow-draft", parameters={"stages": "1000"}, keyframes=[KeyframeRef(4, "ab")],
        model="", output=None,
    )  # fmt: skip


async def probed(client: WorkerClient, shot: SmallShot) -> SourceInfo:
    reply = await client.call(ProbeRequest(path=str(shot.source), first=None, last=None, colorspace=""))
    return reply.info


def test_reply_is_typed(folder: DataFolder, small_shot: SmallShot) -> None:
    async def test() -> None:
        async with running(folder) as client:
            info = await probed(client, small_shot)
            assert (info.first, info.last) == (0, small_shot.count - 1)
            reply = await client.call(plan_of_many_stages(info))
            assert len(reply.stages) == 1001
            assert reply.stages[1].inputs == (reply.stages[0].key,)

    run(test)


def test_kill_within_an_answer_fails_the_call(folder: DataFolder, small_shot: SmallShot) -> None:
    async def test() -> None:
        async with running(folder) as client:
            info = await probed(client, small_shot)
            call = asyncio.create_task(client.call(plan_of_many_stages(info)))
            await asyncio.sleep(0)  # the request is written
            while not client._worker or not client._worker.calls:
                await asyncio.sleep(0)
            process = process_of(client)
            _wait_until_blocked(process)
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied, match="SIGKILL"):
                await call
            assert (await probed(client, small_shot)) == info  # the next call starts another

    run(test)


def _wait_until_blocked(process: asyncio.subprocess.Process) -> None:
    """Until the pipe is full of an answer that nobody reads: this thread does not run the event loop meanwhile."""
    import fcntl
    import termios

    pipe = process._transport.get_pipe_transport(1).get_extra_info("pipe")  # type: ignore[attr-defined]
    end = time.monotonic() + SECONDS
    waiting = 0
    while waiting < PIPE_BYTES:
        assert time.monotonic() < end, f"only {waiting} bytes came"
        time.sleep(0.02)
        waiting = int.from_bytes(fcntl.ioctl(pipe.fileno(), termios.FIONREAD, b"\0" * 4), "little")


def test_answer_above_the_limit_fails_the_call(
    folder: DataFolder, small_shot: SmallShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_client, "MESSAGE_LIMIT", 10_000)

    async def test() -> None:
        async with running(folder) as client:
            info = await probed(client, small_shot)
            with pytest.raises(WorkerDied, match="cannot be read"):
                await client.call(plan_of_many_stages(info))
            assert not client.alive

    run(test)


def test_worker_of_another_version_is_a_sentence(
    folder: DataFolder, small_shot: SmallShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = protocol.call_line

    def newer(number: int, request: protocol.Request[Any]) -> protocol.CallLine:
        return line(number, request).model_copy(update={"version": protocol.VERSION + 1})

    monkeypatch.setattr(protocol, "call_line", newer)

    async def test() -> None:
        async with running(folder) as client:
            with pytest.raises(PaintoverError, match="run `paintover stop`"):
                await probed(client, small_shot)

    run(test)


def test_error_of_a_progress_callback_fails_the_call(folder: DataFolder, small_shot: SmallShot, tmp_path: Path) -> None:
    def broken(progress: protocol.DeliveryProgress) -> None:
        raise PaintoverError(protocol.Code.DATA_LOSS, "The queue cannot be read.")

    async def test() -> None:
        async with running(folder) as client:
            info = await probed(client, small_shot)
            output = protocol.Output(str(tmp_path / "out.mkv"))
            plan = plan_of_many_stages(info).model_copy(update={"output": output})
            await client.call(plan)
            with pytest.raises(PaintoverError, match="cannot be read"):
                await client.call(protocol.DeliverRequest(job=1, notes=[], started=0.0), progress=broken)
            assert await probed(client, small_shot) == info

    run(test)
