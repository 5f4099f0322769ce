"""What the command says: sentences for people, JSON lines for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paintover_bridge.errors import ClientError
from paintover_bridge.records import json_line


def write_line(text: str) -> None:
    """A line of standard output, there at once: what reads a pipe must not wait for a full buffer."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_error(text: str) -> None:
    """A line of standard error, which says whose it is."""
    sys.stderr.write(f"paintover: {text}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Output:
    """Standard output has either sentences or JSON lines, never both; errors are always sentences on standard error."""

    as_json: bool

    def say(self, sentence: str) -> None:
        """For people only."""
        if not self.as_json:
            write_line(sentence)

    def record(self, record: Mapping[str, Any]) -> None:
        """For programs only."""
        if self.as_json:
            write_line(json_line(record))

    def event(self, kind: str, record: Mapping[str, Any]) -> None:
        self.record({"event": kind, **record})

    def note(self, text: str) -> None:
        """Something worth knowing that stops nothing."""
        self.event("note", {"message": text})
        if not self.as_json:
            write_error(f"note: {text}")

    def notes(self, texts: Iterable[str]) -> None:
        """The engine's sentences name the file that they are about."""
        for text in texts:
            self.note(text)

    def error(self, error: ClientError) -> None:
        self.event("error", {"code": error.code, "message": error.message, "exit_code": error.exit_code})
        write_error(error.message)
