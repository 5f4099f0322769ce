"""The command's output: sentences for people, or JSON lines for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paintover_bridge.errors import ClientError
from paintover_bridge.records import json_line


def write_line(text: str) -> None:
    """Writes a line to standard output and flushes it: a program that reads a pipe must not wait for a full buffer."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_error(text: str) -> None:
    """Writes a line to standard error, prefixed with the program's name."""
    sys.stderr.write(f"paintover: {text}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class CommandOutput:
    """Writes either sentences or JSON lines to standard output, never both; errors and notes are sentences on standard
    error as well."""

    as_json: bool

    def say(self, sentence: str) -> None:
        """Prints a sentence, unless the output is JSON."""
        if not self.as_json:
            write_line(sentence)

    def record(self, record: Mapping[str, Any]) -> None:
        """Prints a JSON object on one line, if the output is JSON."""
        if self.as_json:
            write_line(json_line(record))

    def event(self, kind: str, record: Mapping[str, Any]) -> None:
        self.record({"event": kind, **record})

    def note(self, text: str) -> None:
        """Reports a fact that the user should know and that is no error."""
        self.event("note", {"message": text})
        if not self.as_json:
            write_error(f"note: {text}")

    def notes(self, texts: Iterable[str]) -> None:
        """Reports several notes, such as the engine's about a source."""
        for text in texts:
            self.note(text)

    def error(self, error: ClientError) -> None:
        self.event("error", {"code": error.code, "message": error.message, "exit_code": error.exit_code})
        write_error(error.message)
