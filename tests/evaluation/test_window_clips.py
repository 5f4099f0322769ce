"""The world of the small Wan model: where its sprite goes, over several windows."""

from __future__ import annotations

import numpy as np
from paintover_evaluation import window_clips
from paintover_evaluation.clips import random_case
from paintover_evaluation.window_clips import CELL, FRAMES, SIZE, random_clip


def test_sprite_stays_inside_and_on_cells() -> None:
    for seed in range(40):
        clip = random_clip(np.random.default_rng(seed), windows=5)
        corners = clip.motion.corners(clip.frames)
        assert clip.frames == 5 * (FRAMES - 1) + 1
        assert corners.min() >= 0 and corners.max() + clip.sprite.width <= SIZE
        assert not (corners[:: FRAMES - 1] % CELL).any()
        assert abs(np.diff(corners, axis=0)).max() <= 1


def test_sprite_turns_where_a_window_ends() -> None:
    turns = 0
    for seed in range(40):
        clip = random_clip(np.random.default_rng(seed), windows=2)
        steps = np.diff(clip.motion.corners(clip.frames), axis=0).reshape(2, FRAMES - 1, 2)
        assert (steps == steps[:, :1]).all()
        turns += bool((steps[0] != steps[1]).any())
        matte = clip.matte()
        shift = tuple(steps[1, 0].astype(int)[::-1])
        assert np.allclose(np.roll(matte[FRAMES - 1], shift, (0, 1)), matte[FRAMES], atol=1e-6)
    assert turns > 20


def test_edit_changes_the_sprite_alone() -> None:
    case = random_case(np.random.default_rng(1), "recolour", window_clips.random_clip)
    assert case.source.shape == (FRAMES, SIZE, SIZE, 3)
    assert case.region.any() and not (case.region & (case.clip.matte() == 0)).any()
