"""`python -m paintover_engine.farm`: `render` runs a part of a job, `bundle` writes one for a farm from a request on
standard input."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.farm.bundle import BundleRequest, write_bundle
from paintover_engine.farm.job_file import STORE
from paintover_engine.farm.render import ALL, Report, Step, render
from paintover_engine.jobs.environment import environment_error
from paintover_engine.jobs.objects import is_url
from paintover_engine.jobs.path_mapping import read_rules
from paintover_engine.methods.planning import Span

FAILED, BAD_INPUT, NO_RESOURCES, INTERRUPTED = 1, 2, 4, 130
_STATUS = {
    Code.CANCELLED: INTERRUPTED,
    Code.RESOURCE_EXHAUSTED: NO_RESOURCES,
    Code.INTERNAL: FAILED,
    Code.DATA_LOSS: FAILED,
    Code.UNAVAILABLE: FAILED,
}
"""Exit statuses as the `paintover` command has them; of other codes `BAD_INPUT`."""


def main() -> int:
    """Runs one command; returns its exit status. A failure is one sentence, `openjd_fail: …` or on standard error."""
    parser = argparse.ArgumentParser(prog="paintover-farm")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bundle")
    task = commands.add_parser("render")
    task.add_argument("job", type=Path)
    task.add_argument("--store")
    task.add_argument("--stage", type=Step, action="append", choices=list(Step))
    task.add_argument("--windows", type=_span)
    task.add_argument("--path-mapping", type=Path)
    arguments = parser.parse_args()
    report = Report()
    try:
        if arguments.command == "bundle":
            request = BundleRequest.model_validate_json(sys.stdin.buffer.read())
            sys.stdout.write(write_bundle(request).model_dump_json() + "\n")
        else:
            _render(arguments, report)
        return 0
    except (PaintoverError, OSError, MemoryError) as caught:
        error = caught if isinstance(caught, PaintoverError) else environment_error(caught)
        if arguments.command == "bundle":
            sys.stderr.write(f"{error.code.value} {error.message}\n")
        elif error.code is Code.CANCELLED:
            report.status("Cancelled; what was finished is kept.")
        else:
            report.failure(error.message)
        return _STATUS.get(error.code, BAD_INPUT)


def _render(arguments: argparse.Namespace, report: Report) -> None:
    cancelled = threading.Event()

    def cancel(number: int, frame: FrameType | None) -> None:
        cancelled.set()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last is what farms send on Windows
        if number := getattr(signal, name, None):
            signal.signal(number, cancel)
    store = str(arguments.store or (arguments.job.parent / STORE).absolute())
    with tempfile.TemporaryDirectory(prefix="paintover-") as scratch:
        # Models are looked for there, too; a farm's user may have no home.
        os.environ["PAINTOVER_DATA"] = scratch if is_url(store) else os.path.abspath(store)
        render(
            arguments.job.absolute(),
            store,
            Path(scratch),
            arguments.stage or list(ALL),
            arguments.windows,
            read_rules(arguments.path_mapping),
            report,
            cancelled.is_set,
        )


def _span(text: str) -> Span:
    """ "3-7", or "3" for "3-3"."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is no range of windows; write it as 3-7")
    return int(found[1]), int(found[2] or found[1])


if __name__ == "__main__":
    sys.exit(main())
