"""What the machine lacks rather than the program, as the error that users see."""

from __future__ import annotations

import errno

from paintover_engine.errors import Code, PaintoverError


def environment_error(error: OSError | MemoryError) -> PaintoverError:
    """The sentence for a full disk, too little memory, or a file that cannot be had."""
    if isinstance(error, MemoryError):
        message = "The worker ran out of memory; close other programs and retry."
        return PaintoverError(Code.RESOURCE_EXHAUSTED, message)
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"The disk is full{where}; make room and retry: finished stages are kept."
        return PaintoverError(Code.RESOURCE_EXHAUSTED, message)
    message = f"{error.strerror or error}{where}; mend that and retry."
    return PaintoverError(Code.FAILED_PRECONDITION, message)
