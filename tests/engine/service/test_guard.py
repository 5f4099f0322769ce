from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from paintover.v1 import engine_pb2, engine_pb2_grpc, job_pb2, job_pb2_grpc
from paintover_bridge.client import Client


def bearer(data_dir: Path) -> tuple[str, str]:
    return ("authorization", f"Bearer {(data_dir / 'token').read_text().strip()}")


def status(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()  # type: ignore[operator]
    return caught.value.code(), caught.value.details()


def test_token_and_data_folder_are_private(client: Client, data_dir: Path) -> None:
    assert stat.S_IMODE((data_dir / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert len((data_dir / "token").read_text()) >= 32


def test_calls_need_the_token_except_health(client: Client, data_dir: Path) -> None:
    with grpc.insecure_channel(client.endpoint.address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        engine = engine_pb2_grpc.EngineServiceStub(channel)
        for metadata in ([], [("authorization", "Bearer wrong")], [("authorization", "")]):
            code, details = status(lambda m=metadata: engine.GetEngine(engine_pb2.GetEngineRequest(), metadata=m))
            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert "token" in details
        watch = job_pb2_grpc.JobServiceStub(channel).WatchJobs(job_pb2.WatchJobsRequest())
        assert status(lambda: next(watch))[0] is grpc.StatusCode.UNAUTHENTICATED
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        assert status(lambda: next(listing))[0] is grpc.StatusCode.UNAUTHENTICATED


def test_other_protocol_is_refused(client: Client, data_dir: Path) -> None:
    with grpc.insecure_channel(client.endpoint.address) as channel:
        engine = engine_pb2_grpc.EngineServiceStub(channel)
        metadata = [bearer(data_dir), ("paintover-protocol", "999")]
        code, details = status(lambda: engine.GetEngine(engine_pb2.GetEngineRequest(), metadata=metadata))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "protocol 1" in details and "999" in details


def test_reflection_lists_the_services(client: Client, data_dir: Path) -> None:
    with grpc.insecure_channel(client.endpoint.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=[bearer(data_dir)])
        names = {service.name for service in answer.list_services_response.service}
    wanted = {f"paintover.v1.{name}Service" for name in ("Engine", "Shot", "Keyframe", "Job", "Frame")}
    assert wanted | {"grpc.health.v1.Health"} <= names


@pytest.mark.parametrize("name", ["jobs/x", "jobs/../1", "shots/1", "", "jobs/99999999999999999999"])
def test_malformed_resource_name_is_refused(client: Client, data_dir: Path, name: str) -> None:
    with grpc.insecure_channel(client.endpoint.address) as channel:
        jobs = job_pb2_grpc.JobServiceStub(channel)
        code, details = status(lambda: jobs.GetJob(job_pb2.GetJobRequest(name=name), metadata=[bearer(data_dir)]))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == f"'{name}' is not a job's name; they look like 'jobs/42'."


def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paintover_engine.service", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_second_daemon_on_a_data_folder_exits(client: Client, data_dir: Path) -> None:
    second = engine("--data-dir", str(data_dir))
    assert second.returncode == 75
    assert f"pid {client.endpoint.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert client.get_engine().pid == client.endpoint.pid


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.168.1.2:50000", "example.org:1"])
def test_remote_listen_address_is_refused(tmp_path: Path, address: str) -> None:
    refused = engine("--data-dir", str(tmp_path / "data"), "--listen", address)
    assert refused.returncode == 2
    assert "not on this machine" in refused.stderr


def test_data_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = engine("--data-dir", str(tmp_path / "file" / "data"))
    assert refused.returncode == 2
    assert "cannot be written" in refused.stderr
    assert "Traceback" not in refused.stderr
