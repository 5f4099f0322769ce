"""Procedural clips whose motion cannot be solved by a local filter: the world of the proof model.

Textured sprites cross a textured, panning background by several latents a frame, at sub-pixel positions; they leave the
frame and come back, and pass behind a post. Every clip carries grain. Textures are sums of sinusoids, evaluated where
each pixel's point of the moving surface was at first, so that a position is exact at any fraction of a pixel. Seeded
and in numpy alone. `paintover_evaluation.clips` is the simpler world, of the shipped model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FRAMES, SIZE = 8, 32
SPEEDS = (6.0, 12.0)
"""Pixels a frame: 3 to 6 latents of 2 pixels."""
FAST = (13.0, 18.0)
"""Of the held-out motion."""
GRAIN = (1.0, 2.0)
"""Standard deviation of the grain in 8-bit steps."""

Picture = NDArray[np.float32]
Motion = Literal["straight", "fast", "circling"]


@dataclass(frozen=True)
class Texture:
    """colour: mean, sRGB (3,). waves: (n, 2) cycles a pixel right and down; phases: (n,); tints: (n, 3), amplitudes."""

    colour: NDArray[np.float64]
    waves: NDArray[np.float64]
    phases: NDArray[np.float64]
    tints: NDArray[np.float64]

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its colours (…, 3), not clipped, at points x, y (…) of the surface, pixels."""
        angle = 2 * np.pi * (x[..., None] * self.waves[:, 0] + y[..., None] * self.waves[:, 1]) + self.phases
        colours: NDArray[np.float64] = self.colour + np.sin(angle) @ self.tints
        return colours


@dataclass(frozen=True)
class Path:
    """Where a sprite's centre is. start, velocity: pixels, right and down, of a straight path, which turns back at a
    margin outside the frame. radius, turn: of a circle around `start`, pixels and radians a frame; 0 for straight."""

    start: tuple[float, float]
    velocity: tuple[float, float]
    radius: float = 0.0
    turn: float = 0.0

    def centres(self, frames: int, margin: float) -> NDArray[np.float64]:
        """(frames, 2)."""
        time = np.arange(frames)[:, None]
        if self.radius:
            angle = np.arctan2(self.velocity[1], self.velocity[0]) + self.turn * time
            circle: NDArray[np.float64] = self.radius * np.concatenate([np.cos(angle), np.sin(angle)], 1)
            return np.asarray(self.start) + circle
        span = SIZE + 2 * margin
        along = (np.asarray(self.start) + margin + time * np.asarray(self.velocity)) % (2 * span)
        folded: NDArray[np.float64] = np.where(along > span, 2 * span - along, along)
        return folded - margin


