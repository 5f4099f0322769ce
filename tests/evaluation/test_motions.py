"""The proof model's world: seeded, exact at fractions of a pixel, its edits confined, its held-out motions apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from paintover_evaluation import clips, motions
from paintover_evaluation.motions import FAST, FRAMES, SIZE, SPEEDS, MotionClip


def clip(seed: int, motion: motions.Motion = "straight") -> MotionClip:
    return motions.random_clip(np.random.default_rng(seed), motion)


def test_a_seed_gives_one_clip() -> None:
    assert np.array_equal(clip(1).render(), clip(1).render())
    assert not np.array_equal(clip(1).render(), clip(2).render())
    assert clip(1).render().shape == (FRAMES, SIZE, SIZE, 3)


@pytest.mark.parametrize("seed", range(5))
def test_an_edit_changes_the_sprite_alone(seed: int) -> None:
    source = clip(seed)
    truth = source.with_look(motions.random_texture(np.random.default_rng(9), 1.0))
    changed = (truth.render() != source.render()).any(-1)
    assert changed.any()
    assert not changed[source.matte() == 0].any()


def test_grain_is_in_every_clip_and_can_be_left_out() -> None:
    for seed in range(5):
        noise = clip(seed).render() - clip(seed).without_grain().render()
        assert 0.9 / 255 < noise.std() < 2.1 / 255


def test_textures_move_by_fractions_of_a_pixel() -> None:
    """A pan of half a pixel a frame: two frames on, the picture is the first one moved by a whole pixel."""
    still = dataclasses.replace(clip(3), pan=(0.5, 0.0), sprites=(), post=None, grain=0.0).render()
    np.testing.assert_allclose(still[2][:, 1:], still[0][:, :-1], atol=1e-6)
    assert abs(still[1] - still[0]).max() > 1e-3


def test_held_out_motions_are_no_training_motions() -> None:
    def steps(motion: motions.Motion, seed: int) -> np.ndarray:
        path = clip(seed, motion).sprites[0].path
        return np.hypot(*path.velocity) if not path.radius else np.inf

    assert all(SPEEDS[0] <= steps("straight", seed) <= SPEEDS[1] for seed in range(20))
    assert all(FAST[0] <= steps("fast", seed) <= FAST[1] for seed in range(20))
    assert all(clip(seed, "circling").sprites[0].path.radius > 0 for seed in range(20))


@pytest.mark.parametrize("motion", ["straight", "fast", "circling"])
def test_a_case_is_seen_first_and_last(motion: motions.Motion) -> None:
    case = motions.random_case(np.random.default_rng(4), motion)
    assert min(case.region[0].mean(), case.region[-1].mean()) >= 0.08
    seen = case.clip.matte() > 0
    assert not case.region[~seen].any()
    assert np.array_equal(case.erased[~seen], case.source[~seen])
    assert clips.explained(case.truth, case) == 1
    assert clips.explained(case.source, case) == 0
