"""The draft method on small shots with a known answer, its stages run one by one as a runner does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.methods import draft
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef, ResultFrame, Stage

from tests.engine.methods.shots import Frame, MemoryShot, composed, refs

WIDTH, HEIGHT, COUNT, SHIFT = 160, 96, 12, 3


def texture(seed: int = 7) -> Frame:
    """A wide colourful picture; frame n of the shot shows a part of it, `SHIFT` pixels farther right each frame."""
    noise = np.random.default_rng(seed).random((HEIGHT, WIDTH + SHIFT * COUNT, 3), np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 2.0) - 0.5) * 700 + 128, 0, 255).astype(np.uint8)


def slide(wide: Frame) -> list[Frame]:
    return [np.ascontiguousarray(wide[:, SHIFT * n : SHIFT * n + WIDTH]) for n in range(COUNT)]


def marked(wide: Frame, opacity: float = 1.0) -> Frame:
    """The same with a two-coloured disc painted where the first frame's middle is."""
    painted = wide.copy()
    cv2.circle(painted, (WIDTH // 2 + 20, HEIGHT // 2), 18, (220, 40, 40), -1)
    cv2.circle(painted, (WIDTH // 2 + 20, HEIGHT // 2), 9, (240, 220, 60), -1)
    return np.rint(wide * (1 - opacity) + painted * opacity).astype(np.uint8)


@dataclass(eq=False)
class Shot(MemoryShot):
    """Plates and the keyframes painted on them."""

    plates: list[Frame]
    painted: dict[int, Frame]

    def refs(self) -> list[KeyframeRef]:
        return refs(self.painted)

    def run(self, parameters: DraftParameters | None = None) -> dict[int, ResultFrame]:
        return self.run_stages(draft.plan(self.info, self.refs(), parameters or DraftParameters()))


def full_matte(frame: ResultFrame) -> NDArray[np.float32]:
    x, y, width, height = frame.bounds
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[y : y + height, x : x + width] = frame.painted[..., 3]
    return matte


def error(result: Frame, truth: Frame, where: NDArray[np.bool_]) -> float:
    """RMS in 8-bit levels."""
    return float(np.sqrt(np.square(result.astype(np.float32) - truth)[where].mean()))


@pytest.fixture(scope="module")
def wide() -> Frame:
    return texture()


def test_plan_without_keyframes_prepares_flow(wide: Frame) -> None:
    stages = draft.plan(Shot(slide(wide), {}).info, [], DraftParameters())
    assert stages
    assert not any(stage.needs_keyframe or stage.publishes for stage in stages)


def longest_chains(stages: list[Stage]) -> dict[str, int]:
    """Of each kind of stage how many wait for one another, at most, through whatever other stages."""
    depths: dict[str, Counter[str]] = {}
    longest: Counter[str] = Counter()
    for stage in stages:
        depths[stage.key] = Counter()
        for needed in stage.inputs:
            depths[stage.key] |= depths[needed.key]
        depths[stage.key][stage.name] += 1
        longest |= depths[stage.key]
    return dict(longest)


@pytest.mark.parametrize("chunks", [4, 8])
@pytest.mark.parametrize("later", [True, False])
def test_only_anchors_wait_for_one_another(chunks: int, later: bool) -> None:
    count = 8 * chunks
    info = Shot([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * count, {}).info
    stages = draft.plan(info, [KeyframeRef(0 if later else count - 1, "a")], DraftParameters())
    chains = longest_chains(stages)
    assert chains.pop("track") == chunks
    assert set(chains.values()) == {1}, chains
    assert {"flow", "long_flow", "learn", "propagate", "result"} <= chains.keys()


def test_flow_keys_do_not_depend_on_keyframes(wide: Frame) -> None:
    shot = Shot(slide(wide), {})
    prepared = {stage.key for stage in draft.plan(shot.info, [], DraftParameters())}
    keys = [KeyframeRef(3, "a"), KeyframeRef(9, "b")]
    planned = draft.plan(shot.info, keys, DraftParameters(mode="paint", softness=3))
    needed = {stage.key for stage in planned if stage.name in ("flow", "long_flow")}
    assert needed <= prepared
    assert len(needed) > sum(stage.name == "flow" for stage in planned)


@pytest.mark.parametrize("keys", [(0,), (5,), (11,), (0, 11), (2, 3, 8)])
def test_plan_publishes_every_frame_once(wide: Frame, keys: tuple[int, ...]) -> None:
    shot = Shot(slide(wide), {})
    stages = draft.plan(shot.info, [KeyframeRef(key, f"key{key}") for key in keys], DraftParameters())
    known: set[str] = set()
    for stage in stages:
        assert all(needed.key in known for needed in stage.inputs)
        assert stage.key not in known
        known.add(stage.key)
    published = [n for s in stages if s.publishes for n in range(s.frames[0], s.frames[1] + 1)]
    assert sorted(published) == list(range(COUNT))


def test_keyframe_is_published_first(wide: Frame) -> None:
    stages = draft.plan(Shot(slide(wide), {}).info, [KeyframeRef(5, "key5")], DraftParameters())
    first = next(stage for stage in stages if stage.publishes)
    assert first.frames == (5, 5)
    assert not any(stage.name in ("flow", "learn") for stage in stages[: stages.index(first)])


def test_mark_sticks_to_its_surface_both_ways(wide: Frame) -> None:
    plates, truths = slide(wide), slide(marked(wide))
    frames = Shot(plates, {5: truths[5]}).run()
    assert np.array_equal(composed(plates[5], frames[5]), truths[5])
    for number in (0, 2, 8, 11):
        edit = (truths[number] != plates[number]).any(-1)
        result = composed(plates[number], frames[number])
        assert error(result, truths[number], edit) < 0.35 * error(plates[number], truths[number], edit)
        far = cv2.dilate(edit.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
        assert np.array_equal(result[far], plates[number][far])
        assert np.array_equal(
            (result != plates[number]).any(-1) & (full_matte(frames[number]) == 0), np.zeros_like(edit)
        )


def test_grade_is_recognised_and_holds(wide: Frame) -> None:
    plates = slide(wide)

    def graded(plate: Frame) -> Frame:
        curve = np.clip(plate / np.float32(255) * (0.8, 0.95, 1.2), 0, 1) ** (1.1, 1.0, 0.9)
        return (curve * 255 + 0.5).astype(np.uint8)

    frames = Shot(plates, {0: graded(plates[0])}).run()
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    assert frames[11].bounds == (0, 0, WIDTH, HEIGHT)
    assert error(composed(plates[11], frames[11]), graded(plates[11]), everywhere) < 2


def test_recolour_keeps_each_frames_texture(wide: Frame) -> None:
    plates = slide(wide)
    inside = np.zeros((HEIGHT, WIDTH + SHIFT * COUNT), bool)
    inside[20:70, 60:120] = True
    recoloured = np.where(inside[..., None], wide[..., ::-1] // 2 + 60, wide).astype(np.uint8)
    truths = slide(recoloured)
    frames = Shot(plates, {0: truths[0]}).run(DraftParameters(mode="colour"))
    edit = (truths[9] != plates[9]).any(-1)
    assert error(composed(plates[9], frames[9]), truths[9], edit) < 0.4 * error(plates[9], truths[9], edit)


def test_edit_ends_at_a_cut(wide: Frame) -> None:
    other = slide(255 - texture(8) // 3)
    plates = slide(wide)[:6] + other[6:]
    frames = Shot(plates, {0: slide(marked(wide))[0]}).run()
    assert frames[5].bounds[2] > 0
    for number in range(6, COUNT):
        assert frames[number].bounds == (0, 0, 0, 0)
        assert frames[number].confidence == 0


def test_grade_ends_at_a_cut(wide: Frame) -> None:
    plates = slide(wide)[:6] + slide(255 - texture(8) // 3)[6:]
    frames = Shot(plates, {0: (plates[0] * 0.6).astype(np.uint8)}).run(DraftParameters(mode="grade"))
    assert frames[5].bounds == (0, 0, WIDTH, HEIGHT)
    assert frames[6].bounds == (0, 0, 0, 0)


def test_frames_between_two_keyframes_are_blended(wide: Frame) -> None:
    plates, faint, strong = slide(wide), slide(marked(wide, 0.5)), slide(marked(wide))
    frames = Shot(plates, {0: faint[0], 11: strong[11]}).run()
    half = [np.abs(composed(plates[n], frames[n]).astype(int) - plates[n]).max(-1) for n in (2, 9)]
    edits = [(strong[n] != plates[n]).any(-1) for n in (2, 9)]
    near_faint, near_strong = (change[edit].mean() for change, edit in zip(half, edits, strict=True))
    assert near_faint < 0.85 * near_strong


def test_frames_beyond_the_keyframes_are_of_both(wide: Frame) -> None:
    shot = Shot(slide(wide), {3: slide(marked(wide))[3], 6: slide(marked(wide))[6]})
    stages = draft.plan(shot.info, shot.refs(), DraftParameters())
    for stage in stages:
        if stage.publishes and stage.name == "result":
            assert {needed.frames[0] for needed in stage.inputs if needed.name == "learn"} == {3, 6}


@pytest.mark.parametrize("mode", ["paint", "colour"])
def test_first_frame_before_two_keyframes_is_painted(wide: Frame, mode: Literal["paint", "colour"]) -> None:
    """It has no frame before it whose motion would tell where the paint was."""
    plates, truths = slide(wide), slide(marked(wide, 0.7))
    frames = Shot(plates, {3: truths[3], 6: truths[6]}).run(DraftParameters(mode=mode))
    edit = (truths[0] != plates[0]).any(-1)
    assert error(composed(plates[0], frames[0]), truths[0], edit) < 0.35 * error(plates[0], truths[0], edit)


def test_edit_that_a_keyframe_moves_elsewhere_stays_there(wide: Frame) -> None:
    plates, moved = slide(wide), wide.copy()
    cv2.circle(moved, (WIDTH // 2 + 70, HEIGHT // 2), 14, (40, 200, 60), -1)
    frames = Shot(plates, {0: slide(marked(wide))[0], 6: slide(moved)[6]}).run()
    for number in (7, 11):
        before = (slide(marked(wide))[number] != plates[number]).any(-1)
        assert full_matte(frames[number])[before].mean() < 0.05
        assert full_matte(frames[number])[(slide(moved)[number] != plates[number]).any(-1)].mean() > 0.8


def test_given_matte_limits_the_edit(wide: Frame) -> None:
    plates, truths = slide(wide), slide(marked(wide))
    matte = np.zeros((HEIGHT, WIDTH), np.float32)
    matte[:, : WIDTH // 2 + 20] = 1
    shot = Shot(plates, {0: truths[0]}, mattes={0: matte * (truths[0] != plates[0]).any(-1)})
    found = full_matte(shot.run()[4])
    right = WIDTH // 2 + 20 - 4 * SHIFT
    assert found[:, :right].sum() > 300
    assert found[:, right + 4 :].sum() < 0.1 * found[:, :right].sum()


def test_loose_matte_does_not_replace_the_paint(wide: Frame) -> None:
    plates, truths = slide(wide), slide(marked(wide))
    box = np.zeros((HEIGHT, WIDTH), np.float32)
    box[10:-10, 60:-20] = 1
    with_box = Shot(plates, {0: truths[0]}, mattes={0: box}).run()
    without = Shot(plates, {0: truths[0]}).run()
    for number in (4, 8):
        assert np.abs(full_matte(with_box[number]) - full_matte(without[number])).mean() < 0.01


def test_repeated_frames_are_copies(wide: Frame) -> None:
    plates, truths = slide(wide), slide(marked(wide))
    frames = Shot([plate for plate in plates for _ in range(2)], {0: truths[0]}).run()
    for number in range(1, COUNT):
        first, second = frames[2 * number], frames[2 * number + 1]
        assert first.bounds == second.bounds and np.array_equal(first.painted, second.painted)
        edit = (truths[number] != plates[number]).any(-1)
        result = composed(plates[number], first)
        assert error(result, truths[number], edit) < 0.35 * error(plates[number], truths[number], edit)


def exposed(picture: Frame, gain: float, lift: float = 0) -> Frame:
    return np.clip(np.rint(picture * gain + lift), 0, 255).astype(np.uint8)


BLACK, BLINDING = (0, 0), (4, 120)


@pytest.mark.parametrize(
    ("light", "lost"), [(BLINDING, (5,)), (BLACK, (5,)), (BLACK, (6, 7, 8)), (BLACK, (3, 7))], ids=str
)
@pytest.mark.parametrize("mode", ["auto", "grade"])
def test_edit_returns_after_frames_without_picture(
    wide: Frame, light: tuple[float, float], lost: tuple[int, ...], mode: Literal["auto", "grade"]
) -> None:
    plates, truths = slide(wide), slide(marked(wide) if mode == "auto" else 255 - wide // 2)
    disturbed = [exposed(plate, *light) if number in lost else plate for number, plate in enumerate(plates)]
    frames = Shot(disturbed, {0: truths[0]}).run(DraftParameters(mode=mode))
    assert [number for number in range(COUNT) if frames[number].confidence == 0] == list(lost)
    for number in (4, 9, 11):
        edit = (truths[number] != plates[number]).any(-1)
        result = composed(plates[number], frames[number])
        assert error(result, truths[number], edit) < 0.4 * error(plates[number], truths[number], edit)


LIGHTS: dict[str, Callable[[int], tuple[float, float]]] = {
    "flash": lambda n: (1.6, 20) if n == 5 else (1, 0),
    "two flashes": lambda n: (1.6, 20) if n in (3, 4, 8) else (1, 0),
    "strobe": lambda n: (0.35, 0) if n % 2 else (1, 0),
    "lights off": lambda n: (0.45, 0) if n >= 6 else (1, 0),
    "lights on": lambda n: (0.45, 0) if n < 6 else (1, 0),
    "fade to black": lambda n: (1 - n / 15, 0),
    "fade to white": lambda n: (1 - n / 20, 255 * n / 20),
}


@pytest.mark.parametrize("light", LIGHTS)
def test_edit_is_carried_through_changing_light(wide: Frame, light: str) -> None:
    plates, truths = (
        [exposed(picture, *LIGHTS[light](n)) for n, picture in enumerate(slide(source))]
        for source in (wide, marked(wide))
    )
    frames = Shot(plates, {0: truths[0]}).run()
    for number in range(1, COUNT):
        edit = (slide(marked(wide))[number] != slide(wide)[number]).any(-1)
        result = composed(plates[number], frames[number])
        assert error(result, truths[number], edit) < 0.45 * error(plates[number], truths[number], edit), number
        far = cv2.dilate(edit.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
        assert np.array_equal(result[far], plates[number][far])


def test_grade_is_exposed_as_the_frame_is(wide: Frame) -> None:
    plates, truths = (
        [exposed(picture, 0.5 if n >= 5 else 1) for n, picture in enumerate(slide(source))]
        for source in (wide, 255 - wide // 2)
    )
    frames = Shot(plates, {0: truths[0]}).run(DraftParameters(mode="grade"))
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    assert error(composed(plates[9], frames[9]), truths[9], everywhere) < 4


@pytest.mark.parametrize("angle", [0, 8])
def test_edit_follows_a_jump(angle: float) -> None:
    large = cv2.resize(texture(3), (480, 240), interpolation=cv2.INTER_CUBIC)
    painted = large.copy()
    cv2.circle(painted, (240, 120), 24, (220, 40, 40), -1)
    turn = cv2.getRotationMatrix2D((240, 120), angle, 1.0)
    turn[:, 2] += (70, -20)

    def shot(picture: Frame) -> list[Frame]:
        after = cv2.warpAffine(picture, turn, (480, 240), borderMode=cv2.BORDER_REFLECT)
        return [np.ascontiguousarray((picture if n < 3 else after)[30:210, 80 + 2 * n : 400 + 2 * n]) for n in range(6)]

    plates, truths = shot(large), shot(painted)
    frames = Shot(plates, {0: truths[0]}).run()
    for number in (2, 3, 5):
        edit = (truths[number] != plates[number]).any(-1)
        result = composed(plates[number], frames[number])
        assert error(result, truths[number], edit) < 0.4 * error(plates[number], truths[number], edit)


def test_softness_feathers_inwards_only(wide: Frame) -> None:
    shot = Shot(slide(wide), {0: slide(marked(wide))[0]})
    hard, soft = full_matte(shot.run()[6]), full_matte(shot.run(DraftParameters(softness=6))[6])
    assert (soft <= hard + 1e-3).all()
    assert soft.sum() < 0.9 * hard.sum()


def test_second_edit_reuses_flow(wide: Frame) -> None:
    shot = Shot(slide(wide), {0: slide(marked(wide))[0]})
    shot.run()
    again = Shot(shot.plates, {4: slide(marked(wide))[4]}, kept=shot.kept)
    missing = [s.name for s in draft.plan(again.info, again.refs(), DraftParameters()) if s.key not in again.kept]
    assert "propagate" in missing
    assert "flow" not in missing


def test_output_is_deterministic(wide: Frame) -> None:
    plates, key = slide(wide), slide(marked(wide))[0]
    first, second = Shot(plates, {0: key}).run(), Shot(plates, {0: key}).run()
    for number in range(COUNT):
        assert first[number].bounds == second[number].bounds
        assert np.array_equal(first[number].painted, second[number].painted)


@pytest.mark.parametrize("size", [(1, 1), (5, 90), (33, 17)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    width, height = size
    plates = [np.full((height, width, 3), 90 + n, np.uint8) for n in range(3)]
    frames = Shot(plates, {1: np.full((height, width, 3), 200, np.uint8)}).run()
    assert sorted(frames) == [0, 1, 2]


def test_shot_of_one_frame_is_its_keyframe(wide: Frame) -> None:
    plates, truths = slide(wide)[:1], slide(marked(wide))[:1]
    frames = Shot(plates, {0: truths[0]}).run()
    assert np.array_equal(composed(plates[0], frames[0]), truths[0])


def occluded() -> tuple[list[Frame], list[NDArray[np.bool_]]]:
    """A disc that moves slowly before ground of its own colours while a pole passes, and where the disc is seen."""
    ground, disc, pole = (spotted(seed, *size) for seed, size in ((5, (320, 192)), (6, (120, 120)), (9, (14, 192))))
    pole = np.clip(pole.astype(np.int16) + np.array([-60, -50, 50]), 0, 255).astype(np.uint8)
    y, x = np.mgrid[-60:60, -60:60]
    inside = x * x + y * y < 44 * 44
    plates, seen = [], []
    for number in range(13):
        plate, where = ground.copy(), np.zeros(ground.shape[:2], bool)
        place = np.s_[36:156, 100 + number : 220 + number]
        plate[place][inside] = disc[inside]
        where[place] = inside
        before = np.s_[:, 20 + 6 * number : 34 + 6 * number]
        plate[before], where[before] = pole, False
        plates.append(plate)
        seen.append(where)
    return plates, seen


def spotted(seed: int, width: int, height: int) -> Frame:
    noise = np.random.default_rng(seed).random((height, width, 3), np.float32)
    spots = cv2.GaussianBlur(noise.mean(-1, keepdims=True) * 0.7 + noise * 0.3, (0, 0), 3)
    return np.clip((spots - 0.5) * 900 + (120, 110, 100), 0, 255).astype(np.uint8)


def test_recolour_comes_back_behind_an_occluder() -> None:
    plates, seen = occluded()
    painted = plates[0].copy()
    painted[seen[0]] = np.clip(painted[seen[0]] * np.array([1.3, 0.7, 0.7]), 0, 255)
    frame = Shot(plates, {0: painted}).run()[12]
    matte = np.zeros(seen[12].shape, np.float32)
    x, y, width, height = frame.bounds
    matte[y : y + height, x : x + width] = frame.painted[..., 3]
    found = matte > 0.5
    assert (found & seen[12]).sum() > 0.8 * (found | seen[12]).sum()


def test_keyframe_that_shows_a_part_does_not_lose_the_rest() -> None:
    """A second keyframe, painted rightly where a pole hides most of the disc: the frames behind it know the whole."""
    ground, disc = spotted(5, 160, 96), spotted(6, 160, 96)
    disc = np.clip(disc.astype(np.int16) + np.array([50, -10, -40]), 0, 255).astype(np.uint8)
    plates, truths, seen = [], [], []
    for number in range(9):
        whole = cv2.circle(np.zeros((96, 160), np.uint8), (70 + number, 48), 24, 1, -1) > 0
        hidden = np.zeros_like(whole)
        left = 12 * number
        hidden[:, left : left + 34] = True
        plate = np.where(whole[..., None], np.roll(disc, number, axis=1), ground)
        plate[hidden] = (60, 70, 90)
        plates.append(plate)
        seen.append(whole & ~hidden)
        truths.append(np.where(seen[-1][..., None], plate[..., ::-1], plate))
    one, two = (Shot(plates, {key: truths[key] for key in keys}).run() for keys in ((0,), (0, 5)))
    for number in (2, 4, 6, 7, 8):
        alone, both = (
            error(composed(plates[number], frames[number]), truths[number], seen[number]) for frames in (one, two)
        )
        assert both < 1.06 * alone + 1.5, number  # half a dB, or what nobody sees


def test_edge_that_one_keyframe_shows_counts_for_both() -> None:
    """A moving disc fades into the ground: on the second keyframe nothing shows where its edge is."""
    ground, disc = spotted(5, 160, 96), spotted(6, 160, 96)
    disc = np.clip(disc.astype(np.int16) + np.array([50, -10, -40]), 0, 255).astype(np.uint8)
    plates, truths, seen = [], [], []
    for number in range(9):
        seen.append(cv2.circle(np.zeros((96, 160), np.uint8), (60 + 4 * number, 48), 24, 1, -1) > 0)
        own, like_ground = (np.roll(picture, 4 * number, axis=1) for picture in (disc, ground))
        faded = cv2.addWeighted(own, 1 - number / 8, like_ground, number / 8, 0)
        plates.append(np.where(seen[-1][..., None], faded, ground))
        truths.append(np.where(seen[-1][..., None], faded[..., ::-1], ground))
    frames = Shot(plates, {key: truths[key] for key in (0, 8)}).run()
    for number in range(9):
        found = composed(plates[number], frames[number])
        assert error(found, truths[number], seen[number]) < 9
        assert error(found, truths[number], ~seen[number]) < 2


SETTINGS: tuple[Literal["on", "off"], ...] = ("on", "off")


def defocused(frames: list[Frame]) -> list[Frame]:
    """Frames that go out of focus, the first one sharp."""
    return [frame if n == 0 else cv2.GaussianBlur(frame, (0, 0), 2.5 * n / COUNT) for n, frame in enumerate(frames)]


def test_paint_goes_out_of_focus_with_its_frame(wide: Frame) -> None:
    plates, truths = defocused(slide(wide)), defocused(slide(marked(wide)))
    shot, last = Shot(plates, {0: truths[0]}), COUNT - 1
    edit = (truths[last] != plates[last]).any(-1)
    blurred, sharp = (
        error(composed(plates[last], shot.run(DraftParameters(motion_blur=setting))[last]), truths[last], edit)
        for setting in SETTINGS
    )
    assert blurred < 0.6 * sharp


def test_clean_paint_takes_its_frames_grain() -> None:
    coarse = cv2.GaussianBlur(texture(9), (0, 0), 5)
    painted = cv2.circle(coarse.copy(), (WIDTH // 2 + 20, HEIGHT // 2), 18, (150, 60, 60), -1)
    noise = np.random.default_rng(10).normal(0, 7, (COUNT, HEIGHT, WIDTH, 3))
    plates, truths = (
        [np.clip(np.rint(frame + grain), 0, 255).astype(np.uint8) for frame, grain in zip(frames, noise, strict=True)]
        for frames in (slide(coarse), slide(painted))
    )
    edit = (slide(painted)[0] != slide(coarse)[0]).any(-1)
    clean = np.where(edit[..., None], slide(painted)[0], plates[0])
    shot = Shot(plates, {0: clean})
    inner = cv2.erode((truths[2] != plates[2]).any(-1).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    results = {setting: shot.run(DraftParameters(grain=setting)) for setting in SETTINGS}
    grainy, plain = (composed(plates[2], results[setting][2]) for setting in SETTINGS)
    assert error(grainy, truths[2], inner) < 0.7 * error(plain, truths[2], inner)
    assert grainy[inner].std() == pytest.approx(truths[2][inner].std(), rel=0.15)
    assert np.array_equal(composed(plates[0], results["on"][0]), clean)
