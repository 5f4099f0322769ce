from __future__ import annotations

import cv2
import numpy as np
from paintover_engine.compose.flow import FlowEstimator, warp
from paintover_engine.compose.register import Registrar, Registration

SHAPE = (140, 220)


def scene(shift: float, hidden: bool = False) -> np.ndarray:
    """A textured square that moves right over a textured ground; `hidden`: covered by a wall."""
    ground = texture(1)
    square = texture(2)
    canvas = ground.copy()
    matrix = np.array([[1, 0, shift], [0, 1, 0]], np.float32)
    moved = cv2.warpAffine(square, matrix, SHAPE[::-1])
    mask = cv2.warpAffine(region(), matrix, SHAPE[::-1]) > 0.5
    canvas[mask] = moved[mask]
    if hidden:
        canvas[:, 40:200] = texture(3)[:, 40:200]
    return canvas


def texture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random(SHAPE, np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 1.6) - 0.5) * 900 + 128, 0, 255).astype(np.uint8)


def region() -> np.ndarray:
    mask = np.zeros(SHAPE, np.float32)
    mask[40:100, 60:120] = 1
    return mask


def sharp(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def advance(registrar: Registrar, place: Registration, before: np.ndarray, now: np.ndarray) -> Registration:
    estimator = FlowEstimator()
    flows = estimator.between(now, before), estimator.between(before, now)
    return registrar.advance(place, *flows, sharp(before), sharp(now))


def covered(place: Registration) -> np.ndarray:
    return warp(region(), place.offset) * place.confidence > 0.5


def overlap(found: np.ndarray, shift: int) -> float:
    truth = np.roll(region(), shift, 1) > 0.5
    return float((found & truth).sum() / (found | truth).sum())


def test_moving_surface_is_registered_without_drift() -> None:
    registrar, place = Registrar(sharp(scene(0)), region()), Registration.identity(*SHAPE)
    for frame in range(1, 11):
        place = advance(registrar, place, scene(3 * frame - 3), scene(3 * frame))
    assert overlap(covered(place), 30) > 0.9
    middle = place.offset[60:80, 110:130]
    assert np.abs(middle - (-30, 0)).max() < 0.2


def test_occluded_surface_is_found_again() -> None:
    registrar, place = Registrar(sharp(scene(0)), region()), Registration.identity(*SHAPE)
    place = advance(registrar, place, scene(0), scene(10, hidden=True))
    assert covered(place).sum() < 0.3 * region().sum()
    place = advance(registrar, place, scene(10, hidden=True), scene(27))
    place = advance(registrar, place, scene(27), scene(30))  # it is searched for in every second frame
    assert overlap(covered(place), 30) > 0.8


def test_subpixel_drift_is_corrected() -> None:
    place = Registration.identity(*SHAPE)
    place.offset[..., 0] += 0.4
    still = np.zeros((*SHAPE, 2), np.float32)
    found = Registrar(sharp(scene(0)), region()).advance(place, still, still, sharp(scene(0)), sharp(scene(0)))
    assert np.abs(found.offset[50:90, 70:110]).max() < 0.1


def test_mismatching_remnant_has_no_confidence() -> None:
    place, still = Registration.identity(*SHAPE), np.zeros((*SHAPE, 2), np.float32)
    place.confidence[:, 70:] = 0
    wall = scene(0, hidden=True)
    wall[:, :40] = texture(3)[:, :40]
    found = Registrar(sharp(scene(0)), region()).advance(place, still, still, sharp(wall), sharp(wall))
    assert covered(found).sum() == 0
