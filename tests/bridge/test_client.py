"""The client against real gRPC servers: one scripted here, for what a healthy engine does not do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from paintover.v1 import engine_pb2, engine_pb2_grpc, job_pb2, job_pb2_grpc
from paintover_bridge import daemon
from paintover_bridge.client import Client, connect
from paintover_bridge.errors import BAD_INPUT, FAILED, NO_RESOURCES, UNAVAILABLE, ClientError
from paintover_bridge.messages import absolute
from paintover_local.private_files import write_private
from paintover_local.proof import CHALLENGE, PROOF, prove

Script = Callable[..., Any]


class Scripted(engine_pb2_grpc.EngineServiceServicer, job_pb2_grpc.JobServiceServicer):
    """An engine whose answers a test gives; it keeps what it was sent."""

    def __init__(self, folder: Path, get_job: Script | None = None, watch: Script | None = None) -> None:
        self.get_job, self.watch, self.protocol = get_job, watch, 1
        self.metadata: list[dict[str, Any]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        engine_pb2_grpc.add_EngineServiceServicer_to_server(self, self._server)
        job_pb2_grpc.add_JobServiceServicer_to_server(self, self._server)
        health = grpc.unary_unary_rpc_method_handler(self._check)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),)
        )
        self._address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        folder.mkdir(parents=True, exist_ok=True)
        write_private(folder / "token", b"secret")
        write_private(folder / "engine.json", json.dumps({"address": self._address, "pid": os.getpid()}).encode())
        self._address_file = folder / "engine.json"

    def _check(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        challenge = str(dict(context.invocation_metadata())[CHALLENGE])
        context.send_initial_metadata(((PROOF, prove("secret", self._address, challenge)),))
        return b"\x08\x01"

    def stop(self) -> None:
        self._address_file.unlink(missing_ok=True)
        self._server.stop(grace=None).wait()

    def GetEngine(self, request: Any, context: Any) -> engine_pb2.GetEngineResponse:  # noqa: N802 (gRPC names it)
        self.metadata.append(dict(context.invocation_metadata()))
        return engine_pb2.GetEngineResponse(engine=engine_pb2.Engine(version="9.9", protocol=self.protocol))

    def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC names it)
        assert self.get_job
        return self.get_job(request, context)

    def WatchJobs(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC names it)
        assert self.watch
        return self.watch(request, context)


@pytest.fixture
def scripted(folder: Path) -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def serve(**scripts: Script) -> Scripted:
        servers.append(Scripted(folder, **scripts))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


def event(sequence: int, done: int, state: int = job_pb2.JOB_STATE_RUNNING) -> job_pb2.WatchJobsResponse:
    job = job_pb2.Job(name="jobs/1", state=state, progress=job_pb2.Progress(frames_done=done, fraction=done / 10))
    return job_pb2.WatchJobsResponse(sequence=sequence, job=job)


def test_every_call_carries_the_token_and_the_protocol(folder: Path, scripted: Callable[..., Scripted]) -> None:
    server = scripted()
    with connect(folder, start=False) as client:
        client.get_engine()
    for metadata in server.metadata:
        assert metadata["authorization"] == "Bearer secret"
        assert metadata["paintover-protocol"] == "1"


def test_other_protocol_is_refused_with_both_numbers(folder: Path, scripted: Callable[..., Scripted]) -> None:
    scripted().protocol = 2
    with pytest.raises(ClientError, match=r"9\.9 speaks protocol 2 and this client 1; update the client"):
        connect(folder, start=False)


def test_no_engine_and_none_wanted_is_a_sentence(folder: Path) -> None:
    with pytest.raises(ClientError, match="No engine is running on .*; start one with `paintover serve`") as caught:
        connect(folder, start=False)
    assert caught.value.exit_code == UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, BAD_INPUT),
        (grpc.StatusCode.NOT_FOUND, BAD_INPUT),
        (grpc.StatusCode.ALREADY_EXISTS, BAD_INPUT),
        (grpc.StatusCode.FAILED_PRECONDITION, BAD_INPUT),
        (grpc.StatusCode.PERMISSION_DENIED, BAD_INPUT),
        (grpc.StatusCode.DATA_LOSS, BAD_INPUT),
        (grpc.StatusCode.UNAVAILABLE, UNAVAILABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, NO_RESOURCES),
        (grpc.StatusCode.INTERNAL, FAILED),
    ],
)
def test_engine_error_reaches_the_user_unchanged(
    folder: Path, scripted: Callable[..., Scripted], status: grpc.StatusCode, exit_code: int
) -> None:
    scripted(get_job=lambda request, context: context.abort(status, "The plate is asleep."))
    with connect(folder, start=False) as client, pytest.raises(ClientError) as caught:
        client.get_job("jobs/1")
    assert caught.value.message == "The plate is asleep."
    assert caught.value.code == status.name
    assert caught.value.exit_code == exit_code


def test_a_lost_engine_is_a_sentence_too(folder: Path, scripted: Callable[..., Scripted]) -> None:
    server = scripted()
    with connect(folder, start=False) as client:
        server.stop()
        with pytest.raises(ClientError, match=r"The engine at 127\.0\.0\.1:\d+ does not answer \(.*\)\.") as caught:
            client.get_engine()
    assert caught.value.exit_code == UNAVAILABLE


def test_a_call_that_the_engine_lacks_is_a_sentence(folder: Path, scripted: Callable[..., Scripted]) -> None:
    scripted()
    with connect(folder, start=False) as client, pytest.raises(ClientError, match="is older than this client"):
        client.list_shots()


def test_watch_continues_with_a_restarted_engine(folder: Path, scripted: Callable[..., Scripted]) -> None:
    asked: list[int] = []

    def first_life(request: Any, context: Any) -> Iterator[job_pb2.WatchJobsResponse]:
        asked.append(request.from_sequence)
        yield event(7, 2)
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    def second_life(request: Any, context: Any) -> Iterator[job_pb2.WatchJobsResponse]:
        asked.append(request.from_sequence)
        yield event(9, 10, job_pb2.JOB_STATE_DONE)

    first = scripted(watch=first_life)

    def revive() -> daemon.Endpoint:
        first.stop()
        scripted(watch=second_life)
        endpoint = daemon.find(folder)
        assert endpoint
        return endpoint

    endpoint = daemon.find(folder)
    assert endpoint
    client = Client(endpoint, revive)
    assert [each.sequence for each in client.watch("jobs/1")] == [7, 9]
    assert asked == [0, 8]
    client.close()


def test_watch_gives_up_after_repeated_engine_crashes(folder: Path, scripted: Callable[..., Scripted]) -> None:
    lives: list[int] = []

    def short_life(request: Any, context: Any) -> Iterator[job_pb2.WatchJobsResponse]:
        lives.append(request.from_sequence)
        yield event(7, 2)
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    scripted(watch=short_life)
    endpoint = daemon.find(folder)
    assert endpoint
    client = Client(endpoint, lambda: endpoint)
    with pytest.raises(ClientError, match="ended 4 times without getting further"):
        list(client.watch("jobs/1"))
    assert len(lives) == 4
    client.close()


def test_paths_become_absolute_and_a_folder_stays_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("out/shot.%04d.exr") == str(tmp_path / "out/shot.%04d.exr")
    assert absolute("out/") == f"{tmp_path / 'out'}{os.sep}"
    assert absolute("/") == os.path.abspath("/")
    with pytest.raises(ClientError, match="is not valid UTF-8"):
        absolute("caf\udce9.mov")
