"""The panel and the menu, in a real Qt without a screen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bridge.hosts.nuke.test_nuke import SAVED, Host, host  # noqa: F401

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
try:
    from PySide6 import QtWidgets
except ImportError:
    QtWidgets = pytest.importorskip(
        "PySide2.QtWidgets", reason="SKIPPED: NUKE'S PANEL IS NOT TESTED, PYSIDE6 (PySide6-Essentials) IS NOT INSTALLED"
    )


@pytest.fixture
def panel(host: Host) -> Iterator[Any]:  # noqa: F811
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    host.says({"event": "nothing"})
    made = host.module("panel").Panel()
    yield made
    made._stop()
    made.deleteLater()
    application.processEvents()


def test_panel_paints_the_node_and_shows_progress(host: Host, panel: Any) -> None:  # noqa: F811
    node = host.read()
    host.nuke.select(node)
    host.nuke.current["frame"] = 1012
    host.says(*SAVED, {"until": str(host.folder / "go")}, {"event": "done", "output": "/out/v001/sh010.%04d.exr"})
    panel.paint.click()
    [session] = panel.sessions
    assert panel.done.isEnabled()
    host.nuke.pump(lambda: panel.progress.value() == 50)
    (host.folder / "go").touch()
    host.until_ended(session)
    assert panel.status.text() == "/out/v001/sh010.%04d.exr is in the Read beside the node."
    assert panel.progress.value() == 100 and not panel.done.isEnabled()


@pytest.mark.parametrize(
    ("count", "message"), [(0, "Select a node to paint on."), (2, "Select the one node to paint on.")]
)
def test_it_says_what_to_select(host: Host, panel: Any, count: int, message: str) -> None:  # noqa: F811
    host.nuke.select(*(host.read() for _ in range(count)))
    panel.paint.click()
    assert panel.status.text() == message


def test_panel_says_how_to_save(host: Host, panel: Any) -> None:  # noqa: F811
    host.nuke.select(host.read())
    host.nuke.current["frame"] = 1012
    host.says(SAVED[0], {"event": "editor", "name": "GIMP", "saving": "File > Overwrite."}, {"sleep": 60})
    panel.paint.click()
    [session] = panel.sessions
    host.nuke.pump(lambda: "To save in GIMP: File > Overwrite." in panel.status.text())
    panel.done.click()
    host.until_ended(session)


def test_done_painting_ends_the_command_without_an_error(host: Host, panel: Any) -> None:  # noqa: F811
    host.nuke.select(host.read())
    host.nuke.current["frame"] = 1012
    host.says(SAVED[0], {"sleep": 60})
    panel.paint.click()
    [session] = panel.sessions
    host.nuke.pump(lambda: "above the plate" in panel.status.text())
    panel.done.click()
    host.until_ended(session)
    assert "above the plate" in panel.status.text()


def test_what_goes_wrong_is_in_the_panel(host: Host, panel: Any) -> None:  # noqa: F811
    host.nuke.select(host.read())
    panel.propagate.click()
    assert panel.status.text().startswith("Nothing is painted on Read1 yet")
    host.nuke.current["frame"] = 1012
    host.says({"event": "error", "message": "The picture is half written."})
    panel.paint.click()
    host.until_ended(*panel.sessions)
    assert panel.status.text() == "The picture is half written."


def test_menu_is_complete_and_opens_the_panel(host: Host, panel: Any) -> None:  # noqa: F811
    import nukescripts.panels  # type: ignore[import-not-found]

    menu = host.module("menu")
    menu.install()
    commands = host.nuke.menu("Nuke").menus["Paintover"].commands
    entries = ["Paint this frame", "Propagate", "Done painting", "Add the effect", "Open monitor", "Show the panel"]
    assert list(commands) == entries
    host.nuke.select(host.read(colorspace="AlexaV3LogC"))
    commands["Add the effect"]()
    assert len(host.nuke.allNodes(host.nuke.EFFECT)) == 1
    assert "converts from AlexaV3LogC" in host.nuke.messages.pop()
    host.nuke.select()
    assert list(host.nuke.menu("Nodes").menus["Paintover"].commands) == entries[:-1]
    commands["Show the panel"]()
    [(pane, shown)] = nukescripts.panels.panes
    assert pane == "Properties.1" and isinstance(shown, QtWidgets.QWidget)
    commands["Paint this frame"]()
    assert host.nuke.messages == ["Select a node to paint on."]
    shown.deleteLater()
