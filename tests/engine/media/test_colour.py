from __future__ import annotations

import numpy as np
import pytest
from paintover_engine.errors import PaintoverError
from paintover_engine.media import colour


def test_a_name_or_an_alias_gives_the_name() -> None:
    assert colour.check_colorspace("acescg") == "ACEScg"
    assert colour.check_colorspace("lin_ap1") == "ACEScg"
    assert colour.check_colorspace("") == ""


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(PaintoverError, match="Did you mean 'ACEScg'"):
        colour.check_colorspace("ACES-cg")
    with pytest.raises(PaintoverError, match="data"):
        colour.check_colorspace("Raw")


@pytest.mark.parametrize("space", ["ACEScg", "Linear Rec.709 (sRGB)", "ARRI LogC4", "Linear Rec.2020", "ACES2065-1"])
def test_the_way_back_is_the_inverse(space: str) -> None:
    low, high = (0.25, 0.6) if "Log" in space else (-0.05, 12.0)
    rgb = np.random.default_rng(0).uniform(low, high, (20, 30, 3)).astype(np.float32)
    working = colour.to_working(rgb, space)
    assert np.allclose(colour.from_working(working, space), rgb, rtol=2e-3, atol=2e-3)


def test_values_above_1_and_below_0_keep_their_order() -> None:
    ramp = np.repeat(np.linspace(-0.5, 16, 200, dtype=np.float32)[None, :, None], 3, axis=2)
    working = colour.to_working(ramp, colour.SCENE_LINEAR)
    assert (np.diff(working[0, :, 0]) > 0).all()
    assert working.max() > 2
    assert (
        abs(float(colour.to_working(np.full((1, 1, 3), 0.18, np.float32), colour.SCENE_LINEAR)[0, 0, 0]) - 0.4614)
        < 1e-3
    )


def test_a_display_encoded_shot_is_not_touched() -> None:
    rgb = np.random.default_rng(0).random((3, 4, 3), np.float32)
    assert colour.to_working(rgb, "") is rgb
    kept = rgb.copy()
    colour.to_working(rgb, "ACEScg")
    assert np.array_equal(rgb, kept)
