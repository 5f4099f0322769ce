"""What a keyframe's paint does: whether it is drawn, or a function of the plate's colour."""

from __future__ import annotations

import numpy as np
import pytest
from paintover_engine.compose.paint import Paint, analysed


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
