"""Procedural shots with a known answer: every frame's plate, the same with the edit painted on its surface, the matte.

A scene is a landscape seen by a moving hand-held camera, a balloon (curved), a bus (planar faces) and a tower
that passes in front. An edit is paint on the unrolled picture of a surface, so the truth is exact at every frame: it
turns, is shaded and is hidden with its surface. Lengths in a world are in frame heights, x to the right and y down from
the frame's centre; parallax 1 moves with the camera's own path, 0 not at all.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.evaluate import painting
from paintover_engine.evaluate.painting import Area, Cloth, Coat, Field, Paint, Palette, Picture

NOISE = 1.3  # standard deviation of the sensor's noise, in 8-bit levels
Motion = Callable[[float], float]  # of the time 0..1 through the case


@dataclass(frozen=True)
class SceneFrame:
    """plate, truth: (H, W, 3) uint8 sRGB, bit-identical where the matte is 0.

    matte: (H, W) float32, 0..1: the visible part of the edit times its paint's opacity.
    """

    plate: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    matte: NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """Pan, zoom and a slight hand-held shake."""

    x: Motion = lambda time: 0.0
    y: Motion = lambda time: 0.0
    zoom: Motion = lambda time: 1.0
    shake: float = 0.004


@dataclass(frozen=True)
class Balloon:
    """Centre and radius in frame heights, turn about the vertical axis and tilt in radians."""

    x: Motion
    y: Motion
    radius: Motion
    turn: Motion
    tilt: Motion = lambda time: 0.0
    parallax: float = 0.5
    cloth: Cloth = Cloth()


@dataclass(frozen=True)
class Bus:
    """Foot of its middle and height in frame heights; at yaw 0 its right side faces the camera, nose to the right."""

    x: Motion
    y: Motion
    size: Motion
    yaw: Motion
    parallax: float = 1.0
    coat: Coat = Coat()


@dataclass(frozen=True)
class Scene:
    """edits: what is painted, by surface: "balloon", "side" and "front" of the bus, "meadow".
    blemishes: the same the other way round: on the plate, and gone in the truth.
    """

    seed: int
    light: Palette
    camera: Camera = Camera()
    balloon: Balloon | None = None
    bus: Bus | None = None
    tower: float | None = None  # x of the tower in the foreground
    edits: Mapping[str, Callable[[Area], Paint]] = field(default_factory=dict)
    blemishes: Mapping[str, Callable[[Area], Paint]] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One shot of `length` frames whose keyframe is `render(keyframe, …).truth`.

    kind: what sort of edit it is, one line for tables. cut: the first frame of the `after` scene, which holds no edit.
    """

    name: str
    title: str
    length: int
    keyframe: int
    kind: str
    scene: Scene
    cut: int | None = None
    after: Scene | None = None

    def render(self, number: int, width: int, height: int) -> SceneFrame:
        """Frame `number` (0 <= number < length); the same for the same arguments, in any order."""
        if not 0 <= number < self.length:
            raise IndexError(f"{self.name} has frames 0 to {self.length - 1}, not {number}")
        time = number / (self.length - 1)
        scene = self.after if self.after is not None and self.cut is not None and number >= self.cut else self.scene
        view = _View(scene, time, width, height)
        sources = _sources(_Whole(scene), height)
        _draw_scene(view, scene, sources, time)
        return view.develop(_grain(scene.seed, width, height), zlib.crc32(f"{self.name} {number}".encode()))


# --- surfaces: the unrolled pictures, made once a scene and height ---------------------------------------------------


@dataclass(frozen=True)
class _Surface:
    """A picture (RGB, or premultiplied RGBA), the same with the edit, and the edit's matte (uint8)."""

    plate: Picture
    density: float
    x: float = 0.0
    y: float = 0.0
    truth: Picture | None = None
    matte: Picture | None = None


@dataclass(frozen=True, eq=False)
class _Whole:
    """A scene as a key of the cache: the same object, the same surfaces."""

    scene: Scene

    def __hash__(self) -> int:
        return id(self.scene)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Whole) and other.scene is self.scene


def _surface(scene: Scene, name: str, picture: Picture, area: Area, x: float = 0, y: float = 0) -> _Surface:
    if name in scene.edits:
        paint = scene.edits[name](area)
        return _Surface(picture, area.density, x, y, paint.over(picture), paint.matte())
    if name in scene.blemishes:
        paint = scene.blemishes[name](area)
        return _Surface(paint.over(picture), area.density, x, y, picture, paint.matte())
    return _Surface(picture, area.density, x, y)


