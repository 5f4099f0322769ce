"""A bus: its sides, front and roof. Lengths are in bus heights."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from paintover_evaluation.textures.canvas import (
    Area,
    Colour,
    Field,
    Picture,
    box,
    flat,
    grid,
    mix,
    noise,
    sprite,
    step,
    vector,
)

BUS_LENGTH, BUS_HEIGHT, BUS_WIDTH = 2.1, 1.0, 0.9
BUS_HUBS = (0.44, 1.68)
BUS_LAMPS = (0.17, 0.73)


@dataclass(frozen=True)
class Coat:
    """The colours of a bus."""

    upper: Colour = (234, 228, 210)
    lower: Colour = (72, 128, 134)
    trim: Colour = (222, 218, 206)


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
    edge = box(x, y, left, top, right, bottom, 0.045)
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
        slot = step(box(x, y, 0.72, louvre, 0.96, louvre + 0.013, 0.006), area)
        colour = mix(colour, (44, 56, 58), slot * 0.8)
    for pinstripe in (0.605, 0.785):
        colour = mix(colour, coat.trim, step(0.006 - np.abs(y - pinstripe), area) * 0.8)
    for knob in (1.13, 1.63):
        colour = mix(colour, (226, 226, 222), step(box(x, y, knob, 0.575, knob + 0.11, 0.6, 0.01), area))
    for rivet in np.arange(0.06, BUS_LENGTH, 0.11):
        spot = step(0.007 - np.hypot(x - rivet, y - 0.545), area)
        colour = mix(colour, (50, 66, 68), spot * 0.7)
    body = step(box(x, y, 0.0, 0.0, BUS_LENGTH, 0.87, 0.05), area)
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
    colour = mix(colour, (206, 204, 196), step(box(x, y, 0.02, 0.8, 0.88, 0.87, 0.03), area))
    body = step(box(x, y, 0.0, 0.0, BUS_WIDTH, 0.87, 0.05), area)
    return sprite(np.clip(colour, 0, 255), body)


def bus_roof(rng: np.random.Generator, density: float, coat: Coat) -> Picture:
    """Sheet metal with ribs on RGBA, BUS_LENGTH x BUS_WIDTH units."""
    area = Area(BUS_LENGTH, BUS_WIDTH, density)
    _, y = grid(area)
    ribs = 0.94 + 0.06 * np.sin(y * 42)
    dirt = noise(rng, area, 0.4, 4)
    colour = vector(coat.upper) * (ribs * (0.9 + 0.2 * dirt))[..., None]
    return sprite(np.clip(colour, 0, 255), np.ones_like(dirt))
