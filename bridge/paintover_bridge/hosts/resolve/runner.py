"""Executes the requests of Resolve's scripts with the `paintover` command, and logs the events for the scripts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from paintover_local.processes import detached

from paintover_bridge.hosts.command import Event, HostError, Run, clean_environment, make_output_folder
from paintover_bridge.hosts.notify import notify
from paintover_bridge.hosts.resolve.mailbox import Mailbox, ScriptRequest

IDLE_SECONDS = 12 * 3600.0  # a painting without a save for so long is ended
_POLL_SECONDS = 0.5


def arguments(request: ScriptRequest) -> list[str]:
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


class RequestRunner:
    """Executes requests. command: the command that runs `paintover`."""

    def __init__(self, mailbox: Mailbox, command: Sequence[str]) -> None:
        self.mailbox = mailbox
        self._command = command
        self._runs: list[Run] = []

    def execute(self, request: ScriptRequest) -> None:
        """Executes a request to its end. Errors are logged for the script, or shown on the desktop where no script
        reads them."""
        self.mailbox.take(request)
        if request.verb == "tell":
            notify(str(request.given.get("sentence", "")))
        elif request.verb == "monitor":
            self._show_monitor(request)
        else:
            self._follow(request)

    def stop(self) -> None:
        """Ends the commands that still run."""
        for run in list(self._runs):
            run.stop()

    def _show_monitor(self, request: ScriptRequest) -> None:
        """Opens the monitor; without --json, which would keep `paintover monitor` from opening the browser."""
        done = subprocess.run(
            [*self._command, *arguments(request)], capture_output=True, env=clean_environment(), **detached()
        )
        if done.returncode != 0:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["The monitor does not open."]
            notify(lines[-1])

    def _follow(self, request: ScriptRequest) -> None:
        given, mailbox = request.given, self.mailbox
        copied = ("frame", "name", "source", "first", "last", "colorspace")
        facts = {"verb": request.verb, **{name: given[name] for name in copied if name in given}}
        mailbox.tell(request, "started", **facts)
        last_event = time.monotonic()

        def on_event(event: Event) -> None:
            nonlocal last_event
            last_event = time.monotonic()
            self._log_event(request, event)

        try:
            command_arguments = arguments(request)
            make_output_folder(str(given["output"]))
            run = Run(self._command, command_arguments, on_event)
            self._runs.append(run)
            while not run.wait(_POLL_SECONDS):
                if mailbox.is_replaced(request) or time.monotonic() - last_event > IDLE_SECONDS:
                    run.stop()
            self._runs.remove(run)
        except HostError as error:
            mailbox.tell(request, "error", message=str(error))
            mailbox.tell(request, "ended")

    def _log_event(self, request: ScriptRequest, event: Event) -> None:
        what, frame = event["event"], event.get("frame", request.given.get("frame", 0))
        if what in ("exported", "saved") and event.get("path"):
            self.mailbox.tell(request, what, path=event["path"], frame=frame)
        elif what == "editor":
            self.mailbox.tell(request, "opened")  # from here on saves are seen
            if event.get("saving"):
                notify(f"{event['name']} opens frame {frame}. To save there: {event['saving']}")
        elif what == "done" and event.get("output"):
            given = request.given
            self.mailbox.remember_result(request, event["output"])
            self.mailbox.tell(request, "done", output=event["output"], first=given["first"], last=given["last"])
        elif what == "note" and request.given.get("method") == "best":
            notify(str(event.get("message")))  # which method that is
        elif what == "error":
            self.mailbox.tell(request, "error", message=event.get("message", "It failed."))
        elif what == "ended":
            self.mailbox.tell(request, "ended")
