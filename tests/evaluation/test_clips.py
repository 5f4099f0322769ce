"""The small world: what moves, what an edit changes, and what its measure says."""

from __future__ import annotations

import numpy as np
import pytest
from paintover_evaluation.clips import (
    EDITS,
    FRAMES,
    SIZE,
    Appearance,
    ClipCase,
    EditKind,
    SpriteClip,
    SpriteMotion,
    explained,
    random_case,
    random_clip,
)

SEEDS = range(40)


def clip(seed: int) -> SpriteClip:
    return random_clip(np.random.default_rng(seed))


def case(seed: int, kind: EditKind) -> ClipCase:
    return random_case(np.random.default_rng(seed), kind)


def test_a_seed_always_gives_the_same_clip() -> None:
    assert clip(7) == clip(7) != clip(8)
    assert np.array_equal(clip(7).render(), clip(7).render())


def test_frames_are_floats_between_0_and_1() -> None:
    for seed in SEEDS:
        frames = clip(seed).render()
        assert frames.shape == (FRAMES, SIZE, SIZE, 3) and frames.dtype == np.float32
        assert frames.min() >= 0 and frames.max() <= 1


def test_the_sprite_stays_inside_the_frame() -> None:
    for seed in SEEDS:
        area = clip(seed).matte().sum(axis=(1, 2))
        assert np.allclose(area, area[0], rtol=1e-5)


def test_the_sprite_moves_as_its_motion_says() -> None:
    for seed in SEEDS:
        one = clip(seed)
        matte = one.matte()
        for number in range(FRAMES):
            x, y = (number * speed for speed in one.motion.velocity)
            assert np.allclose(matte[number], np.roll(matte[0], (y, x), (0, 1)), atol=1e-6)


def test_a_motion_may_be_a_fraction_of_a_pixel() -> None:
    one = clip(0)
    still, moved = (
        SpriteClip(one.sprite, one.appearance, SpriteMotion(4, 4, (v, 0.0)), one.background) for v in (0.0, 0.5)
    )
    matte = moved.matte()
    assert not np.allclose(matte[1], matte[0])
    centre = [(m.sum(axis=0) * np.arange(SIZE)).sum() / m.sum() for m in matte]
    assert np.allclose(np.diff(centre), 0.5, atol=0.02)
    assert np.array_equal(still.matte()[0], matte[0])


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_changes_the_sprite_alone(kind: EditKind) -> None:
    for seed in SEEDS:
        one = case(seed, kind)
        outside = one.clip.matte() == 0
        assert np.array_equal(one.source[outside], one.truth[outside])
        assert one.region.any(axis=(1, 2)).all()


def test_edit_changes_either_colour_or_mark() -> None:
    for seed in SEEDS:
        painted, marked = case(seed, "recolour"), case(seed, "mark")
        assert (
            painted.appearance.mark == painted.clip.appearance.mark
            and painted.appearance.colour != painted.clip.appearance.colour
        )
        assert marked.clip.appearance.mark is None and marked.appearance.mark is not None
        assert marked.appearance.colour == marked.clip.appearance.colour


def test_a_mark_is_smaller_than_the_sprite() -> None:
    for seed in SEEDS:
        one = case(seed, "mark")
        assert 0.1 < one.region[-1].sum() / (one.clip.matte()[-1] > 0.5).sum() < 0.75


@pytest.mark.parametrize("kind", EDITS)
def test_the_truth_explains_all_and_the_source_nothing(kind: EditKind) -> None:
    one = case(1, kind)
    assert explained(one.truth, one) == 1
    assert explained(one.source, one) == pytest.approx(0)
    assert explained((one.source + one.truth) / 2, one) == pytest.approx(0.75)


@pytest.mark.parametrize("kind", EDITS)
def test_controls_score_below_the_goal(kind: EditKind) -> None:
    cases = [case(seed, kind) for seed in range(64)]
    grey = np.mean([explained(np.full_like(one.source, 0.5), one) for one in cases])
    erased = np.mean([explained(one.erased, one) for one in cases])
    assert grey < 0.6 and erased < 0.6
    held = np.mean([explained(np.broadcast_to(one.truth[:1], one.truth.shape), one) for one in cases])
    assert held < 0.6


def test_a_look_may_be_given() -> None:
    plain = clip(3).with_appearance(Appearance((1.0, 0.0, 0.0)))
    frames, cover = plain.render(), plain.matte() == 1
    assert np.allclose(frames[cover], (1, 0, 0))
