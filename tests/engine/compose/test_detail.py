from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.detail import Fit, Framing, difference_composite

SVD = {"area": 1024 * 576, "multiple": 64}


def ramp(width: int, height: int) -> NDArray[np.float32]:
    """A smooth picture that is unlike its mirror images."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.dstack([x / width, y / height, (x / width + y / height) / 2]).astype(np.float32)


@pytest.mark.parametrize(
    ("plate", "size"),
    [
        ((1920, 1080), (1024, 576)),
        ((854, 480), (1024, 576)),
        ((1080, 1920), (576, 1024)),
        ((640, 640), (768, 768)),
        ((1, 1), (768, 768)),
    ],
)
def test_model_size_is_nearest_to_plate_aspect(plate: tuple[int, int], size: tuple[int, int]) -> None:
    assert Framing.of(plate, **SVD).size == size


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("plate", [(1920, 1080), (4096, 1716), (100, 20), (20, 100), (33, 17), (1, 1), (7, 300)])
def test_framing_does_not_stretch(plate: tuple[int, int], fit: Fit) -> None:
    framing = Framing.of(plate, **SVD, fit=fit)
    assert framing.to_model(ramp(*plate)).shape == (framing.size[1], framing.size[0], 3)
    assert framing.size[0] % 64 == framing.size[1] % 64 == 0
    assert framing.size[0] * framing.size[1] <= SVD["area"]
    scale = framing.inner[0] / plate[0], framing.inner[1] / plate[1]
    slack = max(1 / plate[0], 1 / plate[1])
    assert abs(scale[0] - scale[1]) <= slack
    fits = [inner <= side for inner, side in zip(framing.inner, framing.size, strict=True)]
    assert all(fits) if fit == "pad" else not any(fits) or framing.inner == framing.size or 1 in plate or sum(fits) <= 1


@pytest.mark.parametrize("plate", [(160, 90), (90, 160), (400, 100), (64, 64)])
def test_framing_round_trip_keeps_position(plate: tuple[int, int]) -> None:
    framing = Framing.of(plate, area=128 * 72, multiple=8)
    picture = ramp(*plate)
    back = framing.to_plate(framing.to_model(picture))
    assert np.abs(back - picture)[2:-2, 2:-2].max() < 0.03


def test_cropped_margin_is_unchanged() -> None:
    framing = Framing.of((400, 100), area=64 * 64, multiple=8, fit="crop")
    change = framing.to_plate(np.ones((framing.size[1], framing.size[0], 3), np.float32))
    assert change.shape == (100, 400, 3)
    assert (change[:, :10] == 0).all()
    assert (change[:, 150:250] > 0.99).all()


def test_fine_detail_stays_the_plates() -> None:
    plate = ramp(256, 128) + 0.1 * np.random.default_rng(1).standard_normal((128, 256, 3)).astype(np.float32)
    framing = Framing.of((256, 128), area=64 * 32, multiple=8)
    reconstructed = framing.to_model(plate) * 0.9  # with an error of its own
    laid = difference_composite(plate, reconstructed + 0.2, reconstructed, framing)
    assert np.abs(laid - plate - 0.2).max() < 1e-5


def test_values_above_white_survive() -> None:
    plate = np.full((32, 32, 3), 5.0, np.float32)
    framing = Framing.of((32, 32), area=16 * 16, multiple=8)
    seen = framing.to_model(np.clip(plate, 0, 1))
    assert difference_composite(plate, seen - 0.5, seen, framing) == pytest.approx(4.5)
