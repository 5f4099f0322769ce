"""Sky, mountains, farmland with trees, a stone tower."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from paintover_evaluation.textures.canvas import (
    Area,
    Colour,
    Field,
    Picture,
    flat,
    grid,
    mix,
    noise,
    sprite,
    stamp,
    step,
    vector,
)


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
