"""A stand-in of Nuke's documented Python module: what Paintover's scripts touch, with its traps.

Nodes are touched from the main thread alone, else it raises; a knob that a node has not raises NameError; a choice that
a knob has not is dropped without a word; a cancelled render is a RuntimeError; executeInMainThread returns at once.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from pathlib import Path
from typing import Any

INVISIBLE = 1024
EFFECT = "OFXorg.paintover.Paintover_v1"
COLORSPACES = ["default (sRGB)", "sRGB", "linear", "rec709", "AlexaV3LogC", "ACEScg", "ACES - ACEScg"]
_main = threading.main_thread()
_calls: queue.SimpleQueue[tuple[Any, tuple[Any, ...]]] = queue.SimpleQueue()
_nodes: list[Node] = []
_selection: list[Node] = []
_menus: dict[str, Menu] = {}
messages: list[str] = []
undone: list[str] = []
renders: list[tuple[str, int, int]] = []
current = {"frame": 1001, "script": "Root", "render": "", "saved": "", "effect": True}


def _check() -> None:
    if threading.current_thread() is not _main:
        raise RuntimeError("I'm already executing something else")  # what Nuke says from another thread


class Knob:
    def __init__(self, name: str, value: Any = "", choices: list[str] | None = None) -> None:
        self._name, self._value, self._choices = name, value, choices
        self.executed = 0

    def name(self) -> str:
        return self._name

    def value(self) -> Any:
        _check()
        return self._value

    def setValue(self, value: Any) -> bool:  # noqa: N802
        _check()
        if self._choices is not None and value not in self._choices:
            return False
        self._value = value
        return True

    def setFlag(self, flag: int) -> None:  # noqa: N802
        _check()

    def execute(self) -> None:
        _check()
        self.executed += 1


String_Knob = Knob


class Node:
    def __init__(self, kind: str, name: str = "", **knobs: Any) -> None:
        _check()
        self._kind = kind
        self._name = name or f"{kind}{sum(node._kind == kind for node in _nodes) + 1}"
        self._knobs: dict[str, Knob] = {"label": Knob("label")}
        if kind == "Read":
            for knob, value in (("file", ""), ("proxy", ""), ("first", 1), ("last", 1), ("origfirst", 1),
                                ("origlast", 1), ("frame", ""), ("raw", False), ("premultiplied", False)):  # fmt: skip
                self._knobs[knob] = Knob(knob, value)
            self._knobs["frame_mode"] = Knob("frame_mode", "expression", ["expression", "start at", "offset"])
            self._knobs["colorspace"] = Knob("colorspace", "default (sRGB)", COLORSPACES)
            self._knobs["reload"] = Knob("reload")
        if kind == EFFECT:
            for knob in ("sourcePath", "sourceRange", "colorspace", "keyframes"):
                self._knobs[knob] = Knob(knob)
            self._knobs |= {"sourceOffset": Knob("sourceOffset", 0), "sendFrames": Knob("sendFrames", False)}
        inputs = knobs.pop("inputs", [])
        if kind == "Write":
            for knob in ("file", "file_type", "channels", "raw"):
                self._knobs[knob] = Knob(knob)
        for knob, value in knobs.items():
            self[knob].setValue(value)
        self._place, self._input, self.hash = (0, 0), inputs[0] if inputs else None, 7
        self.range = (1, 1)
        _nodes.append(self)

    def __getitem__(self, name: str) -> Knob:
        _check()
        if name not in self._knobs:
            raise NameError(f"knob {name} does not exist")
        return self._knobs[name]

    def knob(self, name: str) -> Knob | None:
        _check()
        return self._knobs.get(name)

    def addKnob(self, knob: Knob) -> None:  # noqa: N802
        _check()
        self._knobs[knob.name()] = knob

    def Class(self) -> str:  # noqa: N802
        return self._kind

    def name(self) -> str:
        return self._name

    def fullName(self) -> str:  # noqa: N802
        return self._name

    def xpos(self) -> int:
        return self._place[0]

    def ypos(self) -> int:
        return self._place[1]

    def setXYpos(self, x: int, y: int) -> None:  # noqa: N802
        _check()
        self._place = (x, y)

    def setInput(self, index: int, node: Any) -> None:  # noqa: N802
        self._input = node

    def input(self, index: int) -> Any:
        _check()
        return self._input

    def firstFrame(self) -> int:  # noqa: N802
        return self.range[0]

    def lastFrame(self) -> int:  # noqa: N802
        return self.range[1]

    def opHashes(self) -> list[int]:  # noqa: N802
        return [self.hash]


class _Root:
    def __init__(self) -> None:
        self._knobs = {"proxy": Knob("proxy", False), "workingSpaceLUT": Knob("workingSpaceLUT", "linear")}

    def __getitem__(self, name: str) -> Knob:
        return self._knobs[name]

    def name(self) -> str:
        return current["script"]


_root = _Root()


class _Nodes:
    def __getattr__(self, kind: str) -> Any:
        if kind == EFFECT and not current["effect"]:
            raise AttributeError(f"nuke has no node {kind}")
        return lambda **knobs: Node(kind, **knobs)


nodes = _Nodes()


class Undo:
    def begin(self, name: str) -> None:
        _check()
        undone.append(name)

    def end(self) -> None:
        _check()


class Menu:
    def __init__(self) -> None:
        self.commands: dict[str, Any] = {}
        self.menus: dict[str, Menu] = {}

    def addMenu(self, name: str) -> Menu:  # noqa: N802
        return self.menus.setdefault(name, Menu())

    def findItem(self, name: str) -> Menu | None:  # noqa: N802
        return self.menus.get(name)

    def addCommand(self, name: str, command: Any) -> None:  # noqa: N802
        self.commands[name] = command


def menu(name: str) -> Menu:
    return _menus.setdefault(name, Menu())


def root() -> _Root:
    return _root


def frame() -> int:
    return current["frame"]


def filename(node: Node) -> str | None:
    return node["file"].value() or None


def toNode(name: str) -> Node | None:  # noqa: N802
    _check()
    return next((node for node in _nodes if node.name() == name), None)


def allNodes(kind: str) -> list[Node]:  # noqa: N802
    _check()
    return [node for node in _nodes if node.Class() == kind]


def selectedNodes() -> list[Node]:  # noqa: N802
    _check()
    return list(_selection)


def select(*chosen: Node) -> None:
    _selection[:] = chosen


def delete(node: Node) -> None:
    _check()
    _nodes.remove(node)


def execute(node: Node, first: int, last: int, step: int) -> None:
    _check()
    if current["render"]:
        raise RuntimeError(current["render"])
    pattern = node["file"].value()
    renders.append((pattern, first, last))
    for number in range(first, last + 1, step):
        with contextlib.suppress(FileExistsError):
            Path(pattern % number).touch(exist_ok=False)


def message(text: str) -> None:
    _check()
    messages.append(text)


def getPaneFor(name: str) -> str:  # noqa: N802
    return name


def executeInMainThread(function: Any, args: Any = (), kwargs: Any = None) -> None:  # noqa: N802
    _calls.put((function, args))


def scriptOpen(path: str) -> None:  # noqa: N802
    if not Path(path).exists():
        raise RuntimeError(f"{path} does not exist")
    current["script"] = path


def scriptSaveAs(path: str, overwrite: int = -1) -> None:  # noqa: N802
    if Path(path).exists() and not overwrite:
        raise RuntimeError(f"{path} exists")
    current["saved"] = path


def pump(until: Any, seconds: float = 20.0) -> None:
    """What Nuke's event loop does between two gestures."""
    import time

    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        with contextlib.suppress(queue.Empty):
            function, arguments = _calls.get(timeout=0.02)
            function(*arguments)
