"""What a machine that joined, or a stranger at the port for them, may do: through a real port, as they would."""

from __future__ import annotations

import os
import queue
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from paintover.v1 import engine_pb2, worker_pb2, worker_pb2_grpc
from paintover_bridge.client import Client, connect
from paintover_bridge.tables import device_line
from paintover_engine import __version__
from paintover_engine.errors import PaintoverError
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import Device, Gauge
from paintover_engine.service.messages import device_messages
from paintover_engine.service.monitor.devices import shown_devices
from paintover_engine.service.workers.wire import FileWriter, is_of_this_machine

KEY = "a" * 64


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTOVER_ENGINE", f"{sys.executable} -m paintover_engine.service --workers-listen 127.0.0.1:0")
        with connect(tmp_path_factory.mktemp("workers") / "data", ephemeral=False) as connected:
            yield connected
            connected.stop_engine(when_idle=False)


@pytest.fixture
def stub(client: Client) -> Iterator[worker_pb2_grpc.WorkerServiceStub]:
    with grpc.insecure_channel(client.get_engine().workers_address) as channel:
        yield worker_pb2_grpc.WorkerServiceStub(channel)


def bearer(client: Client, file: str = "worker-token") -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {(client.endpoint.folder / file).read_text()}")]


def device(version: str = __version__, kind: str = "cpu") -> worker_pb2.JoinRequest:
    described = engine_pb2.Device(name="a pretender", kind=kind)
    return worker_pb2.JoinRequest(device=worker_pb2.JoiningDevice(machine="ws9", version=version, device=described))


def refusal(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


def test_port_for_workers_has_a_token_of_its_own(client: Client, stub: worker_pb2_grpc.WorkerServiceStub) -> None:
    token = client.endpoint.folder / "worker-token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    for metadata in ([], bearer(client, "token")):
        said = iter([device()])
        assert refusal(lambda: list(stub.Join(said, metadata=metadata))) is grpc.StatusCode.UNAUTHENTICATED  # noqa: B023
    with grpc.insecure_channel(client.get_engine().workers_address) as channel:
        get = channel.unary_unary("/paintover.v1.EngineService/GetEngine", lambda _: b"", lambda raw: raw)
        assert refusal(lambda: get(None, metadata=bearer(client))) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("first", [device(version="0.0"), device(kind="tape"), worker_pb2.JoinRequest()])
def test_device_of_another_version_or_kind_is_refused(
    client: Client, stub: worker_pb2_grpc.WorkerServiceStub, first: worker_pb2.JoinRequest
) -> None:
    code = refusal(lambda: list(stub.Join(iter([first]), metadata=bearer(client))))
    assert code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)
    assert [each.machine for each in client.get_engine().devices] == [""]


def test_device_without_a_stage_reads_and_writes_nothing(
    client: Client, stub: worker_pb2_grpc.WorkerServiceStub
) -> None:
    said: queue.Queue[worker_pb2.JoinRequest | None] = queue.Queue()
    said.put(device())
    answers = stub.Join(iter(said.get, None), metadata=bearer(client))
    session = next(answers).joined.session
    assert [each.machine for each in client.get_engine().devices] == ["", "ws9"]
    asked = [
        (worker_pb2.FetchRequest(session=session, output=KEY), "PERMISSION_DENIED"),
        (worker_pb2.FetchRequest(session=session, output="../../token"), "INVALID_ARGUMENT"),
        (worker_pb2.FetchRequest(session=session, keyframe=KEY), "PERMISSION_DENIED"),
        (worker_pb2.FetchRequest(session=session, keyframe="../token"), "INVALID_ARGUMENT"),
        (worker_pb2.FetchRequest(session=session, source=1), "PERMISSION_DENIED"),
        (worker_pb2.FetchRequest(session="made up", output=KEY), "PERMISSION_DENIED"),
    ]
    for request, code in asked:
        assert refusal(lambda: list(stub.Fetch(request, metadata=bearer(client)))).name == code  # noqa: B023
    stored = iter([worker_pb2.StoreRequest(session=session, key=KEY)])
    assert refusal(lambda: stub.Store(stored, metadata=bearer(client))) is grpc.StatusCode.PERMISSION_DENIED
    described = worker_pb2.DescribeSourceRequest(session=session, job=1)
    assert refusal(lambda: stub.DescribeSource(described, metadata=bearer(client))).name == "PERMISSION_DENIED"
    said.put(worker_pb2.JoinRequest(leaving=worker_pb2.Leaving()))
    assert not list(answers)
    said.put(None)


def test_every_machine_is_shown_with_what_it_computes() -> None:
    cpu, gpu = Device("2 CPU cores", "cpu", 0, 2**30), Device("RTX 3090", "cuda", 0, 2**34)
    own = [DeviceWorker(cpu, client=None, running=words) for words in ("job 1: flow 0-7", "")]  # type: ignore[arg-type]
    other = DeviceWorker(gpu, client=None, machine="ws2", running="job 2: train 3", memory_used=2**33)  # type: ignore[arg-type]
    shown = shown_devices([*own, other], [Gauge("cpu", 2**20, 2**30, 0.5)])
    assert shown == [
        {"name": "2 CPU cores", "used": 2**20, "total": 2**30, "running": ["job 1: flow 0-7"]},
        {"name": "ws2: RTX 3090", "used": 2**33, "total": 2**34, "running": ["job 2: train 3"]},
    ]
    lines = [device_line(message) for message in device_messages([*own, other])]
    assert lines[1] == "ws2: RTX 3090 (8.59 GB of 17.2 GB) – not tried yet – job 2: train 3"
    assert lines[0] == "2 CPU cores (1.07 GB) – job 1: flow 0-7"


@pytest.mark.parametrize("name", ["../token", "/etc/passwd", "..", ".", "a\\b", "x" * 300, "a\0b", ""])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "into").mkdir()
    with pytest.raises(PaintoverError):
        FileWriter(tmp_path / "into").write(worker_pb2.FilePart(name=name, data=b"x"))
    assert [path.name for path in tmp_path.rglob("*")] == ["into"]


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.2:7", True), ("[::1]:7", True), ("localhost:7", True), ("unix:/a/b", True),
     ("0.0.0.0:7", False), ("10.0.0.1:7", False), ("ws1:7", False), ("127.0.0.1.example.org:7", False)],
)  # fmt: skip
def test_only_loopback_goes_without_encryption(address: str, own: bool) -> None:
    assert is_of_this_machine(address) is own


def worker(folder: Path, address: str, token: Path, fingerprint: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paintover_engine.service.workers", "--data-dir", str(folder / "data")]
    options = ["--join", address, "--token-file", str(token), "--fingerprint", fingerprint]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("address", "fingerprint", "said"),
    [("ws1.invalid:7700", "", "give its --fingerprint"), ("127.0.0.1:{port}", "", "does not know the token")],
)
def test_worker_shows_its_token_to_no_stranger(
    client: Client, tmp_path: Path, address: str, fingerprint: str, said: str
) -> None:
    token = tmp_path / "worker-token"
    token.write_text("of another engine")
    token.chmod(0o600)
    port = client.get_engine().workers_address.rpartition(":")[2]
    refused = worker(tmp_path, address.format(port=port), token, fingerprint)
    assert refused.returncode == 2
    assert said in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_token_file_that_others_read_is_not_used(tmp_path: Path) -> None:
    token = tmp_path / "worker-token"
    token.write_text("secret")
    token.chmod(0o644)
    refused = worker(tmp_path, "127.0.0.1:1", token)
    assert refused.returncode == 2 and "Other users can read" in refused.stderr
