"""Painting on a node, and what comes of it: a Read beside the node that shows the newest result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import nuke

from paintover_bridge.hosts.command import Event, HostError, Run, make_output_folder
from paintover_bridge.hosts.nuke import effect as effects
from paintover_bridge.hosts.nuke import find_command
from paintover_bridge.hosts.nuke import shot as shots
from paintover_bridge.hosts.nuke.shot import NukeShot

KNOB = "paintover"  # on the node that is painted: its paintings by frame, so that they are saved with the script
Tell = Callable[[str, Event], None]
Dispatch = Callable[..., Any]
"""Calls a function with its arguments where Nuke may be touched."""


class NodeCommand:
    """One `paintover` command for a node.

    tell: gets what happens, as ("saved", event). dispatch: [default: `in_main_thread`]"""

    frame = 0  # of the source: what is painted

    def __init__(
        self, node: Any, shot: NukeShot, arguments: Sequence[str], tell: Tell, dispatch: Dispatch | None = None
    ) -> None:
        self.node = node.fullName()
        self.shot = shot
        self.ended = False
        self._tell = tell
        self._dispatch = dispatch or in_main_thread
        span = f"--range={shot.first}-{shot.last}"
        colorspace = ["--colorspace", shot.colorspace] if shot.colorspace else []
        output = shots.output_for(shot)
        make_output_folder(output)
        common = [span, *colorspace, "-o", output, "--versioned"]
        self.run = Run(find_command(), [*arguments, *common], self._hear)

    def _hear(self, event: Event) -> None:
        self._dispatch(self._show, event)

    def _show(self, event: Event) -> None:
        """In the main thread."""
        node = nuke.toNode(self.node)
        if event["event"] == "saved" and node is not None:
            remember(node, int(event.get("frame", self.frame)), str(event["path"]))
        elif event["event"] == "done" and event.get("output") and node is not None:
            show_result(node, self.shot, str(event["output"]))
        self.ended |= event["event"] == "ended"
        self._tell(str(event["event"]), event)


class NodePainting(NodeCommand):
    """A frame of a node, open in the artist's editor until `run.stop()`."""

    def __init__(
        self, node: Any, frame: int, tell: Tell, dispatch: Dispatch | None = None, method: str = "draft"
    ) -> None:
        shot = shot_of(node)
        self.frame = frame - shot.shift
        if not shot.first <= self.frame <= shot.last:
            raise HostError(f"Frame {frame} is not in {node.name()}, which has {shot.first + shot.shift} to "
                            f"{shot.last + shot.shift}.")  # fmt: skip
        arguments = ["paint", shot.source, "--frame", str(self.frame), "--method", method]
        super().__init__(node, shot, arguments, tell, dispatch)


class NodePropagation(NodeCommand):
    """The node's paintings, or those given by frame (Nuke's numbers), carried through it by a method."""

    def __init__(
        self,
        node: Any,
        tell: Tell,
        dispatch: Dispatch | None = None,
        method: str = "draft",
        paintings: dict[int, str] | None = None,
    ) -> None:
        shot = shot_of(node)
        given = remembered(node) if paintings is None else {f - shot.shift: path for f, path in paintings.items()}
        mattes = effects.keyframes(node) if paintings is None and effects.is_effect(node) else {}
        if not given:
            raise HostError(f"Nothing is painted on {node.name()} yet: paint a frame of it, and save the painting.")
        keyframes = [part for frame, path in sorted(given.items()) for part in ("-k", f"{frame}={path}")]
        keyframes += [
            part for frame, (_, matte) in sorted(mattes.items()) if matte for part in ("--matte", f"{frame}={matte}")
        ]
        super().__init__(node, shot, ["propagate", shot.source, *keyframes, "--method", method], tell, dispatch)


def shot_of(node: Any) -> NukeShot:
    """The shot of a node, of an effect's that of the node that it is on. Raises HostError with a sentence."""
    return shots.of(effects.source_node(node) if effects.is_effect(node) else node)


def in_main_thread(function: Callable[..., Any], *arguments: Any) -> None:
    """Nuke's nodes are touched from its main thread alone; does not wait."""
    nuke.executeInMainThread(function, args=arguments)


def remembered(node: Any) -> dict[int, str]:
    """The node's paintings, an effect's keyframes: the source's frame numbers and their pictures."""
    if effects.is_effect(node):
        return {frame: picture for frame, (picture, _) in effects.keyframes(node).items()}
    knob = node.knob(KNOB)
    try:
        return {int(frame): str(path) for frame, path in json.loads(knob.value()).items()} if knob else {}
    except (ValueError, AttributeError):
        return {}


def remember(node: Any, frame: int, path: str) -> None:
    """Adds a painting to the node's own."""
    if effects.is_effect(node):
        effects.put_keyframe(node, frame, path)
        return
    knob = node.knob(KNOB)
    if knob is None:
        knob = nuke.String_Knob(KNOB, "")
        knob.setFlag(nuke.INVISIBLE)
        node.addKnob(knob)
    knob.setValue(json.dumps({**remembered(node), frame: path}, sort_keys=True))


def result_read(node: Any) -> Any:
    """The Read that shows the node's results; None before the first."""
    for found in nuke.allNodes("Read"):
        knob = found.knob("paintover_of")
        if knob is not None and knob.value() == node.fullName():
            return found
    return None


def show_result(node: Any, shot: NukeShot, output: str) -> Any:
    """Puts a Read beside the node, or turns the one that is there to a newer output; older ones stay on disk."""
    undo = nuke.Undo()
    undo.begin("Paintover")
    try:
        read = result_read(node) or _new_read(node)
        read["file"].setValue(output.replace("\\", "/"))
        first, last = shot.first, shot.last
        if shot.is_video:  # a video's frames count from its own first
            first, last = 1, shot.last - shot.first + 1
            read["frame_mode"].setValue("start at")
            read["frame"].setValue(str(shot.first + shot.shift))
        for name, value in (("first", first), ("last", last), ("origfirst", first), ("origlast", last)):
            read[name].setValue(value)
        for name, value in shot.read.items():
            if not (name == "colorspace" and str(value).startswith("default")):
                read[name].setValue(value)
        read["reload"].execute()
    finally:
        undo.end()
    return read


def _new_read(node: Any) -> Any:
    read = nuke.nodes.Read()
    tag = nuke.String_Knob("paintover_of", "")
    tag.setFlag(nuke.INVISIBLE)
    read.addKnob(tag)
    tag.setValue(node.fullName())
    read["label"].setValue("Paintover")
    read.setXYpos(node.xpos() + 120, node.ypos())
    return read
