"""Looks at hostile files by real worker processes: what they take is limited, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import media_workers
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.media_workers import Limits, MediaWorkers
from paintover_engine.jobs.protocol import ProbeReply, ProbeRequest
from PIL import Image

from tests.conftest import SmallShot

SECONDS = 90.0
PLENTY = 2**40


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), SECONDS))


@contextlib.asynccontextmanager
async def workers(
    tmp_path: Path, memory: int = PLENTY, stalled_seconds: float = SECONDS
) -> AsyncIterator[MediaWorkers]:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    media = MediaWorkers(folder, Limits(memory, stalled_seconds))
    try:
        yield media
    finally:
        await media.stop()


def look(media: MediaWorkers, path: Path) -> asyncio.Task[ProbeReply]:
    return asyncio.ensure_future(
        media.call(ProbeRequest(path=str(path), first=None, last=None, colorspace=""))
    )  # fmt: skip


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A second source, of two frames."""
    folder = tmp_path / "other"
    folder.mkdir()
    for number in (1, 2):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"o.{number}.png")
    return folder


def pids(media: MediaWorkers) -> list[int]:
    return [worker.pid for worker in media._workers if worker.pid]


async def stopped_in_a_look(media: MediaWorkers, path: Path) -> tuple[asyncio.Task[ProbeReply], int]:
    """A look whose worker does no more, as one that waits for a disk which does not answer."""
    call = look(media, path)
    while not (known := pids(media)):
        await asyncio.sleep(0)
    os.kill(known[0], signal.SIGSTOP)
    return call, known[0]


def test_look_above_the_memory_limit_is_told_as_that(tmp_path: Path, small_shot: SmallShot) -> None:
    bomb = tmp_path / "bomb"
    bomb.mkdir()
    Image.new("RGB", (14_000, 14_000)).save(bomb / "b.1.png", compress_level=1)  # 3 MB that say 588 MB
    shutil.copy(bomb / "b.1.png", bomb / "b.2.png")
    assert (bomb / "b.1.png").stat().st_size < 4e6

    async def test() -> None:
        async with workers(tmp_path, memory=600 * 2**20) as media:
            with pytest.raises(
                PaintoverError, match=r"bomb' is too large to open: it takes more than 0.6 GiB"
            ) as caught:
                await look(media, bomb)
            assert caught.value.code is Code.RESOURCE_EXHAUSTED
            assert (await look(media, small_shot.source)).info.count == small_shot.count

    run(test)


@pytest.mark.skipif(os.name == "nt", reason="Windows stops no process")
def test_look_that_reads_nothing_more_ends_and_others_go_on(tmp_path: Path, small_shot: SmallShot, other: Path) -> None:
    async def test() -> None:
        async with workers(tmp_path, stalled_seconds=8.0) as media:
            call, pid = await stopped_in_a_look(media, small_shot.source)
            assert (await look(media, other)).info.count == 2
            assert not call.done()
            with pytest.raises(PaintoverError, match="takes too long to open: for 8 seconds nothing"):
                await call
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.wait_procs([psutil.Process(pid)], SECONDS)
            assert (await look(media, small_shot.source)).info.count == small_shot.count

    run(test)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_kill_for_want_of_memory_is_not_told_as_damage(tmp_path: Path, small_shot: SmallShot) -> None:
    async def test() -> None:
        async with workers(tmp_path) as media:
            call, pid = await stopped_in_a_look(media, small_shot.source)
            os.kill(pid, signal.SIGKILL)  # as the kernel does
            with pytest.raises(PaintoverError, match="want of memory") as caught:
                await call
            assert caught.value.code is Code.RESOURCE_EXHAUSTED

    run(test)


def test_looks_at_one_file_share_a_worker(tmp_path: Path, small_shot: SmallShot, other: Path) -> None:
    async def test() -> None:
        async with workers(tmp_path) as media:
            looks = [look(media, small_shot.source) for _ in range(3)]
            await asyncio.gather(*looks)
            assert len(pids(media)) == 1
            await look(media, other)
            assert len(pids(media)) == 1  # a worker that runs is taken before one that would have to start

    run(test)


@pytest.mark.skipif(os.name == "nt", reason="Windows stops no process")
def test_worker_is_freed_when_its_client_leaves(
    tmp_path: Path, small_shot: SmallShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_workers, "CANCELLED_SECONDS", 0.2)

    async def test() -> None:
        async with workers(tmp_path) as media:
            call, pid = await stopped_in_a_look(media, small_shot.source)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
            assert (await look(media, small_shot.source)).info.count == small_shot.count
            assert pid not in pids(media)

    run(test)
