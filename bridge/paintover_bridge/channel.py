"""How the bridge speaks gRPC: channel settings, metadata, and errors turned into sentences."""

from __future__ import annotations

import grpc

from paintover_bridge.errors import ClientError, unavailable

PROTOCOL = 1

# The engine is on this machine: a studio's HTTP proxy must not be asked for it.
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
)


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """What every call but health carries."""
    return (("authorization", f"Bearer {token}"), ("paintover-protocol", str(PROTOCOL)))


def is_lost(error: grpc.RpcError) -> bool:
    """Whether the call failed because no engine was there, so that it may be made again to another."""
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE


def to_client_error(error: grpc.RpcError, address: str) -> ClientError:
    """The sentence that the engine sent, or one for what gRPC itself says (its texts are no sentences)."""
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
