"""The world of the small Wan model (`small-wan`): that of `clips`, in a model's windows of 9 frames, several of them.

The sprite rests or goes by one pixel a frame on either axis, from a whole latent (4 pixels and 4 frames) to a whole
latent, stays inside the frame, and may turn where a window ends. Edits and their truth are as in `clips`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paintover_evaluation.clips import SpriteClip, SpriteMotion
from paintover_evaluation.clips import random_clip as any_clip

FRAMES, SIZE = 9, 32
CELL = 4  # pixels a latent
WIDTHS = (8, 12, 16)  # the sprite's, pixels
STEPS = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)])  # pixels a frame


def random_clip(rng: np.random.Generator, windows: int = 1) -> SpriteClip:
    """A clip of (FRAMES - 1) x windows + 1 frames, every part of it drawn from `rng`."""
    drawn, width = any_clip(rng), int(WIDTHS[rng.integers(len(WIDTHS))])
    room, reach = SIZE - width, FRAMES - 1
    velocities = [rng.integers(-1, 2, 2)]
    low, high = np.maximum(0, -reach * velocities[0]), room - np.maximum(0, reach * velocities[0])
    x, y = (CELL * int(rng.integers(a // CELL, b // CELL + 1)) for a, b in zip(low, high, strict=True))
    for _ in range(windows - 1):
        place = np.array([x, y]) + reach * np.sum(velocities, axis=0)
        ends = place + reach * STEPS
        velocities.append(rng.choice(STEPS[((ends >= 0) & (ends <= room)).all(1)]))
    velocity, *later = ((float(right), float(down)) for right, down in velocities)
    motion = SpriteMotion(x, y, velocity, tuple(later), reach)
    frames = reach * windows + 1
    return replace(drawn, sprite=replace(drawn.sprite, width=width), motion=motion, frames=frames, size=SIZE)
