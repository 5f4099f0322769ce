"""Krita's menu entry *Paint Over a Shot* and the docker that shows what each save makes of the shot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import krita

try:
    from PyQt5 import QtCore, QtGui, QtWidgets
except ImportError:  # Krita 6
    from PyQt6 import QtCore, QtGui, QtWidgets

from paintover_bridge.hosts.command import Event, HostError, Run, find_command
from paintover_bridge.hosts.painting import chosen_shot

TITLE = "Paint Over a Shot…"
DOCKER = "paintover_docker"
_PLACE = Path(__file__).parents[3]  # where the installer put the command's settings
_THUMBNAIL = 160  # pixels, the width of a frame in the docker
_LAST_FRAME = 2**31 - 1


class Painting(QtCore.QObject):  # type: ignore[misc]
    """One frame being painted: the `paintover paint` command, and what it tells, in Krita's main thread."""

    heard = QtCore.pyqtSignal(dict)

    def __init__(self, source: str, frame: int) -> None:
        super().__init__()
        arguments = ["paint", source, "--frame", str(frame), "--editor", "none"]
        self._run = Run(find_command(_PLACE), arguments, self._pass_on)

    def _pass_on(self, event: Event) -> None:
        self.heard.emit(dict(event))  # from the command's thread to the object's own

    def stop(self) -> None:
        self._run.stop()


class PaintoverExtension(krita.Extension):  # type: ignore[misc]
    """Puts the entry into Krita's menu, and opens the frame that it leads to."""

    def setup(self) -> None:
        """Called by Krita once."""

    def createActions(self, window: Any) -> None:  # noqa: N802
        action = window.createAction("paintover_paint", TITLE, "tools/scripts")
        action.triggered.connect(choose_frame)


def choose_frame() -> None:
    """Asks for a shot and a frame of it, and paints on it."""
    window = krita.Krita.instance().activeWindow()
    parent = window.qwindow() if window else None
    path, _ = QtWidgets.QFileDialog.getOpenFileName(parent, "A video, or a frame of an image sequence")
    if not path:
        return
    source, frame = chosen_shot(path)
    if frame is None:
        frame, chosen = QtWidgets.QInputDialog.getInt(parent, "Paintover", "Frame", 0, -_LAST_FRAME, _LAST_FRAME)
        if not chosen:
            return
    paint(source, frame)


def paint(source: str, frame: int) -> None:
    """Opens a frame, and shows in the docker what each save of it makes of the shot."""
    docker = shown_docker()
    if docker is not None:
        docker.paint(source, frame)


def shown_docker() -> PaintoverDocker | None:
    """The docker of the active window, made visible."""
    for docker in krita.Krita.instance().dockers():
        if docker.objectName() == DOCKER:
            docker.setVisible(True)
            docker.raise_()
            widget: PaintoverDocker = docker
            return widget
    return None


class PaintoverDocker(krita.DockWidget):  # type: ignore[misc]
    """What the last save made: a line of state, and the frames of the draft."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("Paintover")
        self._painting: Painting | None = None
        self._state = QtWidgets.QLabel("Choose a frame, paint on the layer Paint, and save.")
        self._state.setWordWrap(True)
        self.frames = QtWidgets.QListWidget()
        self.frames.setViewMode(QtWidgets.QListView.ViewMode.IconMode)  # as many columns as there is room for
        self.frames.setMovement(QtWidgets.QListView.Movement.Static)
        self.frames.setResizeMode(QtWidgets.QListView.ResizeMode.Adjust)
        self.frames.setIconSize(QtCore.QSize(_THUMBNAIL, _THUMBNAIL))
        self.frames.setToolTip("Double-click to see a frame in its own size.")
        self.frames.itemActivated.connect(self._enlarge)
        button = QtWidgets.QPushButton(TITLE)
        button.clicked.connect(choose_frame)
        column = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(column)
        for widget in (button, self._state, self.frames):
            layout.addWidget(widget)
        self.setWidget(column)

    def canvasChanged(self, canvas: Any) -> None:  # noqa: N802
        """Called by Krita; the docker is the same for every picture."""

    def paint(self, source: str, frame: int) -> None:
        """Starts painting a frame, and ends what was being painted."""
        if self._painting is not None:
            self._painting.stop()
            self._painting.heard.disconnect(self._hear)
        self.frames.clear()
        try:
            self._painting = Painting(source, frame)
        except HostError as error:
            self._state.setText(str(error))
            return
        self._state.setText(f"Opening frame {frame} …")
        self._painting.heard.connect(self._hear)

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "exported":
            open_picture(event["path"])
            self._state.setText("Paint on the layer Paint, and save (Ctrl+S): each save is carried through the shot.")
        elif kind == "saved":
            self._state.setText("Saved; the shot follows …")
        elif kind == "progress" and event.get("state") == "running":
            self._state.setText(f"{event['fraction']:.0%} of the shot")
        elif kind == "draft":
            self._show_draft(event["path"])
            self._state.setText("The least certain frames, and the neighbours. Paint on, or paint one of these too.")
        elif kind in ("error", "note"):
            self._state.setText(event["message"])

    def _show_draft(self, path: str) -> None:
        self.frames.clear()
        for name, picture in draft_frames(path):
            thumbnail = picture.scaledToWidth(_THUMBNAIL, QtCore.Qt.TransformationMode.SmoothTransformation)
            item = QtWidgets.QListWidgetItem(QtGui.QIcon(QtGui.QPixmap.fromImage(thumbnail)), name)
            item.setData(QtCore.Qt.ItemDataRole.UserRole, picture)
            self.frames.addItem(item)

    def _enlarge(self, item: Any) -> None:
        label = QtWidgets.QLabel()
        label.setPixmap(QtGui.QPixmap.fromImage(item.data(QtCore.Qt.ItemDataRole.UserRole)))
        area = QtWidgets.QScrollArea()
        area.setWidget(label)
        window = QtWidgets.QDialog(self)
        window.setWindowTitle(item.text())
        QtWidgets.QVBoxLayout(window).addWidget(area)
        window.resize(label.sizeHint() + QtCore.QSize(40, 40))
        window.show()


def open_picture(path: str) -> None:
    """Shows a picture in the active window; the one that shows it already, if there is one."""
    application = krita.Krita.instance()
    for document in application.documents():
        if os.path.normcase(document.fileName()) == os.path.normcase(path):
            application.setActiveDocument(document)
            return
    document = application.openDocument(path)
    window = application.activeWindow()
    if document is not None and window is not None:
        window.addView(document)


def draft_frames(path: str) -> list[tuple[str, Any]]:
    """The groups of a draft's file, each with its picture, from the top down."""
    document = krita.Krita.instance().openDocument(path)
    if document is None:
        return []
    size = (document.width(), document.height())
    frames = [(node.name(), node.thumbnail(*size)) for node in document.rootNode().childNodes()]
    document.close()
    return frames[::-1]


def register() -> None:
    """Adds the extension and the docker to Krita."""
    application = krita.Krita.instance()
    application.addExtension(PaintoverExtension(application))
    factory = krita.DockWidgetFactory(DOCKER, krita.DockWidgetFactoryBase.DockRight, PaintoverDocker)
    application.addDockWidgetFactory(factory)
