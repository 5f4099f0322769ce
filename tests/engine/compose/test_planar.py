"""Planar parts: a sign on a turning box moves as a whole, behind an occluder too; what is not flat is left alone."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.compose.flow import FlowEstimator, warp
from paintover_engine.compose.planar import Placed, PlanarParts
from paintover_engine.compose.register import Registrar, Registration

WIDTH, HEIGHT = 160, 96  # of the flow; pictures have twice that
FRAMES = 12
SIGN = np.s_[34:60, 52:100]

Grey = NDArray[np.uint8]


def spots(seed: int, sigma: float, contrast: float) -> Grey:
    noise = np.random.default_rng(seed).random((2 * HEIGHT, 2 * WIDTH), np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), sigma) - 0.5) * contrast + 128, 0, 255).astype(np.uint8)


def turn(number: int) -> NDArray[np.float64]:
    """The homography of the box's side from the first frame to another: it turns away, moves and shrinks."""
    corners = np.array([[60, 30], [260, 30], [260, 160], [60, 160]], np.float32)
    share = number / (FRAMES - 1)
    moved = corners + share * np.array([[30, 6], [-30, 22], [-30, -20], [30, -6]], np.float32) + share * 24
    return np.asarray(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)))


def frame(number: int, pole: int | None = None) -> Grey:
    """The box before a ground, the light falling and the side half plain. pole: where one is, in pixels."""
    side = spots(2, 3, 700)
    side[70:118, 108:196] = 150 + (side[70:118, 108:196].astype(int) - 128) // 16  # plain where the sign will be
    solid = np.zeros_like(side)
    solid[30:160, 60:260] = 255
    size = (2 * WIDTH, 2 * HEIGHT)
    moved, seen = (cv2.warpPerspective(picture, turn(number), size) for picture in (side, solid))
    shown = np.where(seen > 127, moved * (1 - 0.03 * number), spots(1, 4, 900)).astype(np.uint8)
    if pole is not None:
        shown[:, pole : pole + 12] = spots(7, 2, 900)[:, :12] // 2
    return shown


def sign() -> NDArray[np.float32]:
    region = np.zeros((HEIGHT, WIDTH), np.float32)
    region[SIGN] = 1
    return region


def truth(number: int) -> NDArray[np.float32]:
    large = cv2.resize(sign(), (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(cv2.warpPerspective(large, turn(number), (2 * WIDTH, 2 * HEIGHT)), (WIDTH, HEIGHT))


def likeness(found: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    both, either = (found > 0.5) & (true > 0.5), (found > 0.5) | (true > 0.5)
    return float(both.sum() / either.sum())


def placed(parts: PlanarParts, frames: list[Grey]) -> Placed | None:
    """Where the one part is in the last of successive frames; None where it is no plane in one of them."""
    offset, confidence = np.zeros((HEIGHT, WIDTH, 2), np.float32), np.ones((HEIGHT, WIDTH), np.float32)
    last = None
    for before, now in itertools.pairwise(frames):
        last = next(parts.place(offset, confidence, before, now), None)
        if last is None:
            return None
        offset = last.offset
    return last


@pytest.mark.parametrize("pole", [False, True])
def test_sign_on_a_turning_box_stays_whole(pole: bool) -> None:
    frames = [frame(number, 60 + 14 * number if pole and number else None) for number in range(FRAMES)]
    last = placed(PlanarParts(frames[0], sign()), frames)
    assert last is not None
    assert likeness(warp(sign(), last.offset), truth(FRAMES - 1)) > (0.85 if pole else 0.97)


def test_torn_surface_is_no_plane() -> None:
    rng = np.random.default_rng(0)
    first = frame(0)
    rows, columns = np.mgrid[: 2 * HEIGHT, : 2 * WIDTH].astype(np.float32)
    torn = [cv2.resize(rng.uniform(-9, 9, (12, 20)).astype(np.float32), (2 * WIDTH, 2 * HEIGHT)) for _ in range(2)]
    second = cv2.remap(first, columns + torn[0], rows + torn[1], cv2.INTER_LINEAR)
    assert placed(PlanarParts(first, sign()), [first, second]) is None


def test_paint_without_texture_around_it_has_no_part() -> None:
    plain = np.full((2 * HEIGHT, 2 * WIDTH), 128, np.uint8)
    assert placed(PlanarParts(plain, sign()), [plain, plain]) is None


def test_registration_keeps_letters_on_a_plain_side() -> None:
    frames = [frame(number) for number in range(FRAMES)]
    letters = np.zeros((HEIGHT, WIDTH), np.float32)
    for left in range(SIGN[1].start, SIGN[1].stop, 8):
        letters[SIGN[0], left : left + 5] = 1
    registrar, place, estimator = Registrar(frames[0], letters), Registration.identity(HEIGHT, WIDTH), FlowEstimator()
    for before, now in itertools.pairwise(frames):
        small = [cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for picture in (now, before)]
        place = registrar.advance(place, estimator.between(*small), estimator.between(*small[::-1]), before, now)
    painted = warp(sign(), place.offset) * place.confidence
    assert likeness(painted, truth(FRAMES - 1)) > 0.9
