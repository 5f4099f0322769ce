"""Small procedural clips with a known truth under an edit: the world that the small video model lives in.

One sprite (a square or a disc, plain or with a mark painted on it) goes over a still, smooth background at a constant
velocity. An edit changes the sprite's appearance and nothing else, so the edited clip is the same motion rendered with
another appearance. Positions and velocities are even numbers of pixels: a code of 2x2 pixels a cell sees the sprite
move by whole cells. Seeded and in numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FRAMES, SIZE = 5, 20
SPEED = 2  # pixels a frame
SIZES = (8, 10)  # the sprite's width, pixels
VELOCITIES = ((SPEED, 0), (-SPEED, 0), (0, SPEED), (0, -SPEED))

Colour = tuple[float, float, float]
Shape = Literal["square", "disc"]
MarkKind = Literal["bar", "post", "dot"]
EditKind = Literal["recolour", "mark"]
SHAPES: tuple[Shape, ...] = ("square", "disc")
MARKS: tuple[MarkKind, ...] = ("bar", "post", "dot")
EDITS: tuple[EditKind, ...] = ("recolour", "mark")


@dataclass(frozen=True)
class Mark:
    """A level bar, an upright post or a round dot through the sprite's middle. Colour: sRGB 0..1."""

    kind: MarkKind
    colour: Colour


@dataclass(frozen=True)
class Appearance:
    """Colour: sRGB 0..1. mark: what is painted on the sprite, None for nothing."""

    colour: Colour
    mark: Mark | None = None


@dataclass(frozen=True)
class Sprite:
    """shape and width in pixels: what an edit leaves alone, with its path and its background."""

    shape: Shape
    width: int


