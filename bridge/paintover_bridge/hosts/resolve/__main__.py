"""`run REQUEST.json` executes one request; `watch` executes those that scripts leave in Fusion's preferences."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from paintover_local.places import resolve_mailbox
from paintover_local.processes import module_command

from paintover_bridge.daemon import data_folder
from paintover_bridge.hosts.command import HostError, find_command
from paintover_bridge.hosts.resolve.mailbox import Mailbox, preference_files, read_request, requests_in
from paintover_bridge.hosts.resolve.runner import RequestRunner

LOOK_SECONDS = 0.25

log = logging.getLogger("paintover.resolve")


def main(given: list[str] | None = None) -> int:
    """The exit status: 0, or 2 with a sentence on standard error."""
    parser = argparse.ArgumentParser(prog="paintover-resolve", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="the engine's data folder")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("request", type=Path)
    watching = commands.add_parser("watch")
    watching.add_argument("--preferences", type=Path, action="append", help="files to watch")
    watching.add_argument("--while-input", action="store_true", help="end when standard input does")
    chosen = parser.parse_args(given)
    logging.basicConfig(format="paintover-resolve: %(message)s")
    data = data_folder(chosen.data_dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # runs the `finally` below
    runner = None
    try:
        runner = RequestRunner(Mailbox(resolve_mailbox(data)), [*_command(), "--data-dir", str(data)])
        if chosen.command == "watch":
            if chosen.while_input:
                threading.Thread(target=_end_with_input, args=(runner,), daemon=True).start()
            watch(runner, chosen.preferences)
        else:
            request = read_request(chosen.request)
            chosen.request.unlink()
            runner.execute(request)
    except (HostError, OSError) as error:
        log.error("%s", error)
        return 2
    finally:
        if runner is not None:
            runner.stop()
    return 0


def _command() -> list[str]:
    """What runs `paintover`: $PAINTOVER_COMMAND, else this Python."""
    overridden = "PAINTOVER_COMMAND" in os.environ
    return find_command() if overridden else module_command("paintover_bridge")


def _end_with_input(runner: RequestRunner) -> None:
    """Ends this process when its standard input is closed, that is when its parent has ended."""
    sys.stdin.buffer.read()
    runner.stop()
    os._exit(0)


def watch(runner: RequestRunner, preferences: list[Path] | None) -> None:
    """Polls the preferences files for ever; executes each request once, on a thread of its own."""
    done: set[str] = set()
    stamps: dict[Path, float] = {}
    while True:
        for path in preferences or preference_files():
            try:
                stamp = path.stat().st_mtime
                if stamps.get(path) == stamp:
                    continue
                stamps[path] = stamp
                for request in requests_in(path, time.time()):
                    if request.id not in done and not runner.mailbox.was_taken(request):
                        done.add(request.id)
                        threading.Thread(target=runner.execute, args=(request,), daemon=True).start()
            except (OSError, HostError) as error:
                log.error("%s", error)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
