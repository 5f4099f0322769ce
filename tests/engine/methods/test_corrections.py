"""Mattes by which an artist corrects a draft, on small shots with a known answer."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.errors import PaintoverError
from paintover_engine.media.correction import Correction
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

    def plan(self, corrections: list[Correction]) -> list[Stage]:
        self.corrections = {each.digest: each for each in corrections}
        given = [KeyframeRef(each.frame, each.digest, each.kind) for each in corrections]
        return draft.plan(self.info, [*refs(self.painted), *given], DraftParameters(softness=0))

    def run(self, *corrections: Correction) -> dict[int, ResultFrame]:
        return self.run_stages(self.plan(list(corrections)))


def correction(kind: KeyframeKind, matte: NDArray[np.float32], frame: int = CORRECTED) -> Correction:
    return Correction(frame, kind, matte, (), f"{kind.value}{frame}")


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


@pytest.fixture(scope="module")
def shot() -> Shot:
    return discs()


@pytest.fixture(scope="module")
def held(shot: Shot) -> dict[int, ResultFrame]:
    shot.run()
    return shot.run(correction(KeyframeKind.HOLDOUT, disc_matte(CORRECTED, 1, 20)))


def test_holdout_removes_its_part_from_there_on(shot: Shot, held: dict[int, ResultFrame]) -> None:
    before = shot.run_stages(shot.plan([]), lambda stage: False)
    assert not before
    for number in (CORRECTED, CORRECTED + 1, COUNT - 1):
        assert covered(held[number], disc_matte(number, 0, 10)) > 0.9
        assert covered(held[number], disc_matte(number, 1, 12)) < 0.05
    held_part = disc_matte(CORRECTED, 1, 20) > 0
    assert np.array_equal(
        composed(shot.plates[CORRECTED], held[CORRECTED])[held_part], shot.plates[CORRECTED][held_part]
    )
