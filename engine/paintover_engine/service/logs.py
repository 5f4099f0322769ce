"""The daemon's log: for people on standard error, for programs as JSON lines in a file that cannot grow for ever."""

from __future__ import annotations

import json
import logging
import logging.handlers
import time
from pathlib import Path

FILE_BYTES = 5 * 10**6
FILES = 3
FIELDS = ("job", "stage")  # what a record may say of beside its message

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class PlainFormatter(logging.Formatter):
    """ "… INFO paintover_engine.jobs.scheduler: stage flow 0-7 starts (job 3)"."""

    def format(self, record: logging.LogRecord) -> str:
        job = getattr(record, "job", None)
        text = super().format(record)
        return text if job is None else f"{text} (job {job})"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and job and stage where they are known."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def start_logging(folder: Path) -> None:
    """Logs to standard error and to `engine.jsonl` in a folder. A folder that cannot be written leaves the first."""
    plain = logging.StreamHandler()
    plain.setFormatter(PlainFormatter(FORMAT))
    handlers: list[logging.Handler] = [plain]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = logging.handlers.RotatingFileHandler(
            folder / "engine.jsonl", maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8"
        )
    except OSError:
        pass  # the data folder tells why by itself
    else:
        kept.setFormatter(JsonFormatter())
        kept.setLevel(logging.INFO)
        handlers.append(kept)
        plain.setLevel(logging.INFO if plain.stream.isatty() else logging.WARNING)  # else it would be kept twice
    logging.basicConfig(level=logging.INFO, handlers=handlers)


def job_lines(folder: Path, job_id: int, most: int = 500) -> list[dict[str, object]]:
    """The last log lines that speak of a job, oldest first."""
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