@functools.lru_cache(maxsize=4)
def _sources(whole: _Whole, height: int) -> dict[str, _Surface]:
    """Every surface of a scene, at a little more than the detail that a frame of this height shows."""
    scene = whole.scene
    found = _land_surfaces(scene, 1.3 * height)
    if scene.balloon is not None:
        found |= _balloon_surfaces(scene, scene.balloon, 2.2 * height * _largest(scene.balloon.radius))
    if scene.bus is not None:
        found |= _bus_surfaces(scene, scene.bus, 2.4 * height * _largest(scene.bus.size))
    return found


def _largest(motion: Motion) -> float:
    return max(motion(time) for time in np.linspace(0, 1, 9))


def _rng(scene: Scene, part: int) -> np.random.Generator:
    return np.random.default_rng([scene.seed, part])


def _land_surfaces(scene: Scene, density: float) -> dict[str, _Surface]:
    light = scene.light
    sky = painting.sky(_rng(scene, 0), Area(2.8, 1.1, density), light)
    far = painting.mountains(_rng(scene, 1), Area(3.0, 0.42, density), light, 0.42)
    hills = painting.land(_rng(scene, 2), Area(3.4, 0.5, density), light, 1.0)
    near = Area(4.6, 0.62, density)
    top = 0.16
    road = scene.bus.y(0.5) - top - 0.01 if scene.bus is not None else None
    meadow = painting.land(_rng(scene, 3), near, light, 2.2, road)
    found = {
        "sky": _Surface(sky, density, -1.4, -0.92),
        "far": _Surface(far, density, -1.5, -0.1),
        "hills": _Surface(hills, density, -1.7, 0.06),
        "meadow": _surface(scene, "meadow", meadow, near, -near.width / 2, top),
    }
    if scene.tower is not None:
        tower = painting.tower(_rng(scene, 4), Area(0.3, 1.7, density), light)
        found["tower"] = _Surface(tower, density, scene.tower, -0.62)
    return found


def _balloon_surfaces(scene: Scene, balloon: Balloon, density: float) -> dict[str, _Surface]:
    area = Area(painting.BALLOON_AROUND, BALLOON_DOWN, density)
    cloth = painting.balloon_cloth(_rng(scene, 5), area, balloon.cloth)
    basket = painting.basket(_rng(scene, 6), density)
    return {"balloon": _surface(scene, "balloon", cloth, area), "basket": _Surface(basket, density)}


def _bus_surfaces(scene: Scene, bus: Bus, density: float) -> dict[str, _Surface]:
    side = painting.bus_side(_rng(scene, 7), density, bus.coat)
    front = painting.bus_front(_rng(scene, 8), density, bus.coat)
    return {
        "side": _surface(scene, "side", side, Area(painting.BUS_LENGTH, painting.BUS_HEIGHT, density)),
        "other side": _Surface(np.ascontiguousarray(side[:, ::-1]), density),
        "front": _surface(scene, "front", front, Area(painting.BUS_WIDTH, painting.BUS_HEIGHT, density)),
        "back": _Surface(front, density),
        "roof": _Surface(painting.bus_roof(_rng(scene, 9), density, bus.coat), density),
    }


# --- the view: a frame being painted back to front -------------------------------------------------------------------


