"""Paintover from Python: `Paintover`, its jobs and their frames, on real engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenImageIO as oiio
import paintover_bridge
import pytest
from numpy.typing import NDArray
from paintover_bridge import ClientError, Paintover, arrays

from tests.conftest import SmallShot


@pytest.fixture(scope="module")
def p(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paintover]:
    with Paintover(tmp_path_factory.mktemp("data")) as opened:
        yield opened
        opened.client.stop_engine(when_idle=False)


def rgb(shot: SmallShot) -> NDArray[np.uint8]:
    """(N, H, W, 3)."""
    return np.stack([shot.plate(number)[..., ::-1] for number in range(shot.count)])


def read(path: Path) -> NDArray[Any]:
    if path.suffix == ".png":
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        return picture[..., np.newaxis] if picture.ndim == 2 else picture[..., [2, 1, 0, 3][: picture.shape[2]]]
    exr = oiio.ImageBuf(str(path))
    return np.asarray(exr.get_pixels(exr.spec().format))


def test_frames_of_a_result_are_arrays(p: Paintover, small_shot: SmallShot, tmp_path: Path) -> None:
    job = p.propagate(small_shot.source, {small_shot.key: small_shot.keyframe}, output=tmp_path / "out.%05d.png")
    frames = list(job.frames())
    assert [frame.number for frame in frames] == list(range(small_shot.count))
    for frame in frames:
        image, matte = frame.image(), frame.matte()
        assert image.shape == (64, 96, 3) and image.dtype == np.float32 and 0.0 < matte.max() <= 1.0
        assert np.array_equal(image[matte == 0], frame.plate()[matte == 0])
    job.wait(60)
    written = read(tmp_path / "out.00009.png")
    assert np.abs(frames[9].image() * 255 - written).max() < 1
    status = job.status
    assert status.state == job.state == "done" and status.finished and status.frames_done == small_shot.count
    assert job.output == str(tmp_path / "out.%05d.png")
    assert p.jobs()[0].name == p.job(job.id).name == job.name


def test_arrays_give_what_their_files_give(p: Paintover, small_shot: SmallShot) -> None:
    painted = read(small_shot.keyframe)
    files = p.propagate(small_shot.source, {small_shot.key: small_shot.keyframe})
    whole = p.propagate(rgb(small_shot), {small_shot.key: painted}, rate=(24, 1))
    for from_file, from_array in zip(files.frames(), whole.frames(), strict=True):
        assert np.array_equal(from_file.edit(), from_array.edit())


def test_a_plate_is_painted_on_as_an_array(p: Paintover, small_shot: SmallShot) -> None:
    picture = p.plate(small_shot.source, small_shot.key)
    assert np.abs(picture * 255 - small_shot.plate(small_shot.key)[..., ::-1]).max() < 0.5
    picture[20:40, 30:50] = (0.9, 0.1, 0.1)
    matte = np.zeros(picture.shape[:2], bool)
    matte[22:38, 32:48] = True
    job = p.propagate(small_shot.source, {small_shot.key: picture}, mattes={small_shot.key: matte})
    frame = next(job.frames(small_shot.key))
    assert frame.number == small_shot.key
    assert np.allclose(frame.image()[30, 40], (0.9, 0.1, 0.1), atol=0.02)
    assert frame.matte()[21, 40] == 0 < frame.matte()[30, 40]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_are_sent_without_loss(tmp_path: Path, dtype: type[Any], channels: int) -> None:
    noise = np.random.default_rng(5).random((7, 5, channels))
    picture = (noise * np.iinfo(dtype).max if issubclass(dtype, np.integer) else noise * 4).astype(dtype)
    path = tmp_path / ("a.png" if issubclass(dtype, np.integer) else "a.exr")
    path.write_bytes(arrays.picture_bytes(picture, "It"))
    assert np.array_equal(read(path), picture)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"keyframes": {}}, "keyframes is {}"),
        ({"keyframes": "painted.png"}, "keyframes is 'painted.png'"),
        ({"keyframes": {4: 3}}, "The keyframe 4 is 3 (int)"),
        ({"keyframes": {"four": b"x"}}, "frame is 'four', of type str; give a whole number"),
        ({"keyframes": {4: np.zeros((2, 2, 9))}}, "The keyframe 4 is an array of shape (2, 2, 9)"),
        ({"keyframes": {4: np.zeros((2, 2), complex)}}, "array of complex128; give uint8"),
        ({"mattes": {9: b"x"}}, "mattes has frame 9"),
        ({"source": 7}, "source is 7 (int)"),
        ({"frames": 5}, "frames is 5; give the first and the last"),
        ({"frames": ("a", 5)}, "first is 'a', of type str"),
        ({"method": 3}, "method is 3, of type int; give a text"),
        ({"parameters": {"edge": [1]}}, "The parameter edge is [1], of type list"),
        ({"parameters": "edge"}, "parameters is 'edge', of type str"),
        ({"priority": "high"}, "priority is 'high', of type str; give a whole number"),
        ({"output": 7}, "7 is no path but of type int"),
    ],
)
def test_bad_values_are_told_in_a_sentence(
    p: Paintover, small_shot: SmallShot, arguments: dict[str, Any], told: str
) -> None:
    before = len(p.jobs())
    given: dict[str, Any] = {"source": small_shot.source, "keyframes": {4: small_shot.keyframe}, **arguments}
    with pytest.raises(ClientError) as error:
        p.propagate(**given)
    assert told in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)
    assert len(p.jobs()) == before


def test_parameters_may_be_numbers_and_truths(p: Paintover, small_shot: SmallShot) -> None:
    draft = p.methods()["draft"]
    number = next(each for each in draft.parameters.values() if each.kind == "float")
    job = p.propagate(
        small_shot.source, {4: small_shot.keyframe}, parameters={number.name: float(number.default)}, frames=(2, 6)
    )
    assert [frame.number for frame in job.frames()] == [2, 3, 4, 5, 6]
    assert job.wait(30).fraction == 1.0


def test_kinds_and_states_are_words(p: Paintover) -> None:
    kinds = {each.kind for method in p.methods().values() for each in method.parameters.values()}
    assert kinds <= {"float", "int", "bool", "choice", "string"} and len(kinds) > 2


def test_a_refused_or_removed_job_says_so(p: Paintover, small_shot: SmallShot, tmp_path: Path) -> None:
    job = p.propagate(small_shot.source, {4: small_shot.keyframe}, output=tmp_path / "out.mkv")
    job.wait(60)
    with pytest.raises(ClientError, match="exists"):
        p.propagate(small_shot.source, {4: small_shot.keyframe}, output=tmp_path / "out.mkv")
    job.remove()
    assert repr(job) == f"<Job {job.id}: There is no job {job.id}; `paintover jobs` lists them.>"
    with pytest.raises(ClientError, match=r"\.$"):
        job.status  # noqa: B018


def test_representations_are_short(p: Paintover, small_shot: SmallShot) -> None:
    job = p.propagate(small_shot.source, {4: small_shot.keyframe}, output=None)
    frame = next(iter(job.frames()))
    job.wait(60)
    assert repr(job) == f"<Job {job.id} done 100% draft>"
    for thing in (p, frame, job.status, *p.methods().values()):
        assert len(repr(thing)) < 250 and "object at 0x" not in repr(thing)


def test_the_package_names_what_it_has() -> None:
    assert paintover_bridge.Paintover is Paintover
    with pytest.raises(AttributeError, match="no attribute 'Paint'"):
        paintover_bridge.Paint  # noqa: B018
