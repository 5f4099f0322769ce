"""Many calls that come while the daemon is busy: it answers each, in the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import grpc
import pytest
from paintover.v1 import engine_pb2, engine_pb2_grpc
from paintover_bridge.client import Client

CALLS = 4000  # gRPC itself begins to refuse at 1,000 that wait, and refuses all from 3,000 on


@pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process")
def test_calls_that_wait_for_a_busy_daemon_are_answered(client: Client, data_dir: Path) -> None:
    pid = json.loads((data_dir / "engine.json").read_text())["pid"]
    metadata = [("authorization", f"Bearer {(data_dir / 'token').read_text().strip()}")]
    ends: Counter[str] = Counter()

    async def call(stub: engine_pb2_grpc.EngineServiceStub) -> None:
        try:
            await stub.GetEngine(engine_pb2.GetEngineRequest(), metadata=metadata)
            ends["answered"] += 1
        except grpc.aio.AioRpcError as error:
            ends[error.code().name] += 1

    async def test() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(client.endpoint.address, options=options) for _ in range(20)]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        os.kill(pid, signal.SIGSTOP)
        stubs = [engine_pb2_grpc.EngineServiceStub(channel) for channel in channels]
        calls = [asyncio.ensure_future(call(stubs[number % len(stubs)])) for number in range(CALLS)]
        await asyncio.sleep(3)
        os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*calls)
        await asyncio.gather(*(channel.close() for channel in channels))

    try:
        asyncio.run(test())
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ends == {"answered": CALLS}
