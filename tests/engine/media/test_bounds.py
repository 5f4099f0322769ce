from __future__ import annotations

import numpy as np
from paintover_engine.media.bounds import EMPTY, bounds_of, union


def test_bounds_hold_every_pixel_above_0() -> None:
    matte = np.zeros((20, 30), np.float32)
    assert bounds_of(matte) == (0, 0, 0, 0)
    matte[5, 7] = 0.1
    matte[9, 28] = 1
    assert bounds_of(matte) == (7, 5, 22, 5)
    assert bounds_of(matte, 4) == (3, 1, 27, 13)


def test_union_holds_all_boxes_but_empty_ones() -> None:
    assert union([]) == union([EMPTY]) == EMPTY
    assert union([(3, 4, 5, 6), EMPTY, (1, 8, 2, 9)]) == (1, 4, 7, 13)
