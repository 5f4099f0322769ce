"""Procedural pictures for the test scenes: landscapes, balloon cloth, a bus's panels, and the paint of the edits.

Pictures are uint8, RGB or premultiplied RGBA, (H, W, C). Sizes are in units of the surface; a density is in texels per
unit, so that a picture is the same at every density, only finer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Field = NDArray[np.float32]
Array = NDArray[np.floating[Any]]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """The light of a landscape."""

    zenith: Colour
    horizon: Colour
    cloud: Colour
    haze: Colour
    ground: tuple[Colour, ...]
    leaf: Colour


GOLDEN = Palette(
    zenith=(62, 112, 176),
    horizon=(250, 214, 170),
    cloud=(255, 240, 220),
    haze=(158, 164, 190),
    ground=((126, 142, 62), (174, 164, 78), (204, 176, 92), (96, 124, 60), (152, 148, 66), (186, 148, 84)),
    leaf=(58, 84, 42),
)
MORNING = Palette(
    zenith=(74, 142, 196),
    horizon=(222, 236, 240),
    cloud=(250, 252, 255),
    haze=(150, 176, 196),
    ground=((98, 148, 74), (132, 166, 82), (176, 186, 104), (82, 128, 74), (118, 156, 70), (160, 158, 98)),
    leaf=(44, 88, 52),
)
DUSK = Palette(
    zenith=(66, 70, 128),
    horizon=(244, 166, 132),
    cloud=(255, 204, 182),
    haze=(134, 116, 152),
    ground=((112, 104, 70), (146, 120, 78), (168, 134, 88), (92, 96, 66), (128, 112, 72), (150, 116, 84)),
    leaf=(60, 64, 50),
)


# --- building blocks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Area:
    """A picture's extent: width and height in units, density in texels per unit."""

    width: float
    height: float
    density: float

    @property
    def rows(self) -> int:
        return round(self.height * self.density)

    @property
    def columns(self) -> int:
        return round(self.width * self.density)


def grid(area: Area) -> tuple[Field, Field]:
    """Coordinates in units of every texel's centre: x (1, W) and y (H, 1), ready to broadcast."""
    x = (np.arange(area.columns, dtype=np.float32) + 0.5) / np.float32(area.density)
    y = (np.arange(area.rows, dtype=np.float32) + 0.5) / np.float32(area.density)
    return x[None, :], y[:, None]


