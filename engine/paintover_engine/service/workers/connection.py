"""How a machine that joins reaches the engine, and knows that it is the one."""

from __future__ import annotations

import asyncio
import hmac
import ssl
from dataclasses import dataclass
from typing import Any

import grpc
from paintover_local.proof import CHALLENGE, PROOF, is_proof, new_challenge

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.service.guard import HEALTH_CHECK, PROTOCOL
from paintover_engine.service.workers.certificate import fingerprint_of
from paintover_engine.service.workers.wire import MESSAGE_BYTES, SERVER_NAME, is_of_this_machine

CONNECT_SECONDS = 10.0

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
)


class Refused(PaintoverError):
    """Another try would end the same: somebody has to change something first."""


@dataclass(frozen=True)
class EngineAddress:
    """address: "HOST:PORT"; fingerprint: SHA-256 of the engine's certificate in hexadecimal, "" on loopback alone."""

    address: str
    token: str
    fingerprint: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.token}"), ("paintover-protocol", str(PROTOCOL)))


async def open_channel(engine: EngineAddress) -> grpc.aio.Channel:
    """A channel to the engine, which has shown that it is the one before anything is said to it.

    Raises Refused where it is another; PaintoverError where it does not answer."""
    if engine.fingerprint:
        certificate = await asyncio.to_thread(_certificate, engine)
        if not hmac.compare_digest(fingerprint_of(certificate.encode()), engine.fingerprint):
            raise Refused(
                Code.PERMISSION_DENIED,
                f"The certificate at {engine.address} has another fingerprint than the one given; take the one that "
                "`paintover serve` printed.",
            )
        credentials = grpc.ssl_channel_credentials(root_certificates=certificate.encode())
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME))
        return grpc.aio.secure_channel(engine.address, credentials, options)
    if not is_of_this_machine(engine.address):
        raise Refused(
            Code.INVALID_ARGUMENT,
            f"The engine at {engine.address} is on another machine; give its --fingerprint, as `paintover serve` "
            "printed it.",
        )
    channel = grpc.aio.insecure_channel(engine.address, _OPTIONS)
    try:
        await _check_proof(channel, engine)
    except BaseException:
        await channel.close()
        raise
    return channel


def _certificate(engine: EngineAddress) -> str:
    host, _, port = engine.address.rpartition(":")
    try:
        return ssl.get_server_certificate((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise PaintoverError(Code.UNAVAILABLE, f"No engine answers at {engine.address} ({error}).") from error


async def _check_proof(channel: grpc.aio.Channel, engine: EngineAddress) -> None:
    """On loopback: another program may have the port of an engine that ended."""
    challenge = new_challenge()
    check = channel.unary_unary(HEALTH_CHECK, request_serializer=bytes, response_deserializer=bytes)
    call: Any = check(b"", timeout=CONNECT_SECONDS, metadata=((CHALLENGE, challenge),))
    try:
        proof = dict(await call.initial_metadata()).get(PROOF, "")
        await call
    except grpc.aio.AioRpcError as error:
        raise PaintoverError(Code.UNAVAILABLE, f"No engine answers at {engine.address}.") from error
    if not is_proof(proof, engine.token, engine.address, challenge):
        raise Refused(
            Code.PERMISSION_DENIED,
            f"What answers at {engine.address} does not know the token; take the engine's address and token file as "
            "`paintover serve` printed them.",
        )
