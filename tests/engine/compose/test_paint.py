"""What a keyframe's paint does: whether it is drawn, or a function of the plate's colour."""

from __future__ import annotations

import numpy as np
import pytest
from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.paint import Paint, analysed, shared_colour


@pytest.mark.parametrize(("levels", "drawn"), [(3, False), (25, True)])
def test_recolour_of_a_dark_object_is_drawn_only_where_that_is_seen(levels: int, drawn: bool) -> None:
    """Where the plate is nearly black a turned hue changes it by a few levels, and not always in the same way."""
    rng = np.random.default_rng(2)
    plate = rng.integers(60, 200, (120, 160, 3))
    plate[:, 100:] = rng.integers(8, 16, (120, 60, 3))
    painted = plate[..., [2, 0, 1]]
    painted[:, 100:] += rng.integers(-levels, levels + 1, (120, 60, 3))
    matte = np.zeros((120, 160), np.float32)
    matte[20:100, 20:140] = 1
    picture = np.where(matte[..., None] > 0, np.clip(painted, 0, 255), plate)
    given = (np.asarray(each / 255, np.float32) for each in (plate, picture))
    assert analysed(Paint.of(*given, matte, given=False), "auto").drawn == drawn


def recoloured(seed: int, red: tuple[int, int], turned: bool) -> tuple[Paint, ColourMap]:
    """A keyframe whose plate holds reds in a range."""
    rng = np.random.default_rng(seed)
    plate = rng.integers((red[0], 20, 20), (red[1], 60, 60), (80, 120, 3)) / np.float32(255)
    matte = np.zeros((80, 120), np.float32)
    matte[10:70, 10:110] = 1
    painted = plate[..., [2, 0, 1]] if turned else plate[..., [1, 0, 2]] * np.float32(0.5)
    picture = np.where(matte[..., None] > 0, painted, plate).astype(np.float32)
    paint = Paint.of(plate.astype(np.float32), picture, matte, given=False)
    return paint, paint.colour()


def test_shared_map_knows_the_colours_of_both_keyframes() -> None:
    (first, own), (second, other) = recoloured(1, (20, 60), True), recoloured(2, (180, 240), True)
    shared = shared_colour([first, second], [own, other])
    assert shared is not None
    for paint, lacking in ((first, other), (second, own)):
        plate, painted, _ = paint.samples()
        errors = [float(np.abs(each(plate[None])[0] - painted).mean()) for each in (shared, lacking)]
        assert errors[0] < 0.02
        assert errors[0] < 0.5 * errors[1]


def test_other_edits_share_no_map() -> None:
    (first, own), (second, other) = recoloured(1, (20, 240), True), recoloured(2, (20, 240), False)
    assert shared_colour([first, second], [own, other]) is None
