"""The error that every function of the bridge raises, and the exit statuses of the command."""

from __future__ import annotations

OK = 0
FAILED = 1
BAD_INPUT = 2
UNAVAILABLE = 3
NO_RESOURCES = 4
INTERRUPTED = 130

_EXIT_CODES = {
    "INVALID_ARGUMENT": BAD_INPUT,
    "NOT_FOUND": BAD_INPUT,
    "ALREADY_EXISTS": BAD_INPUT,
    "FAILED_PRECONDITION": BAD_INPUT,
    "OUT_OF_RANGE": BAD_INPUT,
    "PERMISSION_DENIED": BAD_INPUT,
    "DATA_LOSS": BAD_INPUT,
    "UNAVAILABLE": UNAVAILABLE,
    "DEADLINE_EXCEEDED": UNAVAILABLE,
    "UNAUTHENTICATED": UNAVAILABLE,
    "UNIMPLEMENTED": UNAVAILABLE,
    "RESOURCE_EXHAUSTED": NO_RESOURCES,
    "CANCELLED": INTERRUPTED,
}


class ClientError(Exception):
    """An error that the user can correct.

    message: one sentence, shown as it is. code: gRPC's name of the status. exit_code: the command's exit status.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES.get(self.code, FAILED)


def bad_input(message: str) -> ClientError:
    """The error for input that cannot be used."""
    return ClientError("INVALID_ARGUMENT", message)


def unavailable(message: str) -> ClientError:
    """The error for an engine that does not answer."""
    return ClientError("UNAVAILABLE", message)
