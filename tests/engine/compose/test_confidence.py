"""The confidence of a frame: which measure falls for which mistake, and what is said to be its reason."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.confidence import ConfidenceMeter, Measures, Trail
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.reason import Reason

SIZE = (96, 128)
STILL = np.zeros((*SIZE, 2), np.float32)


def textured(seed: int, colour: tuple[int, int, int]) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(0, 25, (*SIZE, 1)).astype(np.float32)
    return np.asarray(np.clip(cv2.GaussianBlur(noise, (0, 0), 3)[..., None] * 6 + colour, 0, 255), np.float32)


def disc_at(x: int, radius: int = 20) -> Plane:
    return np.asarray(cv2.circle(np.zeros(SIZE, np.float32), (x, 48), radius, 1.0, -1))


def frame_of(matte: Plane, inside: tuple[int, int, int] = (190, 60, 50)) -> AnalysisFrame:
    """A textured disc over a textured ground, at the flow's size; analysis frames are of twice that."""
    picture = np.where(matte[..., None] > 0.5, textured(1, inside), textured(2, (70, 120, 80))).astype(np.uint8)
    return AnalysisFrame(cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST))


def certain(matte: Plane, confidence: float = 1.0) -> Evidence:
    return Evidence(matte, np.full_like(matte, confidence))


KEY = disc_at(50)


def measured(matte: Plane, frame: AnalysisFrame, trail: Trail | None = None, confidence: float = 1.0) -> Measures:
    meter = ConfidenceMeter(frame_of(KEY), KEY)
    return meter.measure(trail or meter.start(), frame, certain(matte, confidence))


def test_edit_that_moved_with_its_surface_is_sure() -> None:
    moved = Trail(STILL + np.array([-12, 0], np.float32), 1.0)
    picture = np.roll(frame_of(KEY).sharp, 24, axis=1)
    assert measured(disc_at(62), AnalysisFrame(picture), moved).confidence > 0.9


@pytest.mark.parametrize(
    ("matte", "reason"),
    [(disc_at(50, 10), Reason.LOST), (np.zeros(SIZE, np.float32), Reason.OUT_OF_SIGHT)],
)
def test_lost_edit_is_unsure(matte: Plane, reason: Reason) -> None:
    found = measured(matte, frame_of(KEY))
    assert found.confidence < 0.5
    assert found.reason is reason


def test_edit_that_spreads_is_less_sure() -> None:
    meter = ConfidenceMeter(frame_of(KEY), KEY)
    trail = meter.start()
    for radius in (24, 28, 32):
        trail = meter.advance(trail, STILL, disc_at(50, radius), disc_at(50, radius - 4))
    found = meter.measure(trail, frame_of(KEY), certain(disc_at(50, 32)))
    assert found.confidence < 0.6
    assert found.reason is not Reason.LOST


def test_edit_on_another_thing_is_unsure() -> None:
    found = measured(KEY, frame_of(KEY, inside=(40, 60, 200)))
    assert found.confidence < 0.2
    assert found.reason is Reason.CHANGED


def test_edit_that_left_its_surface_is_unsure() -> None:
    found = measured(disc_at(80), frame_of(KEY))
    assert found.confidence < 0.5


def test_worse_agreement_on_the_way_is_less_sure() -> None:
    meter = ConfidenceMeter(frame_of(KEY), KEY)
    steady = meter.advance(meter.start(), STILL, KEY, KEY)
    jumped = meter.advance(meter.start(), STILL, KEY, disc_at(60))
    frame = frame_of(KEY)
    surer, less = (meter.measure(trail, frame, certain(KEY)).confidence for trail in (steady, jumped))
    assert surer > less


def test_frame_whose_matte_was_corrected_much_is_less_sure() -> None:
    meter, frame = ConfidenceMeter(frame_of(KEY), KEY), frame_of(KEY)
    little, much = (meter.advance(meter.start(), STILL, KEY, prior) for prior in (disc_at(51), disc_at(64)))
    sure, unsure = (meter.measure(trail, frame, certain(KEY)).confidence for trail in (little, much))
    assert unsure < 0.5 * sure


def test_uncertain_motion_is_less_sure() -> None:
    confidences = [measured(KEY, frame_of(KEY), confidence=each).confidence for each in (1.0, 0.6, 0.3, 0.0)]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[0] > 0.95 and confidences[-1] < 0.5
    assert measured(KEY, frame_of(KEY), confidence=0.0).reason is Reason.UNCERTAIN


def test_blurred_frame_is_less_sure() -> None:
    blurred = AnalysisFrame(cv2.blur(frame_of(KEY).sharp, (15, 15)))
    assert measured(KEY, blurred).confidence < 0.8 * measured(KEY, frame_of(KEY)).confidence


def test_registered_edit_is_as_sure_as_its_registration() -> None:
    meter, frame = ConfidenceMeter(frame_of(KEY), KEY), frame_of(KEY)
    found = certain(KEY, 0.5)
    sure, unsure = (
        meter.measure(meter.start(), frame, found, np.full_like(KEY, each)).confidence for each in (1.0, 0.6)
    )
    assert sure > 0.9
    assert unsure < 0.5
