"""The panel: paint, propagate, see what comes. Qt by PySide6 (Nuke 16 on) or PySide2."""

from __future__ import annotations

import importlib
import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import nuke
from paintover_local.processes import detached

from paintover_bridge.hosts.command import Event, HostError, clean_environment
from paintover_bridge.hosts.nuke import find_command
from paintover_bridge.hosts.nuke.session import NodeCommand, NodePainting, NodePropagation, in_main_thread

try:  # Nuke 16 and later, or before
    QtWidgets: Any = importlib.import_module("PySide6.QtWidgets")
except ImportError:
    QtWidgets = importlib.import_module("PySide2.QtWidgets")


class Panel(QtWidgets.QWidget):  # type: ignore[misc]
    """Works on the node that is selected when a button is pressed."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.sessions: list[NodeCommand] = []
        self.method = QtWidgets.QComboBox()
        self.method.addItems(["best", "draft"])
        self.method.setToolTip(
            "What Propagate carries by; every save is carried by draft. best: the best that this machine can run; the "
            "line below tells which that is."
        )
        self.paint = self._button("Paint this frame", self._paint, "Opens the selected node's frame in your editor.")
        self.propagate = self._button("Propagate", self._propagate, "Carries the node's paintings through it.")
        self.done = self._button("Done painting", self._stop, "Ends what runs; results that are there stay.")
        self.monitor = self._button("Open monitor", self._monitor, "Shows the queue in a browser.")
        self.progress = QtWidgets.QProgressBar()
        self.progress.setRange(0, 100)
        self.status = QtWidgets.QLabel("Select a Read, or any node, and paint on it.")
        self.status.setWordWrap(True)
        layout = QtWidgets.QVBoxLayout(self)
        for widget in (self.paint, self.method, self.propagate, self.done, self.monitor, self.progress, self.status):
            layout.addWidget(widget)
        layout.addStretch()
        self._show_running()
        threading.Thread(target=self._find_methods, name="paintover-methods", daemon=True).start()

    def _button(self, text: str, pressed: Callable[[], None], tip: str) -> Any:
        button = QtWidgets.QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda *_: self._guarded(pressed))
        return button

    def _guarded(self, pressed: Callable[[], None]) -> None:
        try:
            pressed()
        except HostError as error:
            self.status.setText(str(error))

    def _paint(self) -> None:
        self._begin(NodePainting(selected(), int(nuke.frame()), self._tell))

    def _propagate(self) -> None:
        self._begin(NodePropagation(selected(), self._tell, method=self.method.currentText()))

    def _begin(self, session: NodeCommand) -> None:
        self.sessions.append(session)
        self.status.setText(f"Starting on {session.node}.")
        self._show_running()

    def _stop(self) -> None:
        for session in self.sessions:
            session.run.stop()

    def _monitor(self) -> None:
        start(["monitor"])

    def _tell(self, what: str, event: Event) -> None:
        """In the main thread."""
        if what == "exported":
            self.status.setText(f"Paint on {event['path']}, above the plate, and save.")
        elif what == "editor" and event.get("saving"):
            self.status.setText(f"Paint on the layers above the plate. To save in {event['name']}: {event['saving']}")
        elif what == "saved":
            self.status.setText("Saved; carrying it through.")
        elif what == "progress":
            self.progress.setValue(round(100 * float(event.get("fraction") or 0)))
        elif what == "done":
            self.progress.setValue(100)
            self.status.setText(f"{event.get('output')} is in the Read beside the node.")
        elif what in ("error", "note"):
            self.status.setText(str(event.get("message")))
        elif what == "ended":
            self._show_running()

    def _show_running(self) -> None:
        self.sessions = [session for session in self.sessions if not session.ended]
        self.done.setEnabled(bool(self.sessions))

    def _find_methods(self) -> None:
        try:
            listing = subprocess.run(
                [*find_command(), "methods", "--json"], capture_output=True, env=clean_environment(), **detached()
            ).stdout
            names = [json.loads(line)["name"] for line in listing.splitlines()]
        except (HostError, OSError, ValueError, KeyError):
            return  # these two are there already
        in_main_thread(self._add_methods, names)

    def _add_methods(self, names: list[str]) -> None:
        have = {self.method.itemText(index) for index in range(self.method.count())}
        self.method.addItems([name for name in names if name not in have])


def selected() -> Any:
    """The node to work on. Raises HostError where none, or several, are selected."""
    nodes = nuke.selectedNodes()
    if len(nodes) != 1:
        raise HostError("Select the one node to paint on." if nodes else "Select a node to paint on.")
    return nodes[0]


def start(arguments: list[str]) -> None:
    """Runs `paintover` without waiting for it."""
    try:
        subprocess.Popen([*find_command(), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, env=clean_environment(), **detached())  # fmt: skip
    except OSError as error:
        raise HostError(f"Paintover cannot be started: {error}.") from error
