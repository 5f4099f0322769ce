"""Sources whose files change after their shot was made, in every way that keeps size and modification time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.source import check_unchanged, open_source, probe

Make = Callable[..., Path]
Noise = Callable[..., np.ndarray]


def write_in_place(file: Path, content: bytes) -> None:
    with open(file, "r+b") as opened:
        opened.write(content)


def write_beside_and_rename(file: Path, content: bytes) -> None:
    beside = file.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, file)


def copy_with_times(file: Path, content: bytes) -> None:
    other = file.with_suffix(".other")
    other.write_bytes(content)
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    shutil.copy2(other, file)
    other.unlink()


def map_in_memory(file: Path, content: bytes) -> None:
    mapped = np.memmap(file, np.uint8, "r+")
    mapped[:] = np.frombuffer(content, np.uint8)
    mapped.flush()


@pytest.fixture
def uncompressed(make_sequence: Make, noise: Noise) -> Path:
    """A sequence of six TGA files, all of one size."""
    return make_sequence("f.%04d.tga", {n: noise(8, 8, 3, np.uint8, n) for n in range(6)})


@pytest.mark.skipif(os.name == "nt", reason="Windows tells no time of change")
@pytest.mark.parametrize("write", [write_in_place, write_beside_and_rename, copy_with_times, map_in_memory])
def test_new_content_of_same_size_and_time_is_noticed(write: Callable[..., None], uncompressed: Path) -> None:
    file = uncompressed / "f.0003.tga"
    before, content = file.stat(), file.read_bytes()
    info = probe(uncompressed)
    with open_source(info) as source:
        source.read(2)
        write(file, content[:-16] + bytes(16))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        source.read(2)
        source.read(4)
        for reads in (lambda: source.read(3), lambda: check_unchanged(info), lambda: open_source(info)):
            with pytest.raises(PaintoverError, match="has changed.*make the shot anew") as caught:
                reads()
            assert caught.value.code is Code.FAILED_PRECONDITION
    assert probe(uncompressed).fingerprint != info.fingerprint


def test_frame_that_is_being_written_is_not_told_as_damaged(uncompressed: Path) -> None:
    with open_source(probe(uncompressed)) as source:
        (uncompressed / "f.0003.tga").write_bytes(b"")
        with pytest.raises(PaintoverError, match=r"has changed \(at 'f.0003.tga'\) since the shot was made"):
            source.read(3)


def test_video_that_is_replaced_while_it_is_read_is_noticed(tmp_path: Path, make_video: Make) -> None:
    path, other = make_video(tmp_path / "a.mp4"), make_video(tmp_path / "b.mp4", options={"crf": "40"})
    with open_source(probe(path)) as source:
        source.read(0)
        os.replace(other, path)  # the open file still gives the frames of the first
        with pytest.raises(PaintoverError, match=r"a.mp4' has changed since the shot was made"):
            source.read(40)


def test_untouched_source_keeps_its_fingerprint(uncompressed: Path) -> None:
    info = probe(uncompressed)
    (uncompressed / "notes.txt").write_text("read by nobody")
    with open_source(info) as source:
        source.read(5)
    assert probe(uncompressed).fingerprint == info.fingerprint