@dataclass(frozen=True)
class SpriteMotion:
    """x, y: the sprite's upper left corner in frame 0, pixels. velocity: pixels a frame, right and down. later: the
    velocities after each further `stretch` frames.

    The world's own clips have even whole numbers; any others are rendered as well."""

    x: float
    y: float
    velocity: tuple[float, float]
    later: tuple[tuple[float, float], ...] = ()
    stretch: int = 0

    def corners(self, frames: int) -> NDArray[np.float64]:
        """(F, 2): the corner's x and y in each frame."""
        steps = [
            (self.velocity, *self.later)[min(n // self.stretch, len(self.later)) if self.later else 0]
            for n in range(frames - 1)
        ]
        return np.cumsum([(self.x, self.y), *steps], axis=0)


@dataclass(frozen=True)
class Background:
    """A blend from one colour to another across the picture, at `angle` radians from the x axis."""

    first: Colour
    second: Colour
    angle: float


@dataclass(frozen=True)
class SpriteClip:
    """One clip of the world. `render()` gives its frames; that of `with_appearance` the truth of an edit."""

    sprite: Sprite
    appearance: Appearance
    motion: SpriteMotion
    background: Background
    frames: int = FRAMES
    size: int = SIZE

    def with_appearance(self, appearance: Appearance) -> SpriteClip:
        """The same clip, its sprite looking otherwise: the true result of an edit."""
        return replace(self, appearance=appearance)

    def render(self) -> NDArray[np.float32]:
        """The frames: (F, H, W, 3) float32, sRGB 0..1."""
        picture = self.plate()
        cover, mark = self._cover()
        paints = [(cover, self.appearance.colour)]
        if self.appearance.mark:
            paints.append((mark, self.appearance.mark.colour))
        for alpha, colour in paints:
            picture = picture + alpha[..., None] * (np.asarray(colour, np.float32) - picture)
        return picture.astype(np.float32)

    def plate(self) -> NDArray[np.float32]:
        """The frames without the sprite: (F, H, W, 3) float32, sRGB 0..1."""
        axis = (np.arange(self.size) + 0.5) / self.size - 0.5
        along = axis[None] * np.cos(self.background.angle) + axis[:, None] * np.sin(self.background.angle)
        first, second = (np.asarray(c, np.float32) for c in (self.background.first, self.background.second))
        picture = first + (along[..., None] + 0.5).clip(0, 1) * (second - first)
        return np.broadcast_to(picture.astype(np.float32), (self.frames, self.size, self.size, 3))

    def matte(self) -> NDArray[np.float32]:
        """Where the sprite is: (F, H, W) float32, 0..1."""
        return self._cover()[0]

    def _cover(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How much of each pixel the sprite and its mark cover: two of (F, H, W), 0..1."""
        half = self.sprite.width / 2
        pixel = np.arange(self.size) + 0.5
        x, y = (self.motion.corners(self.frames) + half).T[..., None, None]
        dx, dy = pixel[None, None] - x, pixel[None, :, None] - y
        radius = np.hypot(dx, dy)
        away = np.maximum(abs(dx), abs(dy)) if self.sprite.shape == "square" else radius
        cover = (half + 0.5 - away).clip(0, 1)
        if self.appearance.mark is None:
            return cover.astype(np.float32), np.zeros_like(cover, np.float32)
        across = {"bar": abs(dy) + 0 * dx, "post": abs(dx) + 0 * dy, "dot": radius}[self.appearance.mark.kind]
        reach = 3.0 if self.appearance.mark.kind == "dot" else 2.0
        return cover.astype(np.float32), (cover * (reach + 0.5 - across).clip(0, 1)).astype(np.float32)


@dataclass(frozen=True)
class ClipCase:
    """A clip, one edit of its first frame, and the truth.

    source, truth: (F, H, W, 3) float32, sRGB 0..1. region: (F, H, W) bool, where the two differ.
    """

    kind: EditKind
    clip: SpriteClip
    appearance: Appearance
    source: NDArray[np.float32]
    truth: NDArray[np.float32]

    @property
    def region(self) -> NDArray[np.bool_]:
        changed: NDArray[np.bool_] = abs(self.truth - self.source).max(axis=-1) > 0.02
        return changed

    @property
    def erased(self) -> NDArray[np.float32]:
        """A control that no method should be praised for: the clip without its sprite."""
        return self.clip.plate()


def random_clip(rng: np.random.Generator) -> SpriteClip:
    """A clip of the world, every part of it drawn from `rng`; the sprite stays inside the frame."""
    sprite = Sprite(SHAPES[rng.integers(len(SHAPES))], SIZES[rng.integers(len(SIZES))])
    velocity = VELOCITIES[rng.integers(len(VELOCITIES))]
    x, y = (_start(rng, sprite.width, speed) for speed in velocity)
    background = Background(_muted(rng), _muted(rng), rng.uniform(0, 2 * np.pi))
    return SpriteClip(sprite, random_appearance(rng), SpriteMotion(x, y, velocity), background)


def random_appearance(rng: np.random.Generator) -> Appearance:
    """A vivid colour, and one time in two a mark of a colour far from it."""
    colour = _vivid(rng)
    return Appearance(colour, _random_mark(rng, colour) if rng.random() < 0.5 else None)


def random_case(
    rng: np.random.Generator, kind: EditKind, draw: Callable[[np.random.Generator], SpriteClip] = random_clip
) -> ClipCase:
    """A clip with an edit: another colour for the whole sprite, or a mark on a plain one. draw: the world's clips."""
    clip = draw(rng)
    if kind == "mark":
        clip = clip.with_appearance(Appearance(clip.appearance.colour))
        appearance = Appearance(clip.appearance.colour, _random_mark(rng, clip.appearance.colour))
    else:
        appearance = replace(clip.appearance, colour=_far(rng, clip.appearance.colour))
    return ClipCase(kind, clip, appearance, clip.render(), clip.with_appearance(appearance).render())


class EditedVideo(Protocol):
    """What `explained` reads of a case; arrays as `ClipCase`'s."""

    @property
    def source(self) -> NDArray[np.float32]: ...

    @property
    def truth(self) -> NDArray[np.float32]: ...

    @property
    def region(self) -> NDArray[np.bool_]: ...


def explained(out: NDArray[np.float32], case: EditedVideo, frame: int = -1) -> float:
    """How much of the edit a result explains in one frame: 1 - |out - truth|² / |source - truth|² over the true region.

    1 is the truth, 0 no better than the source returned. out: (F, H, W, 3), sRGB 0..1. A plain projection on the true
    change is no sound measure: an erased sprite scores over one half by it.
    """
    here = case.region[frame]
    error = np.square(out[frame][here] - case.truth[frame][here]).sum()
    return float(1 - error / np.square(case.source[frame][here] - case.truth[frame][here]).sum())


def _start(rng: np.random.Generator, width: int, speed: int) -> int:
    """A first position, even, from which the sprite stays inside the frame."""
    travel = speed * (FRAMES - 1)
    low, high = max(0, -travel), SIZE - width - max(0, travel)
    return 2 * int(rng.integers(low // 2, high // 2 + 1))


def _muted(rng: np.random.Generator) -> Colour:
    grey = rng.uniform(0.35, 0.65)
    return _colour(grey + rng.uniform(-0.08, 0.08, 3))


def _vivid(rng: np.random.Generator) -> Colour:
    """One channel high, one low, one between: far from every muted colour."""
    return _colour(rng.permutation([rng.uniform(0.85, 1), rng.uniform(0, 0.15), rng.uniform(0, 1)]))


def _far(rng: np.random.Generator, colour: Colour) -> Colour:
    """A vivid colour at least 0.6 (Euclidean, of at most √3) from `colour`."""
    while True:
        other = _vivid(rng)
        if np.linalg.norm(np.subtract(other, colour)) >= 0.6:
            return other


def _random_mark(rng: np.random.Generator, colour: Colour) -> Mark:
    return Mark(MARKS[rng.integers(len(MARKS))], _far(rng, colour))


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
