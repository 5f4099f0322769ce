"""Devices of other machines: here processes that share nothing with the engine but an address of loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paintover.v1 import engine_pb2, job_pb2
from paintover_bridge.client import Client, connect

from tests.conftest import SmallShot, make_small_shot
from tests.journeys.test_crash import StageLog

DONE = job_pb2.JOB_STATE_DONE
SECONDS = 60.0
BEGUN_ELSEWHERE_SECONDS = 15.0
SLOW = str(Path(__file__).parents[1] / "slow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machines")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Client]:
    """A client of a daemon that has the methods of tests/slow, and lets machines join with and without encryption."""
    with pytest.MonkeyPatch.context() as patch:
        slow = [SLOW, os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, slow)))
        listen = "--workers-listen 0.0.0.0:0"
        patch.setenv("PAINTOVER_ENGINE", f"{sys.executable} -m paintover_engine.service {listen}")
        with connect(folder / "data", ephemeral=False) as client:
            yield client
            client.stop_engine(when_idle=False)


class Machine:
    """A process tree that joined as another machine would."""

    def __init__(self, engine: Client, folder: Path, name: str, port: int = 0, *options: str) -> None:
        told = engine.get_engine()
        self.name = name
        self._client = engine
        port = port or int(told.workers_address.rpartition(":")[2])
        token = engine.endpoint.folder / "worker-token"
        command = [
            sys.executable, "-m", "paintover_bridge", "worker", "--join", f"127.0.0.1:{port}", "--name", name,
            "--data-dir", str(folder / name), "--token-file", str(token), "--fingerprint", told.workers_fingerprint,
            *options,
        ]  # fmt: skip
        slow = os.pathsep.join(filter(None, [SLOW, os.environ.get("PYTHONPATH", "")]))
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "PYTHONPATH": slow}
        )

    def device(self) -> engine_pb2.Device | None:
        """As the engine lists it; None while it does not."""
        return next((each for each in self._client.get_engine().devices if each.machine == self.name), None)

    def pids(self) -> list[int]:
        """Of all its processes, the workers' last."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            os.kill(pid, number)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            self.signal(signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def joined(engine: Client, folder: Path) -> Iterator[Callable[..., Machine]]:
    """Has machines join, and ends them with the test."""
    machines: list[Machine] = []

    def join(name: str, port: int = 0, *options: str) -> Machine:
        machines.append(Machine(engine, folder, name, port, *options))
        wait_until(lambda: machines[-1].device() is not None)
        return machines[-1]

    yield join
    for machine in machines:
        machine.end()
    wait_until(lambda: all(machine.device() is None for machine in machines))


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def started(engine: Client, job: str) -> list[tuple[str, str]]:
    """The stages of a job that were begun, by key, and the machines, "" for the engine's own."""
    path = engine.endpoint.folder / "logs" / "engine.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    number = int(job.removeprefix("jobs/"))
    return [
        (record["stage"], record.get("machine", ""))
        for record in records
        if record.get("job") == number and str(record["message"]).endswith(" starts")
    ]


@contextlib.contextmanager
def own_worker_stopped(engine: Client, stage: str = "") -> Iterator[None]:
    """Holds the engine's own device in a stage, by its function, while the block lasts."""
    wait_until(lambda: any(f": {stage}" in each for device in engine.get_engine().devices for each in device.running))
    log = (engine.endpoint.folder / "logs" / "engine.jsonl").read_text()
    pid = int(re.findall(r"worker job started, pid (\d+)", log)[-1])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def running_on(machine: Machine) -> str:
    """What it computes, "" for nothing."""
    device = machine.device()
    return " ".join(device.running) if device else ""


@pytest.fixture(scope="module")
def small(folder: Path) -> SmallShot:
    return make_small_shot(folder / "shot", count=24, key=12)


@pytest.fixture
def shot(engine: Client, small: SmallShot) -> str:
    name = engine.create_shot(small.source).name
    engine.put_keyframe(name, small.key, small.keyframe)
    return name


def test_job_on_two_machines_gives_the_same_frames(
    engine: Client, folder: Path, small: SmallShot, shot: str, joined: Callable[..., Machine]
) -> None:
    """The other machine does not see the plate: its files are fetched, and known by their content."""
    rules = {"source_path_format": "POSIX", "source_path": str(small.source), "destination_path": str(folder / "none")}
    mapping = folder / "rules.json"
    mapping.write_text(json.dumps({"version": "pathmapping-1.0", "path_mapping_rules": [rules]}))
    machine = joined("ws2", 0, "--path-mapping", str(mapping))
    both = engine.create_job(shot, output=folder / "both")
    with own_worker_stopped(engine):
        wait_until(lambda: "ws2" in [where for _, where in started(engine, both.name)])
    assert engine.wait_until_finished(both.name, SECONDS)
    done = engine.get_job(both.name)
    assert (done.state, len(done.frames)) == (DONE, small.count), done.message
    assert {where for _, where in started(engine, both.name)} == {"", "ws2"}
    assert list((folder / "ws2" / "worker" / "views").glob("??/*/*.png"))
    machine.end()
    with connect(folder / "alone", ephemeral=True) as client:
        name = client.create_shot(small.source).name
        client.put_keyframe(name, small.key, small.keyframe)
        assert client.wait_until_finished(client.create_job(name, output=folder / "one").name, SECONDS)
        client.stop_engine(when_idle=False)
    frames = [{path.name: path.read_bytes() for path in (folder / made).glob("*.png")} for made in ("both", "one")]
    assert frames[0] == frames[1] and len(frames[0]) == small.count


