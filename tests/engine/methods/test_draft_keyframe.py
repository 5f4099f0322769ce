"""The draft at a keyframe: delivered as painted whatever happens around it, and neighbours that look like it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.engine.methods.shots import Frame, composed
from tests.engine.methods.test_draft import Shot, error

WIDTH, HEIGHT, COUNT, KEY = 72, 40, 7, 3


def textured(seed: int, width: int = WIDTH) -> Frame:
    noise = np.random.default_rng(seed).random((HEIGHT, width, 3), np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 2.0) - 0.5) * 700 + 128, 0, 255).astype(np.uint8)


def marked(picture: Frame, radius: int) -> Frame:
    return np.asarray(cv2.circle(picture.copy(), (WIDTH // 2, HEIGHT // 2), radius, (220, 40, 40), -1))


def slide(wide: Frame, step: int = 2) -> list[Frame]:
    return [np.ascontiguousarray(wide[:, step * n : step * n + WIDTH]) for n in range(COUNT)]


def smeared(wide: Frame) -> Frame:
    soft = cv2.GaussianBlur(marked(np.zeros_like(wide), 9)[..., 0] / np.float32(255), (0, 0), 4)[..., None]
    return np.rint(wide + soft * 0.6 * (np.array([250, 200, 40]) - wide)).astype(np.uint8)


EDITS: dict[str, Callable[[Frame], Frame]] = {
    "mark": lambda plate: marked(plate, 6),
    "pixel": lambda plate: marked(plate, 0),
    "airbrush": smeared,
    "recolour": lambda plate: np.where(marked(plate, 12) != plate, plate[..., ::-1] // 2 + 60, plate),
    "grade": lambda plate: (plate * 0.7 + 12).astype(np.uint8),
}

AROUND: dict[str, Callable[[Frame, int], Frame]] = {
    "motion": lambda plate, number: plate,
    "cuts": lambda plate, number: plate if number == KEY else 255 - textured(60 + (number > KEY)) // 3,
    "noise": lambda plate, number: plate if number == KEY else textured(90 + number),
    "black": lambda plate, number: plate if number == KEY else plate * 0,
    "flash on it": lambda plate, number: np.clip(plate * 1.6 + 40, 0, 255).astype(np.uint8) if number == KEY else plate,
}


@pytest.mark.parametrize(("edit", "around"), list(zip(EDITS, AROUND, strict=True)))
def test_painted_frame_is_delivered_as_painted(edit: str, around: str) -> None:
    plates = [AROUND[around](plate, number) for number, plate in enumerate(slide(textured(7, WIDTH + 2 * COUNT)))]
    painted = np.asarray(EDITS[edit](plates[KEY]), np.uint8)
    frame = Shot(plates, {KEY: painted}).run()[KEY]
    assert np.array_equal(composed(plates[KEY], frame), painted)
    assert frame.confidence == 1


@pytest.mark.parametrize(("radius", "step"), [(3, 2), (6, 1), (6, 0)])
def test_small_mark_is_in_every_frame(radius: int, step: int) -> None:
    wide = textured(7, WIDTH + 3 * COUNT)
    plates, truths = slide(wide, step), slide(marked(wide, radius), step)
    if step == 0:  # a locked camera's grain
        grain = np.random.default_rng(0).normal(0, 2, (COUNT, HEIGHT, WIDTH, 3))
        plates, truths = ([clipped(p + g) for p, g in zip(shot, grain, strict=True)] for shot in (plates, truths))
    frames = Shot(plates, {0: truths[0]}).run()
    for number in range(1, COUNT):
        edit: NDArray[np.bool_] = (truths[number] != plates[number]).any(-1)
        found = error(composed(plates[number], frames[number]), truths[number], edit)
        assert found < 0.3 * error(plates[number], truths[number], edit), number


def clipped(picture: NDArray[np.float64]) -> Frame:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def test_neighbours_that_differ_little_look_like_it() -> None:
    """Grain, a little light and a pixel of motion, over an object that plain ground surrounds."""
    plate = np.full((HEIGHT, WIDTH, 3), (90, 110, 100), np.uint8)
    cv2.circle(plate, (WIDTH // 2, HEIGHT // 2), 10, (170, 150, 120), -1)
    inside = (plate != plate[0, 0]).any(-1)
    recoloured = np.where(inside[..., None], plate[..., ::-1], plate)
    grain = np.random.default_rng(1).normal(0, 3, (3, HEIGHT, WIDTH, 3))

    def shot(picture: Frame) -> list[Frame]:
        moved = [np.roll(picture, number - 1, axis=1) * (1 + 0.02 * (number - 1)) for number in range(3)]
        return [clipped(each + noise) for each, noise in zip(moved, grain, strict=True)]

    plates, truths = shot(plate), shot(recoloured)
    frames = Shot(plates, {1: truths[1]}).run()
    for number in (0, 2):
        edit = np.roll(inside, number - 1, axis=1)
        found = error(composed(plates[number], frames[number]), truths[number], edit)
        assert found < 0.35 * error(plates[number], truths[number], edit)
        assert frames[number].confidence > 0.7
