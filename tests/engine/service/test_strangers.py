"""What other users of the machine try on an engine, and on those who call it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from paintover.v1 import engine_pb2, engine_pb2_grpc
from paintover_bridge import daemon
from paintover_bridge.client import connect
from paintover_bridge.errors import ClientError
from paintover_local.proof import CHALLENGE, PROOF

PORT = "127.0.0.1:0"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
BODY = b"\x0a" + b"x" * (40 << 20)


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., daemon.Endpoint]]:
    """Starts an engine on the data folder; what runs at the end is ended."""
    yield lambda listen="": daemon.start(data_dir, ephemeral=False, listen=listen)
    if endpoint := daemon.find(data_dir):
        end(endpoint)


def end(endpoint: daemon.Endpoint) -> None:
    daemon.terminate(endpoint)
    assert daemon.wait_until_gone(endpoint, 20.0)


def get_engine(address: str, *metadata: tuple[str, str]) -> engine_pb2.Engine:
    with grpc.insecure_channel(address) as channel:
        stub = engine_pb2_grpc.EngineServiceStub(channel)
        return stub.GetEngine(engine_pb2.GetEngineRequest(), metadata=metadata, timeout=20).engine


# The token.


@pytest.mark.parametrize("left", ["", "\n", "short"])
def test_a_damaged_token_lets_nobody_in(data_dir: Path, start: Callable[..., daemon.Endpoint], left: str) -> None:
    data_dir.mkdir()
    (data_dir / "token").write_text(left)
    endpoint = start()
    assert len((data_dir / "token").read_text()) >= 32
    assert stat.S_IMODE((data_dir / "token").stat().st_mode) == 0o600
    for given in (f"Bearer {left}", "Bearer ", "Bearer", ""):
        with pytest.raises(grpc.RpcError) as refused:
            get_engine(endpoint.address, ("authorization", given.strip("\n")))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_each_start_has_a_token_of_its_own(data_dir: Path, start: Callable[..., daemon.Endpoint]) -> None:
    end(start())
    old = (data_dir / "token").read_text()
    endpoint = start()
    assert (data_dir / "token").read_text() != old
    with pytest.raises(grpc.RpcError) as refused:
        get_engine(endpoint.address, ("authorization", f"Bearer {old}"))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_client_shows_no_token_that_others_read(data_dir: Path, start: Callable[..., daemon.Endpoint]) -> None:
    endpoint = start()
    (data_dir / "token").chmod(0o644)
    with pytest.raises(ClientError, match="Other users can read .*token"):
        daemon.find(data_dir)
    (data_dir / "token").chmod(0o600)
    assert daemon.find(data_dir) == endpoint


# The data folder.


@pytest.mark.parametrize("name", ["token", "queue.sqlite", "engine.json", "monitor.json", "engine.lock"])
def test_a_link_in_the_data_folder_is_not_followed(data_dir: Path, tmp_path: Path, name: str) -> None:
    data_dir.mkdir()
    (tmp_path / "victim").write_text("precious")
    (data_dir / name).symlink_to(tmp_path / "victim")
    with pytest.raises(ClientError, match=f"{name} is a link"):
        daemon.start(data_dir, ephemeral=True)
    command = [sys.executable, "-m", "paintover_engine.service", "--data-dir", str(data_dir)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2 and f"{name} is a link" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_nothing_is_written_into_a_strangers_folder(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "logs").mkdir(parents=True)
    (tmp_path / "victim").write_text("precious")
    (data_dir / "logs" / "engine.log").symlink_to(tmp_path / "victim")
    os.chown(data_dir, 54321, 54321)
    with pytest.raises(ClientError, match="belongs to another user"):
        daemon.start(data_dir, ephemeral=True)
    assert (tmp_path / "victim").read_text() == "precious"


# The address.


def test_the_engine_answers_where_no_other_user_gets(data_dir: Path, start: Callable[..., daemon.Endpoint]) -> None:
    endpoint = start()
    assert endpoint.address == f"unix:{data_dir}/engine.sock"
    assert stat.S_IMODE((data_dir / "engine.sock").stat().st_mode) == 0o600
    end(endpoint)
    assert not (data_dir / "engine.sock").exists()


@pytest.mark.parametrize("name", ["d" * 120, "100%", "a,b"])
def test_a_path_that_no_socket_can_have_is_gone_round(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    first = daemon.start(folder, ephemeral=False)
    place = Path(first.address.removeprefix("unix:")).parent
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    os.kill(first.pid, 9)
    assert daemon.wait_until_gone(first, 20.0)
    second = daemon.start(folder, ephemeral=False)
    assert not place.exists()  # a killed engine's place is cleared by the next
    end(second)
    assert not Path(second.address.removeprefix("unix:")).parent.exists()


def test_a_used_socket_is_not_taken_over(data_dir: Path, start: Callable[..., daemon.Endpoint], tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/shared.sock"
    first = start(address)
    with pytest.raises(ClientError, match=r"Another program answers at .*shared\.sock"):
        daemon.start(tmp_path / "other", ephemeral=True, listen=address)
    assert daemon.find(data_dir) == first


class Squatter(grpc.GenericRpcHandler):
    """A program at a port that an engine had. It takes down what callers show, and may pass challenges on."""

    def __init__(self, victim: str = "") -> None:
        self.seen: list[str] = []
        self._victim = victim

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        metadata = dict(details.invocation_metadata)
        self.seen.append(str(metadata))

        def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
            if self._victim and CHALLENGE in metadata:
                with grpc.insecure_channel(self._victim) as channel:
                    check: Any = channel.unary_unary(HEALTH, request_serializer=bytes, response_deserializer=bytes)
                    _, call = check.with_call(b"", metadata=((CHALLENGE, metadata[CHALLENGE]),), timeout=10)
                context.send_initial_metadata(((PROOF, dict(call.initial_metadata())[PROOF]),))
            return SERVING if details.method == HEALTH else b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def squatting(squatter: Squatter) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2), [squatter])
    port = server.add_insecure_port(PORT)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def say(folder: Path, address: str) -> None:
    """What a killed engine left; the process number has gone to another program."""
    (folder / "engine.json").write_text(json.dumps({"address": address, "pid": os.getpid()}))
    (folder / "engine.json").chmod(0o600)


def test_a_squatter_at_a_dead_engines_port_sees_no_token(data_dir: Path, start: Callable[..., daemon.Endpoint]) -> None:
    end(start(PORT))
    token = (data_dir / "token").read_text()
    squatter = Squatter()
    with squatting(squatter) as address:
        say(data_dir, address)
        assert daemon.find(data_dir) is None
        with pytest.raises(ClientError, match="No engine is running"):
            connect(data_dir, start=False)
    assert squatter.seen and token not in str(squatter.seen)


def test_a_challenge_passed_on_to_a_living_engine_is_no_proof(
    data_dir: Path, start: Callable[..., daemon.Endpoint]
) -> None:
    living = start(PORT)
    said = (data_dir / "engine.json").read_bytes()
    squatter = Squatter(living.address)
    with squatting(squatter) as address:
        say(data_dir, address)
        assert daemon.find(data_dir) is None
    assert CHALLENGE in str(squatter.seen)
    (data_dir / "engine.json").write_bytes(said)
    assert daemon.find(data_dir) == living


# What callers without the token may take.


def peak_memory(pid: int) -> int:
    """Bytes that a process has had at most."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("method", ["/paintover.v1.EngineService/GetEngine", HEALTH, "/paintover.v1.Nothing/Here"])
