"""What an artist does in Krita, as a plug-in of Krita's own that the test installs: chooses Paintover's menu entry,
paints on the layer that is active, saves, and looks at what the docker shows. Tells it all in $DRIVEN, and leaves."""

import json
import os
import traceback

import krita
from PyQt5 import QtCore, QtWidgets

TOLD = {}
TICK = 200  # ms


def finish():
    with open(os.environ["DRIVEN"] + ".partial", "w") as file:
        json.dump(TOLD, file)
    os.replace(os.environ["DRIVEN"] + ".partial", os.environ["DRIVEN"])
    os._exit(0)


def when(found, then):
    """Calls `then` with what `found` returns, as soon as that is something."""
    try:
        value = found()
        if value:
            then(value)
        else:
            QtCore.QTimer.singleShot(TICK, lambda: when(found, then))
    except Exception:
        TOLD["error"] = traceback.format_exc()
        finish()


def docker():
    return next(each for each in krita.Krita.instance().dockers() if each.objectName() == "paintover_docker")


def of_frame_3():
    """The docker's item that shows frame 3, a neighbour of the painted one."""
    frames = docker().frames
    items = [frames.item(row) for row in range(frames.count())]
    return next(item for item in items if item.text().startswith("Frame 3"))


def start(window):
    QtWidgets.QFileDialog.getOpenFileName = staticmethod(lambda *_: (os.environ["SHOT_FRAME"], ""))
    krita.Krita.instance().action("paintover_paint").trigger()
    when(krita.Krita.instance().activeDocument, paint)


def paint(document):
    layer = document.activeNode()
    TOLD.update(file=document.fileName(), active=layer.name(), depth=document.colorDepth())
    layer.setPixelData(QtCore.QByteArray(bytes((40, 40, 230, 255)) * 60 * 60), 200, 100, 60, 60)
    document.refreshProjection()
    document.waitForDone()
    TOLD["saved"] = document.save()
    when(lambda: docker().frames.count(), look)


def look(_):
    frames = docker().frames
    TOLD["frames"] = [frames.item(row).text() for row in range(frames.count())]
    TOLD["painted"] = of_frame_3().data(QtCore.Qt.UserRole).pixelColor(228, 130).getRgb()
    frames.itemActivated.emit(of_frame_3())
    krita.Krita.instance().activeWindow().qwindow().grab().save(os.environ["DRIVEN"] + ".png")
    TOLD["documents"] = len(krita.Krita.instance().documents())
    frames.clear()
    document = krita.Krita.instance().activeDocument()
    document.saveAs(TOLD["file"][:-4] + ".kra")
    when(frames.count, look_again)


def look_again(_):
    TOLD["of_kra"] = of_frame_3().data(QtCore.Qt.UserRole).pixelColor(228, 130).getRgb()
    finish()


class Driver(krita.Extension):
    def setup(self):
        pass

    def createActions(self, window):  # noqa: N802
        when(krita.Krita.instance().activeWindow, start)


krita.Krita.instance().addExtension(Driver(krita.Krita.instance()))
