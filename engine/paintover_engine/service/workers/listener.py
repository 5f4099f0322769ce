"""The address at which machines join: a server of its own, with a token of its own, that knows no other service."""

from __future__ import annotations

import secrets
import socket
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from paintover.v1 import worker_pb2_grpc
from paintover_local.private_files import read_private, write_private

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.engine import Engine
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.service.guard import Guard
from paintover_engine.service.limits import server_options
from paintover_engine.service.workers.certificate import own_certificate
from paintover_engine.service.workers.servicer import WorkerServicer
from paintover_engine.service.workers.wire import is_of_this_machine


class WorkerListener:
    """Listens for devices of other machines. On an address that other machines reach, all is encrypted (TLS), and the
    engine is known by its certificate's fingerprint; on loopback it proves that it knows the token.

    address: as bound, "HOST:PORT"; fingerprint: of the certificate, "" where none is shown."""

    def __init__(self, engine: Engine, folder: DataFolder) -> None:
        self._engine = engine
        self._folder = folder
        self._server: grpc.aio.Server | None = None
        self.address = self.fingerprint = ""

    async def start(self, listen: str) -> None:
        """Begins to listen at "HOST:PORT" (0: any free port). Raises PaintoverError where it cannot be had."""
        guard = Guard(_token(self._folder))
        self._server = server = grpc.aio.server(interceptors=[guard], options=server_options())
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(self._engine), server)
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)  # the proof goes by it
        try:
            if is_of_this_machine(listen):
                port = server.add_insecure_port(listen)
            else:
                own = own_certificate(self._folder.worker_certificate)
                self.fingerprint = own.fingerprint
                port = server.add_secure_port(listen, grpc.ssl_server_credentials([(own.key, own.certificate)]))
        except RuntimeError as error:
            raise PaintoverError(
                Code.UNAVAILABLE,
                f"The address '{listen}' cannot be had; is it in use? Choose another with --workers-listen.",
            ) from error
        self.address = f"{listen.rpartition(':')[0]}:{port}"
        guard.address = self.address
        await server.start()
        sys.stdout.write(f"Other machines join with: {self.invitation}\n")
        sys.stdout.flush()

    @property
    def reached_at(self) -> str:
        """The address that others use."""
        host, _, port = self.address.rpartition(":")
        return f"{socket.gethostname() if host in ('0.0.0.0', '[::]') else host}:{port}"

    @property
    def invitation(self) -> str:
        """The command that joins. The token's file is to be brought there by hand."""
        pinned = f" --fingerprint {self.fingerprint}" if self.fingerprint else ""
        return f"paintover worker --join {self.reached_at}{pinned} --token-file {self._folder.worker_token}"

    @property
    def token_file(self) -> Path:
        """Where the workers' secret lies."""
        return self._folder.worker_token

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(None)


def _token(folder: DataFolder) -> str:
    """The workers' secret, the same at each start so that machines join again by themselves; made where there is
    none."""
    if not folder.worker_token.exists():
        write_private(folder.worker_token, secrets.token_urlsafe(32).encode())
    return read_private(folder.worker_token).decode("ascii").strip()
