"""What both sides of `WorkerService` agree on."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
from paintover.v1 import worker_pb2

from paintover_engine.errors import Code, PaintoverError

BEAT_SECONDS = 2.0
LOST_SECONDS = 10.0  # without a sign of life; with what it takes to begin a stage elsewhere, less than 15
PART_BYTES = 2**20
SERVER_NAME = "paintover-engine"  # in the certificate, wherever the engine is
MESSAGE_BYTES = 64 * 2**20
_KEY = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[^/\\\x00]{1,255}")


def is_of_this_machine(address: str) -> bool:
    """Whether an address is a socket's or loopback's: what is said there leaves the machine by no wire."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_key(key: str) -> str:
    """A stage's key or a digest as the other side names it. Raises PaintoverError for anything else."""
    if not _KEY.fullmatch(key):
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{key[:80]}' is no key of 64 hexadecimal digits.")
    return key


def parts_of(files: Iterable[Path]) -> Iterator[worker_pb2.FilePart]:
    """Files in pieces, read as they are asked for."""
    for path in files:
        with open(path, "rb") as file:
            name, first = path.name, True
            while (data := file.read(PART_BYTES)) or first:
                yield worker_pb2.FilePart(name=name if first else "", data=data)
                first = False


class FileWriter:
    """Writes the pieces of files into a folder; a name leads nowhere else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names: list[str] = []

    def write(self, part: worker_pb2.FilePart) -> None:
        """Appends a piece. Raises PaintoverError where its name is none of a file."""
        if part.name:
            if not _NAME.fullmatch(part.name) or part.name in (".", "..") or part.name in self.names:
                raise PaintoverError(Code.INVALID_ARGUMENT, "The name of a file that was sent cannot be taken.")
            self.names.append(part.name)
        if not self.names:
            raise PaintoverError(Code.INVALID_ARGUMENT, "A file that was sent has no name.")
        with open(self._folder / self.names[-1], "xb" if part.name else "ab") as file:
            file.write(part.data)


def sentence_of(error: grpc.aio.AioRpcError) -> str:
    """What a failed call says, for people."""
    return error.details() or f"the call failed with {error.code().name}"
