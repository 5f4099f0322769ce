"""Where the daemon answers: a Unix socket in its data folder, which no other user can enter, or a port of loopback.

Other users cannot put anything in the socket's place, dead or alive; a port that is free again is anybody's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import grpc
from paintover_local.private_files import NotPrivate, read_private, write_private

from paintover_engine import __version__
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.service.guard import PROTOCOL

LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:")
ANY_PORT = "127.0.0.1:0"
SOCKET = "engine.sock"
PATH_BYTES = 103  # sun_path holds 104 on macOS and BSD, 108 on Linux, with the zero at its end
_PLAIN = re.compile(r"[^%#?,\x00-\x1f]+")  # gRPC reads the others as a URI's
_SHORT_PREFIX = "paintover-"


def check_address(listen: str) -> None:
    """Raises PaintoverError for an address that another machine could reach. "": the platform's own choice."""
    if listen and not listen.startswith((*LOOPBACK, "unix:")):
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The address '{listen}' is not on this machine; listen on 127.0.0.1:PORT or unix:PATH.",
        )


def bind(server: grpc.aio.Server, folder: DataFolder, listen: str) -> str:
    """Binds the server, and returns the address that clients use.

    listen: "127.0.0.1:0" (0: any free port), "unix:/path", or "": a socket in the data folder, or in a new folder of
    this user's where the data folder's disk holds no sockets or its path is too long for one; a port on Windows, where
    gRPC has no sockets. Raises PaintoverError where the address cannot be had."""
    if listen:
        address = _try(server, listen)
    elif sys.platform == "win32":
        address = _try(server, ANY_PORT)
    else:
        address = _try(server, f"unix:{folder.root / SOCKET}") or _try(server, f"unix:{_short_folder() / SOCKET}")
    if address is None:
        raise PaintoverError(
            Code.UNAVAILABLE,
            f"The address '{listen or folder.root / SOCKET}' cannot be had; is it in use? "
            "Choose another with --listen.",
        )
    return address


def _try(server: grpc.aio.Server, listen: str) -> str | None:
    if listen.startswith("unix:"):
        path = Path(listen[5:])
        if len(os.fsencode(path)) > PATH_BYTES or not _PLAIN.fullmatch(str(path)):
            return None
        _refuse_used(path)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        return None
    if listen.startswith("unix:"):
        Path(listen[5:]).chmod(0o600)
        return listen
    return f"{listen.rpartition(':')[0]}:{port}"


def _refuse_used(path: Path) -> None:
    """gRPC takes a socket away from whoever listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise PaintoverError(Code.UNAVAILABLE, f"Another program answers at {path}; stop it or choose another --listen.")


def _short_folder() -> Path:
    """A new folder, private to this user, whose path is short wherever the data folder lies."""
    folder = Path(tempfile.mkdtemp(prefix=_SHORT_PREFIX))
    if len(os.fsencode(folder / SOCKET)) > PATH_BYTES:  # $TMPDIR is long, too
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=_SHORT_PREFIX, dir="/tmp"))
    return folder


def publish(folder: DataFolder, address: str, token: str) -> None:
    """Says where this process answers, and to what secret; clients read it."""
    write_private(folder.token, token.encode())
    record = {"address": address, "pid": os.getpid(), "version": __version__, "protocol": PROTOCOL}
    write_private(folder.address, json.dumps(record).encode())


def take_address_back(folder: DataFolder) -> None:
    """Says that none answers; also for a daemon before this one, which was killed."""
    with contextlib.suppress(NotPrivate, OSError, ValueError, KeyError, TypeError, AttributeError):
        path = Path(json.loads(read_private(folder.address))["address"].removeprefix("unix:"))
        if path.name == SOCKET and path.parent.name.startswith(_SHORT_PREFIX) and _is_own(path.parent):
            shutil.rmtree(path.parent)
    folder.address.unlink(missing_ok=True)


def _is_own(folder: Path) -> bool:
    return not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