class _View:
    """Plate, truth and matte of one frame, painted back to front, and the camera that sees them."""

    def __init__(self, scene: Scene, time: float, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.plate = np.zeros((height, width, 3), np.float32)
        self.truth: Field | None = None  # the plate, until the first edit
        self.matte = np.zeros((height, width), np.float32)
        camera = scene.camera
        hand = _hand(scene.seed, time)
        self.x = camera.x(time) + camera.shake * hand[0]
        self.y = camera.y(time) + camera.shake * hand[1]
        self.scale = height * camera.zoom(time)
        self.roll = camera.shake * 0.6 * hand[2]

    def matrix(self, parallax: float) -> NDArray[np.float64]:
        """(3, 3): from a point of the world at this parallax to a point of the frame (0, 0 its upper left corner)."""
        cos, sin = self.scale * np.cos(self.roll), self.scale * np.sin(self.roll)
        x, y = parallax * self.x, parallax * self.y
        return np.array(
            [
                [cos, -sin, self.width / 2 - cos * x + sin * y],
                [sin, cos, self.height / 2 - sin * x - cos * y],
                [0, 0, 1],
            ]
        )

    def window(self, corners: NDArray[np.float64]) -> tuple[int, int, int, int] | None:
        """The frame's pixels that may be covered (left, top, right, bottom), or None outside it."""
        left, top = np.floor(corners.min(axis=0)).astype(int) - 1
        right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 1
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, self.width), min(bottom, self.height)
        return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None

    def draw(
        self,
        window: tuple[int, int, int, int],
        plate: Field,
        alpha: Field,
        truth: Field | None = None,
        matte: Field | None = None,
    ) -> None:
        """Lays premultiplied colours (h, w, 3) 0..255 with coverage `alpha` (h, w) 0..1 over a window of the frame."""
        left, top, right, bottom = window
        part = np.s_[top:bottom, left:right]
        through = (1 - alpha)[..., None]
        if truth is not None and self.truth is None:
            self.truth = self.plate.copy()
        for canvas, colour in ((self.plate, plate), (self.truth, truth if truth is not None else plate)):
            if canvas is not None:
                canvas[part] *= through
                canvas[part] += colour
        if self.truth is not None:
            self.matte[part] *= through[..., 0]
        if matte is not None:
            self.matte[part] += matte

    def develop(self, grain: Field, seed: int) -> SceneFrame:
        """Adds the sensor's noise, the same in plate and truth, and quantises."""
        rng = np.random.default_rng(seed)
        down, across = rng.integers(0, grain.shape[0] - self.height), rng.integers(0, grain.shape[1] - self.width)
        noise = grain[down : down + self.height, across : across + self.width]
        plate = _quantised(self.plate, noise)
        if self.truth is None:
            return SceneFrame(plate, plate.copy(), self.matte)
        self.matte[self.matte < 1 / 512] = 0
        np.minimum(self.matte, 1, out=self.matte)
        truth = _quantised(self.truth, noise)
        cv2.copyTo(plate, (self.matte == 0).astype(np.uint8), truth)
        return SceneFrame(plate, truth, self.matte)


def _quantised(canvas: Field, noise: Field) -> NDArray[np.uint8]:
    noisy = cv2.add(canvas, noise)
    cv2.max(noisy, (0.0, 0.0, 0.0, 0.0), dst=noisy)
    return np.asarray(cv2.convertScaleAbs(noisy))


@functools.lru_cache(maxsize=4)
def _grain(seed: int, width: int, height: int) -> Field:
    """Noise somewhat larger than the frame; each frame shows another part of it."""
    rng = np.random.default_rng([seed, 99])
    sharp = rng.standard_normal((height + 64, width + 64, 3), dtype=np.float32)
    return np.asarray(sharp * np.float32(NOISE), np.float32)


def _hand(seed: int, time: float) -> NDArray[np.float64]:
    """Three smooth signals of about -1..1: how an operator's hands move the camera."""
    phases = np.random.default_rng([seed, 98]).uniform(0, 2 * np.pi, (3, 3))
    speeds = np.array([7.0, 12.7, 23.0])
    return np.asarray((np.sin(speeds * time + phases) * (0.6, 0.3, 0.14)).sum(axis=1))


def _draw_scene(view: _View, scene: Scene, found: dict[str, _Surface], time: float) -> None:
    _draw_layer(view, found["sky"], 0.12)
    _draw_layer(view, found["far"], 0.22)
    _draw_layer(view, found["hills"], 0.4, _clouds(view, scene, time, 0.4))
    shadows = _clouds(view, scene, time, 1.0)
    if scene.bus is not None:
        _shade_bus(view, scene.bus, time, shadows)
    _draw_layer(view, found["meadow"], 1.0, shadows)
    if scene.balloon is not None:
        _draw_balloon(view, scene.balloon, found, time)
    if scene.bus is not None:
        _draw_bus(view, scene.bus, found, time)
    if scene.tower is not None:
        _draw_layer(view, found["tower"], 1.7)


# --- flat layers -----------------------------------------------------------------------------------------------------


def _draw_layer(view: _View, surface: _Surface, parallax: float, light: Field | None = None) -> None:
    """A flat picture of the world; `light` (H, W, 1) multiplies it."""
    rows, columns = surface.plate.shape[:2]
    to_world = np.array(
        [[1 / surface.density, 0, surface.x], [0, 1 / surface.density, surface.y], [0, 0, 1]]
    )  # from a corner of a texel
    to_frame = view.matrix(parallax) @ to_world
    corners = cv2.perspectiveTransform(np.array([[[0.0, 0], [columns, 0], [columns, rows], [0, rows]]]), to_frame)[0]
    window = view.window(corners)
    if window is not None:
        _draw_warped(view, surface, to_frame, window, light)


