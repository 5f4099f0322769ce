"""Publishing that a kill interrupts: a process of its own ends between two renames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.publication import publish, resume

FRAMES = 6
KILLED = 9

PROGRAM = """
import os, sys
from pathlib import Path
from paintover_engine.jobs.publication import publish
folder, record, renames_before_the_kill = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
staged = sorted((folder / ".out.partial").iterdir())
replace, done = os.replace, 0
def counted(source, target):
    global done
    if "partial" in str(Path(source).parent):
        if done == renames_before_the_kill:
            os._exit(9)
        done += 1
    replace(source, target)
os.replace = counted
publish([(path, folder / "out" / path.name) for path in staged], record, ["a note"], False)
os._exit(9)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a staged sequence and the folder that it is published to."""
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / "out").mkdir()
    for number in range(FRAMES):
        (tmp_path / ".out.partial" / f"{number}.png").write_text(f"frame {number}")
    return tmp_path


def record_of(folder: Path) -> Path:
    return folder / "1.json"


def kill_after(folder: Path, renames: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(record_of(folder)), str(renames)]
    assert subprocess.run(command, check=False, timeout=60).returncode == KILLED
    assert len(list((folder / "out").iterdir())) == renames


def published(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted((folder / "out").iterdir())]


@pytest.mark.parametrize("renames", [0, 1, FRAMES - 1, FRAMES])
def test_interrupted_publication_is_finished(folder: Path, renames: int) -> None:
    kill_after(folder, renames)
    for _ in range(2):  # and finding it finished changes nothing
        assert resume(record_of(folder)) == ("a note",)
        assert published(folder) == [f"frame {number}" for number in range(FRAMES)]
        assert not (folder / ".out.partial").exists()


def test_without_a_record_nothing_is_resumed(folder: Path) -> None:
    assert resume(record_of(folder)) is None


def test_removed_output_is_written_anew(folder: Path) -> None:
    kill_after(folder, FRAMES)
    (folder / "out" / "3.png").unlink()
    assert resume(record_of(folder)) is None
    assert published(folder) == []
    assert not record_of(folder).exists()


def test_changed_file_is_not_taken_for_its_own(folder: Path) -> None:
    kill_after(folder, FRAMES)
    (folder / "out" / "3.png").write_text("by the artist")
    assert resume(record_of(folder)) is None
    assert published(folder) == ["by the artist"]


def test_name_taken_meanwhile_is_a_sentence(folder: Path) -> None:
    kill_after(folder, 2)
    (folder / "out" / "4.png").write_text("of another program")
    with pytest.raises(PaintoverError, match="appeared while") as caught:
        resume(record_of(folder))
    assert caught.value.code is Code.ALREADY_EXISTS
    assert (folder / "out" / "4.png").read_text() == "of another program"


def test_unreadable_record_is_ignored(folder: Path) -> None:
    record_of(folder).write_text('{"renames": [')
    assert resume(record_of(folder)) is None


def test_publishing_without_a_record(folder: Path) -> None:
    staged = sorted((folder / ".out.partial").iterdir())
    publish([(path, folder / "out" / path.name) for path in staged], None, [], False)
    assert len(published(folder)) == FRAMES
