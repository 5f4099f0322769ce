"""gRPC settings of every call: channel options, metadata, and the translation of errors into sentences."""

from __future__ import annotations

import grpc

from paintover_bridge.errors import ClientError, unavailable

PROTOCOL = 1

# The engine is on this machine, so an HTTP proxy of the environment must be ignored.
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
)


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of every call apart from the health check."""
    return (("authorization", f"Bearer {token}"), ("paintover-protocol", str(PROTOCOL)))


def is_lost(error: grpc.RpcError) -> bool:
    """Whether the call failed because the engine is gone, so that it can be repeated with another one."""
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE


def to_client_error(error: grpc.RpcError, address: str) -> ClientError:
    """The error as one sentence: the engine's own, or one made from gRPC's status. address: the engine's, for
    messages."""
    if not isinstance(error, grpc.Call):
        return ClientError("INTERNAL", f"The call to the engine failed: {error}.")
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ClientError(code.name, f"The engine at {address} is older than this client and lacks a call it needs.")
    if details.endswith((".", "?")):
        return ClientError(code.name, details)
    if code is grpc.StatusCode.UNAVAILABLE:
        return unavailable(f"The engine at {address} does not answer ({details}).")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ClientError(code.name, f"The engine at {address} took too long to answer; see `paintover status`.")
    return ClientError(code.name, details or f"The engine failed with {code.name}.")
