from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_evaluation.scores import BEST, Scorer


def frames() -> tuple[np.ndarray, np.ndarray]:
    plate = np.full((60, 80, 3), 100, np.uint8)
    truth = plate.copy()
    truth[20:40, 30:50] = 120
    return plate, truth


def test_the_truth_itself_scores_best() -> None:
    plate, truth = frames()
    scorer = Scorer([0])
    for number in range(3):
        scorer.add(number, plate, truth, truth)
    scores = scorer.scores()
    assert scores.psnr_in == scores.psnr_edge == scores.psnr_out == BEST
    assert scores.exact_out == 1
    assert scores.flicker == 0


def test_the_plate_gains_nothing() -> None:
    plate, truth = frames()
    scorer = Scorer([])
    scorer.add(0, plate, truth, plate)
    scores = scorer.scores()
    assert scores.gain_in == 0
    assert scores.psnr_in == pytest.approx(10 * np.log10(255**2 / 20**2))


def test_exactness_counts_large_errors_only() -> None:
    plate, truth = frames()
    near, far = truth.copy(), truth.copy()
    near[20, 55] = 0
    far[2, 2] = 0
    exact = []
    for result in (near, far):
        scorer = Scorer([])
        scorer.add(0, plate, truth, result)
        exact.append(scorer.scores().exact_out)
    assert exact[0] == 1
    assert exact[1] is not None
    assert exact[1] < 1


def test_flicker_is_the_change_of_the_error() -> None:
    plate, truth = frames()
    steady, shaky = Scorer([]), Scorer([])
    for number in range(4):
        steady.add(number, plate, truth, truth + 8)
        shaky.add(number, plate, truth, truth + 8 * (number % 2))
    assert steady.scores().flicker == 0
    assert shaky.scores().flicker == 8


def test_keyframes_earn_nothing() -> None:
    plate, truth = frames()
    scorer = Scorer([0])
    scorer.add(0, plate, truth, truth)
    assert scorer.scores().psnr_in is None


def test_figures_without_a_meaning_are_none() -> None:
    plate, _ = frames()
    scorer = Scorer([])
    scorer.add(0, plate, plate + 5, plate + 5)
    assert scorer.scores().exact_out is None


def test_frames_of_different_shapes_are_refused() -> None:
    plate, truth = frames()
    with pytest.raises(ValueError, match="shapes"):
        Scorer([]).add(0, plate, truth, truth[1:])


def test_missed_and_leak_are_shares() -> None:
    plate, truth = frames()
    half = plate.copy()
    half[20:40, 30:40] = 120
    half[:10, :20] = 0
    scorer = Scorer([])
    scorer.add(0, plate, truth, half)
    scores = scorer.scores()
    assert scores.missed == pytest.approx(0.5)
    assert scores.leak == pytest.approx(200 / 400)


def test_sharper_and_cleaner_paint_than_the_truth() -> None:
    rng = np.random.default_rng(1)
    sharp = np.kron(rng.integers(60, 200, (20, 20, 3)), np.ones((6, 6, 1))).astype(np.float32)
    noise = rng.normal(0, 6, sharp.shape)
    plate = np.zeros(sharp.shape, np.uint8)
    truth, result = (
        np.clip(frame, 1, 255).astype(np.uint8) for frame in (cv2.GaussianBlur(sharp, (0, 0), 4) + noise, sharp)
    )
    scorer = Scorer([])
    scorer.add(0, plate, truth, result)
    scorer.add(1, plate, truth, cv2.GaussianBlur(truth, (0, 0), 1))
    (scores,) = [scorer.scores()]
    assert scores.sharp is not None and scores.grain is not None
    assert scorer._sharp[0] > 1.3 and scorer._grain[1] < 0.3
