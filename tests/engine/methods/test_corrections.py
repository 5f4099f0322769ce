"""Mattes and drags by which an artist corrects a draft, on small shots with a known answer."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.errors import PaintoverError
from paintover_engine.media.correction import Correction, Drag, drag_of
from paintover_engine.media.keyframe_kind import KeyframeKind
from paintover_engine.methods import draft
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef, ResultFrame, Stage

from tests.engine.methods.shots import Frame, MemoryShot, composed, refs

WIDTH, HEIGHT, COUNT, CORRECTED = 160, 96, 20, 10


@dataclass(eq=False)
class Shot(MemoryShot):
    """Plates and the keyframes painted on them."""

    plates: list[Frame]
    painted: dict[int, Frame]

    def plan(self, corrections: list[Correction | Drag]) -> list[Stage]:
        self.corrections = {each.digest: each for each in corrections}
        given = [KeyframeRef(each.frame, each.digest, each.kind) for each in corrections]
        return draft.plan(self.info, [*refs(self.painted), *given], DraftParameters(softness=0))

    def run(self, *corrections: Correction | Drag) -> dict[int, ResultFrame]:
        return self.run_stages(self.plan(list(corrections)))


def correction(kind: KeyframeKind, matte: NDArray[np.float32], frame: int = CORRECTED) -> Correction:
    return Correction(frame, kind, matte, (), f"{kind.value}{frame}")


def drag(*points: tuple[float, float, float, float]) -> Drag:
    return drag_of(CORRECTED, points, (WIDTH, HEIGHT))


def discs() -> Shot:
    """Two green discs that move as one over grey noise; the keyframe, frame 0, paints both red."""
    noise = np.random.default_rng(3).integers(70, 130, (HEIGHT, WIDTH, 3), np.uint8)
    plates = [cv2.GaussianBlur(noise, (0, 0), 1.2) for _ in range(COUNT)]
    for number, plate in enumerate(plates):
        for side in (0, 1):
            cv2.circle(plate, centre(number, side), 14, (60, 150, 70), -1)
    painted = plates[0].copy()
    for side in (0, 1):
        cv2.circle(painted, centre(0, side), 14, (180, 40, 40), -1)
    return Shot(plates, {0: painted})


def centre(number: int, side: int) -> tuple[int, int]:
    return 30 + 2 * number + 60 * side, HEIGHT // 2


def disc_matte(number: int, side: int, radius: int = 14) -> NDArray[np.float32]:
    return cv2.circle(np.zeros((HEIGHT, WIDTH), np.float32), centre(number, side), radius, 1.0, -1)


def covered(frame: ResultFrame, where: NDArray[np.float32]) -> float:
    """The mean matte where a plane is white."""
    x, y, width, height = frame.bounds
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[y : y + height, x : x + width] = frame.painted[..., 3]
    return float(matte[where > 0].mean())


def middle(frame: ResultFrame, side: int) -> NDArray[np.float64]:
    """The centre of what is painted of the disc on a side."""
    x, y, width, height = frame.bounds
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[y : y + height, x : x + width] = frame.painted[..., 3]
    part = np.s_[:, 84:] if side else np.s_[:, :84]
    ys, xs = np.nonzero(matte[part] > 0.5)
    return np.array([xs.mean() + (84 if side else 0), ys.mean()])


def test_holdout_removes_its_part_from_there_on() -> None:
    shot = discs()
    before = shot.run()
    frames = shot.run(correction(KeyframeKind.HOLDOUT, disc_matte(CORRECTED, 1, 20)))
    for number in (CORRECTED, CORRECTED + 1, COUNT - 1):
        assert covered(before[number], disc_matte(number, 1, 10)) > 0.9
        assert covered(frames[number], disc_matte(number, 1, 14)) < 0.02
        assert covered(frames[number], disc_matte(number, 0, 10)) > 0.9
    plate = shot.plates[CORRECTED]
    held = disc_matte(CORRECTED, 1, 20) > 0
    assert np.array_equal(composed(plate, frames[CORRECTED])[held], plate[held])


def test_roto_matte_is_the_frames_own_to_the_pixel() -> None:
    shot, drawn = discs(), disc_matte(CORRECTED, 0, 14)
    frames = shot.run(correction(KeyframeKind.ROTO, drawn))
    x, y, width, height = frames[CORRECTED].bounds
    assert np.array_equal(frames[CORRECTED].painted[..., 3], drawn[y : y + height, x : x + width])
    assert (frames[CORRECTED].painted[..., 3] > 0).sum() == (drawn > 0).sum()
    assert covered(frames[COUNT - 1], disc_matte(COUNT - 1, 0, 10)) > 0.9
    assert covered(frames[COUNT - 1], disc_matte(COUNT - 1, 1, 14)) < 0.02


def test_holdout_holds_on_paint_that_sticks_to_a_surface() -> None:
    noise = np.random.default_rng(5).random((HEIGHT, WIDTH + 2 * COUNT, 3), np.float32)
    wide = np.clip((cv2.GaussianBlur(noise, (0, 0), 2.0) - 0.5) * 700 + 128, 0, 255).astype(np.uint8)
    marked = wide.copy()
    cv2.circle(marked, (90, HEIGHT // 2), 20, (220, 40, 40), -1)
    cv2.circle(marked, (90, HEIGHT // 2), 9, (240, 220, 60), -1)
    plates, truths = (
        [np.ascontiguousarray(each[:, 2 * n : 2 * n + WIDTH]) for n in range(COUNT)] for each in (wide, marked)
    )
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[:, 90 - 2 * CORRECTED :] = 1
    frames = Shot(plates, {0: truths[0]}).run(correction(KeyframeKind.HOLDOUT, matte))
    for number in (CORRECTED, COUNT - 1):
        left, right = (np.zeros((HEIGHT, WIDTH), np.float32) for _ in range(2))
        middle = 90 - 2 * number
        left[40:56, middle - 15 : middle - 5] = right[40:56, middle + 5 : middle + 15] = 1
        assert covered(frames[number], left) > 0.9
        assert covered(frames[number], right) < 0.05


def test_dragged_disc_moves_alone_and_is_found_again() -> None:
    shot = discs()
    x, y = centre(CORRECTED, 1)
    dragged = drag((x, y, x + 6, y - 4))
    frames = shot.run(dragged)
    assert draft.notes(shot, shot.plan([dragged])) == []
    at, other = middle(frames[CORRECTED], 1), middle(frames[CORRECTED], 0)
    assert np.hypot(at[0] - x - 6, at[1] - y + 4) < 0.5
    assert np.hypot(other[0] - centre(CORRECTED, 0)[0], other[1] - y) < 0.5
    assert covered(frames[COUNT - 1], disc_matte(COUNT - 1, 1, 10)) > 0.9  # whose edge the plate shows


def test_dragged_paint_stays_where_it_was_dragged() -> None:
    """A plain wall moves unseen behind the paint, which is dragged after it, turned by a quarter."""
    plates = [np.full((HEIGHT, WIDTH, 3), 120, np.uint8)] * COUNT
    painted = plates[0].copy()
    painted[40:56, 40:80] = (220, 40, 40)
    before = Shot(plates, {0: painted}).run()
    frames = Shot(plates, {0: painted}).run(drag((40, 48, 100, 28), (79, 48, 100, 67)))
    assert np.array_equal(frames[CORRECTED - 2].painted, before[CORRECTED - 2].painted)
    turned = np.zeros((HEIGHT, WIDTH), np.float32)
    turned[30:66, 94:106] = 1
    for number in (CORRECTED, CORRECTED + 1, COUNT - 1):
        assert covered(frames[number], turned) > 0.9
        assert covered(frames[number], np.float32(cv2.dilate(turned, np.ones((17, 17))) == 0)) < 0.01


def test_drag_beside_the_paint_moves_nothing_and_is_named() -> None:
    shot = discs()
    beside = drag((4, 4, 20, 20))
    frames = shot.run(beside)
    said = draft.notes(shot, shot.plan([beside]))
    assert said == ["The drag of frame 10 from 4,4 is on no paint and moves none; begin it on the edit."]
    before = shot.run()
    assert np.abs(middle(frames[CORRECTED], 0) - middle(before[CORRECTED], 0)).max() < 0.5


def test_stages_before_a_correction_keep_their_keys() -> None:
    shot = discs()
    plain = {(stage.name, stage.frames): stage.key for stage in shot.plan([])}
    changed = {
        (stage.name, stage.frames)
        for stage in shot.plan([correction(KeyframeKind.HOLDOUT, disc_matte(CORRECTED, 1))])
        if plain[stage.name, stage.frames] != stage.key
    }
    tracking = {(name, frames) for name, frames in plain if name in ("track", "propagate", "result")}
    assert changed == {(name, frames) for name, frames in tracking if frames[1] >= CORRECTED}


def test_grade_has_no_matte_to_correct() -> None:
    shot = discs()
    shot.painted = {0: np.clip(shot.plates[0] * np.float32(0.6) + 20, 0, 255).astype(np.uint8)}
    with pytest.raises(PaintoverError, match="keyframe 0 grades the whole frame, so that frame 10 has no matte"):
        shot.run(correction(KeyframeKind.HOLDOUT, disc_matte(CORRECTED, 1)))
