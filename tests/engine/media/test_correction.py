from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.correction import Correction, drag_of, load_correction
from paintover_engine.media.keyframe_kind import DragPoint, KeyframeKind, check_corrected_frames
from paintover_engine.media.plate import ImagePlate
from PIL import Image

PLATE = ImagePlate(3, np.zeros((48, 64, 3), np.uint8), (0, 1, 2), None, "")


def load(path: Path, kind: KeyframeKind, pixels: np.ndarray) -> Correction:
    Image.fromarray(pixels).save(path)
    return load_correction(path, 3, kind, PLATE)


def test_grey_is_the_matte_and_larger_ones_are_rescaled(tmp_path: Path) -> None:
    drawn = np.zeros((96, 128), np.uint8)
    drawn[:48] = 255
    found = load(tmp_path / "hold.png", KeyframeKind.HOLDOUT, drawn)
    assert found.matte.shape == (48, 64)
    assert (found.matte[:23] == 1).all()
    assert not found.matte[25:].any()
    assert "rescaled" in found.notes[0]
    assert found.digest != load(tmp_path / "roto.png", KeyframeKind.ROTO, drawn).digest


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([], "The drag of frame 3 has no points"),
        ([(10, 10, 96, 10)], "from 10,10 to 96,10 leaves the picture; its pixels are 0,0 to 95,47"),
        ([(float("nan"), 0, 1, 1)], "from nan,0 to 1,1 leaves the picture"),
        ([(1, 1, 5, 5), (2, 2, 5, 5)], "The drag of frame 3 moves two points to one place"),
    ],
)
def test_drag_that_says_nothing_usable_is_refused(points: list[DragPoint], words: str) -> None:
    with pytest.raises(PaintoverError, match=words):
        drag_of(3, points, (96, 48))


def test_black_holdout_is_refused_and_black_roto_matte_is_none(tmp_path: Path) -> None:
    black = np.zeros((48, 64), np.uint8)
    with pytest.raises(PaintoverError, match=r"The holdout 'h\.png' of frame 3 is black everywhere; paint white"):
        load(tmp_path / "h.png", KeyframeKind.HOLDOUT, black)
    assert not load(tmp_path / "r.png", KeyframeKind.ROTO, black).matte.any()


def test_matte_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PaintoverError, match=r"h\.png.*64x48"):
        load(tmp_path / "h.png", KeyframeKind.HOLDOUT, np.full((48, 48), 255, np.uint8))


def test_keyframes_and_two_corrections_of_a_frame_are_refused() -> None:
    check_corrected_frames([0, 40], [12, 29])
    for frames, words in (([40, 12], "Frame 40 is a keyframe"), ([12, 12], "Frame 12 has two corrections")):
        with pytest.raises(PaintoverError, match=words) as caught:
            check_corrected_frames([0, 40], frames)
        assert caught.value.code is Code.INVALID_ARGUMENT
