"""Does what a script in Resolve asked for, by the `paintover` command, and writes down what happens."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from paintover_local.processes import detached

from paintover_bridge.hosts.command import Event, HostError, Run, clean_environment, make_room
from paintover_bridge.hosts.notify import notify
from paintover_bridge.hosts.resolve.mailbox import Mailbox, Request

IDLE_SECONDS = 12 * 3600.0  # a painting that nobody saves any more is let go
_POLL_SECONDS = 0.5


def arguments(request: Request) -> list[str]:
    """The command's arguments for a request. Raises HostError for one that lacks something."""
    if request.verb == "monitor":
        return ["monitor"]
    try:
        given = request.given
        span = f"--range={int(given['first'])}-{int(given['last'])}"
        common = [span, "-o", str(given["output"]), "--versioned"]
        common += [part for name in ("colorspace", "method", "editor") for part in _option(name, given)]
        if request.verb == "paint":
            return ["paint", str(given["source"]), "--frame", str(int(given["frame"])), *common]
        paintings = [part for one in given["paintings"] for part in ("-k", f"{int(one['frame'])}={one['path']}")]
        return ["propagate", str(given["source"]), *paintings, *common]
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(f"The request to {request.verb} lacks something ({error}); install Paintover again.") from error


def _option(name: str, given: Mapping[str, Any]) -> list[str]:
    return [f"--{name}", str(given[name])] if given.get(name) else []


class Runner:
    """command: what runs `paintover`."""

    def __init__(self, mailbox: Mailbox, command: Sequence[str]) -> None:
        self.mailbox = mailbox
        self._command = command
        self._runs: list[Run] = []

    def do(self, request: Request) -> None:
        """Does it to its end. What goes wrong is written down for the script, or shown where none reads it."""
        self.mailbox.take(request)
        if request.verb == "tell":
            notify(str(request.given.get("sentence", "")))
        elif request.verb == "monitor":
            self._show_monitor(request)
        else:
            self._follow(request)

    def stop(self) -> None:
        """Ends what still runs, as this process does."""
        for run in list(self._runs):
            run.stop()

    def _show_monitor(self, request: Request) -> None:
        """Without --json, which keeps `paintover monitor` from opening the browser, it says nothing to read."""
        done = subprocess.run(
            [*self._command, *arguments(request)], capture_output=True, env=clean_environment(), **detached()
        )
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["The monitor does not open."]
            notify(said[-1])

    def _follow(self, request: Request) -> None:
        given, mailbox = request.given, self.mailbox
        kept = ("frame", "name", "source", "first", "last", "colorspace")
        facts = {"verb": request.verb, **{name: given[name] for name in kept if name in given}}
        mailbox.tell(request, "started", **facts)
        heard = time.monotonic()

        def on_event(event: Event) -> None:
            nonlocal heard
            heard = time.monotonic()
            self._write_down(request, event)

        try:
            asked = arguments(request)
            make_room(str(given["output"]))
            run = Run(self._command, asked, on_event)
            self._runs.append(run)
            while not run.wait(_POLL_SECONDS):
                if mailbox.is_replaced(request) or time.monotonic() - heard > IDLE_SECONDS:
                    run.stop()
            self._runs.remove(run)
        except HostError as error:
            mailbox.tell(request, "error", message=str(error))
            mailbox.tell(request, "ended")

    def _write_down(self, request: Request, event: Event) -> None:
        what, frame = event["event"], event.get("frame", request.given.get("frame", 0))
        if what in ("exported", "saved") and event.get("path"):
            self.mailbox.tell(request, what, path=event["path"], frame=frame)
        elif what == "editor":
            self.mailbox.tell(request, "opened")  # from here on saves are seen
        elif what == "done" and event.get("output"):
            given = request.given
            self.mailbox.remember_result(request, event["output"])
            self.mailbox.tell(request, "done", output=event["output"], first=given["first"], last=given["last"])
        elif what == "error":
            self.mailbox.tell(request, "error", message=event.get("message", "It failed."))
        elif what == "ended":
            self.mailbox.tell(request, "ended")
