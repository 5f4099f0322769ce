from __future__ import annotations

import numpy as np
from paintover_engine.compose.colour_map import SIZE
from paintover_engine.compose.keyframe_layer import KeyframeLayer
from paintover_engine.compose.paint import ColourEdit
from paintover_engine.compose.tracker import Propagated

SHAPE = (6, 8)


def propagated(count: int) -> Propagated:
    """Painted everywhere."""
    none = np.zeros((count, 2, 3), np.float32)
    painted = np.full((count, *SHAPE), 255, np.uint8)
    flags = np.zeros(count, np.uint8)
    return Propagated(np.ones(count, np.float32), flags, none, flags, painted, painted)


def test_other_mattes_reach_all_spans_that_hold_their_frames() -> None:
    table = np.zeros((SIZE, SIZE, SIZE, 3), np.float32)
    spans = [((first, first + 3), propagated(4)) for first in (4, 8, 12)]
    layer = KeyframeLayer(0, SHAPE[::-1], ColourEdit(table, True, False, False), None, spans, None)
    mattes = np.zeros((5, *SHAPE), np.uint8)  # of the frames 6 to 10
    mattes[:] = np.arange(6, 11)[:, None, None]
    found = layer.with_mattes((6, 10), mattes, 1.0)
    shown = [int(plane[0, 0]) for _, each in found._spans if each.matte is not None for plane in each.matte]
    assert shown == [255, 255, 6, 7, 8, 9, 10, *[255] * 5]
