"""The textures of a scene's surfaces, with and without the edit."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from paintover_evaluation.rendering.scene import Balloon, Bus, Curve, Scene
from paintover_evaluation.textures import balloon as balloon_texture
from paintover_evaluation.textures import bus as bus_texture
from paintover_evaluation.textures import landscape
from paintover_evaluation.textures.canvas import Area, Picture


@dataclass(frozen=True)
class Surface:
    """A picture (RGB, or premultiplied RGBA), the same with the edit, and the edit's matte (uint8)."""

    plate: Picture
    density: float
    x: float = 0.0
    y: float = 0.0
    truth: Picture | None = None
    matte: Picture | None = None


@dataclass(frozen=True, eq=False)
class _SceneKey:
    """A scene as a key of the cache: the same object, the same surfaces."""

    scene: Scene

    def __hash__(self) -> int:
        return id(self.scene)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SceneKey) and other.scene is self.scene


def _surface(scene: Scene, name: str, picture: Picture, area: Area, x: float = 0, y: float = 0) -> Surface:
    if name in scene.edits:
        paint = scene.edits[name](area)
        return Surface(picture, area.density, x, y, paint.over(picture), paint.matte())
    if name in scene.blemishes:
        paint = scene.blemishes[name](area)
        return Surface(paint.over(picture), area.density, x, y, picture, paint.matte())
    return Surface(picture, area.density, x, y)


def surfaces_of(scene: Scene, height: int) -> dict[str, Surface]:
    """Every surface of a scene by name, at a little more than the detail that a frame of this height shows. Cached for
    the last four scenes and heights."""
    return _surfaces(_SceneKey(scene), height)


@functools.lru_cache(maxsize=4)
def _surfaces(key: _SceneKey, height: int) -> dict[str, Surface]:
    scene = key.scene
    found = _land_surfaces(scene, 1.3 * height)
    if scene.balloon is not None:
        found |= _balloon_surfaces(scene, scene.balloon, 2.2 * height * _largest(scene.balloon.radius))
    if scene.bus is not None:
        found |= _bus_surfaces(scene, scene.bus, 2.4 * height * _largest(scene.bus.size))
    return found


def _largest(motion: Curve) -> float:
    return max(motion(time) for time in np.linspace(0, 1, 9))


def _rng(scene: Scene, part: int) -> np.random.Generator:
    return np.random.default_rng([scene.seed, part])


def _land_surfaces(scene: Scene, density: float) -> dict[str, Surface]:
    light = scene.light
    sky_area = Area(2.8, 1.1, density)
    sky = landscape.sky(_rng(scene, 0), sky_area, light)
    far = landscape.mountains(_rng(scene, 1), Area(3.0, 0.42, density), light, 0.42)
    hills = landscape.land(_rng(scene, 2), Area(3.4, 0.5, density), light, 1.0)
    near = Area(4.6, 0.62, density)
    top = 0.16
    road = scene.bus.y(0.5) - top - 0.01 if scene.bus is not None else None
    meadow = landscape.land(_rng(scene, 3), near, light, 2.2, road)
    found = {
        "sky": _surface(scene, "sky", sky, sky_area, -1.4, -0.92),
        "far": Surface(far, density, -1.5, -0.1),
        "hills": Surface(hills, density, -1.7, 0.06),
        "meadow": _surface(scene, "meadow", meadow, near, -near.width / 2, top),
    }
    if scene.tower is not None:
        tower = landscape.tower(_rng(scene, 4), Area(0.3, 1.7, density), light)
        found["tower"] = Surface(tower, density, scene.tower, -0.62)
    return found


def _balloon_surfaces(scene: Scene, balloon: Balloon, density: float) -> dict[str, Surface]:
    area = Area(balloon_texture.BALLOON_AROUND, balloon_texture.BALLOON_DOWN, density)
    cloth = balloon_texture.balloon_cloth(_rng(scene, 5), area, balloon.cloth)
    basket = balloon_texture.basket(_rng(scene, 6), density)
    return {"balloon": _surface(scene, "balloon", cloth, area), "basket": Surface(basket, density)}


def _bus_surfaces(scene: Scene, bus: Bus, density: float) -> dict[str, Surface]:
    side = bus_texture.bus_side(_rng(scene, 7), density, bus.coat)
    front = bus_texture.bus_front(_rng(scene, 8), density, bus.coat)
    return {
        "side": _surface(scene, "side", side, Area(bus_texture.BUS_LENGTH, bus_texture.BUS_HEIGHT, density)),
        "other side": Surface(np.ascontiguousarray(side[:, ::-1]), density),
        "front": _surface(scene, "front", front, Area(bus_texture.BUS_WIDTH, bus_texture.BUS_HEIGHT, density)),
        "back": Surface(front, density),
        "roof": Surface(bus_texture.bus_roof(_rng(scene, 9), density, bus.coat), density),
    }
