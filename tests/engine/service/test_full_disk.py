"""An engine that is started on a full disk: the way to make room must not need room."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover_bridge import daemon
from paintover_bridge.client import connect
from paintover_bridge.errors import ClientError

OUTPUT = 6 * 10**6  # bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB, in memory."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], capture_output=True, text=True)
    if mount.returncode != 0:
        pytest.skip(f"this machine mounts nothing: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path) -> None:
    """Takes all the room that is left."""
    with pytest.raises(OSError) as full, open(place / "fill", "ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert full.value.errno == errno.ENOSPC


def used_once(folder: Path) -> None:
    endpoint = daemon.start(folder, ephemeral=False)
    daemon.terminate(endpoint)
    assert daemon.wait_until_gone(endpoint, 20)


def test_room_is_made_from_the_cache(small_disk: Path) -> None:
    folder = small_disk / "data"
    used_once(folder)
    for key, age in (("ab" + "0" * 62, 1), ("cd" + "0" * 62, 2)):
        output = folder / "cache" / key[:2] / key
        output.mkdir(parents=True)
        (output / "flow.safetensors").write_bytes(bytes(OUTPUT // 2))
        os.utime(output, (age, age))
    fill(small_disk)
    with connect(folder, ephemeral=False) as client:
        (note,) = client.get_engine().notes
        assert note.startswith("The disk was full: ") and "paintover cache prune" in note
        assert client.prune_cache().cache.stages_bytes == 0
        client.stop_engine(when_idle=False)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_disk_full_of_other_things_is_a_sentence(small_disk: Path, is_new: bool) -> None:
    folder = small_disk / "data"
    if not is_new:
        used_once(folder)
    fill(small_disk)
    with pytest.raises(ClientError, match=f"disk of .*{folder}.* is full") as refused:
        daemon.start(folder, ephemeral=True)
    assert "Traceback" not in refused.value.message
    command = [sys.executable, "-m", "paintover_engine.service", "--data-dir", str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1 and str(folder) in said.stderr