def test_messages_of_strangers_are_not_read(start: Callable[..., daemon.Endpoint], method: str) -> None:
    endpoint = start(PORT)
    before = peak_memory(endpoint.pid)

    def send() -> None:
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(endpoint.address, own) as channel, contextlib.suppress(grpc.RpcError):
            channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)(BODY, timeout=30)

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert peak_memory(endpoint.pid) - before < len(BODY)


@pytest.mark.skipif(os.name != "posix", reason="open files are limited by setrlimit")
def test_idle_connections_shut_nobody_out(data_dir: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 1024:
        pytest.skip("this system lets no process open 1,024 files")
    command = [sys.executable, "-m", "paintover_engine.service", "--data-dir", str(data_dir), "--listen", PORT]
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, most))  # noqa: E731
    engine = subprocess.Popen(command, preexec_fn=few)
    endpoint = None
    while endpoint is None and engine.poll() is None:
        endpoint = daemon.find(data_dir)
    assert endpoint
    host, _, port = endpoint.address.partition(":")
    with contextlib.ExitStack() as idle:
        for _ in range(300):
            idle.enter_context(socket.create_connection((host, int(port)), timeout=10))
        with connect(data_dir, start=False) as client:
            assert client.get_engine().pid == engine.pid
    engine.terminate()
    assert engine.wait(timeout=30) == 0
