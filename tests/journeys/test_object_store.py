"""A farm's tasks on an object store: Amazon's protocol, spoken by moto on loopback."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import s3fs
from paintover_engine.farm.render import ALL, Report, Step, render

from tests.conftest import SmallShot, make_small_shot
from tests.journeys.test_farm import SECONDS, bundle, pictures, stages_run, start


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket, whose server commands that are run from here on find in their environment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1", "no_proxy": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    try:
        end = time.monotonic() + SECONDS
        while True:
            try:
                urllib.request.urlopen(address, timeout=5)
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.1)
        s3fs.S3FileSystem(endpoint_url=address).mkdir("shots")
        yield "s3://shots/sh010"
    finally:
        server.kill()
        server.wait()


def render_here(job: Path, store: str, steps: Sequence[Step]) -> str:
    """Runs a task in this process; returns what it printed."""
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as scratch:
        render(job, store, Path(scratch), steps, None, str, Report(printed), bool)
    return printed.getvalue()


def test_tasks_share_an_object_store_and_its_plate(bucket: str, tmp_path: Path) -> None:
    """Two side by side, on machines that do not see the plate; then one more, which finds all done."""
    shot: SmallShot = make_small_shot(tmp_path / "shot", count=12, key=6)
    job = bundle(shot, tmp_path / "bundle", "--result", str(tmp_path / "out") + os.sep)
    render_here(job, str(tmp_path / "store"), ALL)
    on_a_folder = pictures(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    render_here(job, bucket, [Step.PLATE])
    shutil.rmtree(shot.source)
    both = [start(job, "--store", bucket) for _ in range(2)]
    texts = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert set(stages_run(*texts).values()) == {1}
    assert pictures(tmp_path / "out") == on_a_folder and len(on_a_folder) == shot.count
    assert stages_run(render_here(job, bucket, ALL)) == {}
