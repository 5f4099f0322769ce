"""How much an edit counts in a frame, by how well it agreed with another keyframe's painting."""

from __future__ import annotations

import numpy as np
import pytest
from paintover_engine.compose.calibration import Calibration, colour_weight

BOX = np.zeros((20, 30), np.float32)
BOX[5:15, 5:15] = 1


def test_overlap_is_intersection_over_union() -> None:
    assert Calibration.of(BOX, BOX, 0.5).overlap == 1
    assert Calibration.of(np.roll(BOX, 5, axis=1), BOX, 0.5).overlap == pytest.approx(1 / 3)
    assert Calibration.of(BOX * 0, BOX * 0, 0.5).overlap == 1


def test_precision_is_the_share_that_lies_in_the_true_matte() -> None:
    assert Calibration.of(np.maximum(BOX, np.roll(BOX, 10, axis=1)), BOX, 0.5).precision == 0.5
    assert Calibration.of(BOX * 0, BOX, 0.5).precision == 1


def test_weight_falls_with_the_confidence() -> None:
    known = Calibration(0.6, 1.0, 0.3)
    weights = [known.weight(confidence) for confidence in (1.0, 0.8, 0.5, 0.3, 0.1)]
    assert weights == sorted(weights, reverse=True)
    assert known.weight(0.0) == 0


def test_surer_edit_that_agreed_less_counts_less() -> None:
    """A keyframe that is surer of all its frames, wrongly, must not win."""
    unsure_but_right, sure_but_wrong = Calibration(0.9, 1.0, 0.2), Calibration(0.2, 1.0, 0.6)
    assert unsure_but_right.weight(0.3) > 2 * sure_but_wrong.weight(0.6)


def test_both_count_alike_that_agreed_alike() -> None:
    ratio = Calibration(0.9, 1.0, 0.3).weight(0.5) / Calibration(0.9, 1.0, 0.3).weight(0.52)
    assert ratio == pytest.approx(1, abs=0.2)


def test_edit_that_missed_counts_little_all_the_way() -> None:
    """It lay wrong for long before it left the picture, where its confidence fell at last."""
    nearest, before = Calibration(0.0, 1.0, 0.002), Calibration(0.0, 1.0, 0.3)
    assert nearest.weight(0.25) > 2
    assert Calibration.along([nearest, before, before]).weight(0.25) < 0.5


def test_edit_that_agreed_is_judged_where_it_is_known_best() -> None:
    nearest, before = Calibration(0.8, 1.0, 0.2), Calibration(0.7, 1.0, 0.6)
    assert Calibration.along([nearest, before]) == nearest


def test_colours_are_the_nearer_keyframes_rather_than_the_surer_ones() -> None:
    assert colour_weight(1.0, 4) > 2 * colour_weight(2.0, 12)
    assert colour_weight(2.0, 4) > colour_weight(1.0, 4)


def test_spill_grows_to_what_the_other_keyframe_showed() -> None:
    known = Calibration(0.2, 0.25, 0.1)
    spills = [known.spill(confidence) for confidence in (1.0, 0.6, 0.3, 0.1, 0.0)]
    assert spills == sorted(spills)
    assert spills[0] < 0.01
    assert spills[3] == pytest.approx(0.75)
