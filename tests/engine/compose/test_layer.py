from __future__ import annotations

import numpy as np
import pytest
from paintover_engine.compose.flow import flow_size, shrink
from paintover_engine.compose.layer import PlateRegion
from paintover_engine.media.plate import ImagePlate

WINDOW = (30, 12, 41, 25)


@pytest.mark.parametrize(("dtype", "colorspace"), [("uint8", ""), ("uint16", ""), ("float32", "ACEScg")])
def test_view_equals_that_part_of_the_plate(dtype: str, colorspace: str) -> None:
    samples = np.random.default_rng(1).random((60, 96, 3))
    if dtype != "float32":
        samples *= np.iinfo(dtype).max
    plate = ImagePlate(1, samples.astype(dtype), (0, 1, 2), None, colorspace)
    view = PlateRegion(plate, WINDOW)
    assert view.size == (96, 60)
    assert np.allclose(view.working, plate.working()[12:37, 30:71], atol=1e-6)
    small = shrink(plate.display(), flow_size(96, 60)).astype(np.float32) / 255
    assert np.abs(view.small - small).max() <= 1 / 255


def test_view_of_empty_bounds() -> None:
    plate = ImagePlate(1, np.zeros((20, 30, 3), np.uint8), (0, 1, 2), None, "")
    assert PlateRegion(plate, (0, 0, 0, 0)).working.size == 0
