"""For `nuke -t`, on farms and in pipelines: carries paintings through a node of a script.

nuke -t -m 4 batch.py comp.nk Read1 1001=painted.psd [1048=other.psd …] [--method draft] [--save painted.nk]
"""

from __future__ import annotations

import argparse
import queue
import sys
from collections.abc import Callable
from typing import Any

import nuke

from paintover_bridge.hosts.command import Event, HostError
from paintover_bridge.hosts.nuke.session import NodePropagation, result_read


def propagate(node: Any, paintings: dict[int, str], method: str = "draft", say: Callable[[str], None] = print) -> Any:
    """Waits for the result; returns the Read that shows it. paintings: by Nuke's frame numbers.

    Raises HostError with the sentence of what went wrong."""
    waiting: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.SimpleQueue()
    failures: list[str] = []

    def tell(what: str, event: Event) -> None:
        if what == "error":
            failures.append(str(event.get("message")))
        elif what == "done":
            say(f"Wrote {event.get('output')}")

    session = NodePropagation(node, tell, lambda call, *given: waiting.put((call, given)), method, paintings)
    while not session.ended:
        call, given = waiting.get()
        call(*given)
    if failures:
        raise HostError(failures[-1])
    return result_read(node)


def main(given: list[str] | None = None) -> int:
    """The exit status: 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(prog="nuke -t batch.py", description=__doc__)
    parser.add_argument("script")
    parser.add_argument("node")
    parser.add_argument("paintings", nargs="+", metavar="FRAME=IMAGE")
    parser.add_argument("--method", default="draft")
    parser.add_argument("--save", help="writes the script with the result's Read")
    chosen = parser.parse_args(given)
    try:
        paintings = {int(frame): path for frame, _, path in (one.partition("=") for one in chosen.paintings)}
    except ValueError:
        parser.error("a painting is FRAME=IMAGE, like 1001=painted.psd")
    try:
        nuke.scriptOpen(chosen.script)
        node = nuke.toNode(chosen.node)
        if node is None:
            raise HostError(f"{chosen.script} has no node {chosen.node}.")
        propagate(node, paintings, chosen.method)
        if chosen.save:
            nuke.scriptSaveAs(chosen.save, overwrite=0)
    except (HostError, RuntimeError) as error:
        sys.stderr.write(f"paintover: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
