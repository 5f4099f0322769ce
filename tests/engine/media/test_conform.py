"""Keyframes of another frame, and such as were changed as a whole by a program on their way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paintover_engine.errors import PaintoverError
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe import Keyframe, load_keyframe
from paintover_engine.media.source import Source, open_source, probe
from PIL import Image

WIDTH, HEIGHT = 320, 200
BOX = np.s_[60:110, 90:170]


def plate(number: int) -> np.ndarray:
    """Frame `number` of a pan of 3 pixels a frame."""
    noise = np.random.default_rng(4).random((HEIGHT, WIDTH + 60, 3), np.float32)
    wide = cv2.GaussianBlur(noise, (0, 0), 1.2) + 2 * cv2.GaussianBlur(noise[::-1], (0, 0), 9)
    wide = (wide - wide.min()) / np.ptp(wide)
    return np.rint(30 + 195 * wide[:, 3 * number : 3 * number + WIDTH]).astype(np.uint8)


def painted(number: int) -> np.ndarray:
    key = plate(number)
    key[BOX] = np.clip(key[BOX] * (0.4, 0.9, 0.5) + (110, 0, 0), 0, 255)
    return key


@pytest.fixture
def source(make_sequence: Callable[..., Path]) -> Any:
    info = probe(make_sequence("f.%04d.png", {n: plate(n) for n in range(6)}))
    with open_source(info) as opened:
        yield opened, info


def load(path: Path, picture: np.ndarray, source: tuple[Source, SourceInfo], frame: int = 2) -> Keyframe:
    cv2.imwrite(str(path), picture[..., ::-1])
    frames, info = source
    return load_keyframe(path, frame, frames.read(frame), info, None, frames.read)


def overlap(keyframe: Keyframe, frame: int = 2) -> float:
    """Intersection over union of what the keyframe changes and what was painted."""
    own = plate(frame).astype(np.float32) / 255
    found = np.abs(keyframe.working - own).max(2) > 2 / 255
    true = (painted(frame) != plate(frame)).any(2)
    return float((found & true).sum() / (found | true).sum())


def moved(picture: np.ndarray, dx: float, dy: float, scale: float = 1) -> np.ndarray:
    matrix = np.float32(
        [[scale, 0, dx + (1 - scale) * (WIDTH - 1) / 2], [0, scale, dy + (1 - scale) * (HEIGHT - 1) / 2]]
    )
    size = (WIDTH, HEIGHT)
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def curved(picture: np.ndarray, curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.clip(np.rint(255 * curve(picture / 255)), 0, 255).astype(np.uint8)


def test_plain_keyframe_is_taken_as_it_is(tmp_path: Path, source: Any) -> None:
    keyframe = load(tmp_path / "k.png", painted(2), source)
    assert keyframe.notes == ()
    assert overlap(keyframe) == 1


@pytest.mark.parametrize("given", [1, 3, 4])
def test_picture_of_another_frame_is_refused(tmp_path: Path, source: Any, given: int) -> None:
    with pytest.raises(PaintoverError, match=f"looks like frame 2, not {given}"):
        load(tmp_path / "k.png", painted(2), source, frame=given)


def test_other_frame_of_a_still_shot_is_noted(tmp_path: Path, make_sequence: Callable[..., Path]) -> None:
    def still(number: int) -> np.ndarray:
        picture = plate(0)
        picture[150:170, 40 + 30 * number : 64 + 30 * number] = (20, 200, 60)
        return picture

    info = probe(make_sequence("f.%04d.png", {n: still(n) for n in range(4)}))
    key = still(2)
    key[BOX] = (200, 40, 40)
    with open_source(info) as frames:
        assert any(
            "looks like frame 2, not 1" in note for note in load(tmp_path / "k.png", key, (frames, info), 1).notes
        )
        assert load(tmp_path / "k.png", key, (frames, info), 2).notes == ()


@pytest.mark.parametrize(
    ("dx", "dy", "scale"), [(1, 0, 1), (-2, 3, 1), (0.5, 0, 1), (1.7, -0.6, 1), (0, 0, 1.015), (0, 0, 0.98)]
)
def test_shifts_and_scales_are_undone(tmp_path: Path, source: Any, dx: float, dy: float, scale: float) -> None:
    keyframe = load(tmp_path / "k.png", moved(painted(2), dx, dy, scale), source)
    assert overlap(keyframe) > 0.9
    (note,) = keyframe.notes
    assert ("scaled" if scale != 1 else "shifted") in note and note.endswith("that is undone.")


@pytest.mark.parametrize(
    ("curve", "word"),
    [
        (lambda x: x ** (1.96 / 2.2), "gamma of 1.96 over 2.2"),
        (lambda x: x ** (2.2 / 1.96), "gamma of 2.2 over 1.96"),
        (lambda x: x ** (2.2 / 2.4), "gamma of 2.2 over 2.4"),
        (lambda x: x * 219 / 255 + 16 / 255, "limited range"),
        (lambda x: (x - 16 / 255) * 255 / 219, "full range"),
    ],
)
def test_other_readings_of_the_numbers_are_undone(
    tmp_path: Path, source: Any, curve: Callable[[np.ndarray], np.ndarray], word: str
) -> None:
    keyframe = load(tmp_path / "k.png", curved(painted(2), curve), source)
    assert overlap(keyframe) > 0.9
    (note,) = keyframe.notes
    assert word in note
    assert np.abs(keyframe.working[BOX] * 255 - painted(2)[BOX]).mean() < 2


def test_grade_of_the_whole_frame_is_no_mistake(tmp_path: Path, source: Any) -> None:
    graded = curved(plate(2), lambda x: np.clip(x * (0.7, 0.9, 1.2), 0, 1))
    keyframe = load(tmp_path / "k.png", graded, source)
    assert np.abs(keyframe.working * 255 - graded).max() < 1
    (note,) = keyframe.notes
    assert "differs from frame 2 nearly everywhere" in note


@pytest.mark.parametrize("place", [(5, 5), (-1, slice(None))], ids=["pixel", "row"])
def test_stray_transparency_is_no_matte(tmp_path: Path, source: Any, place: Any) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[place] = 0
    Image.fromarray(np.dstack([painted(2), alpha])).save(tmp_path / "k.png")
    frames, info = source
    keyframe = load_keyframe(tmp_path / "k.png", 2, frames.read(2), info, None, frames.read)
    assert keyframe.matte is None and keyframe.notes == ()
    assert overlap(keyframe) == 1