@dataclass(frozen=True)
class Sprite:
    """shape: the exponent of |x|^n + |y|^n = 1 (2 a disc, 8 near a square). width: pixels."""

    shape: float
    width: float
    texture: Texture
    path: Path

    def cover(self, centre: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """How much of each pixel it covers, 0..1."""
        half = self.width / 2
        away = (abs(x - centre[0]) ** self.shape + abs(y - centre[1]) ** self.shape) ** (1 / self.shape)
        cover: NDArray[np.float64] = np.clip(half + 0.5 - away, 0.0, 1.0)
        return cover


@dataclass(frozen=True)
class MotionClip:
    """post: the left edge of an upright post before all sprites, 4 pixels wide; None for none. grain: standard
    deviation, sRGB 0..1. noise_seed: of the grain."""

    background: Texture
    pan: tuple[float, float]
    sprites: tuple[Sprite, ...]
    post: float | None
    grain: float
    noise_seed: int

    def with_look(self, texture: Texture) -> MotionClip:
        """The true result of an edit of the first sprite's look: same motion, same grain."""
        return replace(self, sprites=(replace(self.sprites[0], texture=texture), *self.sprites[1:]))

    def without_first(self) -> MotionClip:
        """The clip without its first sprite."""
        return replace(self, sprites=self.sprites[1:])

    def without_grain(self) -> MotionClip:
        """The clip as a renderer without grain gives it: flat areas are flat."""
        return replace(self, grain=0.0)

    def flattened(self) -> MotionClip:
        """The clip in plain colours and without grain."""

        def plain(texture: Texture) -> Texture:
            return replace(texture, tints=0 * texture.tints)

        sprites = tuple(replace(sprite, texture=plain(sprite.texture)) for sprite in self.sprites)
        return replace(self.without_grain(), background=plain(self.background), sprites=sprites)

    def matte(self) -> Picture:
        """Where the first sprite is seen, (F, H, W), 0..1."""
        return self._composite()[1]

    def render(self) -> Picture:
        """(F, H, W, 3), sRGB 0..1."""
        return self._composite()[0]

    def _composite(self) -> tuple[Picture, Picture]:
        row = np.arange(SIZE) + 0.5
        x, y = np.meshgrid(row, row)
        frames, mattes = [], []
        paths = [sprite.path.centres(FRAMES, sprite.width / 2 + 1) for sprite in self.sprites]
        for n in range(FRAMES):
            picture = self.background.at(x - n * self.pan[0], y - n * self.pan[1])
            seen = np.zeros((SIZE, SIZE))
            for index in reversed(range(len(self.sprites))):
                sprite, centre = self.sprites[index], paths[index][n]
                cover = sprite.cover(centre, x, y)
                picture += cover[..., None] * (sprite.texture.at(x - centre[0], y - centre[1]) - picture)
                seen = cover if index == 0 else seen * (1 - cover)
            if self.post is not None:
                cover = np.clip(2.5 - abs(x - self.post - 2), 0, 1)
                picture += cover[..., None] * (self.background.colour * 0.5 - picture)
                seen = seen * (1 - cover)
            frames.append(picture)
            mattes.append(seen)
        video = np.stack(frames).clip(0, 1)
        video += self.grain * np.random.default_rng(self.noise_seed).standard_normal(video.shape)
        return video.astype(np.float32), np.stack(mattes).astype(np.float32)


def random_clip(rng: np.random.Generator, motion: Motion = "straight", contrast: float | None = None) -> MotionClip:
    """A clip of the world. motion: "fast" and "circling" ones are held out of training. contrast: of all textures about
    their means; 0.7 to 1.2 in training."""
    contrast = rng.uniform(0.7, 1.2) if contrast is None else contrast
    count = 1 + int(rng.random() < 0.4)
    return MotionClip(
        background=random_texture(rng, contrast * 0.5, 0.10),
        pan=tuple(rng.uniform(-3, 3, 2)) if rng.random() < 0.7 else (0.0, 0.0),
        sprites=tuple(
            Sprite(rng.choice([2.0, 8.0]), rng.uniform(9, 14), random_texture(rng, contrast), _path(rng, motion))
            for _ in range(count)
        ),
        post=rng.uniform(4, SIZE - 8) if rng.random() < 0.3 else None,
        grain=rng.uniform(*GRAIN) / 255,
        noise_seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class MotionCase:
    """A clip, another look of its first sprite, and the truth: (F, H, W, 3), sRGB 0..1. What `clips.ClipCase` is in its
    world."""

    clip: MotionClip
    source: Picture
    truth: Picture
    kind: Literal["recolour"] = "recolour"

    @property
    def region(self) -> NDArray[np.bool_]:
        """Where the two differ, (F, H, W)."""
        changed: NDArray[np.bool_] = abs(self.truth - self.source).max(axis=-1) > 0.02
        return changed

    @property
    def erased(self) -> Picture:
        """A control that no method should be praised for: the clip without its sprite."""
        return self.clip.without_first().render()


def random_case(rng: np.random.Generator, motion: Motion = "straight") -> MotionCase:
    """A clip whose first sprite gets a plainly different look, and fills 8 % of the first and of the last frame."""
    while True:
        clip = random_clip(rng, motion)
        truth = clip.with_look(random_texture(rng, 1.0))
        case = MotionCase(clip, clip.render(), truth.render())
        seen = case.region.mean(axis=(1, 2))
        if min(seen[0], seen[-1]) >= 0.08 and abs(case.truth - case.source)[case.region].mean() > 0.12:
            return case


def random_texture(rng: np.random.Generator, contrast: float, highest: float = 0.16) -> Texture:
    """highest: cycles a pixel, at most."""
    count = 3
    frequency, direction = rng.uniform(0.03, highest, count), rng.uniform(0, 2 * np.pi, count)
    waves = np.stack([frequency * np.cos(direction), frequency * np.sin(direction)], 1)
    colour = 0.5 + contrast * rng.uniform(-0.35, 0.35, 3)
    return Texture(colour, waves, rng.uniform(0, 2 * np.pi, count), contrast * rng.normal(0, 0.12, (count, 3)))


def _path(rng: np.random.Generator, motion: Motion) -> Path:
    direction = rng.uniform(0, 2 * np.pi)
    unit = (float(np.cos(direction)), float(np.sin(direction)))
    x, y = rng.uniform(6, SIZE - 6, 2)
    if motion == "circling":
        return Path((SIZE / 2, SIZE / 2), unit, rng.uniform(7, 11), rng.choice([-1, 1]) * rng.uniform(0.6, 1.1))
    speed = rng.uniform(*(FAST if motion == "fast" else SPEEDS))
    return Path((x, y), (speed * unit[0], speed * unit[1]))