def test_store_that_machines_share_needs_no_copies(
    folder: Path, small: SmallShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shared holds outputs and keyframes alone: no queue, no lock."""
    store, data = folder / "store", folder / "sharing"
    options = f"--store {store} --workers-listen 127.0.0.1:0"
    monkeypatch.setenv("PAINTOVER_ENGINE", f"{sys.executable} -m paintover_engine.service {options}")
    with connect(data, ephemeral=False) as engine:
        name = engine.create_shot(small.source).name
        engine.put_keyframe(name, small.key, small.keyframe)
        machine = Machine(engine, folder, "ws5", 0, "--store", str(store))
        wait_until(lambda: machine.device() is not None)
        job = engine.create_job(name, output=folder / "shared").name
        with own_worker_stopped(engine):
            wait_until(lambda: "ws5" in [where for _, where in started(engine, job)])
        assert engine.wait_until_finished(job, SECONDS)
        assert engine.get_job(job).state == DONE, engine.get_job(job).message
        assert engine.get_frame(job, 3).pixels()
        machine.end()
        engine.stop_engine(when_idle=False)
    assert {path.name for path in store.iterdir()} == {"cache", "results", "keyframes", "temporary", "store-id"}
    own = [path for each in (data, folder / "ws5" / "worker") for path in each.rglob("*.safetensors")]
    assert not own and list(store.rglob("*.safetensors"))
    assert len(list((folder / "shared").glob("*.png"))) == small.count


def test_killed_process_and_machine_cost_their_stage(engine: Client, shot: str, joined: Callable[..., Machine]) -> None:
    """SIGKILL of what computes, then of all that the machine runs."""
    machine = joined("ws3")
    given = {"stages": "12", "seconds": "0.5", "seed": "3"}
    job, log = engine.create_job(shot, method="slow-draft", parameters=given).name, StageLog(engine.endpoint.folder)
    with own_worker_stopped(engine, "paint"):
        for victims in (slice(1, None), slice(None)):
            wait_until(lambda: ": paint" in running_on(machine), SECONDS)
            for pid in machine.pids()[victims]:
                os.kill(pid, signal.SIGKILL)
            log.record_kill()
            wait_until(lambda: ": paint" not in running_on(machine))
    assert engine.wait_until_finished(job, SECONDS)
    done = engine.get_job(job)
    assert (done.state, done.progress.stages_done, len(done.frames)) == (DONE, 13, 24), done.message
    begun = [key for key, _ in started(engine, job)]
    assert len(begun) - len(set(begun)) == 2
    assert log.repeated() == set()
    assert machine.device() is None


def test_cut_connection_costs_its_stage(engine: Client, shot: str, joined: Callable[..., Machine]) -> None:
    """Nothing arrives any more, and nothing says so. The machine joins again once it is reached again."""
    with Cable(int(engine.get_engine().workers_address.rpartition(":")[2])) as cable:
        machine = joined("ws4", cable.port)
        given = {"stages": "3", "seconds": "0.5", "seed": "4"}
        job = engine.create_job(shot, method="slow-draft", parameters=given).name
        with own_worker_stopped(engine, "paint"):
            wait_until(lambda: ": paint" in running_on(machine), SECONDS)
            cable.cut.set()
        cut = time.monotonic()
        wait_until(lambda: len(started(engine, job)) > len({key for key, _ in started(engine, job)}), SECONDS)
        assert time.monotonic() - cut < BEGUN_ELSEWHERE_SECONDS
        assert engine.wait_until_finished(job, SECONDS)
        assert engine.get_job(job).state == DONE
        assert len(started(engine, job)) == 5
        cable.mend()
        wait_until(lambda: machine.device() is not None, SECONDS)


class Cable:
    """Passes bytes on between a machine and the engine, until it is cut: then both sides hear nothing, for ever."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.port = self._listening.getsockname()[1]
        self.cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.close()
        self.mend()

    def mend(self) -> None:
        """What comes from now on passes; what was cut stays so."""
        for end in self._ends:
            end.close()
        self.cut.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.cut.is_set():
                    return
                target.sendall(data)
            target.close()
