"""Pictures taken apart into planes, and times a plane."""

import cv2
import numpy as np
import pytest
from paintover_engine.compose.planes import planes_of, times


def picture(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).random((5, 7, channels), np.float32)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_planes_are_the_channels(channels: int) -> None:
    planes = planes_of(picture(channels))
    assert np.array_equal(cv2.merge(planes), picture(channels))
    assert all(plane.flags.c_contiguous for plane in planes)


def test_a_plane_is_its_own() -> None:
    plane = picture(2)[..., 0]
    assert np.array_equal(planes_of(plane)[0], plane)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_times_is_the_product_of_each_channel(channels: int) -> None:
    plane = picture(1)[..., 0]
    assert np.array_equal(times(picture(channels), plane), picture(channels) * plane[..., None])
