"""What a scene holds. Lengths are in frame heights, x to the right and y down from the frame's centre; parallax 1 moves
with the camera's own path, 0 not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paintover_evaluation.textures.balloon import Cloth
from paintover_evaluation.textures.bus import Coat
from paintover_evaluation.textures.canvas import Area
from paintover_evaluation.textures.landscape import Palette
from paintover_evaluation.textures.paint import PaintTexture

Curve = Callable[[float], float]
"""A value over the time of a shot, 0..1."""

SUN = np.array([-0.62, -0.5, 0.6]) / np.linalg.norm([-0.62, -0.5, 0.6])
"""Unit vector to the sun: to the left, above and behind the camera."""


@dataclass(frozen=True)
class SceneFrame:
    """plate, truth: (H, W, 3) uint8 sRGB, bit-identical where the matte is 0.

    matte: (H, W) float32, 0..1: the visible part of the edit times its paint's opacity. painted: (H, W, 3) uint8, the
    frame as an artist paints it: the truth with paint that has none of the sensor's noise.
    """

    plate: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    matte: NDArray[np.float32]
    painted: NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """Pan, zoom and a slight hand-held shake."""

    x: Curve = lambda time: 0.0
    y: Curve = lambda time: 0.0
    zoom: Curve = lambda time: 1.0
    shake: float = 0.004


@dataclass(frozen=True)
class Balloon:
    """Centre and radius in frame heights, turn about the vertical axis and tilt in radians."""

    x: Curve
    y: Curve
    radius: Curve
    turn: Curve
    tilt: Curve = lambda time: 0.0
    parallax: float = 0.5
    cloth: Cloth = Cloth()


@dataclass(frozen=True)
class Bus:
    """Foot of its middle and height in frame heights; at yaw 0 its right side faces the camera, nose to the right."""

    x: Curve
    y: Curve
    size: Curve
    yaw: Curve
    parallax: float = 1.0
    coat: Coat = Coat()


@dataclass(frozen=True)
class Scene:
    """edits: what is painted, by surface: "balloon", "side" and "front" of the bus, "meadow", "sky".
    blemishes: the same the other way round: on the plate, and gone in the truth. shutter: share of the time between two
    frames that each is exposed for; 0.5 is a shutter angle of 180 degrees. defocus: standard deviation, in frame
    heights, of the blur of a lens out of focus. noise: standard deviation of the sensor's noise, in 8-bit levels.
    """

    seed: int
    light: Palette
    camera: Camera = Camera()
    balloon: Balloon | None = None
    bus: Bus | None = None
    tower: float | None = None  # x of the tower in the foreground
    edits: Mapping[str, Callable[[Area], PaintTexture]] = field(default_factory=dict)
    blemishes: Mapping[str, Callable[[Area], PaintTexture]] = field(default_factory=dict)
    shutter: float = 0.0
    defocus: Curve = lambda time: 0.0
    noise: float = 1.3
