from __future__ import annotations

import numpy as np
from paintover_engine.compose.tracker import agreeing_parts


def test_part_that_went_over_to_the_background_is_left() -> None:
    registered, found = np.zeros((2, 60, 80), np.float32)
    registered[10:30, 10:30] = registered[10:30, 50:70] = 0.6
    found[10:30, 8:24] = 1  # most of the first part, and a corner of the second
    found[10:15, 50:60] = 1
    agreed = agreeing_parts(registered, found)
    assert agreed[:, :40].all()
    assert not agreed[10:30, 50:70].any()
    assert agreed[40:].all()  # where nothing is registered, nothing is said
