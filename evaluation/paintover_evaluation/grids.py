"""Procedural 2×2 grids and clips with a known answer, for a model that applies a shown edit to another frame.

A world is a small moving scene: one sprite with shading over a smooth drifting background, and one edit of it (the
sprite recoloured, a mark painted on it, or the whole frame tinted). Its edited frame is rendered, not estimated, so the
truth is exact at every time. Many worlds are rendered at once: the first axis of every array counts them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.12, 0.12),
    "yellow": (0.9, 0.85, 0.15),
    "green": (0.15, 0.7, 0.2),
    "cyan": (0.15, 0.8, 0.85),
    "blue": (0.15, 0.25, 0.85),
    "purple": (0.6, 0.15, 0.75),
    "white": (0.93, 0.93, 0.93),
    "black": (0.07, 0.07, 0.07),
}
SHAPES = ("disc", "square", "diamond")
TINT = 0.45  # how much of the light's colour a tinted frame holds
JITTER = 0.06  # how far a colour strays from its name's, per channel


class GridEdit(enum.IntEnum):
    """What is done to a world."""

    NONE = 0
    RECOLOUR = 1
    MARK = 2
    TINT = 3


@dataclass(frozen=True)
class Worlds:
    """`n` worlds. Colours are sRGB 0..1, lengths are cell heights, times run from 0 to 1.

    kind: (n,) an `GridEdit`. shape, sprite_name, ground_name, edit_name: (n,) indices into SHAPES and COLOURS.
    sprite, ground, edit: (n, 3) the colours. start, end: (n, 2) the sprite's centre at times 0 and 1, x as a share of
    the width, y of the height. radius: (n, 2) and angle: (n, 2) at times 0 and 1. light: (n, 2) the shading's slope.
    mark: (n, 2) the mark's centre in the sprite's own axes, in radii. slope: (n, 2, 3) and wave: (n, 6) the background:
    its gradient; frequency x, y, phase, amplitude, and drift x, y.
    """

    kind: Integers
    shape: Integers
    sprite_name: Integers
    ground_name: Integers
    edit_name: Integers
    sprite: Floats
    ground: Floats
    edit: Floats
    start: Floats
    end: Floats
    radius: Floats
    angle: Floats
    light: Floats
    mark: Floats
    slope: Floats
    wave: Floats

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, index: NDArray[np.intp] | slice) -> Worlds:
        """Some of the worlds."""
        return Worlds(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


@dataclass(frozen=True)
class RenderedEdit:
    """source, edited: (n, height, width, 3) float32 sRGB 0..1; region: (n, height, width), 1 where the edit is."""

    source: Floats
    edited: Floats
    region: Floats


def sample(rng: np.random.Generator, count: int, kinds: tuple[GridEdit, ...] = tuple(GridEdit)[1:]) -> Worlds:
    """`count` random worlds whose edits are drawn evenly from `kinds`."""
    palette = np.array(list(COLOURS.values()), np.float32)
    sprite = rng.integers(len(palette), size=count)
    ground = (sprite + rng.integers(1, len(palette), size=count)) % len(palette)
    edit = (sprite + rng.integers(1, len(palette), size=count)) % len(palette)

    def colour(names: Integers, scale: float = 1.0) -> Floats:
        jitter = rng.uniform(-JITTER, JITTER, (count, 3))
        return np.clip(0.5 + scale * (palette[names] - 0.5) + jitter, 0, 1).astype(np.float32)

    def uniform(low: float, high: float, *shape: int) -> Floats:
        return rng.uniform(low, high, (count, *shape)).astype(np.float32)

    turn = uniform(0, np.pi / 2)
    size = uniform(0.2, 0.27)
    return Worlds(
        kind=np.array(kinds, np.int64)[rng.integers(len(kinds), size=count)],
        shape=rng.integers(len(SHAPES), size=count),
        sprite_name=sprite,
        ground_name=ground,
        edit_name=edit,
        sprite=colour(sprite),
        ground=colour(ground, 0.6),
        edit=colour(edit),
        start=uniform(0.3, 0.7, 2),
        end=uniform(0.3, 0.7, 2),
        radius=np.stack([size, size * uniform(0.9, 1.1)], -1),
        angle=np.stack([turn, turn + uniform(-0.6, 0.6)], -1),
        light=uniform(-0.15, 0.15, 2),
        mark=uniform(-0.2, 0.2, 2),
        slope=uniform(-0.25, 0.25, 2, 3),
        wave=np.concatenate(
            [uniform(-1.5, 1.5, 2), uniform(0, 2 * np.pi, 1), uniform(0, 0.15, 1), uniform(-0.2, 0.2, 2)], -1
        ),
    )


def render(worlds: Worlds, time: Floats, height: int = 24, width: int = 24) -> RenderedEdit:
    """Every world at its own time, (n,) 0..1."""
    moment = np.asarray(time, np.float32)[:, None]
    axes = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / height, indexing="ij")
    y, x = (np.broadcast_to(axis, (len(worlds), height, width)).astype(np.float32) for axis in axes)
    source = _ground(worlds, moment, x, y, width / height)
    centre = (worlds.start + (worlds.end - worlds.start) * moment) * np.array([width / height, 1], np.float32)
    u, v = _turned(x - _over(centre[:, 0]), y - _over(centre[:, 1]), _between(worlds.angle, moment))
    radius = _over(_between(worlds.radius, moment))
    u, v = u / radius, v / radius
    inside = _coverage(_shape(worlds.shape, u, v), radius * height)
    dot = _coverage(np.hypot(u - _over(worlds.mark[:, 0]), v - _over(worlds.mark[:, 1])) - 0.45, radius * height)
    shade = (1 + _over(worlds.light[:, 0]) * u + _over(worlds.light[:, 1]) * v)[..., None]
    old, new = (colour[:, None, None, :] * shade for colour in (worlds.sprite, worlds.edit))
    source = _mix(source, old, inside)
    kind = _over(worlds.kind)
    region = np.select(
        [kind == GridEdit.RECOLOUR, kind == GridEdit.MARK, kind == GridEdit.TINT], [inside, dot * inside, 1.0], 0.0
    )
    light = np.broadcast_to(worlds.edit[:, None, None, :], source.shape)
    edited = np.where((kind == GridEdit.TINT)[..., None], _mix(source, light, TINT * region), _mix(source, new, region))
    return RenderedEdit(*(np.clip(a, 0, 1).astype(np.float32) for a in (source, edited, region)))


def grid(example: RenderedEdit, query: RenderedEdit) -> Floats:
    """(n, 2h, 2w, 3): the example's source and edited frames above, the query's source and true edit below."""
    rows = [np.concatenate([frames.source, frames.edited], 2) for frames in (example, query)]
    return np.concatenate(rows, 1)


def captions(worlds: Worlds) -> tuple[list[str], list[str]]:
    """One line a world on its source and on its edited frame, in a vocabulary of some twenty words."""
    names = list(COLOURS)
    before, after = [], []
    for kind, shape, sprite, ground, edit in zip(
        worlds.kind, worlds.shape, worlds.sprite_name, worlds.ground_name, worlds.edit_name, strict=True
    ):
        plain = f"a {names[sprite]} {SHAPES[shape]} on {names[ground]}"
        before.append(plain)
        after.append(
            {
                GridEdit.NONE: plain,
                GridEdit.RECOLOUR: f"a {names[edit]} {SHAPES[shape]} on {names[ground]}",
                GridEdit.MARK: f"a {names[sprite]} {SHAPES[shape]} with a {names[edit]} dot on {names[ground]}",
                GridEdit.TINT: f"{plain} in {names[edit]} light",
            }[GridEdit(kind)]
        )
    return before, after


def _ground(worlds: Worlds, moment: Floats, x: Floats, y: Floats, aspect: float) -> Floats:
    """The background's colours: a gradient and one wave, drifting."""
    fx, fy, phase, amplitude, dx, dy = (_over(worlds.wave[:, i]) for i in range(6))
    x, y = x - dx * moment[..., None] - aspect / 2, y - dy * moment[..., None] - 0.5
    wave = amplitude * np.sin(2 * np.pi * (fx * x + fy * y) + phase)
    slope = worlds.slope[:, :, None, None, :]
    ramp = slope[:, 0] * x[..., None] + slope[:, 1] * y[..., None]
    return np.asarray(worlds.ground[:, None, None, :] + ramp + wave[..., None])


