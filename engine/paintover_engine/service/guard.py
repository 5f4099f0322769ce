"""What applies to every call: the token, the protocol number, and the mapping of errors to gRPC statuses."""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from paintover_engine.durable import replace_file
from paintover_engine.errors import PaintoverError

log = logging.getLogger(__name__)

PROTOCOL = 1  # raised when a client of an older number could misread a response

OPEN = "/grpc.health.v1.Health/"  # the only service that needs no token


def load_token(path: Path) -> str:
    """The data folder's token, created on first use; readable by its owner alone."""
    if not path.exists():
        partial = path.with_name(f"{path.name}.partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        replace_file(partial, path)
    if os.name == "posix":
        path.chmod(0o600)
    return path.read_text().strip()


class Guard(grpc.aio.ServerInterceptor):
    """Refuses calls without the token or of another protocol, and turns PaintoverError into its gRPC status.

    active: number of calls that are running, by which an ephemeral daemon knows when it may end.
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self.active = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN):
            return handler
        refusal = self._refusal(dict(details.invocation_metadata or ()))
        call = getattr(handler, _kind(handler))
        if handler.response_streaming:

            async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
                async with self._mapped(details.method, context, refusal):
                    async for message in call(request, context):
                        yield message

            wrapped: Any = stream
        else:

            async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
                async with self._mapped(details.method, context, refusal):
                    return await call(request, context)

            wrapped = unary
        make: Any = getattr(grpc, f"{_kind(handler)}_rpc_method_handler")
        return make(wrapped, handler.request_deserializer, handler.response_serializer)  # type: ignore[no-any-return]

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
    async def _mapped(
        self, method: str, context: grpc.aio.ServicerContext[Any, Any], refusal: tuple[grpc.StatusCode, str] | None
    ) -> AsyncIterator[None]:
        self.active += 1
        try:
            if refusal:
                await context.abort(*refusal)
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


def _kind(handler: grpc.RpcMethodHandler[Any, Any]) -> str:
    """ "unary_stream" and the like: grpc's name for the handler's function, and of the factory of such handlers."""
    sides = ("stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming))
    return "_".join(sides)
