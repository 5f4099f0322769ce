"""The C library's heap, set for pictures: what one frees the next one gets."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_LARGEST = 32 * 2**20  # bytes of what comes from the heap at most; glibc's own limit
_FREE = 128 * 2**20  # bytes that stay free at its end, for the next picture


def keep_freed_memory() -> None:
    """Lets freed memory of pictures stay in the process. By itself glibc returns it to the system above some hundred
    kilobytes, and each page that is taken again is cleared first: up to a tenth of the time of a stage whose planes are
    small. Does nothing where the C library is another one."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _FREE)
