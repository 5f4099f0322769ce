"""What applies to every call: the token, the protocol number, and the mapping of errors to gRPC statuses."""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2
from paintover_local.proof import CHALLENGE, PROOF, prove

from paintover_engine.errors import PaintoverError

log = logging.getLogger(__name__)

PROTOCOL = 1  # raised when a client of an older number could misread a response

HEALTH_CHECK = "/grpc.health.v1.Health/Check"  # the only call that needs no token

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Guard(grpc.aio.ServerInterceptor):
    """Refuses calls without the token or of another protocol before their message is read, and turns PaintoverError
    into its gRPC status.

    active: number of calls that are running, by which an ephemeral daemon knows when it may end.
    address: where clients find the daemon; part of what it proves to them.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._expected = f"Bearer {token}".encode()
        self.address = ""
        self.active = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(details)
        if handler is None:
            return None
        metadata = dict(details.invocation_metadata or ())
        refusal = self._refusal(metadata)
        if refusal and details.method == HEALTH_CHECK:
            return self._open_check(handler, metadata)
        if refusal:
            return _refusing(refusal)
        call = getattr(handler, _kind(handler))
        if handler.response_streaming:

            async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
                async with self._mapped(details.method, context):
                    async for message in call(request, context):
                        yield message

            wrapped: Any = stream
        else:

            async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
                async with self._mapped(details.method, context):
                    return await call(request, context)

            wrapped = unary
        make: Any = getattr(grpc, f"{_kind(handler)}_rpc_method_handler")
        return make(wrapped, handler.request_deserializer, handler.response_serializer)  # type: ignore[no-any-return]

    def _open_check(self, handler: Handler, metadata: dict[str, str | bytes]) -> Handler:
        """The health of the whole daemon, whatever the message asks for: it is not read.

        A client that sends a challenge is shown that this daemon knows the token."""

        async def check(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            challenge = metadata.get(CHALLENGE)
            if isinstance(challenge, str):
                await context.send_initial_metadata(((PROOF, prove(self._token, self.address, challenge)),))
            yield await handler.unary_unary(health_pb2.HealthCheckRequest(), context)  # type: ignore[misc, arg-type]

        return grpc.stream_stream_rpc_method_handler(check, None, handler.response_serializer)

    def _refusal(self, metadata: dict[str, str | bytes]) -> tuple[grpc.StatusCode, str] | None:
        given = metadata.get("authorization", "")
        if not hmac.compare_digest(given.encode() if isinstance(given, str) else given, self._expected):
            return (
                grpc.StatusCode.UNAUTHENTICATED,
                "The token is missing or wrong; read it from the data folder's 'token' file.",
            )
        protocol = metadata.get("paintover-protocol", str(PROTOCOL))
        if protocol != str(PROTOCOL):
            return (
                grpc.StatusCode.FAILED_PRECONDITION,
                f"This engine speaks protocol {PROTOCOL} and the client {protocol!s}; update the older of the two.",
            )
        return None

    @contextlib.asynccontextmanager
    async def _mapped(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        self.active += 1
        try:
            yield
        except PaintoverError as error:
            await context.abort(grpc.StatusCode[error.code.value], error.message)
        except (grpc.aio.AbortError, GeneratorExit):
            raise
        except Exception as error:
            log.exception("%s failed", method)
            message = f"Internal error in the engine: {type(error).__name__}: {error}; its log has the details."
            await context.abort(grpc.StatusCode.INTERNAL, message)
        finally:
            self.active -= 1


def _refusing(refusal: tuple[grpc.StatusCode, str]) -> Handler:
    """Answers without reading: a handler of streams is given no message that it does not ask for."""

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        await context.abort(*refusal)
        yield  # an iterator, as gRPC wants one

    return grpc.stream_stream_rpc_method_handler(refuse)


def _kind(handler: grpc.RpcMethodHandler[Any, Any]) -> str:
    """ "unary_stream" and the like: grpc's name for the handler's function, and of the factory of such handlers."""
    sides = ("stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming))
    return "_".join(sides)