def _draw_warped(
    view: _View,
    surface: _Surface,
    to_frame: NDArray[np.float64],
    window: tuple[int, int, int, int],
    light: Field | float | None,
    finer: int = 1,
) -> None:
    """Draws a surface through a homography, `finer` times supersampled."""
    left, top, right, bottom = window
    to_window = np.array([[finer, 0, -finer * left - 0.5], [0, finer, -finer * top - 0.5], [0, 0, 1]])
    from_texel = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = to_window @ to_frame @ from_texel
    size = ((right - left) * finer, (bottom - top) * finer)

    def warp(picture: Picture) -> Field:
        seen = cv2.warpPerspective(picture, matrix, size, flags=cv2.INTER_LINEAR)
        if finer > 1:
            seen = cv2.resize(seen, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        return np.asarray(seen, np.float32)

    plate = warp(surface.plate)
    truth = None if surface.truth is None else warp(surface.truth)
    matte = None if surface.matte is None else warp(surface.matte) / np.float32(255)
    has_alpha = plate.shape[2] == 4
    alpha = plate[..., 3] / np.float32(255) if has_alpha else np.ones(plate.shape[:2], np.float32)
    gain = light[top:bottom, left:right] if isinstance(light, np.ndarray) else np.float32(1 if light is None else light)
    view.draw(
        window,
        plate[..., :3] * gain,
        alpha,
        None if truth is None else truth[..., :3] * gain,
        None if matte is None else matte * alpha,
    )


def _clouds(view: _View, scene: Scene, time: float, parallax: float) -> Field:
    """(H, W, 1) the shadows of clouds that drift over the land."""
    field_ = _cloud_field(scene.seed)
    rows = 24  # shadows are soft: few samples tell them
    small = np.diag([rows / view.height, rows / view.height, 1.0])
    drift = np.array([[22.0, 0, 96 + 14 * time], [0, 60.0, 72 + 4 * time], [0, 0, 1]])
    matrix = small @ view.matrix(parallax) @ np.linalg.inv(drift)
    columns = max(2, round(rows * view.width / view.height))
    seen = cv2.warpPerspective(field_, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    shadows: Field = cv2.resize(seen, (view.width, view.height), interpolation=cv2.INTER_CUBIC)
    return shadows[..., None]


@functools.lru_cache(maxsize=8)
def _cloud_field(seed: int) -> Field:
    drifting = painting.noise(np.random.default_rng([seed, 97]), Area(192, 144, 1), 20, 3)
    cover = cv2.GaussianBlur(np.clip((drifting - 0.42) * 5, 0, 1), (0, 0), 2.0)
    return np.asarray(1.06 - 0.34 * cover, np.float32)


# --- the balloon: a surface of revolution, seen from the side --------------------------------------------------------


def _profile() -> tuple[Field, Field, Field, Field]:
    """Per height q (radii, from the crown at -1 to the mouth): q, radius, way along the cloth, outward slope dr/dq."""
    q = np.linspace(-1, 1.32, 512)
    round_part = np.sqrt(np.clip(1 - np.minimum(q, 0.25) ** 2, 0, None))
    reach = np.clip((q - 0.25) / 1.07, 0, 1)  # a cubic from the sphere to the mouth
    start, end, slope_start, slope_end = round_part[-1], 0.26, -0.2582 * 1.07, -0.75 * 1.07
    cubic = (
        (2 * reach**3 - 3 * reach**2 + 1) * start
        + (reach**3 - 2 * reach**2 + reach) * slope_start
        + (3 * reach**2 - 2 * reach**3) * end
        + (reach**3 - reach**2) * slope_end
    )
    radius = np.where(q <= 0.25, round_part, cubic)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(q), np.diff(radius)))])
    return (
        q.astype(np.float32),
        radius.astype(np.float32),
        along.astype(np.float32),
        np.gradient(radius, q).astype(np.float32),
    )


PROFILE_Q, PROFILE_RADIUS, PROFILE_ALONG, PROFILE_SLOPE = _profile()
BALLOON_DOWN = float(PROFILE_ALONG[-1])
SUN = np.array([-0.62, -0.5, 0.6]) / np.linalg.norm([-0.62, -0.5, 0.6])  # to the left, above and behind the camera


