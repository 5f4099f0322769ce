from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_evaluation.scenes import CASES, DEMO, SceneCase

WIDTH, HEIGHT = 160, 90
ALL = [*CASES.values(), DEMO]


def parametrized(cases: list[SceneCase]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def visible(case: SceneCase, number: int) -> float:
    return float(case.render(number, WIDTH, HEIGHT).matte.sum())


@parametrized(ALL)
def test_a_frame_is_a_plate_a_truth_and_a_matte(case: SceneCase) -> None:
    frame = case.render(case.keyframe, WIDTH, HEIGHT)
    assert frame.plate.shape == frame.truth.shape == (HEIGHT, WIDTH, 3)
    assert frame.plate.dtype == frame.truth.dtype == np.uint8
    assert frame.matte.shape == (HEIGHT, WIDTH) and frame.matte.dtype == np.float32
    assert frame.matte.min() == 0 and 0.3 < frame.matte.max() <= 1


@parametrized(ALL)
def test_truth_equals_plate_outside_the_matte_only(case: SceneCase) -> None:
    for number in (0, case.keyframe, case.length // 2, case.length - 1):
        frame = case.render(number, WIDTH, HEIGHT)
        outside = frame.matte == 0
        assert np.array_equal(frame.plate[outside], frame.truth[outside])
    frame = case.render(case.keyframe, WIDTH, HEIGHT)
    changed = np.abs(frame.plate.astype(int) - frame.truth).max(axis=2) > 3
    assert changed[frame.matte > 0.3].mean() > 0.8


@parametrized(ALL)
def test_rendering_does_not_depend_on_order(case: SceneCase) -> None:
    first = case.render(case.keyframe, WIDTH, HEIGHT)
    case.render(0, WIDTH, HEIGHT)
    case.render(case.keyframe, WIDTH // 2, HEIGHT // 2)
    again = case.render(case.keyframe, WIDTH, HEIGHT)
    for name in ("plate", "truth", "matte"):
        assert np.array_equal(getattr(first, name), getattr(again, name))


@parametrized(ALL)
def test_frames_move_and_carry_noise(case: SceneCase) -> None:
    plates = [case.render(number, WIDTH, HEIGHT).plate.astype(int) for number in (0, case.length // 3)]
    assert np.abs(plates[0] - plates[1]).mean() > 2
    still = cv2.medianBlur(plates[0].astype(np.uint8), 3)
    assert 0.5 < np.std(plates[0][: HEIGHT // 8] - still[: HEIGHT // 8]) < 6  # the sky is smooth but for the noise


def test_a_size_that_is_not_wide_or_is_odd_renders() -> None:
    assert CASES["several"].render(3, 91, 121).plate.shape == (121, 91, 3)


@pytest.mark.parametrize("number", [-1, CASES["mark"].length])
def test_a_frame_outside_the_case_is_refused(number: int) -> None:
    with pytest.raises(IndexError, match="frames 0 to 47"):
        CASES["mark"].render(number, WIDTH, HEIGHT)


@parametrized([CASES["mark"], CASES["removal"]])
def test_the_edit_is_hidden_and_seen_again(case: SceneCase) -> None:
    assert_hidden_between([visible(case, number) for number in range(case.length)])


def test_the_demo_hides_its_star_for_a_moment() -> None:
    upper = [float(DEMO.render(number, WIDTH, HEIGHT).matte[: HEIGHT // 2].sum()) for number in range(DEMO.length)]
    assert upper[0] > 0.05 * max(upper)
    assert 0 < upper.index(min(upper)) < 8 and min(upper) < 0.01 * max(upper)
    assert min(upper[20:]) > 0.8 * max(upper)


def assert_hidden_between(seen: list[float]) -> None:
    hidden = [number for number, area in enumerate(seen) if area < 0.1 * max(seen)]
    assert 2 <= len(hidden) < len(seen) / 2
    assert max(seen[: hidden[0]]) > 0.6 * max(seen)
    assert max(seen[hidden[-1] :]) > 0.6 * max(seen)


def test_the_mark_turns_with_its_surface() -> None:
    """Near the balloon's edge the emblem is seen narrower than it is high."""

    def shape(number: int) -> float:
        rows, columns = np.nonzero(CASES["mark"].render(number, 640, 360).matte > 0.5)
        return float(np.ptp(columns) / np.ptp(rows))

    first = shape(0)
    most = max(shape(number) for number in range(4, 24, 4))
    assert first < 0.95 * most


def test_a_glaze_lets_the_surface_through() -> None:
    frame = CASES["glaze"].render(0, 320, 180)
    inside = frame.matte > 0.4
    assert frame.matte.max() < 0.5
    plate, truth = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[inside] for picture in (frame.plate, frame.truth))
    assert np.corrcoef(plate, truth)[0, 1] > 0.95


def test_an_airbrush_has_soft_edges() -> None:
    frame = CASES["airbrush"].render(CASES["airbrush"].keyframe, 320, 180)
    touched = frame.matte > 0
    assert ((frame.matte > 0.05) & (frame.matte < 0.8)).sum() > 0.5 * touched.sum()


def test_the_border_case_touches_the_frame() -> None:
    for number in (0, CASES["border"].keyframe, CASES["border"].length - 1):
        matte = CASES["border"].render(number, WIDTH, HEIGHT).matte
        assert matte[-1].max() > 0.5 and matte[:, 0].max() > 0.5


def test_several_edits_are_apart() -> None:
    frame = CASES["several"].render(CASES["several"].keyframe, 320, 180)
    count, _, stats, _ = cv2.connectedComponentsWithStats((frame.matte > 0.5).astype(np.uint8))
    assert count - 1 == 2
    assert stats[1:, cv2.CC_STAT_AREA].min() > 50


def test_the_edit_leaves_the_frame_and_returns() -> None:
    case = CASES["leaves_and_returns"]
    assert visible(case, case.length // 2) == 0
    assert visible(case, case.length - 1) > 0.8 * visible(case, case.keyframe)


def test_nothing_of_the_edit_is_left_after_the_cut() -> None:
    case = CASES["cut"]
    assert case.cut is not None
    before, after = (case.render(number, WIDTH, HEIGHT) for number in (case.cut - 1, case.cut))
    assert before.matte.max() == 1 and after.matte.max() == 0
    assert np.array_equal(after.plate, after.truth)
    assert np.abs(before.plate.astype(int) - after.plate).mean() > 20


def test_removal_shows_what_the_sticker_hid() -> None:
    """The sticker's yellow is in the plate; the truth has the bus's own red there."""
    frame = CASES["removal"].render(CASES["removal"].keyframe, 320, 180)

    def share(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
        return float((np.abs(picture[frame.matte > 0.9] - np.float32(colour)).max(axis=1) < 45).mean())

    yellow, red = (215, 200, 78), (137, 56, 47)
    assert share(frame.plate, yellow) > 0.2 and share(frame.plate, red) < 0.1
    assert share(frame.truth, yellow) == 0 and share(frame.truth, red) > 0.5


def test_a_larger_picture_shows_the_same_scene() -> None:
    small = DEMO.render(20, 320, 180)
    large = DEMO.render(20, 640, 360)
    shrunk = cv2.resize(large.truth, (320, 180), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small.truth).mean() < 12
    assert np.abs(cv2.resize(large.matte, (320, 180), interpolation=cv2.INTER_AREA) - small.matte).mean() < 0.005


def sharpness(case: SceneCase, number: int) -> float:
    """The mean gradient of a frame's edit."""
    frame = case.render(number, 2 * WIDTH, 2 * HEIGHT)
    smooth = cv2.GaussianBlur(cv2.cvtColor(frame.truth, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    slope = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0))
    return float(slope[frame.matte > 0.9].mean())


@pytest.mark.parametrize(("name", "blurred"), [("motion_blur", 20), ("rack_focus", 39)])
def test_scene_with_blur_is_sharp_at_its_keyframe(name: str, blurred: int) -> None:
    case = CASES[name]
    assert sharpness(case, blurred) < 0.85 * sharpness(case, case.keyframe)


def test_clean_paint_has_no_grain() -> None:
    case = CASES["grain"]
    frame = case.render(case.keyframe, WIDTH, HEIGHT)
    outside, inside = frame.matte == 0, frame.matte > 0.99
    assert np.array_equal(frame.painted[outside], frame.plate[outside])
    noise = (frame.truth.astype(int) - frame.painted)[inside]
    assert noise.std() == pytest.approx(case.scene.noise, rel=0.1)
