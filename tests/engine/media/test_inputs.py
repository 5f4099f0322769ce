"""What a job reads is never written to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paintover_engine.errors import PaintoverError
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.mattes import check_mattes, open_matte_sink
from paintover_engine.media.output import check_output, open_sink
from paintover_engine.media.source import open_source, probe

Make = Callable[..., Any]


def painting(file: Path) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"hours of work")
    return file


@pytest.fixture
def shot(make_sequence: Make, noise: Make) -> SourceInfo:
    return probe(make_sequence("f.%04d.png", {number: noise(8, 8, 3, np.uint8) for number in range(3)}))


# What the keyframe is called in the folder `o` of outputs, or what is made there that leads to it.
def same_name(out: Path, elsewhere: Path) -> Path:
    return painting(out / "f.0001.png")


def other_spelling(out: Path, elsewhere: Path) -> Path:
    painting(out / "f.0001.png")
    return out / ".." / "o" / "f.0001.png"


def symbolic_link(out: Path, elsewhere: Path) -> Path:
    os.symlink(painting(out / "f.0001.png"), elsewhere / "link.png")
    return elsewhere / "link.png"


def link_where_a_frame_goes(out: Path, elsewhere: Path) -> Path:
    file = painting(elsewhere / "mine.png")
    os.symlink(file, out / "f.0001.png")
    return file


def hard_link(out: Path, elsewhere: Path) -> Path:
    os.link(painting(elsewhere / "mine.png"), out / "f.0001.png")
    return elsewhere / "mine.png"


def other_case(out: Path, elsewhere: Path) -> Path:
    """As a file system that does not tell cases apart shows one file: two names for it."""
    os.link(painting(out / "F.0001.PNG"), out / "f.0001.png")
    return out / "F.0001.PNG"


def linked_folder(out: Path, elsewhere: Path) -> Path:
    painting(out / "f.0001.png")
    os.symlink(out, elsewhere / "same")
    return elsewhere / "same" / "f.0001.png"


WAYS = [same_name, other_spelling, symbolic_link, link_where_a_frame_goes, hard_link, other_case, linked_folder]


@pytest.mark.parametrize("out", ["o", "o/f.####.png", "o/f.%04d.png"])
@pytest.mark.parametrize("way", WAYS)
def test_a_painting_is_never_the_output(way: Make, out: str, shot: SourceInfo, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "elsewhere").mkdir()
    file = way(tmp_path / "o", tmp_path / "elsewhere")
    for check in (check_output, check_mattes):
        with pytest.raises(PaintoverError, match="keyframe or a matte"):
            check(tmp_path / out, shot, True, [str(file)])
    with pytest.raises(PaintoverError, match="keyframe or a matte"):
        open_matte_sink(tmp_path / out, shot, True, [str(file)])
    assert file.read_bytes() == b"hours of work"


def test_a_painting_beside_the_frames_stays(shot: SourceInfo, tmp_path: Path) -> None:
    file = painting(tmp_path / "o" / "f.0009.png")
    check_output(tmp_path / "o", shot, True, [str(file)])


def test_a_painting_that_comes_meanwhile_stays(shot: SourceInfo, tmp_path: Path) -> None:
    file = tmp_path / "o" / "f.0001.png"
    with (
        open_source(shot) as source,
        pytest.raises(PaintoverError, match="keyframe or a matte"),
        open_sink(tmp_path / "o", shot, True, [str(file)]) as sink,
    ):
        for number in range(3):
            sink.write(source.read(number))
        painting(file)
        sink.commit()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == b"hours of work"


@pytest.mark.parametrize("out", ["plate", "plate/f.####.png", "plate/f.%04d.png", "link", "link/f.####.png"])
def test_a_sequence_is_never_the_output(out: str, shot: SourceInfo, tmp_path: Path) -> None:
    os.symlink(tmp_path / "plate", tmp_path / "link")
    for check in (check_output, check_mattes):
        with pytest.raises(PaintoverError, match="source itself"):
            check(tmp_path / out, shot, True)


def test_frames_outside_the_range_are_the_source_too(shot: SourceInfo, tmp_path: Path) -> None:
    part = probe(tmp_path / "plate" / "f.####.png", first=1, last=2)
    (tmp_path / "o").mkdir()
    os.link(tmp_path / "plate" / "f.0000.png", tmp_path / "o" / "g.2.png")
    with pytest.raises(PaintoverError, match="source itself"):
        check_output(tmp_path / "o" / "g.#.png", part, True)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_video_is_never_the_output(link: Make, tmp_path: Path, make_video: Make) -> None:
    clip = make_video(tmp_path / "clip.mov", count=3)
    link(clip, tmp_path / "other.mov")
    for out in (clip, tmp_path / "other.mov"):
        with pytest.raises(PaintoverError, match="source itself"):
            check_output(out, probe(clip), True)


def test_mattes_do_not_go_where_the_result_goes(shot: SourceInfo, tmp_path: Path) -> None:
    files = check_output(tmp_path / "o", shot)
    with pytest.raises(PaintoverError, match="result and its matte"):
        check_mattes(tmp_path / "o" / ".." / "o", shot, True, (), files)
    check_mattes(tmp_path / "mattes", shot, True, (), files)
