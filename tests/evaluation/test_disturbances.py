"""Disturbances of shots and keyframes whose true edit stays known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_evaluation.disturbances import KEYFRAMES, SHOTS, Frame

HEIGHT, WIDTH, COUNT = 48, 64, 16


@pytest.fixture(scope="module")
def plates() -> list[Frame]:
    wide = cv2.GaussianBlur(np.random.default_rng(1).random((HEIGHT, WIDTH + COUNT, 3), np.float32), (0, 0), 2)
    wide = np.clip((wide - 0.5) * 800 + 128, 0, 255).astype(np.uint8)
    return [np.ascontiguousarray(wide[:, number : number + WIDTH]) for number in range(COUNT)]


def edited(frame: Frame) -> Frame:
    truth = frame.copy()
    truth[16:32, 24:40] = 255 - truth[16:32, 24:40]
    return truth


@pytest.mark.parametrize("name", SHOTS)
def test_plate_and_truth_differ_in_the_edit_alone(plates: list[Frame], name: str) -> None:
    disturbed, truths = SHOTS[name](plates), SHOTS[name]([edited(plate) for plate in plates])
    assert len(disturbed) == len(truths) >= COUNT
    assert all(plate.shape == truth.shape == disturbed[0].shape for plate, truth in zip(disturbed, truths, strict=True))
    shares = [(plate != truth).any(-1).mean() for plate, truth in zip(disturbed, truths, strict=True)]
    assert max(shares) < 0.4
    assert sum(share > 0 for share in shares) >= COUNT - 3


@pytest.mark.parametrize("name", sorted(set(SHOTS) - {"undisturbed"}))
def test_disturbance_changes_the_shot(plates: list[Frame], name: str) -> None:
    disturbed = SHOTS[name](plates)
    same = len(disturbed) == COUNT and disturbed[0].shape == plates[0].shape
    assert not same or any((one != other).any() for one, other in zip(disturbed, plates, strict=True))


@pytest.mark.parametrize("name", KEYFRAMES)
def test_keyframe_is_a_picture_of_another_look(plates: list[Frame], name: str) -> None:
    ending, file = KEYFRAMES[name](edited(plates[0]), edited(plates[1]))
    read = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert ending in (".png", ".jpg", ".webp", ".gif")
    assert read.shape == plates[0].shape
    assert (read != edited(plates[0])).any()