def noise(rng: np.random.Generator, area: Area, cell: float, octaves: int = 1) -> Field:
    """Value noise in 0..1, (H, W) float32; `cell` is the size in units of its coarsest bumps."""
    total = np.zeros((area.rows, area.columns), np.float32)
    weight = 0.0
    for octave in range(octaves):
        size = cell / 2**octave
        coarse = rng.random((int(area.height / size) + 4, int(area.width / size) + 4), dtype=np.float32)
        scale = 1.0 / (size * area.density)
        matrix = np.array([[scale, 0, 1.0], [0, scale, 1.0]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        total += cv2.warpAffine(coarse, matrix, (area.columns, area.rows), flags=flags) * np.float32(0.5**octave)
        weight += 0.5**octave
    return np.asarray(np.clip(total / weight, 0, 1), np.float32)


def step(edge: Array, area: Area, softness: float = 1.5) -> Field:
    """Coverage 0..1 of a signed distance in units (positive inside); its edge is `softness` texels wide."""
    return np.asarray(np.clip(edge * (area.density / softness) + 0.5, 0, 1), np.float32)


def vector(colour: Sequence[float]) -> Field:
    """A colour to calculate with."""
    return np.asarray(colour, np.float32)


def mix(under: Field, colour: Sequence[float] | Array, amount: Array | float) -> Field:
    """`under` (H, W, 3) with `colour` over it by `amount` 0..1, one number or (H, W)."""
    weight = np.asarray(amount, np.float32)[..., None]
    return np.asarray(under + (np.asarray(colour, np.float32) - under) * weight, np.float32)


def flat(shape: tuple[int, int], colour: Sequence[float] | Field) -> Field:
    """An even colour, (H, W, 3)."""
    return np.broadcast_to(np.asarray(colour, np.float32), (*shape, 3)).copy()


def sprite(rgb: Field, alpha: Field) -> Picture:
    """Premultiplied RGBA from colours 0..255 and coverage 0..1."""
    return np.clip(np.dstack([rgb * alpha[..., None], alpha * 255]) + 0.5, 0, 255).astype(np.uint8)


def polygons(shapes: Sequence[Sequence[tuple[float, float]]], area: Area) -> Field:
    """Anti-aliased coverage 0..1 of polygons whose corners are given in units."""
    mask = np.zeros((area.rows * 4, area.columns * 4), np.uint8)
    for shape in shapes:
        cv2.fillPoly(mask, [np.round(np.array(shape) * area.density * 4).astype(np.int32)], 255)
    small = cv2.resize(mask, (mask.shape[1] // 4, mask.shape[0] // 4), interpolation=cv2.INTER_AREA)
    return np.asarray(small / np.float32(255), np.float32)


# --- landscape -------------------------------------------------------------------------------------------------------


def sky(rng: np.random.Generator, area: Area, light: Palette) -> Picture:
    """Gradient and sunlit clouds; its lower edge is the horizon."""
    _, y = grid(area)
    low = np.power(np.clip(y / area.height, 0, 1), 1.5)[..., None]
    zenith, horizon = vector(light.zenith), vector(light.horizon)
    picture = np.repeat(zenith + (horizon - zenith) * low, area.columns, axis=1)
    thickness = noise(rng, Area(area.width, area.height * 2.2, area.density), 0.62, 6)
    thickness = cv2.resize(thickness, (area.columns, area.rows), interpolation=cv2.INTER_AREA)
    toward_sun = cv2.warpAffine(
        thickness,
        np.array([[1, 0, 0.018 * area.density], [0, 1, 0.03 * area.density]]),
        (area.columns, area.rows),
        borderMode=cv2.BORDER_REPLICATE,
    )
    cover = np.clip((thickness - 0.505) * 7, 0, 1)
    cover = cover * cover * (3 - 2 * cover)
    lit = np.clip(0.66 + (thickness - toward_sun) * 6, 0, 1)
    shade = vector(light.haze) * 0.62 + vector(light.horizon) * 0.38
    clouds = mix(np.broadcast_to(shade, picture.shape).astype(np.float32), light.cloud, lit)
    return np.clip(mix(picture, clouds, cover * 0.86), 0, 255).astype(np.uint8)


def mountains(rng: np.random.Generator, area: Area, light: Palette, distance: float) -> Picture:
    """A ridge seen through haze; `distance` 0..1 is how much of it the haze takes."""
    _, y = grid(area)
    ridge = noise(rng, Area(area.width, 0.01, area.density), 0.75, 7)[0][None, :]
    top = area.height * (0.7 - 1.15 * (ridge - 0.3))
    crags = noise(rng, area, 0.11, 5)
    lit = np.clip(0.5 + cv2.Sobel(crags, cv2.CV_32F, 1, 0, ksize=3, scale=area.density / 90), 0, 1)
    rock = mix(flat(lit.shape, vector(light.haze) * 0.62), vector(light.horizon) * 0.85, lit * 0.6)
    depth = np.clip((y - top) / area.height, 0, 1)
    hazy = np.clip(distance + 0.7 * depth, 0, 1).astype(np.float32)
    colour = mix(rock, vector(light.haze) * 0.62 + vector(light.horizon) * 0.38, hazy)
    return sprite(colour, step(y - top, area))


def fields(rng: np.random.Generator, area: Area, light: Palette) -> Picture:
    """Farmland from above, a square: ploughed, sown and ripe fields between hedges."""
    count = int(area.width * 5)
    cells = area.rows
    seeds = np.ones((cells, cells), np.uint8)
    spots = (np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2) + 0.5) / count
    spots = np.clip(spots + rng.uniform(-0.42, 0.42, spots.shape) / count, 0, 0.999)
    seeds[(spots[:, 1] * cells).astype(int), (spots[:, 0] * cells).astype(int)] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    kinds = rng.integers(0, len(light.ground), labels.max() + 1)
    angles = rng.uniform(0, np.pi, labels.max() + 1).astype(np.float32)
    tones = rng.uniform(0.86, 1.1, labels.max() + 1).astype(np.float32)
    x, y = grid(area)
    across = x * np.cos(angles)[labels] + y * np.sin(angles)[labels]
    rows = 0.5 + 0.5 * np.sin(across * np.float32(2 * np.pi / 0.022))
    growth = noise(rng, area, 0.3, 4)
    grain = noise(rng, area, 0.012, 2)
    colour = np.asarray(light.ground, np.float32)[kinds[labels]]
    colour *= (tones[labels] * (0.72 + 0.16 * rows + 0.2 * growth + 0.22 * grain))[..., None]
    edges = (cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0).astype(np.float32)
    wide = max(1, round(area.density * 0.007))
    hedge = cv2.dilate(edges, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * wide + 1, 2 * wide + 1)))
    ragged = np.clip(cv2.GaussianBlur(hedge, (0, 0), wide * 0.6) + (grain - 0.5) * 0.8, 0, 1)
    hedges = vector(light.leaf) * (0.6 + 0.7 * grain)[..., None]
    return np.clip(mix(colour, hedges, ragged * hedge), 0, 255).astype(np.uint8)


def land(
    rng: np.random.Generator,
    area: Area,
    light: Palette,
    near: float,
    road: float | None = None,
) -> Picture:
    """Farmland in perspective with scattered trees, under a soft ridge line; `near` scales the fields.

    road: how far down a dirt road crosses it, in units.
    """
    above = Area(3.4, 3.4, area.density * 0.8)
    plan = fields(rng, above, light)
    x, y = grid(Area(area.width, area.height, area.density * 2))
    away = (0.06 + 0.3 / near) / (y + 0.06 + 0.3 / near)
    map_x = np.mod((x - area.width / 2) * away * 1.5 / near + above.width / 2, above.width) * above.density
    map_y = np.broadcast_to((away * 3.2) % above.height * above.density, map_x.shape)
    picture = cv2.remap(
        plan, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    ground = cv2.resize(picture, (area.columns, area.rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    x, y = grid(area)
    ridge = 0.035 + 0.05 * noise(rng, Area(area.width, 0.01, area.density), 0.8, 3)[0][None, :]
    depth = np.clip(1 - (y - ridge) / (area.height * 0.75), 0, 1) ** 2
    if road is not None:
        ground = _dirt_road(rng, ground, area, road)
    hazy = np.broadcast_to(depth * (0.55 / near), ground.shape[:2]).astype(np.float32)
    ground = mix(ground, vector(light.haze) * 0.4 + vector(light.horizon) * 0.5, hazy)
    alpha = np.ascontiguousarray(np.broadcast_to(step(y - ridge, area), ground.shape[:2]))
    picture = sprite(ground, alpha)
    _plant_trees(rng, picture, ridge[0], area.density, light, near, road)
    return picture


def _dirt_road(rng: np.random.Generator, ground: Field, area: Area, road: float) -> Field:
    _, y = grid(area)
    ragged = 0.034 + 0.012 * (noise(rng, area, 0.05, 4) - 0.5)
    gravel = noise(rng, Area(area.width * 0.6, area.height, area.density), 0.012, 2)  # seen from low above: flattened
    gravel = cv2.resize(gravel, (area.columns, area.rows), interpolation=cv2.INTER_LINEAR)
    puddles = noise(rng, area, 0.08, 3)
    down = y - road
    tracks = np.exp(-(((np.abs(down - 0.003) - 0.014) / 0.006) ** 2))
    dirt = vector((206, 178, 136)) * (0.6 + 0.4 * gravel + 0.3 * puddles - 0.14 * tracks)[..., None]
    tufts = np.clip((noise(rng, area, 0.03, 3) - 0.56) * 9, 0, 1) * np.exp(-((down / 0.022) ** 4)) * 0.75
    dirt = mix(dirt.astype(np.float32), vector((122, 126, 66)) * (0.6 + 0.7 * gravel)[..., None], tufts)
    verge = mix(ground, ground * 0.6, step(ragged + 0.005 - np.abs(down), area, softness=9))
    return mix(verge, dirt, step(ragged - np.abs(down), area, softness=4.5))


def _plant_trees(
    rng: np.random.Generator,
    picture: Picture,
    ridge: Field,
    density: float,
    light: Palette,
    near: float,
    road: float | None,
) -> None:
    """Scatters trees over a landscape picture, far ones first, none of them on or before the road, in place."""
    rows, columns = picture.shape[:2]
    kinds = [tree(rng, light) for _ in range(6)]
    places = []
    for _ in range(int(60 * columns / density)):
        x = rng.uniform(0, columns - 1)
        down = rng.uniform(0, 1) ** 1.6 * 0.75
        places.append((ridge[int(x)] * density + down * rows, x, rng.integers(len(kinds)), rng.uniform(0.75, 1.35)))
    for foot, x, kind, grown in sorted(places, key=lambda place: place[0]):
        away = foot / rows
        tall = (0.018 + 0.085 * away * near) * grown * density
        if road is not None and foot > (road - 0.05) * density and foot - tall < (road + 0.06) * density:
            continue
        leaves = cv2.resize(kinds[kind], (max(2, round(tall * 0.8)), max(2, round(tall))), interpolation=cv2.INTER_AREA)
        hazy = np.float32(max(0.0, 0.42 - away) * 0.9 / near)
        leaves = leaves.astype(np.float32)
        leaves[..., :3] += (vector(light.haze) * leaves[..., 3:] / 255 - leaves[..., :3]) * hazy
        stamp(picture, leaves, round(x - leaves.shape[1] / 2), round(foot - leaves.shape[0]))


def stamp(picture: Picture, over: Field, left: int, top: int) -> None:
    """Puts a premultiplied RGBA sprite over a premultiplied RGBA picture, clipped to it, in place."""
    rows, columns = picture.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + over.shape[1], columns), min(top + over.shape[0], rows)
    if x0 >= x1 or y0 >= y1:
        return
    part = over[y0 - top : y1 - top, x0 - left : x1 - left]
    under = picture[y0:y1, x0:x1].astype(np.float32)
    picture[y0:y1, x0:x1] = np.clip(under * (1 - part[..., 3:] / 255) + part + 0.5, 0, 255).astype(np.uint8)


def tree(rng: np.random.Generator, light: Palette) -> Picture:
    """A leafy crown with its own light and shadow, 115 x 144 texels."""
    area = Area(0.8, 1.0, 144)
    x, y = grid(area)
    leaves = noise(rng, area, 0.16, 4)
    round_x, round_y = (x - 0.4) / 0.33, (y - 0.45) / 0.42
    inside = 1 - np.sqrt(round_x**2 + round_y**2) + (leaves - 0.5) * 0.9
    crown = np.clip(inside * 9, 0, 1)
    trunk = (np.abs(x - 0.4) < 0.028) & (y > 0.6)
    lit = np.clip(0.5 - 0.42 * round_x - 0.5 * round_y + (leaves - 0.5) * 1.5, 0, 1)
    colour = mix(flat(lit.shape, vector(light.leaf) * 0.62), vector(light.ground[0]) * 1.02, lit)
    colour = mix(colour, (74, 58, 44), trunk * (1 - crown))
    return sprite(colour, np.maximum(crown, trunk.astype(np.float32)))


def tower(rng: np.random.Generator, area: Area, light: Palette) -> Picture:
    """A round stone tower under a tiled cone, lit from the left."""
    x, y = grid(area)
    across = (x / area.width * 2 - 1) / 0.8
    roof = area.width * 1.15
    course = 0.034
    row = np.floor(y / course)
    turn = np.arcsin(np.clip(across, -0.999, 0.999)) * area.width * 0.5 + (row % 2) * 0.03
    block = np.floor(turn / 0.062)
    tones = rng.uniform(0.74, 1.1, (int(area.height / course) + 2, 64)).astype(np.float32)
    stone = tones[row.astype(int), (block.astype(int) + 32) % 64]
    gap = np.minimum(np.abs((y / course) % 1 - 0.5) * -2 + 1, (np.abs((turn / 0.062) % 1 - 0.5) * -2 + 1) * 1.8)
    mortar = np.clip(1 - gap * 5.5, 0, 1).astype(np.float32)
    grain = noise(rng, area, 0.03, 4)
    wall = vector((186, 164, 136)) * (stone * (0.72 + 0.5 * grain))[..., None]
    wall = mix(wall, (112, 98, 84), mortar * 0.75)
    tiles = np.floor(y / 0.02)
    tile = np.abs(((turn / 0.03 + (tiles % 2) * 0.5) % 1) - 0.5) * 2
    tiled = vector((164, 82, 58)) * (0.66 + 0.22 * tile + 0.22 * ((y / 0.02) % 1) + 0.3 * (grain - 0.5))[..., None]
    on_roof = step(roof - y, area)
    colour = mix(wall, tiled.astype(np.float32), np.broadcast_to(on_roof, grain.shape))
    eaves = np.clip(1 - (y - roof) / 0.05, 0, 1) * (y > roof)
    colour = colour * (1 - 0.5 * eaves)[..., None]
    for top in np.arange(roof + 0.16, area.height, 0.36):
        window = step(np.minimum(0.16 - np.abs(across), (0.05 - np.abs(y - top - 0.05)) * 4) * area.width / 2, area)
        arch = step(0.16 * area.width / 2 - np.hypot(across * area.width / 2, y - top), area)
        colour = mix(colour, (46, 42, 46), np.maximum(window, arch) * 0.92)
    narrow = np.clip(y / roof, 0, 1) * 1.22
    half = np.where(y < roof, narrow, 1.0)
    round_light = np.clip(1.02 - 0.32 * across / half - 0.42 * (across / half) ** 4, 0.32, 1.3)
    colour = np.minimum(colour * round_light[..., None], 255)
    colour = mix(colour, light.haze, 0.06)
    return sprite(colour.astype(np.float32), step((half - np.abs(across)) * area.width * 0.4, area).astype(np.float32))


# --- the balloon -----------------------------------------------------------------------------------------------------

BALLOON_AROUND = 2 * np.pi
BALLOON_GORES = 20


@dataclass(frozen=True)
class Cloth:
    """The colours of a balloon."""

    main: Colour = (238, 226, 200)
    belt: Colour = (206, 74, 52)
    accent: Colour = (236, 158, 62)
    crown: Colour = (176, 52, 46)


def balloon_cloth(rng: np.random.Generator, area: Area, cloth: Cloth) -> Picture:
    """A balloon's envelope unrolled, RGB: x the angle in radians, y the way down from the crown, in radii."""
    x, y = grid(area)
    gore = area.width / BALLOON_GORES
    inside = (x / gore) % 1
    tooth = np.abs(inside - 0.5) * 2
    picture = flat((area.rows, area.columns), cloth.main)

    def band(top: float, bottom: float, teeth: float) -> Field:
        swing = (tooth - 0.5) * teeth
        return np.asarray(np.minimum(step(y - top + swing, area), step(bottom - swing - y, area)), np.float32)

    picture = mix(picture, cloth.crown, band(-1.0, 0.5, 0.16))
    picture = mix(picture, cloth.accent, band(0.58, 0.68, 0.16))
    picture = mix(picture, cloth.belt, band(1.9, 2.3, -0.16))
    picture = mix(picture, cloth.accent, band(1.78, 1.86, -0.16))
    picture = mix(picture, cloth.crown, band(2.5, 4.0, 0.0))
    weave = noise(rng, area, 0.5, 6)
    creases = noise(rng, area, 0.07, 3)
    patches = rng.uniform(0.87, 1.05, (int(area.height / 0.22) + 2, BALLOON_GORES)).astype(np.float32)
    row, column = (y / 0.22).astype(int), np.minimum((x / gore).astype(int), BALLOON_GORES - 1)
    puffed = 0.8 + 0.24 * np.sin(np.pi * inside) ** 0.7
    seam = np.minimum(np.minimum(inside, 1 - inside) * gore, np.abs((y / 0.22 + 0.5) % 1 - 0.5) * 0.22 * 2.2)
    stitched = 1 - 0.26 * np.clip(1 - seam / 0.014, 0, 1)
    folds = puffed * patches[row, column] * stitched * (0.86 + 0.26 * weave) * (0.92 + 0.16 * creases)
    return np.asarray(np.clip(picture * folds[..., None], 0, 255), np.uint8)


def basket(rng: np.random.Generator, density: float) -> Picture:
    """Ropes, burner and wicker basket, 0.8 x 0.9 units (radii), hung from its top edge."""
    area = Area(0.8, 0.9, density)
    ropes = []
    for top, bottom in ((0.2, 0.26), (0.33, 0.35), (0.47, 0.45), (0.6, 0.54)):
        ropes.append([(top, 0.0), (top + 0.012, 0.0), (bottom + 0.012, 0.6), (bottom, 0.6)])
    burner = [[(0.34, 0.3), (0.46, 0.3), (0.44, 0.36), (0.36, 0.36)]]
    wicker = [[(0.235, 0.58), (0.565, 0.58), (0.54, 0.86), (0.26, 0.86)]]
    rim = [[(0.22, 0.56), (0.58, 0.56), (0.58, 0.61), (0.22, 0.61)]]
    x, y = grid(area)
    weave = 0.72 + 0.28 * np.sin(x * 190) * np.sign(np.sin(y * 130))
    light = np.clip(1.25 - 1.1 * (x - 0.22), 0.4, 1.2)
    body = vector((150, 100, 56)) * (weave * light)[..., None]
    body = body * (0.8 + 0.4 * noise(rng, area, 0.1, 3))[..., None]
    picture = flat((area.rows, area.columns), (78, 64, 54))
    rope = polygons(ropes, area)
    alpha = rope.copy()
    for shapes, colour in ((burner, flat(rope.shape, (96, 98, 104))), (wicker, body), (rim, body * 0.7)):
        cover = polygons(shapes, area)
        picture = mix(picture, np.asarray(colour, np.float32), cover)
        alpha = np.maximum(alpha, cover)
    return sprite(picture, alpha)


# --- the bus ---------------------------------------------------------------------------------------------------------

BUS_LENGTH, BUS_HEIGHT, BUS_WIDTH = 2.1, 1.0, 0.9
BUS_HUBS = (0.44, 1.68)
BUS_LAMPS = (0.17, 0.73)


@dataclass(frozen=True)
class Coat:
    """The colours of a bus."""

    upper: Colour = (234, 228, 210)
    lower: Colour = (72, 128, 134)
    trim: Colour = (222, 218, 206)


def _box(x: Array, y: Array, left: float, top: float, right: float, bottom: float, corner: float) -> Field:
    """Signed distance in units (positive inside) to a rectangle with round corners."""
    away_x = np.abs(x - (left + right) / 2) - (right - left) / 2 + corner
    away_y = np.abs(y - (top + bottom) / 2) - (bottom - top) / 2 + corner
    outside = np.hypot(np.maximum(away_x, 0), np.maximum(away_y, 0))
    return np.asarray(corner - outside - np.minimum(np.maximum(away_x, away_y), 0), np.float32)


def _body(rng: np.random.Generator, area: Area, coat: Coat) -> tuple[Field, Field, Field]:
    """Two-tone sheet metal with a waistline, dirt and dents: colour, x, y."""
    x, y = grid(area)
    colour = flat((area.rows, area.columns), coat.upper)
    sheen = 1.06 - 0.16 * (y / BUS_HEIGHT)
    lower = np.broadcast_to(step(y - 0.5, area), colour.shape[:2])
    colour = mix(colour, coat.lower, lower)
    waist = np.broadcast_to(step(0.016 - np.abs(y - 0.5), area), colour.shape[:2])
    colour = mix(colour, coat.trim, waist)
    dirt = noise(rng, area, 0.5, 6)
    low = np.clip((y - 0.6) / 0.3, 0, 1)
    worn = noise(rng, area, 0.06, 3)
    colour = colour * (sheen * (0.84 + 0.26 * dirt) * (0.9 + 0.2 * worn))[..., None]
    streaks = noise(rng, Area(area.width * 12, area.height, area.density / 4), 0.3, 3)
    streaks = cv2.resize(streaks, (area.columns, area.rows), interpolation=cv2.INTER_AREA)
    colour = mix(colour, (112, 92, 72), np.clip((streaks - 0.52) * 2.5, 0, 0.4) * step(y - 0.45, area, 60))
    colour = mix(colour, (136, 112, 84), np.clip((dirt - 0.34) * 2.2, 0, 1) * low * 0.6)
    return colour, x, y


def _glass(colour: Field, x: Field, y: Field, pane: tuple[float, float, float, float], area: Area) -> Field:
    left, top, right, bottom = pane
    edge = _box(x, y, left, top, right, bottom, 0.045)
    colour = mix(colour, (58, 60, 62), step(edge + 0.016, area))
    gleam = np.clip(0.5 + 1.1 * (x - left) - 1.9 * (y - top) + 0.1 * np.sin(x * 31), 0, 1)
    sky_seen = vector((64, 86, 104)) + vector((106, 108, 92)) * np.broadcast_to(gleam, edge.shape)[..., None]
    return mix(colour, sky_seen.astype(np.float32), step(edge, area))


def bus_side(rng: np.random.Generator, density: float, coat: Coat) -> Picture:
    """Windows, door, louvres and wheels on RGBA, BUS_LENGTH x BUS_HEIGHT units, the nose to the right."""
    area = Area(BUS_LENGTH, BUS_HEIGHT, density)
    colour, x, y = _body(rng, area, coat)
    for pane in ((0.12, 0.14, 0.52, 0.42), (0.6, 0.14, 1.0, 0.42), (1.08, 0.14, 1.48, 0.42), (1.58, 0.14, 1.98, 0.42)):
        colour = _glass(colour, x, y, pane, area)
    for line in (1.04, 1.53, 2.02):
        seam = np.minimum(step(0.004 - np.abs(x - line), area), step(0.86 - y, area) * step(y - 0.1, area))
        colour = mix(colour, (60, 62, 62), seam * 0.7)
    for louvre in np.arange(0.64, 0.77, 0.03):
        slot = step(_box(x, y, 0.72, louvre, 0.96, louvre + 0.013, 0.006), area)
        colour = mix(colour, (44, 56, 58), slot * 0.8)
    for pinstripe in (0.605, 0.785):
        colour = mix(colour, coat.trim, step(0.006 - np.abs(y - pinstripe), area) * 0.8)
    for knob in (1.13, 1.63):
        colour = mix(colour, (226, 226, 222), step(_box(x, y, knob, 0.575, knob + 0.11, 0.6, 0.01), area))
    for rivet in np.arange(0.06, BUS_LENGTH, 0.11):
        spot = step(0.007 - np.hypot(x - rivet, y - 0.545), area)
        colour = mix(colour, (50, 66, 68), spot * 0.7)
    body = step(_box(x, y, 0.0, 0.0, BUS_LENGTH, 0.87, 0.05), area)
    for hub in BUS_HUBS:
        away = np.hypot(x - hub, y - 0.82)
        colour = mix(colour, (34, 34, 36), step(0.2 - away, area))
        colour = mix(colour, (58, 56, 54), step(0.168 - away, area))
        colour = mix(colour, (208, 204, 192), step(0.095 - away, area))
        colour = mix(colour, (128, 124, 118), step(0.05 - away, area))
        body = np.maximum(body, step(0.178 - away, area))
    return sprite(np.clip(colour, 0, 255), np.asarray(body, np.float32))


def bus_front(rng: np.random.Generator, density: float, coat: Coat) -> Picture:
    """Windscreen, lamps and bumper on RGBA, BUS_WIDTH x BUS_HEIGHT units."""
    area = Area(BUS_WIDTH, BUS_HEIGHT, density)
    colour, x, y = _body(rng, area, coat)
    colour = _glass(colour, x, y, (0.07, 0.13, 0.435, 0.44), area)
    colour = _glass(colour, x, y, (0.465, 0.13, 0.83, 0.44), area)
    for lamp in BUS_LAMPS:
        away = np.hypot(x - lamp, y - 0.64)
        colour = mix(colour, (168, 164, 154), step(0.082 - away, area))
        colour = mix(colour, (250, 242, 214), step(0.064 - away, area))
    colour = mix(colour, (206, 204, 196), step(_box(x, y, 0.02, 0.8, 0.88, 0.87, 0.03), area))
    body = step(_box(x, y, 0.0, 0.0, BUS_WIDTH, 0.87, 0.05), area)
    return sprite(np.clip(colour, 0, 255), body)


def bus_roof(rng: np.random.Generator, density: float, coat: Coat) -> Picture:
    """Sheet metal with ribs on RGBA, BUS_LENGTH x BUS_WIDTH units."""
    area = Area(BUS_LENGTH, BUS_WIDTH, density)
    _, y = grid(area)
    ribs = 0.94 + 0.06 * np.sin(y * 42)
    dirt = noise(rng, area, 0.4, 4)
    colour = vector(coat.upper) * (ribs * (0.9 + 0.2 * dirt))[..., None]
    return sprite(np.clip(colour, 0, 255), np.ones_like(dirt))


# --- the edits' paint ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paint:
    """What an artist lays on a surface's picture.

    rgb: (H, W, 3) float32, 0..255. cover: (H, W) float32, opacity 0..1.
    """

    rgb: Field
    cover: Field

    def over(self, surface: Picture) -> Picture:
        """The surface's picture (RGB, or premultiplied RGBA) with the paint on it; its alpha stays."""
        under = surface[..., :3].astype(np.float32)
        rgb = self.rgb if surface.shape[2] == 3 else self.rgb * (surface[..., 3:].astype(np.float32) / 255)
        painted = surface.copy()
        painted[..., :3] = np.clip(mix(under, rgb, self.cover) + 0.5, 0, 255).astype(np.uint8)
        return painted

    def matte(self) -> Picture:
        return np.round(self.cover * 255).astype(np.uint8)


def star(area: Area, x: float, y: float, radius: float) -> Paint:
    """A faceted golden star on a dark blue disc with a ring, opaque."""
    columns, rows = grid(area)
    away = np.hypot(columns - x, rows - y)
    rgb = flat((area.rows, area.columns), (28, 44, 92))
    rgb = mix(rgb, (240, 186, 62), step(0.045 * radius - np.abs(away - radius * 0.88), area))
    points = [
        (x + radius * reach * np.sin(turn), y - radius * reach * np.cos(turn))
        for turn, reach in ((index * np.pi / 5, 0.76 if index % 2 == 0 else 0.31) for index in range(10))
    ]
    for index in range(10):
        facet = [(x, y), points[index], points[(index + 1) % 10]]
        colour = (252, 214, 98) if index % 2 else (216, 146, 40)
        rgb = mix(rgb, colour, polygons([facet], area))
    return Paint(rgb, step(radius - away, area))


def tiles(area: Area, box: tuple[float, float, float, float]) -> Paint:
    """Painted flower tiles in a rectangle (left, top, right, bottom), opaque."""
    x, y = grid(area)
    pitch = (box[3] - box[1]) / 3
    tile_x, tile_y = ((x - box[0]) / pitch) % 1 - 0.5, ((y - box[1]) / pitch) % 1 - 0.5
    radius, turn = np.hypot(tile_x, tile_y), np.arctan2(tile_y, tile_x)
    odd = (np.floor((x - box[0]) / pitch) + np.floor((y - box[1]) / pitch)) % 2
    petals = 0.3 + 0.12 * np.cos(turn * 6 + odd * np.pi)
    rgb = mix(flat((area.rows, area.columns), (242, 234, 214)), (196, 212, 222), odd)
    rgb = mix(rgb, (34, 74, 148), step((petals - radius) * pitch, area))
    rgb = mix(rgb, (236, 176, 60), step((0.12 - radius) * pitch, area))
    grout = np.minimum(0.5 - np.abs(tile_x), 0.5 - np.abs(tile_y)) * pitch
    rgb = mix(rgb, (118, 120, 128), step(0.009 - grout, area))
    return Paint(rgb, step(_box(x, y, *box, 0.03), area))


def sticker(area: Area, x: float, y: float, radius: float) -> Paint:
    """A torn, scribbled sticker: the blemish of the removal case, opaque."""
    columns, rows = grid(area)
    rng = np.random.default_rng(9)
    turn = np.arctan2(rows - y, columns - x)
    torn = radius * (0.86 + 0.09 * np.sin(turn * 3 + 0.5) + 0.05 * np.sin(turn * 11))
    rgb = flat((area.rows, area.columns), (232, 70, 112))
    band = np.sin((columns - x + 0.55 * (rows - y)) / radius * 9)
    rgb = mix(rgb, (250, 232, 90), step(band * radius * 0.1, area))
    scrawl = np.abs(rows - y - radius * 0.3 * np.sin((columns - x) / radius * 7)) - radius * 0.07
    rgb = mix(rgb, (24, 22, 26), step(-scrawl.astype(np.float32), area))
    rgb = rgb * (0.88 + 0.2 * noise(rng, area, radius, 4))[..., None]
    return Paint(rgb, step((torn - np.hypot(columns - x, rows - y)).astype(np.float32), area))


def airbrush(area: Area, along: Sequence[tuple[float, float]], size: float, colour: Colour) -> Paint:
    """A soft stroke along points; its opacity falls off as a Gaussian of standard deviation `size` units."""
    shape = (area.rows, area.columns)
    line = np.full(shape, 255, np.uint8)
    cv2.polylines(line, [np.round(np.array(along) * area.density).astype(np.int32)], False, 0, 1)
    away = cv2.distanceTransform(line, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / np.float32(area.density)
    cover = 0.9 * np.exp(-((away / size) ** 2) / 2)
    return Paint(flat(shape, colour), np.where(cover < 0.01, 0, cover).astype(np.float32))


def panel(area: Area, box: tuple[float, float, float, float], colour: Colour, opacity: float) -> Paint:
    """A rectangle (left, top, right, bottom) of one colour at an even opacity; the surface shows through below 1."""
    x, y = grid(area)
    cover = step(_box(x, y, *box, 0.06), area) * np.float32(opacity)
    return Paint(flat((area.rows, area.columns), colour), cover)


def bus_repaint(area: Area, colour: Colour, opacity: float) -> Paint:
    """A coat for the lower half of the bus's side or front, around its wheels, lamps and bumper."""
    side = area.width > BUS_WIDTH
    paint = panel(area, (-0.1, 0.516, area.width + 0.1, 0.95), colour, opacity)
    _, y = grid(area)
    cover = np.asarray(paint.cover * step((0.87 if side else 0.79) - y, area), np.float32)
    if side:
        return around_wheels(area, Paint(paint.rgb, cover))
    return _around(area, Paint(paint.rgb, cover), [(lamp, 0.64, 0.09) for lamp in BUS_LAMPS])


def around_wheels(area: Area, paint: Paint) -> Paint:
    """Paint on the bus's side, without what would cover its wheels."""
    return _around(area, paint, [(hub, 0.82, 0.198) for hub in BUS_HUBS])


def _around(area: Area, paint: Paint, discs: Sequence[tuple[float, float, float]]) -> Paint:
    x, y = grid(area)
    cover = paint.cover
    for middle, down, radius in discs:
        cover = np.asarray(cover * step(np.hypot(x - middle, y - down) - radius, area), np.float32)
    return Paint(paint.rgb, cover)
