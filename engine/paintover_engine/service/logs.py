"""The daemon's log: for people on standard error, for programs as JSON lines in files of limited size."""

from __future__ import annotations

import json
import logging
import logging.handlers
from pathlib import Path

from pythonjsonlogger.json import JsonFormatter

FILE_BYTES = 5 * 10**6
FILES = 3
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class PlainFormatter(logging.Formatter):
    """ "… INFO paintover_engine.jobs.scheduler: stage flow 0-7 starts (job 3)"."""

    def format(self, record: logging.LogRecord) -> str:
        job = getattr(record, "job", None)
        text = super().format(record)
        return text if job is None else f"{text} (job {job})"


def start_logging(folder: Path) -> None:
    """Logs to standard error and to `engine.jsonl` in a folder; to standard error alone where that cannot be written.

    A line of the file is a JSON object: level, logger, message, time; job, stage and traceback where there is one."""
    plain = logging.StreamHandler()
    plain.setFormatter(PlainFormatter(FORMAT))
    handlers: list[logging.Handler] = [plain]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            folder / "engine.jsonl", maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8"
        )
    except OSError:
        pass  # the data folder raises the error
    else:
        names = {"levelname": "level", "name": "logger", "exc_info": "traceback"}
        file.setFormatter(JsonFormatter(["levelname", "name", "message"], rename_fields=names, timestamp="time"))
        file.setLevel(logging.INFO)
        handlers.append(file)
        plain.setLevel(
            logging.INFO if plain.stream.isatty() else logging.WARNING
        )  # else each line would be stored twice
    logging.basicConfig(level=logging.INFO, handlers=handlers)


def job_lines(folder: Path, job_id: int, most: int = 500) -> list[dict[str, object]]:
    """The last log records about a job, oldest first."""
    found: list[dict[str, object]] = []
    for path in sorted(folder.glob("engine.jsonl*"), reverse=True):
        for line in path.read_text("utf-8", errors="replace").splitlines():
            if f'"job": {job_id}' in line:
                record = _parsed(line)
                if record.get("job") == job_id:
                    found.append(record)
    return found[-most:]


def _parsed(line: str) -> dict[str, object]:
    try:
        record = json.loads(line)
    except ValueError:  # the daemon was killed while it wrote it
        return {}
    return record if isinstance(record, dict) else {}
