from __future__ import annotations

import numpy as np
import pytest
from paintover_evaluation.sheets import ACCENT, BACKGROUND, contact_sheet, side_by_side

RED = np.full((90, 160, 3), (200, 10, 10), np.uint8)
BLUE = np.full((90, 160, 3), (10, 10, 200), np.uint8)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


def test_sheet_has_its_width_and_every_frame() -> None:
    sheet = contact_sheet([("plate", {0: RED, 5: RED}), ("result", {0: BLUE, 5: BLUE})], (0, 5), width=800)
    assert sheet.shape[1] == 800 and sheet.shape[2] == 3 and sheet.dtype == np.uint8
    assert count(sheet, (200, 10, 10)) == count(sheet, (10, 10, 200)) > 2 * 300 * 160
    assert tuple(sheet[0, 0]) == BACKGROUND


def test_rows_stand_in_the_order_given() -> None:
    sheet = contact_sheet([("plate", {0: RED}), ("result", {0: BLUE})], (0,), width=600)
    red, blue = (np.nonzero((sheet == colour).all(axis=2))[0] for colour in ((200, 10, 10), (10, 10, 200)))
    assert red.max() < blue.min()


def test_only_marked_frames_have_an_accent() -> None:
    rows = [("plate", {0: RED, 1: RED})]
    assert count(contact_sheet(rows, (0, 1)), ACCENT) == 0
    sheet = contact_sheet(rows, (0, 1), marked=(1,))
    columns = np.nonzero((sheet == ACCENT).all(axis=2))[1]
    assert columns.min() > sheet.shape[1] * 0.45


def test_a_frame_that_a_row_lacks_stays_empty() -> None:
    whole = contact_sheet([("plate", {0: RED, 1: RED}), ("result", {0: BLUE, 1: BLUE})], (0, 1))
    lacking = contact_sheet([("plate", {0: RED, 1: RED}), ("result", {0: BLUE})], (0, 1))
    assert lacking.shape == whole.shape
    assert 2 * count(lacking, (10, 10, 200)) == count(whole, (10, 10, 200))


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([("plate", {3: RED})], (0, 1))


def test_side_by_side_keeps_both_frames_and_is_even() -> None:
    left, right = RED[:89, :159], BLUE[:89, :159]
    both = side_by_side(left, right)
    assert both.shape[0] % 2 == 0 and both.shape[1] % 2 == 0
    assert np.array_equal(both[:40, :159], left[:40])
    assert np.array_equal(both[:40, 161:320], right[:40])
    assert tuple(both[10, 160]) == BACKGROUND


def test_side_by_side_labels_do_not_alter_the_inputs() -> None:
    left = RED.copy()
    both = side_by_side(left, BLUE)
    assert np.array_equal(left, RED)
    assert not np.array_equal(both[45:90, :160], RED[45:])


def test_sides_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        side_by_side(RED, BLUE[:80])
