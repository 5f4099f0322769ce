"""The one error that users see: a sentence, and a code that every face (gRPC, CLI) maps to its own status."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable


class Code(enum.Enum):
    """What went wrong, by gRPC's status names."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DATA_LOSS = "DATA_LOSS"
    UNAVAILABLE = "UNAVAILABLE"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


class PaintoverError(Exception):
    """Something that the user can mend. `message` is one sentence: what is wrong, with which file or parameter,
    and what to do. Never raised for programming errors, which keep their traceback."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a sentence that says which valid names are nearest to a wrong one: " Did you mean 'draft'?"."""
    names = list(valid)
    close = difflib.get_close_matches(name.lower(), {n.lower(): n for n in names}, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{next(n for n in names if n.lower() == close[0])}'?"
    return f" Valid: {', '.join(names)}." if 0 < len(names) <= 12 else ""
