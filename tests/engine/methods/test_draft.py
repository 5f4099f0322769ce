from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.jobs import outputs
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.runner import Runner
from paintover_engine.jobs.store import Store
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.source import SourceInfo, open_source, probe
from paintover_engine.methods import draft
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef

from tests.conftest import SHIFT, make_small_shot, slide

Picture = NDArray[np.uint8]
COUNT, WIDTH, HEIGHT = 20, 160, 96


@pytest.fixture
def texture() -> Picture:
    """A wide picture, of which frame n shows what begins at column SHIFT * n. BGR."""
    noise = np.random.default_rng(3).random((HEIGHT, WIDTH + SHIFT * COUNT, 3), np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 2.5) - 0.5) * 700 + 128, 0, 255).astype(np.uint8)


@pytest.fixture
def shot(tmp_path: Path, texture: Picture) -> Path:
    return write(tmp_path / "plate", [slide(texture, number, WIDTH) for number in range(COUNT)])


def write(folder: Path, frames: Sequence[Picture]) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:05d}.png"), frame)
    return folder


def propagate(shot: Path, keys: Mapping[int, Picture], **parameters: object) -> tuple[list[Picture], list[Picture]]:
    """Runs the draft and writes its result; the frames (BGR) and their mattes (16 bit)."""
    work = shot.parent / f"work{len(list(shot.parent.iterdir()))}"
    folder = DataFolder(work / "data")
    folder.create()
    info = probe(str(shot))
    references = []
    with open_source(info) as source:
        for number, picture in keys.items():
            cv2.imwrite(str(work / "key.png"), picture)
            keyframe = load_keyframe(str(work / "key.png"), number, source.read(number), info)
            outputs.save_keyframe(folder.keyframes / f"{keyframe.digest}.safetensors", keyframe)
            references.append(KeyframeRef(number, keyframe.digest))
    with Runner(Store(folder), info, "draft", DraftParameters(**parameters), references) as runner:  # type: ignore[arg-type]
        runner.run_all()
        runner.deliver(str(work / "out"), False, str(work / "mattes"))
    read = [[cv2.imread(str(p), -1) for p in sorted((work / name).iterdir())] for name in ("out", "mattes")]
    return read[0], read[1]


def painted(texture: Picture, edit: Callable[[Picture], None]) -> Picture:
    copy = texture.copy()
    edit(copy)
    return copy


def psnr(one: Picture, other: Picture) -> float:
    return float(cv2.PSNR(one, other))


def info_of(count: int, first: int = 0) -> SourceInfo:
    return SourceInfo(
        path="/plate", kind="sequence", first=first, last=first + count - 1, width=64, height=48, sample="uint8",
        channels=3, rate=None, variable_rate=False, format="png uint8", colorspace="", scene_linear=False,
        pixel_aspect=1, timecode="", has_audio=False, notes=(), fingerprint="plate",
    )  # type: ignore[arg-type]  # fmt: skip


KEYS = {"first": [0], "last": [39], "middle": [17], "two": [5, 30], "neighbours": [8, 9, 39], "three": [0, 20, 39]}


@pytest.mark.parametrize("frames", KEYS.values(), ids=KEYS)
def test_every_frame_is_published_once_and_stages_come_after_their_inputs(frames: list[int]) -> None:
    stages = draft.plan(info_of(40), [KeyframeRef(f, f"key{f}") for f in frames], DraftParameters())
    published = [n for s in stages if s.publishes for n in range(s.frames[0], s.frames[1] + 1)]
    assert sorted(published) == list(range(40))
    seen: set[str] = set()
    for stage in stages:
        assert all(needed.key in seen for needed in stage.inputs), stage.label
        seen.add(stage.key)
    assert len(seen) == len(stages)


def test_what_needs_no_keyframe_is_the_same_for_every_edit() -> None:
    free = {stage.key for stage in draft.plan(info_of(40), [], DraftParameters())}
    assert free
    for frames in ([0], [17], [3, 33]):
        stages = draft.plan(info_of(40), [KeyframeRef(f, f"key{f}") for f in frames], DraftParameters())
        assert {stage.key for stage in stages if not stage.needs_keyframe} <= free
        assert not free & {stage.key for stage in stages if stage.needs_keyframe}


def test_the_keyframe_itself_comes_first() -> None:
    stages = draft.plan(info_of(40), [KeyframeRef(17, "key")], DraftParameters())
    first = next(stage for stage in stages if stage.publishes)
    assert first.frames == (17, 17)
    assert not [stage for stage in stages[: stages.index(first)] if stage.function == "flow"]


def test_a_mark_follows_its_surface_both_ways(shot: Path, texture: Picture) -> None:
    centre = (WIDTH // 2 + SHIFT * 10, HEIGHT // 2)
    truth = painted(texture, lambda p: cv2.circle(p, centre, 16, (30, 30, 235), -1, cv2.LINE_AA))
    frames, mattes = propagate(shot, {10: slide(truth, 10, WIDTH)})
    for number, (frame, matte) in enumerate(zip(frames, mattes, strict=True)):
        expected, plate = slide(truth, number, WIDTH), slide(texture, number, WIDTH)
        assert psnr(frame, expected) > psnr(plate, expected) + 8
        assert (frame == plate)[matte == 0].all()
        assert 400 < np.count_nonzero(matte) < 1600  # the disc has 804 pixels


def test_a_grade_is_recognised_and_nearly_exact(shot: Path, texture: Picture) -> None:
    truth = np.clip((texture / 255.0) ** [0.85, 1.0, 1.15] * [1.0, 0.95, 0.8] * 255 + 0.5, 0, 255).astype(np.uint8)
    frames, mattes = propagate(shot, {0: slide(truth, 0, WIDTH)})
    for number, frame in enumerate(frames):
        assert psnr(frame, slide(truth, number, WIDTH)) > 38
    assert all(matte.min() > 60000 for matte in mattes)


def test_two_keyframes_meet_between(shot: Path, texture: Picture) -> None:
    centre = (WIDTH // 2 + SHIFT * 10, HEIGHT // 2)
    truth = painted(texture, lambda p: cv2.circle(p, centre, 16, (235, 60, 30), -1, cv2.LINE_AA))
    frames, _ = propagate(shot, {0: slide(truth, 0, WIDTH), COUNT - 1: slide(truth, COUNT - 1, WIDTH)})
    for number, frame in enumerate(frames):
        expected = slide(truth, number, WIDTH)
        assert psnr(frame, expected) > psnr(slide(texture, number, WIDTH), expected) + 8


def test_nothing_is_dragged_across_a_cut(tmp_path: Path, texture: Picture) -> None:
    other = texture[::-1, ::-1] // 3
    cut = COUNT // 2
    plates = [slide(texture if number < cut else other, number, WIDTH) for number in range(COUNT)]
    shot = write(tmp_path / "plate", plates)
    truth = painted(texture, lambda p: cv2.circle(p, (80, 48), 16, (30, 30, 235), -1, cv2.LINE_AA))
    frames, mattes = propagate(shot, {0: slide(truth, 0, WIDTH)})
    for number in range(cut, COUNT):
        assert (frames[number] == plates[number]).all()
        assert not mattes[number].any()
    assert mattes[cut - 1].any()


def test_the_same_input_gives_the_same_bits(tmp_path: Path) -> None:
    small = make_small_shot(tmp_path, count=8, key=3)
    key = {3: cv2.imread(str(small.keyframe))}
    one, two = (propagate(small.source, key) for _ in range(2))
    for first, second in zip([*one[0], *one[1]], [*two[0], *two[1]], strict=True):
        np.testing.assert_array_equal(first, second)
