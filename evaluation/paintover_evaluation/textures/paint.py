"""The paint of the edits: what an artist puts on a surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from paintover_evaluation.textures import landscape
from paintover_evaluation.textures.bus import BUS_HUBS, BUS_LAMPS, BUS_WIDTH
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
    polygons,
    step,
)
from paintover_evaluation.textures.landscape import Palette


@dataclass(frozen=True)
class PaintTexture:
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


def star(area: Area, x: float, y: float, radius: float) -> PaintTexture:
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
    return PaintTexture(rgb, step(radius - away, area))


def tiles(area: Area, edges: tuple[float, float, float, float]) -> PaintTexture:
    """Painted flower tiles in a rectangle (left, top, right, bottom), opaque."""
    x, y = grid(area)
    pitch = (edges[3] - edges[1]) / 3
    tile_x, tile_y = ((x - edges[0]) / pitch) % 1 - 0.5, ((y - edges[1]) / pitch) % 1 - 0.5
    radius, turn = np.hypot(tile_x, tile_y), np.arctan2(tile_y, tile_x)
    odd = (np.floor((x - edges[0]) / pitch) + np.floor((y - edges[1]) / pitch)) % 2
    petals = 0.3 + 0.12 * np.cos(turn * 6 + odd * np.pi)
    rgb = mix(flat((area.rows, area.columns), (242, 234, 214)), (196, 212, 222), odd)
    rgb = mix(rgb, (34, 74, 148), step((petals - radius) * pitch, area))
    rgb = mix(rgb, (236, 176, 60), step((0.12 - radius) * pitch, area))
    grout = np.minimum(0.5 - np.abs(tile_x), 0.5 - np.abs(tile_y)) * pitch
    rgb = mix(rgb, (118, 120, 128), step(0.009 - grout, area))
    return PaintTexture(rgb, step(box(x, y, *edges, 0.03), area))


def sticker(area: Area, x: float, y: float, radius: float) -> PaintTexture:
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
    return PaintTexture(rgb, step((torn - np.hypot(columns - x, rows - y)).astype(np.float32), area))


def airbrush(area: Area, along: Sequence[tuple[float, float]], size: float, colour: Colour) -> PaintTexture:
    """A soft stroke along points; its opacity falls off as a Gaussian of standard deviation `size` units."""
    shape = (area.rows, area.columns)
    line = np.full(shape, 255, np.uint8)
    cv2.polylines(line, [np.round(np.array(along) * area.density).astype(np.int32)], False, 0, 1)
    away = cv2.distanceTransform(line, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / np.float32(area.density)
    cover = 0.9 * np.exp(-((away / size) ** 2) / 2)
    return PaintTexture(flat(shape, colour), np.where(cover < 0.01, 0, cover).astype(np.float32))


def panel(area: Area, edges: tuple[float, float, float, float], colour: Colour, opacity: float) -> PaintTexture:
    """A rectangle (left, top, right, bottom) of one colour at an even opacity; the surface shows through below 1."""
    x, y = grid(area)
    cover = step(box(x, y, *edges, 0.06), area) * np.float32(opacity)
    return PaintTexture(flat((area.rows, area.columns), colour), cover)


def other_sky(area: Area, light: Palette) -> PaintTexture:
    """Another sky over the whole surface, opaque."""
    picture = landscape.sky(np.random.default_rng(12), area, light)
    return PaintTexture(picture.astype(np.float32), np.ones((area.rows, area.columns), np.float32))


def bus_repaint(area: Area, colour: Colour, opacity: float) -> PaintTexture:
    """A coat for the lower half of the bus's side or front, around its wheels, lamps and bumper."""
    side = area.width > BUS_WIDTH
    paint = panel(area, (-0.1, 0.516, area.width + 0.1, 0.95), colour, opacity)
    _, y = grid(area)
    cover = np.asarray(paint.cover * step((0.87 if side else 0.79) - y, area), np.float32)
    if side:
        return around_wheels(area, PaintTexture(paint.rgb, cover))
    return _around(area, PaintTexture(paint.rgb, cover), [(lamp, 0.64, 0.09) for lamp in BUS_LAMPS])


def around_wheels(area: Area, paint: PaintTexture) -> PaintTexture:
    """Paint on the bus's side, without what would cover its wheels."""
    return _around(area, paint, [(hub, 0.82, 0.198) for hub in BUS_HUBS])


def _around(area: Area, paint: PaintTexture, discs: Sequence[tuple[float, float, float]]) -> PaintTexture:
    x, y = grid(area)
    cover = paint.cover
    for middle, down, radius in discs:
        cover = np.asarray(cover * step(np.hypot(x - middle, y - down) - radius, area), np.float32)
    return PaintTexture(paint.rgb, cover)
