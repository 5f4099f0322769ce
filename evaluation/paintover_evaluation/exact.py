"""A video model that needs no training: a world so small that its ideal denoiser can be computed.

Everything of a clip is known from its first frame but the velocity, which is one of a finite list. Then the minimum of
the denoising loss is known in closed form (Karras et al. 2022, eq. 57): the mean of all the clips that could be meant,
each weighted by how likely the noisy one is to have come of it. "Latents" here are the pixels themselves. Changing the
first frame's appearance changes the list's renders and nothing else, so the edited clip is known exactly too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from paintover_evaluation.clips import Appearance, SpriteClip, SpriteMotion, random_case

FRAMES, SIZE = 8, 32
WIDTH = 10  # of the sprite, pixels
FASTEST = 1.5  # pixels a frame on either axis
SHIFT = 0.2  # of each colour channel, towards the middle
_STEPS = [float(v) for v in np.linspace(-FASTEST, FASTEST, 11)]
VELOCITIES: tuple[tuple[float, float], ...] = tuple((x, y) for x in _STEPS for y in _STEPS)
ExactEdit = Literal["mark", "shift"]


class ExactDenoiser:
    """The ideal denoiser, given the first frame, of a world of finitely many equally likely clips.

    clips: (V, F, C, h, w), every clip that the first frame allows. Called with noisy clips x (B, F, C, h, w) and their
    noise's standard deviation (one, or one an item (B,)), it gives their expectation (B, F, C, h, w)."""

    def __init__(self, clips: Tensor) -> None:
        self._shape = clips.shape[1:]
        self._clips = clips.flatten(1).double()
        self._lengths = self._clips.square().sum(dim=1)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return (self.weights(x, sigma) @ self._clips).reshape(-1, *self._shape).to(x.dtype)

    def weights(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """How likely each clip is the one meant: (B, V) float64, each row's sum 1. At level 0, the nearest alone."""
        level = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1)
        nearness = x.flatten(1).double() @ self._clips.T - self._lengths / 2  # |x|²/2 - |x - clip|²/2
        return torch.softmax(nearness / level.square().clamp(min=1e-12), dim=1)


def exact_case(rng: np.random.Generator, kind: ExactEdit) -> tuple[SpriteClip, SpriteClip]:
    """A clip of the exact world and its true edit: a mark on a plain sprite, or its colour shifted by SHIFT a channel.

    A wholly new colour is no fair demand: below the top level the source's noise still says the old one."""
    drawn = random_case(rng, "mark")
    start = (SIZE - WIDTH) / 2
    motion = SpriteMotion(start, start, VELOCITIES[rng.integers(len(VELOCITIES))])
    sprite = replace(drawn.clip.sprite, width=WIDTH)
    clip = replace(drawn.clip, sprite=sprite, motion=motion, frames=FRAMES, size=SIZE)
    if kind == "mark":
        return clip, clip.with_appearance(drawn.appearance)
    red, green, blue = (value + (SHIFT if value < 0.5 else -SHIFT) for value in clip.appearance.colour)
    return clip, clip.with_appearance(Appearance((red, green, blue)))


def renders(clip: SpriteClip, velocities: Sequence[tuple[float, float]] = VELOCITIES) -> Tensor:
    """All clips that the first frame of `clip` allows: (V, F, 3, H, W) float32 in [-1, 1], in the velocities' order."""
    moved = [replace(clip, motion=replace(clip.motion, velocity=velocity)) for velocity in velocities]
    return torch.stack([tensor(each) for each in moved])


def denoiser(clip: SpriteClip, velocities: Sequence[tuple[float, float]] = VELOCITIES) -> ExactDenoiser:
    """The ideal denoiser given the first frame of `clip`."""
    return ExactDenoiser(renders(clip, velocities))


def tensor(clip: SpriteClip) -> Tensor:
    """A clip's frames: (F, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(clip.render()).permute(0, 3, 1, 2).contiguous() * 2 - 1
