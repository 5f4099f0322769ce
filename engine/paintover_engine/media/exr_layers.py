"""The layers of an image file: which channels belong together, and which of them are the beauty.

An EXR file names its channels LAYER.COMPONENT (OpenEXR: Technical Introduction, "Channel names"); Blender puts a view
layer before the pass (`ViewLayer.Combined.R`) and multi-part files may name the layer as the part. The order in a file
is alphabetical and means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import OpenImageIO as oiio

from paintover_engine.errors import Code, PaintoverError, nearest

_COMPONENTS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2, "a": 3, "alpha": 3}
_BEAUTY = ("", "rgba", "rgb", "combined", "beauty", "ci", "finalimage", "main")
"""What renderers call the picture as it is seen, the surest first: "" is plain R, G, B; RenderMan's Ci; Unreal's
FinalImage."""
_FINAL = "composite"  # Blender's: what its compositor made of the view layers


@dataclass(frozen=True)
class ImageLayer:
    """One picture of a file.

    name: "" for channels without one. part: its index in a multi-part file.
    colours: the channels that are red, green and blue (one three times for grey). alpha: its channel, or None.
    kind: `name` without its view, in lower case.
    """

    name: str
    part: int
    colours: tuple[int, int, int]
    alpha: int | None
    kind: str

    @property
    def grey(self) -> bool:
        """True where one channel holds the picture."""
        return len(set(self.colours)) == 1

    @property
    def _rank(self) -> int:
        last = self.kind.rpartition(".")[2]
        return _BEAUTY.index(last) if last in _BEAUTY else len(_BEAUTY)


def layers_of(specs: Sequence[oiio.ImageSpec]) -> list[ImageLayer]:
    """The layers of a file's parts that hold a picture: red, green and blue, or one channel. In the file's order, the
    default view's first."""
    views = _views(specs)
    found: list[ImageLayer] = []
    for part, spec in enumerate(specs):
        part_name = spec.get_string_attribute("oiio:subimagename") if len(specs) > 1 else ""
        for prefix, channels in _grouped(spec).items():
            layer = _layer(_joined(part_name, prefix), part, channels, views, spec.channelnames)
            if layer is not None:
                found.append(layer)
    first_views = {view: index for index, view in enumerate(views)}
    return sorted(found, key=lambda layer: min((first_views[v] for v in _tokens(layer.name) & set(views)), default=-1))


def choose_layer(file: str, layers: Sequence[ImageLayer], name: str = "") -> ImageLayer | None:
    """The layer of a name, or the file's beauty; None where no name is given and no layer holds red, green and blue.

    Raises PaintoverError, with all layers listed, where there is none of that name or it is not clear which is the
    beauty."""
    if name:
        return _named(file, layers, name)
    coloured = [layer for layer in layers if not layer.grey]
    if not coloured:
        return None
    best = min(layer._rank for layer in coloured)
    likely = [layer for layer in coloured if layer._rank == best]
    kinds = {layer.kind for layer in likely}
    final = [layer for layer in likely if layer.kind.startswith(f"{_FINAL}.")]
    if len(kinds) > 1 and len({layer.kind for layer in final}) != 1:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"'{file}' does not say which of its layers is the picture; choose one with --layer: {listed(coloured)}.",
        )
    return final[0] if len(kinds) > 1 else likely[0]


def find_layer(layers: Sequence[ImageLayer], name: str) -> ImageLayer | None:
    """The layer of exactly that name, None where there is none."""
    return next((layer for layer in layers if layer.name == name), None)


def listed(layers: Sequence[ImageLayer]) -> str:
    """ "diffuse, Main.AO": names for the user."""
    return ", ".join(layer.name or "RGB" for layer in layers)


def _named(file: str, layers: Sequence[ImageLayer], name: str) -> ImageLayer:
    """By its whole name, in any case; or by its last part where that is one layer's alone ("AO" for "Main.AO")."""
    wanted = "" if name.lower() in ("rgb", "rgba") and find_layer(layers, "") else name.lower()
    whole = [layer for layer in layers if layer.name.lower() == wanted]
    ends = [layer for layer in layers if wanted and layer.name.lower().endswith(f".{wanted}")]
    if whole or len(ends) == 1:
        return (whole or ends)[0]
    names = [layer.name for layer in layers if layer.name]
    if not layers or not (names or len(layers) > 1):
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{file}' has no layers to choose from; leave out --layer.")
    raise PaintoverError(
        Code.INVALID_ARGUMENT,
        f"'{file}' has no layer '{name}' that holds a picture; it has {listed(layers)}.{nearest(name, names)}",
    )


def _views(specs: Sequence[oiio.ImageSpec]) -> list[str]:
    """The views of a stereo file, the default one first: by its `multiView` list, else its parts' `view`."""
    views: list[str] = []
    for spec in specs:
        listed_views = spec.getattribute("multiView")
        own = spec.get_string_attribute("view")
        names = listed_views if isinstance(listed_views, (tuple, list)) else [listed_views] if listed_views else []
        views += [str(view) for view in [*names, own] if view and str(view) not in views]
    return views


def _grouped(spec: oiio.ImageSpec) -> dict[str, dict[str, int]]:
    """Channels by layer: component name in lower case to index."""
    groups: dict[str, dict[str, int]] = {}
    for index, name in enumerate(spec.channelnames):
        layer, _, component = name.rpartition(".")
        groups.setdefault(layer, {})[component.lower()] = index
    return groups


def _layer(
    name: str, part: int, channels: dict[str, int], views: Sequence[str], names: Sequence[str]
) -> ImageLayer | None:
    slots = {_COMPONENTS[key]: index for key, index in channels.items() if key in _COMPONENTS}
    kind = ".".join(token for token in re.split(r"[._]", name) if token not in views).lower() if views else name.lower()
    alpha = slots.get(3)
    if {0, 1, 2} <= set(slots):
        return ImageLayer(name, part, (slots[0], slots[1], slots[2]), alpha, kind)
    others = [index for index in channels.values() if index != alpha]
    luma = None if {"x", "z"} & set(channels) else channels.get("y")
    grey = others[0] if len(others) == 1 else luma
    if grey is None:
        return None
    if not name and "y" not in channels:  # a lone channel such as Z or `mask` is called by its own name
        name = names[grey]
        kind = name.lower()
    return ImageLayer(name, part, (grey, grey, grey), alpha, kind)


def _joined(part: str, prefix: str) -> str:
    """A layer's name from its part's and its channels': many programs write the same in both."""
    if not part or not prefix or part == prefix:
        return part or prefix
    if _tokens(prefix) <= _tokens(part):
        return part
    return prefix if _tokens(part) <= _tokens(prefix) else f"{part}.{prefix}"


def _tokens(name: str) -> set[str]:
    return set(re.split(r"[._]", name))
