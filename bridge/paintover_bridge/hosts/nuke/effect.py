"""Paintover's OpenFX effect as a node of a script: its place, its source, and the keyframes that it has."""

from __future__ import annotations

import json
from typing import Any

import nuke

from paintover_bridge.hosts.command import HostError
from paintover_bridge.hosts.nuke import shot as shots

CLASS = "OFXorg.paintover.Paintover_v1"
# What a Read does to its file that the effect recognises by itself: sRGB to linear light, or nothing.
_RECOGNISED = frozenset({"data", "default", "linear", "none", "raw", "scene_linear", "srgb"})


def is_effect(node: Any) -> bool:
    """Whether a node is the effect, of any version."""
    return str(node.Class()).startswith(CLASS.rpartition("_")[0])


def source_node(effect: Any) -> Any:
    """The node that an effect is on. Raises HostError where it is on none."""
    found = effect.input(0)
    if found is None:
        raise HostError(f"{effect.name()} has no input; connect it to the Read of the shot.")
    return found


def place(node: Any) -> tuple[Any, str]:
    """The effect on a node, or the given effect, with its source filled in from the node that it is on; and one
    sentence for its artist, or "".

    Of a Read whose frames are its files' frames it works on the files, as the menu does, so that each shows what the
    other propagates. After anything else the picture is another than any file's: the effect sends what it is given.
    Raises HostError where Nuke has not loaded it."""
    effect, source = (node, source_node(node)) if is_effect(node) else (None, node)
    shot = shots.of_files(source)
    if effect is None:
        try:
            effect = getattr(nuke.nodes, CLASS)(inputs=[source])
        except (AttributeError, RuntimeError, NameError) as error:
            raise HostError(
                "Nuke has not loaded the effect; run `paintover install ofx` and start Nuke anew."
            ) from error
        effect.setXYpos(source.xpos(), source.ypos() + 100)
    foreign = "" if shot is None else _foreign_curve(source)
    by_files = shot is not None and not foreign
    effect["sendFrames"].setValue(not by_files)
    effect["sourcePath"].setValue(shot.source if shot and by_files else "")
    effect["sourceOffset"].setValue(-shot.shift if shot and by_files else 0)
    effect["sourceRange"].setValue(f"{shot.first}-{shot.last}" if shot and by_files else "")
    effect["colorspace"].setValue(shot.colorspace if shot and by_files else "")
    if by_files:
        return effect, ""
    if foreign:
        return (
            effect,
            f"{source.name()} converts from {foreign}, which the effect does not recognise: it sends its frames.",
        )
    return effect, (
        f"{effect.name()} is after {source.name()}, whose picture is no file's: it sends its frames. To work on the "
        "files, put it directly after the Read, before any change of colour or place."
    )


def _foreign_curve(read: Any) -> str:
    """The name of a curve of Nuke's own by which a Read converts its file, where the effect does not recognise it."""
    if read["raw"].value():
        return ""
    name = shots.inner_name(read["colorspace"].value())
    return "" if name.lower() in _RECOGNISED or shots.opencolorio(name) else name


def keyframes(effect: Any) -> dict[int, tuple[str, str]]:
    """An effect's keyframes by the source's frame numbers: picture, and matte or ""."""
    try:
        entries = json.loads(effect["keyframes"].value() or "[]")
        return {int(frame): (str(picture), str(matte)) for frame, picture, matte in entries}
    except (ValueError, TypeError, NameError):
        return {}


def put_keyframe(effect: Any, frame: int, picture: str) -> None:
    """Adds one to them, in place of that frame's and of that picture's own."""
    others = {number: found for number, found in keyframes(effect).items() if number != frame and found[0] != picture}
    entries = sorted({**others, frame: (picture, "")}.items())
    effect["keyframes"].setValue(json.dumps([[number, *found] for number, found in entries]))
