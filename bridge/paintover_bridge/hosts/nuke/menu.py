"""Nuke's Paintover menu, its toolbar, and the pane of the panel."""

from __future__ import annotations

from collections.abc import Callable

import nuke
import nukescripts.panels

from paintover_bridge.hosts.command import Event, HostError
from paintover_bridge.hosts.nuke import effect, panel
from paintover_bridge.hosts.nuke.session import NodeCommand, NodePainting, NodePropagation

PANE = "org.paintover.panel"
WIDGET = "__import__('paintover_bridge.hosts.nuke.panel', fromlist=['Panel']).Panel"  # Nuke evaluates it, wherever
_sessions: list[NodeCommand] = []


def install() -> None:
    """Called once, by the installed menu.py."""
    nukescripts.panels.registerWidgetAsPanel(WIDGET, "Paintover", PANE)
    for menu in (nuke.menu("Nuke").addMenu("Paintover"), nuke.menu("Nodes").addMenu("Paintover")):
        menu.addCommand("Paint this frame", paint)
        menu.addCommand("Propagate", propagate)
        menu.addCommand("Done painting", stop)
        menu.addCommand("Add the effect", add_effect)
        menu.addCommand("Open monitor", open_monitor)
    nuke.menu("Nuke").findItem("Paintover").addCommand("Show the panel", show_panel)


def paint() -> None:
    """Opens the selected node's frame in the artist's editor."""
    _begin(lambda: NodePainting(panel.selected(), int(nuke.frame()), _tell))


def propagate() -> None:
    """Carries the selected node's paintings through it."""
    _begin(lambda: NodePropagation(panel.selected(), _tell, method="best"))


def stop() -> None:
    """Ends all paintings that were begun from the menu."""
    for session in _sessions:
        session.run.stop()
    _sessions.clear()


def add_effect() -> None:
    """Puts the OpenFX effect on the selected node, or fills in the source of the selected effect."""
    undo = nuke.Undo()
    undo.begin("Paintover")
    try:
        _, sentence = effect.place(panel.selected())
    except HostError as error:
        sentence = str(error)
    finally:
        undo.end()
    if sentence:
        nuke.message(sentence)


def open_monitor() -> None:
    """Shows the queue in a browser."""
    try:
        panel.start(["monitor"])
    except HostError as error:
        nuke.message(str(error))


def show_panel() -> None:
    """Opens the pane beside the properties."""
    pane = nukescripts.panels.registerWidgetAsPanel(WIDGET, "Paintover", PANE, True)
    pane.addToPane(nuke.getPaneFor("Properties.1"))


def _begin(begin: Callable[[], NodeCommand]) -> None:
    try:
        _sessions.append(begin())
    except HostError as error:
        nuke.message(str(error))


def _tell(what: str, event: Event) -> None:
    """Of what the panel shows, the menu shows errors alone."""
    if what == "error":
        nuke.message(str(event.get("message")))