def _draw_balloon(view: _View, balloon: Balloon, found: dict[str, _Surface], time: float) -> None:
    radius, tilt = balloon.radius(time), balloon.tilt(time)
    cos, sin = radius * np.cos(tilt), radius * np.sin(tilt)
    to_world = np.array([[cos, -sin, balloon.x(time)], [sin, cos, balloon.y(time)], [0, 0, 1]])
    to_frame = view.matrix(balloon.parallax) @ to_world
    _draw_basket(view, found["basket"], to_frame)
    corners = cv2.perspectiveTransform(np.array([[[-1.0, -1], [1, -1], [1, 1.32], [-1, 1.32]]]), to_frame)[0]
    window = view.window(corners)
    if window is None:
        return
    finer = 2
    p, q = _local(window, to_frame, finer)
    position = (q + 1) * np.float32(511 / 2.32)
    level = np.zeros_like(position)

    def at_height(table: Field) -> Field:
        seen = cv2.remap(table[None, :], position, level, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(seen, np.float32)

    wide = np.maximum(at_height(PROFILE_RADIUS), 1e-3)
    across = np.clip(p / wide, -1, 1)
    surface = found["balloon"]
    map_x = (np.arcsin(across) + np.float32(np.pi + balloon.turn(time))) * np.float32(surface.density) - 0.5
    map_y = at_height(PROFILE_ALONG) * np.float32(surface.density) - 0.5
    slope = at_height(PROFILE_SLOPE)
    texels = np.float32(np.hypot(to_frame[0, 0], to_frame[1, 0]) * finer)
    edge = (wide - np.abs(p)) / np.sqrt(1 + np.minimum(slope * slope, 9)) * texels
    inside = np.minimum(np.minimum((q + 1) * texels, (1.32 - q) * texels), edge)
    alpha = np.clip(inside + 0.5, 0, 1)
    facing = np.sqrt(1 - across * across)
    steep = np.sqrt(1 + slope * slope)
    toward = (across * np.float32(SUN[0]) + facing * np.float32(SUN[2]) - slope * np.float32(SUN[1])) / steep
    glow = 1 + 0.05 * np.sin(6.0 * time)  # the burner and the passing haze
    shade = np.clip(np.float32(0.6 * glow) + np.float32(0.52) * toward, 0.3, 1.2) * (0.86 + 0.14 * facing) * alpha
    size = (window[2] - window[0], window[3] - window[1])

    def seen(picture: Picture, gain: Field) -> Field:
        colour = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        lit = colour * (gain[..., None] if colour.ndim == 3 else gain)
        return np.asarray(cv2.resize(lit, size, interpolation=cv2.INTER_AREA), np.float32)

    view.draw(
        window,
        seen(surface.plate, shade),
        cv2.resize(alpha, size, interpolation=cv2.INTER_AREA),
        None if surface.truth is None else seen(surface.truth, shade),
        None if surface.matte is None else seen(surface.matte, alpha) / np.float32(255),
    )


def _local(window: tuple[int, int, int, int], to_frame: NDArray[np.float64], finer: int) -> tuple[Field, Field]:
    """An object's own coordinates (p, q) of every sample of a window, `finer` samples a pixel each way."""
    left, top, right, bottom = window
    back = np.linalg.inv(to_frame)
    x = (left + (np.arange((right - left) * finer) + 0.5) / finer)[None, :]
    y = (top + (np.arange((bottom - top) * finer) + 0.5) / finer)[:, None]
    p = (back[0, 0] * x + back[0, 1] * y + back[0, 2]).astype(np.float32)
    q = (back[1, 0] * x + back[1, 1] * y + back[1, 2]).astype(np.float32)
    return p, q


def _draw_basket(view: _View, surface: _Surface, to_frame: NDArray[np.float64]) -> None:
    hung = to_frame @ np.array(
        [[1 / surface.density, 0, -0.4], [0, 1 / surface.density, 1.28], [0, 0, 1]]
    )  # below the mouth
    rows, columns = surface.plate.shape[:2]
    corners = cv2.perspectiveTransform(np.array([[[0.0, 0], [columns, 0], [columns, rows], [0, rows]]]), hung)[0]
    window = view.window(corners)
    if window is not None:
        _draw_warped(view, surface, hung, window, None, finer=2)


# --- the bus: a box in weak perspective ------------------------------------------------------------------------------

PITCH = 0.2  # the camera looks down on the road by this angle
DISTANCE = 7.0  # of the camera, in bus heights

# Each face's picture: its upper left, upper right, lower right and lower left corner on the box (signs of x, y, z).
FACES = {
    "side": ((-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1)),
    "other side": ((1, -1, 1), (-1, -1, 1), (-1, 1, 1), (1, 1, 1)),
    "front": ((1, -1, -1), (1, -1, 1), (1, 1, 1), (1, 1, -1)),
    "back": ((-1, -1, 1), (-1, -1, -1), (-1, 1, -1), (-1, 1, 1)),
    "roof": ((-1, -1, 1), (1, -1, 1), (1, -1, -1), (-1, -1, -1)),
}


def _bus_points(view: _View, bus: Bus, time: float, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the box (signs, y -1 at the roof and 1 at the road) to the frame, (N, 2)."""
    half = np.array([painting.BUS_LENGTH, painting.BUS_HEIGHT, painting.BUS_WIDTH]) / 2
    bounce = 0.006 * np.sin(60 * time)
    x, y, z = ((points * half) - np.array([0, half[1] + bounce, 0])).T
    yaw = bus.yaw(time)
    x, z = x * np.cos(yaw) - z * np.sin(yaw), x * np.sin(yaw) + z * np.cos(yaw)
    y, z = y * np.cos(PITCH) - z * np.sin(PITCH), y * np.sin(PITCH) + z * np.cos(PITCH)
    size = bus.size(time) / (1 + z / DISTANCE)
    world = np.stack([bus.x(time) + x * size, bus.y(time) + y * size], -1)
    return np.asarray(cv2.perspectiveTransform(world[None], view.matrix(bus.parallax))[0])


def _shade_bus(view: _View, bus: Bus, time: float, light: Field) -> None:
    """Darkens the light on the ground under and beside the bus, in place."""
    ring = np.linspace(0, 2 * np.pi, 25)[:-1]
    foot = np.stack([1.1 * np.cos(ring) + 0.12, np.full_like(ring, 0.92), 1.25 * np.sin(ring) - 0.1], -1)
    points = _bus_points(view, bus, time, foot)
    spread = max(2.0, 0.07 * bus.size(time) * view.scale)
    window = view.window(np.concatenate([points - 3 * spread, points + 3 * spread]))
    if window is None:
        return
    left, top, right, bottom = window
    shadow = np.zeros((bottom - top, right - left), np.uint8)
    outline = np.round((points - (left, top)) * 16).astype(np.int32)
    cv2.fillPoly(shadow, [outline], 255, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(shadow, (0, 0), spread).astype(np.float32) / np.float32(255)
    light[top:bottom, left:right] *= (1 - np.float32(0.62) * soft)[..., None]


def _draw_bus(view: _View, bus: Bus, found: dict[str, _Surface], time: float) -> None:
    corners = _bus_points(view, bus, time, np.array(list(FACES["side"]) + list(FACES["other side"]), np.float64))
    whole = view.window(corners)
    if whole is None:
        return
    _draw_core(view, bus, time)
    for name, signs in FACES.items():
        target = _bus_points(view, bus, time, np.array(signs, np.float64))
        ahead, down = target[1] - target[0], target[3] - target[0]
        window = view.window(target)
        if ahead[0] * down[1] - ahead[1] * down[0] <= 0 or window is None:
            continue  # its back is turned
        rows, columns = found[name].plate.shape[:2]
        source = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
        to_frame = cv2.getPerspectiveTransform(source, target.astype(np.float32))
        _draw_warped(view, found[name], to_frame, window, _face_light(name, bus.yaw(time), time), finer=2)


def _draw_core(view: _View, bus: Bus, time: float) -> None:
    """A dull body just inside the box, so that no background shows through the seams between its faces."""
    inset = np.array([(x, y, z) for x in (-0.93, 0.93) for y in (-0.94, 0.6) for z in (-0.9, 0.9)])
    points = _bus_points(view, bus, time, inset)
    window = view.window(points)
    if window is None:
        return
    left, top, right, bottom = window
    hull = cv2.convexHull(np.round((points - (left, top)) * 16).astype(np.int32))
    core = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillConvexPoly(core, hull, 255, cv2.LINE_AA, 4)
    alpha = core.astype(np.float32) / np.float32(255)
    view.draw(window, alpha[..., None] * painting.vector(bus.coat.upper) * np.float32(0.6), alpha)


def _face_light(name: str, yaw: float, time: float) -> float:
    """Sunlight on a face: 0.55 turned away to about 1.1 turned to the sun."""
    normals = {"side": (0, 0, 1), "other side": (0, 0, -1), "front": (1, 0, 0), "back": (-1, 0, 0), "roof": (0, -1, 0)}
    x, y, z = normals[name]
    turned = np.array([x * np.cos(yaw) + z * np.sin(yaw), y, z * np.cos(yaw) - x * np.sin(yaw)])
    return float(0.72 + 0.4 * max(0.0, float(turned @ SUN)) + 0.03 * np.sin(7 * time))


# --- the cases -------------------------------------------------------------------------------------------------------


def _ease(start: float, end: float) -> Motion:
    """From start to end, slow at both ends."""
    return lambda time: start + (end - start) * time * time * (3 - 2 * time)


def _line(start: float, end: float) -> Motion:
    return lambda time: start + (end - start) * time


def _swing(middle: float, reach: float, turns: float = 1.0, phase: float = 0.0) -> Motion:
    return lambda time: middle + reach * float(np.sin(2 * np.pi * (turns * time + phase)))


def _hold(value: float) -> Motion:
    return lambda time: value


_BELLY = 1.32  # the way down from the crown to the middle of a balloon's front, in radii


def _emblem(area: Area) -> Paint:
    return painting.star(area, np.pi, _BELLY, 0.46)


def _bus_star(area: Area) -> Paint:
    return painting.star(area, 1.28, 0.695, 0.155)


_TEAL = Cloth((226, 232, 222), (46, 118, 128), (234, 176, 88), (30, 84, 104))
_PLUM = Cloth((240, 220, 196), (122, 58, 104), (240, 150, 92), (92, 44, 92))
_LEMON = Cloth((244, 216, 120), (70, 130, 92), (246, 240, 222), (52, 102, 84))

_MARK = Scene(
    seed=11,
    light=painting.GOLDEN,
    camera=Camera(_ease(-0.24, 0.36), _swing(0, 0.02), _ease(1.0, 1.1)),
    balloon=Balloon(_line(-0.2, 0.2), _ease(-0.1, -0.14), _hold(0.24), _ease(-0.42, 0.38), _swing(0, 0.04)),
    tower=0.08,
    edits={"balloon": lambda area: painting.star(area, np.pi, _BELLY, 0.42)},
)
_TEXTURE = Scene(
    seed=23,
    light=painting.MORNING,
    camera=Camera(_ease(-0.22, 0.16), _hold(0.03), _ease(1.04, 1.14)),
    bus=Bus(_line(-0.3, 0.24), _line(0.41, 0.4), _line(0.44, 0.48), _swing(0.02, 0.42, 0.5, -0.25)),
    edits={"side": lambda area: painting.around_wheels(area, painting.tiles(area, (0.07, 0.525, 2.03, 0.85)))},
)
_REMOVAL = Scene(
    seed=37,
    light=painting.GOLDEN,
    camera=Camera(_ease(0.3, -0.26), _hold(0.03), _ease(1.0, 1.08)),
    bus=Bus(
        _line(0.46, -0.28),
        _hold(0.4),
        _hold(0.46),
        _ease(-0.45, 0.32),
        coat=Coat((238, 222, 190), (168, 64, 52), (240, 232, 214)),
    ),
    tower=-0.12,
    blemishes={"side": lambda area: painting.sticker(area, 1.04, 0.6, 0.19)},
)
_AIRBRUSH = Scene(
    seed=41,
    light=painting.DUSK,
    camera=Camera(_ease(0.15, -0.15), _swing(0, 0.02), _ease(1.1, 1.0)),
    balloon=Balloon(
        _line(0.1, -0.1), _ease(-0.14, -0.06), _line(0.24, 0.27), _ease(0.34, -0.34), _swing(0, 0.05), cloth=_TEAL
    ),
    edits={
        "balloon": lambda area: painting.airbrush(
            area, ((2.5, 1.62), (2.75, 1.1), (3.0, 1.45), (3.3, 1.05), (3.55, 1.4), (3.8, 1.1)), 0.1, (238, 62, 96)
        )
    },
)
_GLAZE = Scene(
    seed=53,
    light=painting.MORNING,
    camera=Camera(_ease(-0.12, 0.2), _hold(0), _ease(1.0, 1.1)),
    balloon=Balloon(
        _line(-0.1, 0.12), _swing(-0.1, 0.03), _hold(0.26), _ease(-0.3, 0.34), _swing(0, 0.04), cloth=_LEMON
    ),
    edits={"balloon": lambda area: painting.panel(area, (np.pi - 0.62, 0.72, np.pi + 0.62, 2.1), (96, 40, 190), 0.45)},
)
_BORDER = Scene(
    seed=61,
    light=painting.MORNING,
    camera=Camera(_ease(-0.28, 0.3), _hold(0.05), _ease(1.06, 1.18)),
    bus=Bus(_line(-0.1, 0.5), _hold(0.26), _hold(0.13), _line(-0.1, -0.3)),
    edits={"meadow": lambda area: painting.panel(area, (1.0, 0.2, 2.35, 0.7), (226, 176, 36), 0.7)},
)
_SEVERAL = Scene(
    seed=71,
    light=painting.GOLDEN,
    camera=Camera(_ease(0.2, -0.2), _hold(0.01), _ease(1.0, 1.08)),
    balloon=Balloon(
        _line(0.42, 0.24), _ease(-0.16, -0.12), _hold(0.23), _ease(0.3, -0.34), _swing(0, 0.04), cloth=_PLUM
    ),
    bus=Bus(_line(-0.5, -0.14), _hold(0.4), _hold(0.34), _ease(-0.34, 0.2)),
    edits={"balloon": _emblem, "side": _bus_star},
)
_LEAVES = Scene(
    seed=83,
    light=painting.DUSK,
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
    light=painting.MORNING,
    camera=Camera(_ease(-0.12, 0.2), _hold(0), _hold(1.05)),
    balloon=Balloon(_line(-0.2, 0.2), _hold(-0.1), _hold(0.25), _line(-0.36, 0.36), _swing(0, 0.04)),
    edits={"balloon": _emblem},
)
_AFTER_CUT = Scene(
    seed=101,
    light=painting.DUSK,
    camera=Camera(_ease(0.1, -0.2), _hold(0.02), _hold(1.1)),
    balloon=Balloon(_line(0.1, -0.1), _hold(-0.14), _hold(0.22), _line(0.3, -0.3), _swing(0, 0.04), cloth=_PLUM),
    bus=Bus(_line(0.45, 0.2), _hold(0.38), _hold(0.24), _hold(-0.1)),
)

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("mark", "star on a turning balloon behind a tower", 48, 8, "opaque mark", _MARK),
        Case("texture", "flower tiles on a turning bus", 40, 12, "painted texture", _TEXTURE),
        Case("removal", "sticker taken off a bus", 40, 30, "removed blemish", _REMOVAL),
        Case("airbrush", "soft stroke on a balloon", 40, 20, "soft edge", _AIRBRUSH),
        Case("glaze", "thin violet over a balloon", 40, 0, "semi-transparent", _GLAZE),
        Case("border", "field at the frame's edge", 40, 14, "edit at the border", _BORDER),
        Case("several", "stars on a balloon and a bus", 40, 16, "several edits", _SEVERAL),
        Case("leaves_and_returns", "balloon out of frame and back", 48, 4, "leaves and returns", _LEAVES),
        Case("cut", "star on a balloon, then another shot", 36, 6, "shot change", _CUT, 20, _AFTER_CUT),
    )
}


_MUSTARD = (236, 170, 44)


DEMO = Case(
    "demo",
    "balloon and bus at golden hour",
    72,
    36,
    "emblem and repaint",
    Scene(
        seed=7,
        light=painting.GOLDEN,
        camera=Camera(_line(-0.25, 0.35), _swing(0.0, 0.012), _ease(1.0, 1.08), shake=0.0035),
        balloon=Balloon(_line(-0.455, 0.286), _ease(-0.11, -0.16), _hold(0.25), _ease(-0.36, 0.3), _swing(0, 0.04)),
        bus=Bus(_line(0.26, 0.38), _hold(0.4), _hold(0.25), _line(-0.36, -0.14)),
        tower=-0.785,
        edits={
            "balloon": lambda area: painting.star(area, np.pi, _BELLY, 0.5),
            "side": lambda area: painting.bus_repaint(area, _MUSTARD, 0.82),
            "front": lambda area: painting.bus_repaint(area, _MUSTARD, 0.82),
        },
    ),
)
