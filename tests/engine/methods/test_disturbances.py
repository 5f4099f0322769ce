"""What a draft says of the frames that its edit was tracked through."""

from __future__ import annotations

import numpy as np
import pytest
from paintover_engine.methods import draft
from paintover_engine.methods.disturbances import in_words
from paintover_engine.methods.parameters import DraftParameters

from tests.engine.methods.shots import Frame
from tests.engine.methods.test_draft import Shot, composed, error, exposed, marked, slide, texture


def notes(plates: list[Frame], key: Frame) -> str:
    shot = Shot(plates, {0: key})
    shot.run()
    return " ".join(draft.notes(shot, draft.plan(shot.info, shot.refs(), DraftParameters())))


def test_flash_and_standing_picture_are_named() -> None:
    wide = texture()
    plates = slide(wide)
    plates[3] = exposed(plates[3], 1.6, 20)
    plates[7] = plates[8] = plates[6]
    said = notes(plates, slide(marked(wide))[0])
    assert "A flash at 3: tracked across it." in said
    assert "stands still at 7-8" in said


def test_switched_light_is_named() -> None:
    wide = texture()
    plates = [exposed(plate, 0.45 if number >= 6 else 1) for number, plate in enumerate(slide(wide))]
    assert "The light changes at 6: " in notes(plates, slide(marked(wide))[0])


def test_undisturbed_shot_has_no_notes() -> None:
    wide = texture()
    assert notes(slide(wide), slide(marked(wide))[0]) == ""


def test_blown_out_frame_is_painted_as_its_neighbours() -> None:
    """A bright thing in another colour: in the flash frame most of its plate is white."""
    inside = (marked(texture()) != texture()).any(-1, keepdims=True)
    wide = np.where(inside, texture() // 3 + 150, texture())
    tinted = np.where(inside, wide * np.array([0.2, 0.8, 0.6]), wide).astype(np.uint8)
    plates, truths = (
        [exposed(picture, 1.8, 30) if number == 5 else picture for number, picture in enumerate(slide(source))]
        for source in (wide, tinted)
    )
    edits = slide(np.repeat(inside, 3, axis=2).astype(np.uint8))
    white = (plates[5][edits[5] > 0] == 255).mean()
    assert white > 0.7
    frames = Shot(plates, {0: truths[0]}).run()
    gains = []
    for number in (4, 5, 6):
        edit = edits[number][..., 0] > 0
        result = composed(plates[number], frames[number])
        gains.append(20 * np.log10(error(plates[number], truths[number], edit) / error(result, truths[number], edit)))
    assert gains[1] > 12
    assert gains[2] > gains[0] - 1


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([4], "4"), ([1, 2, 3, 9], "1-3, 9"), (range(0, 20, 2), "0, 2, 4, 6, 8, 10 and 4 more frames")],
)
def test_frames_are_named_as_ranges(numbers: list[int], words: str) -> None:
    assert in_words(np.random.default_rng(0).permutation(list(numbers)).tolist()) == words
