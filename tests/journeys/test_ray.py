"""An engine on a Ray cluster: two real nodes on loopback, of which one is killed in the midst of a stage."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from paintover.v1 import job_pb2
from paintover_bridge.client import Client, connect

from tests.conftest import make_small_shot
from tests.journeys.test_crash import StageLog
from tests.journeys.test_farm import pictures
from tests.journeys.test_machines import own_worker_stopped, started, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 and 127.0.0.3 without setting up"),
]
HEAD, NODE = "127.0.0.2", "127.0.0.3"  # 127.0.0.1 cannot be joined
SECONDS = 90.0


class Cluster:
    """Ray's own processes, by the address of their node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server((HEAD, 0)) as free:
            self.address = f"{HEAD}:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self._nodes = {
            HEAD: self._start(HEAD, "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"),
        }
        wait_until(lambda: _answers(self.address), SECONDS)
        self._nodes[NODE] = self._start(NODE, f"--address={self.address}")

    def _start(self, address: str, *options: str) -> subprocess.Popen[bytes]:
        command = [f"{sysconfig.get_path('scripts')}/ray", "start", "--block", f"--node-ip-address={address}",
                   "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", *options]  # fmt: skip
        with open(self._folder.parent / f"{address}.log", "wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def kill(self, address: str) -> None:
        """Every process of a node, at once."""
        node = psutil.Process(self._nodes[address].pid)
        for process in [*node.children(recursive=True), node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._nodes[address].wait(10)

    def end(self) -> None:
        for address, process in self._nodes.items():
            if process.poll() is None:
                self.kill(address)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # short: it holds sockets
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    for name, value in {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SCHEDULER_EVENTS": "0", "PAINTOVER_DATA": str(folder / "nodes"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    made = Cluster(folder / "ray")
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def machines(client: Client) -> set[str]:
    return {device.machine for device in client.get_engine().devices if device.machine}


def running(client: Client, machine: str) -> str:
    return " ".join(line for each in client.get_engine().devices if each.machine == machine for line in each.running)


@pytest.mark.timeout(300)
def test_killed_node_costs_its_stage(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = f"{sys.executable} -m paintover_engine.service --workers-listen 127.0.0.1:0 --ray {cluster.address}"
    monkeypatch.setenv("PAINTOVER_ENGINE", service)
    shot = make_small_shot(tmp_path / "shot", count=24, key=12, width=480, height=270)
    with connect(tmp_path / "data", ephemeral=False) as client:
        maps = Path(f"/proc/{client.endpoint.pid}/maps").read_text()
        name = client.create_shot(shot.source).name
        client.put_keyframe(name, shot.key, shot.keyframe)
        wait_until(lambda: machines(client) == {f"ray {HEAD}", f"ray {NODE}"}, SECONDS)
        job, log = client.create_job(name, output=tmp_path / "ray").name, StageLog(tmp_path / "data")
        with own_worker_stopped(client):
            wait_until(lambda: ": " in running(client, f"ray {NODE}"), SECONDS)
            cluster.kill(NODE)
            log.record_kill()
            wait_until(lambda: machines(client) == {f"ray {HEAD}"}, SECONDS)
        assert client.wait_until_finished(job, SECONDS)
        assert client.get_job(job).state == job_pb2.JOB_STATE_DONE, client.get_job(job).message
        keys = [key for key, _ in started(client, job)]
        assert len(keys) - len(set(keys)) <= 1 and log.repeated() == set()
        assert {where for _, where in started(client, job)} == {"", f"ray {HEAD}", f"ray {NODE}"}

        cluster.kill(HEAD)
        wait_until(lambda: not machines(client), SECONDS)
        client.delete_job(job)
        client.prune_cache(0)
        again = client.create_job(name, output=tmp_path / "alone").name
        assert client.wait_until_finished(again, SECONDS)
        client.stop_engine(when_idle=False)
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "alone")
    assert len(pictures(tmp_path / "ray")) == shot.count
    assert "_raylet" not in maps  # the daemon loads no Ray


def test_cluster_without_authentication_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "paintover_engine.service", "--data-dir", str(tmp_path / "data"), "--ray", "x:1"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert refused.returncode == 2
    assert "RAY_AUTH_MODE=token" in refused.stderr
