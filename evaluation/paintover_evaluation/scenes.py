"""Procedural shots with a known answer: every frame's plate, the same with the edit painted on its surface, the matte.

A scene is a landscape seen by a moving hand-held camera, a balloon (curved), a bus (planar faces) and a tower
that passes in front. An edit is paint on the unrolled texture of a surface, so the truth is exact at every frame: it
turns, is shaded and is hidden with its surface.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from paintover_evaluation.rendering.frame import render
from paintover_evaluation.rendering.scene import Balloon, Bus, Camera, Curve, Scene, SceneFrame
from paintover_evaluation.textures import landscape, paint
from paintover_evaluation.textures.balloon import Cloth
from paintover_evaluation.textures.bus import Coat
from paintover_evaluation.textures.canvas import Area
from paintover_evaluation.textures.paint import PaintTexture


@dataclass(frozen=True)
class SceneCase:
    """One shot of `length` frames whose keyframe is `render(keyframe, …).truth`, or `.painted` if the paint is `clean`.

    kind: what sort of edit it is, one line for tables. cut: the first frame of the `after` scene, which holds no edit.
    clean: the keyframe's paint has none of the sensor's noise.
    """

    name: str
    title: str
    length: int
    keyframe: int
    kind: str
    scene: Scene
    cut: int | None = None
    after: Scene | None = None
    clean: bool = False

    def render(self, number: int, width: int, height: int) -> SceneFrame:
        """Frame `number` (0 <= number < length); the same for the same arguments, in any order."""
        if not 0 <= number < self.length:
            raise IndexError(f"{self.name} has frames 0 to {self.length - 1}, not {number}")
        time = number / (self.length - 1)
        scene = self.after if self.after is not None and self.cut is not None and number >= self.cut else self.scene
        seed = zlib.crc32(f"{self.name} {number}".encode())
        return render(scene, time, width, height, seed, interval=1 / (self.length - 1))


def _ease(start: float, end: float) -> Curve:
    """From start to end, slow at both ends."""
    return lambda time: start + (end - start) * time * time * (3 - 2 * time)


def _line(start: float, end: float) -> Curve:
    return lambda time: start + (end - start) * time


def _swing(middle: float, reach: float, turns: float = 1.0, phase: float = 0.0) -> Curve:
    return lambda time: middle + reach * float(np.sin(2 * np.pi * (turns * time + phase)))


def _hold(value: float) -> Curve:
    return lambda time: value


_BELLY = 1.32  # the way down from the crown to the middle of a balloon's front, in radii


def _emblem(area: Area) -> PaintTexture:
    return paint.star(area, np.pi, _BELLY, 0.46)


def _bus_star(area: Area) -> PaintTexture:
    return paint.star(area, 1.28, 0.695, 0.155)


_TEAL = Cloth((226, 232, 222), (46, 118, 128), (234, 176, 88), (30, 84, 104))
_PLUM = Cloth((240, 220, 196), (122, 58, 104), (240, 150, 92), (92, 44, 92))
_LEMON = Cloth((244, 216, 120), (70, 130, 92), (246, 240, 222), (52, 102, 84))

_MARK = Scene(
    seed=11,
    light=landscape.GOLDEN,
    camera=Camera(_ease(-0.24, 0.36), _swing(0, 0.02), _ease(1.0, 1.1)),
    balloon=Balloon(_line(-0.2, 0.2), _ease(-0.1, -0.14), _hold(0.24), _ease(-0.42, 0.38), _swing(0, 0.04)),
    tower=0.08,
    edits={"balloon": lambda area: paint.star(area, np.pi, _BELLY, 0.42)},
)
_TEXTURE = Scene(
    seed=23,
    light=landscape.MORNING,
    camera=Camera(_ease(-0.22, 0.16), _hold(0.03), _ease(1.04, 1.14)),
    bus=Bus(_line(-0.3, 0.24), _line(0.41, 0.4), _line(0.44, 0.48), _swing(0.02, 0.42, 0.5, -0.25)),
    edits={"side": lambda area: paint.around_wheels(area, paint.tiles(area, (0.07, 0.525, 2.03, 0.85)))},
)
_REMOVAL = Scene(
    seed=37,
    light=landscape.GOLDEN,
    camera=Camera(_ease(0.3, -0.26), _hold(0.03), _ease(1.0, 1.08)),
    bus=Bus(
        _line(0.46, -0.28),
        _hold(0.4),
        _hold(0.46),
        _ease(-0.45, 0.32),
        coat=Coat((238, 222, 190), (168, 64, 52), (240, 232, 214)),
    ),
    tower=-0.12,
    blemishes={"side": lambda area: paint.sticker(area, 1.04, 0.6, 0.19)},
)
_AIRBRUSH = Scene(
    seed=41,
    light=landscape.DUSK,
    camera=Camera(_ease(0.15, -0.15), _swing(0, 0.02), _ease(1.1, 1.0)),
    balloon=Balloon(
        _line(0.1, -0.1), _ease(-0.14, -0.06), _line(0.24, 0.27), _ease(0.34, -0.34), _swing(0, 0.05), cloth=_TEAL
    ),
    edits={
        "balloon": lambda area: paint.airbrush(
            area, ((2.5, 1.62), (2.75, 1.1), (3.0, 1.45), (3.3, 1.05), (3.55, 1.4), (3.8, 1.1)), 0.1, (238, 62, 96)
        )
    },
)
_GLAZE = Scene(
    seed=53,
    light=landscape.MORNING,
    camera=Camera(_ease(-0.12, 0.2), _hold(0), _ease(1.0, 1.1)),
    balloon=Balloon(
        _line(-0.1, 0.12), _swing(-0.1, 0.03), _hold(0.26), _ease(-0.3, 0.34), _swing(0, 0.04), cloth=_LEMON
    ),
    edits={"balloon": lambda area: paint.panel(area, (np.pi - 0.62, 0.72, np.pi + 0.62, 2.1), (96, 40, 190), 0.45)},
)
_BORDER = Scene(
    seed=61,
    light=landscape.MORNING,
    camera=Camera(_ease(-0.28, 0.3), _hold(0.05), _ease(1.06, 1.18)),
    bus=Bus(_line(-0.1, 0.5), _hold(0.26), _hold(0.13), _line(-0.1, -0.3)),
    edits={"meadow": lambda area: paint.panel(area, (1.0, 0.2, 2.35, 0.7), (226, 176, 36), 0.7)},
)
_SEVERAL = Scene(
    seed=71,
    light=landscape.GOLDEN,
    camera=Camera(_ease(0.2, -0.2), _hold(0.01), _ease(1.0, 1.08)),
    balloon=Balloon(
        _line(0.42, 0.24), _ease(-0.16, -0.12), _hold(0.23), _ease(0.3, -0.34), _swing(0, 0.04), cloth=_PLUM
    ),
    bus=Bus(_line(-0.5, -0.14), _hold(0.4), _hold(0.34), _ease(-0.34, 0.2)),
    edits={"balloon": _emblem, "side": _bus_star},
)
_LEAVES = Scene(
    seed=83,
    light=landscape.DUSK,
    camera=Camera(lambda time: 0.95 * float(np.sin(np.pi * time)) ** 2, _hold(0), _hold(1.05)),
    balloon=Balloon(
        lambda time: 0.1 - 0.85 * float(np.sin(np.pi * time)) ** 2,
        _hold(-0.1),
        _hold(0.25),
        _line(-0.3, 0.3),
        _swing(0, 0.04),
        cloth=_LEMON,
    ),
    edits={"balloon": _emblem},
)
_CUT = Scene(
    seed=97,
    light=landscape.MORNING,
    camera=Camera(_ease(-0.12, 0.2), _hold(0), _hold(1.05)),
    balloon=Balloon(_line(-0.2, 0.2), _hold(-0.1), _hold(0.25), _line(-0.36, 0.36), _swing(0, 0.04)),
    edits={"balloon": _emblem},
)
_AFTER_CUT = Scene(
    seed=101,
    light=landscape.DUSK,
    camera=Camera(_ease(0.1, -0.2), _hold(0.02), _hold(1.1)),
    balloon=Balloon(_line(0.1, -0.1), _hold(-0.14), _hold(0.22), _line(0.3, -0.3), _swing(0, 0.04), cloth=_PLUM),
    bus=Bus(_line(0.45, 0.2), _hold(0.38), _hold(0.24), _hold(-0.1)),
)

_SKY = Scene(
    seed=103,
    light=landscape.MORNING,
    camera=Camera(_ease(-0.1, 0.1), _hold(0.02), _ease(1.0, 1.05)),
    balloon=Balloon(_line(-0.42, 0.42), _ease(-0.16, -0.1), _hold(0.22), _ease(-0.3, 0.3), _swing(0, 0.04)),
    tower=0.3,
    edits={"sky": lambda area: paint.other_sky(area, landscape.DUSK)},
)
_FLOOR = Scene(
    seed=107,
    light=landscape.MORNING,
    camera=Camera(_ease(-0.75, 0.75), _hold(0.06), _hold(1.05)),
    bus=Bus(_line(0.0, 0.1), _hold(0.4), _hold(0.26), _line(-0.2, 0.2)),
    edits={"meadow": lambda area: paint.tiles(area, (-1.0, -1.0, area.width + 1, area.height + 1))},
)
_BLUR = Scene(
    seed=109,
    light=landscape.GOLDEN,
    camera=Camera(_hold(0.0), _hold(0.02), _hold(1.05), shake=0.001),
    bus=Bus(_swing(0.0, 0.3), _hold(0.4), _hold(0.36), _hold(0.0)),
    edits={"side": _bus_star},
    shutter=0.5,
)
_FOCUS = Scene(
    seed=113,
    light=landscape.MORNING,
    camera=Camera(_ease(-0.06, 0.06), _hold(0), _hold(1.05)),
    balloon=Balloon(_line(-0.1, 0.1), _hold(-0.1), _hold(0.25), _ease(-0.15, 0.15), _hold(0), cloth=_TEAL),
    edits={"balloon": _emblem},
    defocus=_ease(0.0, 0.01),
)
_GRAIN = Scene(
    seed=127,
    light=landscape.DUSK,
    camera=Camera(_ease(-0.1, 0.1), _hold(0), _hold(1.05)),
    balloon=Balloon(_line(-0.12, 0.12), _hold(-0.1), _hold(0.25), _ease(-0.2, 0.2), _hold(0), cloth=_LEMON),
    edits={"balloon": _emblem},
    noise=5.0,
)

CASES: dict[str, SceneCase] = {
    case.name: case
    for case in (
        SceneCase("mark", "star on a turning balloon behind a tower", 48, 8, "opaque mark", _MARK),
        SceneCase("texture", "flower tiles on a turning bus", 40, 12, "painted texture", _TEXTURE),
        SceneCase("removal", "sticker taken off a bus", 40, 30, "removed blemish", _REMOVAL),
        SceneCase("airbrush", "soft stroke on a balloon", 40, 20, "soft edge", _AIRBRUSH),
        SceneCase("glaze", "thin violet over a balloon", 40, 0, "semi-transparent", _GLAZE),
        SceneCase("border", "field at the frame's edge", 40, 14, "edit at the border", _BORDER),
        SceneCase("several", "stars on a balloon and a bus", 40, 16, "several edits", _SEVERAL),
        SceneCase("leaves_and_returns", "balloon out of frame and back", 48, 4, "leaves and returns", _LEAVES),
        SceneCase("sky", "another sky behind a balloon and a tower", 40, 20, "uncovered background", _SKY),
        SceneCase("floor", "tiles on the ground, under a wide pan", 40, 20, "new ground in view", _FLOOR),
        SceneCase("motion_blur", "star on a bus that starts and stops", 40, 10, "motion blur", _BLUR),
        SceneCase("rack_focus", "star on a balloon that goes out of focus", 40, 6, "focus", _FOCUS),
        SceneCase("grain", "clean star on a grainy balloon", 40, 12, "grain", _GRAIN, clean=True),
        SceneCase("cut", "star on a balloon, then another shot", 36, 6, "shot change", _CUT, 20, _AFTER_CUT),
    )
}


_MUSTARD = (236, 170, 44)


DEMO = SceneCase(
    "demo",
    "balloon and bus at golden hour",
    72,
    36,
    "emblem and repaint",
    Scene(
        seed=7,
        light=landscape.GOLDEN,
        camera=Camera(_line(-0.25, 0.35), _swing(0.0, 0.012), _ease(1.0, 1.08), shake=0.0035),
        balloon=Balloon(_line(-0.455, 0.286), _ease(-0.11, -0.16), _hold(0.25), _ease(-0.36, 0.3), _swing(0, 0.04)),
        bus=Bus(_line(0.26, 0.38), _hold(0.4), _hold(0.25), _line(-0.36, -0.14)),
        tower=-0.785,
        edits={
            "balloon": lambda area: paint.star(area, np.pi, _BELLY, 0.5),
            "side": lambda area: paint.bus_repaint(area, _MUSTARD, 0.82),
            "front": lambda area: paint.bus_repaint(area, _MUSTARD, 0.82),
        },
    ),
)
