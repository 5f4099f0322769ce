from __future__ import annotations

from pathlib import Path

import pytest
from paintover_bridge.arguments import (
    KeyframeFile,
    check_source,
    parse_corrections,
    parse_job,
    parse_keyframes,
    parse_parameters,
    parse_range,
)
from paintover_bridge.errors import BAD_INPUT, ClientError


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "painted=final.png"
    path.write_bytes(b"")
    return str(path)


def test_keyframes_come_by_frame_with_their_mattes(image: str) -> None:
    found = parse_keyframes([f"12={image}", f"-3={image}"], [f"12={image}"])
    assert found == [KeyframeFile(-3, image, None), KeyframeFile(12, image, image)]


def test_tilde_in_a_keyframe_path_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "k.png").write_bytes(b"")
    assert parse_keyframes(["0=~/k.png"], [])[0].picture == str(tmp_path / "k.png")


@pytest.mark.parametrize("text", ["painted.png", "=painted.png", "1.5=painted.png", "12=", "a=b"])
def test_malformed_keyframe_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ClientError, match="is not FRAME=IMAGE; write it like --keyframe 12=painted.png") as caught:
        parse_keyframes([text], [])
    assert caught.value.exit_code == BAD_INPUT


def test_duplicate_keyframe_is_refused(image: str) -> None:
    with pytest.raises(ClientError, match="--keyframe gives frame 7 twice"):
        parse_keyframes([f"7={image}", f"+07={image}"], [])


def test_an_image_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"nowhere\.png of --keyframe 3 does not exist"):
        parse_keyframes([f"3={tmp_path / 'nowhere.png'}"], [])
    with pytest.raises(ClientError, match="is a folder"):
        parse_keyframes([f"3={tmp_path}"], [])


def test_a_matte_without_its_keyframe_is_refused(image: str) -> None:
    with pytest.raises(ClientError, match="--matte gives frame 4, which no --keyframe gives; keyframes are at 3"):
        parse_keyframes([f"3={image}"], [f"4={image}"])


@pytest.mark.parametrize(
    ("text", "frames"),
    [("10-20", (10, 20)), ("7-7", (7, 7)), ("-5-10", (-5, 10)), ("-10--5", (-10, -5)), ("10 - 20", (10, 20))],
)
def test_ranges_may_have_negative_numbers(text: str, frames: tuple[int, int]) -> None:
    assert parse_range(text) == frames


@pytest.mark.parametrize("text", ["", "10", "10-", "a-b", "1-2-3-4", "10:20", "1.5-3"])
def test_a_malformed_range_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ClientError, match="is not FIRST-LAST"):
        parse_range(text)


def test_reversed_range_is_refused_with_the_right_one() -> None:
    with pytest.raises(ClientError, match="write 10-20"):
        parse_range("20-10")


def test_parameter_value_may_contain_equals_signs() -> None:
    assert parse_parameters(["mode=paint", "expression = a=b"]) == {"mode": "paint", "expression": "a=b"}


def test_malformed_and_repeated_parameters_are_refused() -> None:
    with pytest.raises(ClientError, match="'mode' is not NAME=VALUE"):
        parse_parameters(["mode"])
    with pytest.raises(ClientError, match="gives mode twice, paint and grade"):
        parse_parameters(["mode=paint", "mode=grade"])


def test_a_job_is_its_number_or_its_name() -> None:
    assert parse_job("3") == parse_job("jobs/3") == parse_job("003") == "jobs/3"
    with pytest.raises(ClientError, match="'three' is no job"):
        parse_job("three")


def test_missing_source_is_refused_but_not_a_pattern(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="does not exist"):
        check_source(str(tmp_path / "shot.mov"))
    for source in (str(tmp_path), str(tmp_path / "shot.%04d.exr"), str(tmp_path / "shot.####.exr")):
        check_source(source)


def test_corrections_come_by_frame_with_their_kind(image: str) -> None:
    found = parse_corrections([f"29={image}"], [f"7={image}"], [], [KeyframeFile(0, image, None)])
    assert found == [KeyframeFile(7, image, None, "roto"), KeyframeFile(29, image, None, "holdout")]


def test_correction_of_a_keyframe_or_twice_is_refused(image: str) -> None:
    with pytest.raises(ClientError, match="--roto gives frame 3, which is a keyframe: say where it is painted with"):
        parse_corrections([], [f"3={image}"], [], [KeyframeFile(3, image, None)])
    with pytest.raises(ClientError, match="Frame 5 has a --hold and a --roto; give one of them"):
        parse_corrections([f"5={image}"], [f"5={image}"], [], [])
    with pytest.raises(ClientError, match="Frame 5 has a --hold and a --drag; give one of them"):
        parse_corrections([f"5={image}"], [], ["5=1,2:3,4"], [])


def test_drags_of_a_frame_are_one_correction() -> None:
    found = parse_corrections([], [], ["-3=10,20.5:30,40", "2=1,2:3,4", "-3 = 1,1 : 2,2"], [])
    assert [(each.frame, each.kind, each.drag) for each in found] == [
        (-3, "drag", ((10, 20.5, 30, 40), (1, 1, 2, 2))),
        (2, "drag", ((1, 2, 3, 4),)),
    ]


@pytest.mark.parametrize("text", ["5", "5=1,2", "5=1,2:3", "5=a,2:3,4", "x=1,2:3,4"])
def test_malformed_drag_is_refused(text: str) -> None:
    with pytest.raises(ClientError, match=r"is not FRAME=X,Y:X,Y; write it like --drag 12=410,220:418,224"):
        parse_corrections([], [], [text], [])
