"""What kind of edit a keyframe is taken as."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from paintover_engine.compose.edit_kind import edit_of

Picture = NDArray[np.float32]


def plate() -> Picture:
    """A soft background with a dark figure that fills a third of the frame."""
    noise = np.random.default_rng(3).random((120, 200, 3), np.float32)
    picture = 0.5 + 1.5 * (cv2.GaussianBlur(noise, (0, 0), 8) - 0.5)
    cv2.ellipse(picture, (100, 60), (50, 50), 0, 0, 360, (0.2, 0.15, 0.1), -1, cv2.LINE_AA)
    cv2.circle(picture, (85, 45), 8, (0.8, 0.7, 0.1), -1, cv2.LINE_AA)
    return picture


def test_grade_is_a_style() -> None:
    edit = edit_of(plate(), plate() ** 1.6 * np.float32([1.0, 0.8, 0.6]))
    assert edit.kind == "style"
    assert edit.covered > 0.9
    assert edit.words.startswith("it changes ")


def test_recoloured_figure_is_local() -> None:
    painted = plate()
    cv2.ellipse(painted, (100, 60), (50, 50), 0, 0, 360, (0.5, 0.1, 0.1), -1, cv2.LINE_AA)
    cv2.circle(painted, (85, 45), 8, (0.9, 0.7, 0.1), -1, cv2.LINE_AA)
    edit = edit_of(plate(), painted)
    assert edit.kind == "local"
    assert edit.preserved > 0.5


def test_small_mark_is_local() -> None:
    painted = plate()
    cv2.circle(painted, (85, 45), 11, (0.2, 0.15, 0.1), -1, cv2.LINE_AA)
    assert edit_of(plate(), painted).kind == "local"


def test_replaced_figure_is_a_shape_edit() -> None:
    painted = cv2.GaussianBlur(plate(), (0, 0), 30)
    cv2.rectangle(painted, (60, 10), (110, 110), (0.2, 0.6, 0.1), -1)
    edit = edit_of(plate(), painted)
    assert edit.kind == "shape"
    assert edit.preserved < 0.4


def test_flat_area_has_no_contours_to_lose() -> None:
    wall = np.full((100, 160, 3), 0.5, np.float32)
    painted = wall.copy()
    painted[20:80, 20:120] = 0.8
    edit = edit_of(wall, painted)
    assert (edit.kind, edit.preserved) == ("local", 1.0)


def test_unchanged_frame_is_local() -> None:
    assert edit_of(plate(), plate()).kind == "local"
