"""What a client was told is on the disk when the power fails: an ext4 file system, shut down under the engine."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover.v1 import job_pb2
from paintover_bridge import daemon
from paintover_bridge.client import connect

from tests.conftest import SmallShot
from tests.journeys.test_queue import kill_with_workers

SECONDS = 60.0
SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
WITHOUT_FLUSHING = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH: what was not synced is lost, as without power


def mount(image: Path, place: Path) -> bool:
    if not shutil.which("mkfs.ext4"):
        return False
    return subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False).returncode == 0


class Disk:
    """A file system of its own, `place`, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "disk"
        self.place.mkdir()
        self._image = folder / "image"
        with open(self._image, "wb") as file:
            file.truncate(300 * 2**20)

    def start(self) -> bool:
        """Formats and mounts it; whether this user may."""
        if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
            return False
        subprocess.run(["mkfs.ext4", "-q", self._image], check=True)
        return mount(self._image, self.place)

    def cut_power(self, engine: int) -> None:
        """Loses what is not on the disk, and ends the engine and its workers as a power cut does; then mounts anew."""
        import fcntl

        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, WITHOUT_FLUSHING)
        finally:
            os.close(descriptor)
        kill_with_workers(engine)
        subprocess.run(["umount", self.place], check=True)
        assert mount(self._image, self.place)

    def stop(self) -> None:
        subprocess.run(["umount", "--lazy", self.place], capture_output=True, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    if not disk.start():
        pytest.skip("SKIPPED: ONLY ROOT, WITH mkfs.ext4 AND LOOP DEVICES, CAN CUT A FILE SYSTEM'S POWER")
    yield disk
    disk.stop()


def engine_of(folder: Path) -> int:
    endpoint = daemon.read_endpoint(folder)
    assert endpoint
    return endpoint.pid


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_done_job_and_its_output_survive_a_power_cut(disk: Disk, small_shot: SmallShot) -> None:
    folder, out, frames = disk.place / "data", disk.place / "out.mkv", disk.place / "frames"
    with connect(folder, ephemeral=False) as client:
        shot = client.create_shot(small_shot.source)
        keyframe = client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
        jobs = [client.create_job(shot.name, [keyframe.name], output=str(path)) for path in (out, f"{frames}/")]
        assert all(client.wait_until_finished(job.name, SECONDS) for job in jobs)
        written = {path: digest(path) for path in (out, *frames.iterdir())}
        disk.cut_power(engine_of(folder))
    assert len(written) == 1 + small_shot.count + 1  # the video, the frames, and their sidecar
    assert {path: digest(path) for path in written} == written
    with connect(folder, ephemeral=False) as client:
        assert [job.state for job in client.list_jobs()] == [job_pb2.JOB_STATE_DONE] * 2
        client.stop_engine(when_idle=False)


def test_accepted_job_survives_a_power_cut(disk: Disk, small_shot: SmallShot) -> None:
    folder, out = disk.place / "data", disk.place / "out.mkv"
    with connect(folder, ephemeral=False) as client:
        shot = client.create_shot(small_shot.source)
        keyframe = client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
        job = client.create_job(shot.name, [keyframe.name], output=str(out))
        disk.cut_power(engine_of(folder))
    assert not out.exists() or out.stat().st_size > 0
    with connect(folder, ephemeral=False) as client:
        assert client.wait_until_finished(job.name, SECONDS)
        assert client.get_job(job.name).state == job_pb2.JOB_STATE_DONE
        client.stop_engine(when_idle=False)
    assert out.stat().st_size > 0
