"""Whose process is at the other end of a connection within this machine, as far as the system tells."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from pathlib import Path
from weakref import WeakKeyDictionary

_TABLE = Path("/proc/net/tcp")  # https://docs.kernel.org/networking/proc_net_tcp.html
_known: WeakKeyDictionary[asyncio.BaseTransport, bool] = WeakKeyDictionary()


def is_strangers(transport: asyncio.BaseTransport | None) -> bool:
    """Whether another user than this one and root has the other end of an IPv4 connection. False where nobody tells:
    on other systems than Linux, and once the other end is closed."""
    if sys.platform != "linux" or transport is None:
        return False
    if transport not in _known:
        owner = _owner(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
        _known[transport] = owner not in (None, 0, os.geteuid())
    return _known[transport]


def _owner(local: tuple[str, int] | None, remote: tuple[str, int] | None) -> int | None:
    """The user of the socket that has these two ends, seen from its side."""
    if not local or not remote:
        return None
    wanted = [_as_in_table(*local), _as_in_table(*remote)]
    try:
        lines = _TABLE.read_text("ascii").splitlines()[1:]
    except OSError:
        return None
    rows = (line.split() for line in lines)
    return next((int(row[7]) for row in rows if row[1:3] == wanted), None)


def _as_in_table(host: str, port: int) -> str:
    """ "0100007F:1F90": the address as a number of this processor's byte order, and the port."""
    (number,) = struct.unpack("=I", socket.inet_aton(host))
    return f"{number:08X}:{port:04X}"