def _shape(shape: Integers, u: Floats, v: Floats) -> Floats:
    """Signed distance to each world's outline, in radii, negative inside."""
    square, diamond = np.maximum(abs(u), abs(v)) - 0.86, (abs(u) + abs(v) - 1.2) / np.sqrt(2)
    return np.select([_over(shape) == 0, _over(shape) == 1], [np.hypot(u, v) - 1, square], diamond).astype(np.float32)


def _coverage(distance: Floats, pixels: Floats) -> Floats:
    """How much of a pixel lies inside; `pixels`: of a unit of distance."""
    return np.clip(0.5 - distance * pixels, 0, 1)


def _turned(x: Floats, y: Floats, angle: Floats) -> tuple[Floats, Floats]:
    cos, sin = _over(np.cos(angle)), _over(np.sin(angle))
    return np.asarray(cos * x + sin * y), np.asarray(cos * y - sin * x)


def _between(ends: Floats, moment: Floats) -> Floats:
    """(n, 2) values at times 0 and 1 -> (n,) at the moment."""
    return np.asarray(ends[:, 0] + (ends[:, 1] - ends[:, 0]) * moment[:, 0])


def _over(values: NDArray[Any]) -> NDArray[Any]:
    """(n,) -> (n, 1, 1)."""
    return np.asarray(values[:, None, None])


def _mix(below: Floats, above: Floats, share: Floats) -> Floats:
    return np.asarray(below + (above - below) * share[..., None])
