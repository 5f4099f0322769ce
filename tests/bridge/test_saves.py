"""Saves are told once each, and whole, whichever way an editor writes."""

from __future__ import annotations

import os
import queue
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paintover_bridge import saves
from paintover_bridge.errors import ClientError
from paintover_bridge.saves import Saves, is_whole

SECONDS = 10.0  # to wait for what must come
QUIET = 0.35  # and for what must not


def png(shade: int, side: int = 40) -> bytes:
    """A whole PNG of one shade of noise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + os.urandom(side) for _ in range(side - 1)) + b"\0" + bytes([shade]) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


def psd(shade: int, width: int = 20, height: int = 10) -> bytes:
    """A whole Photoshop file without layers, rows packed."""
    row = struct.pack("bB", 1 - width, shade)
    counts = struct.pack(">H", len(row)) * height * 3
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3)
    return header + bytes(12) + struct.pack(">H", 1) + counts + row * height * 3


class Told:
    """What a watch told, in order."""

    def __init__(self) -> None:
        self.saves: queue.SimpleQueue[tuple[Path, bytes]] = queue.SimpleQueue()
        self.foreign: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self.errors: queue.SimpleQueue[ClientError] = queue.SimpleQueue()

    def take(self, path: Path) -> None:
        self.saves.put((path, path.read_bytes()))

    def next(self) -> tuple[Path, bytes]:
        return self.saves.get(timeout=SECONDS)

    def nothing_more(self) -> bool:
        with pytest.raises(queue.Empty):
            self.saves.get(timeout=QUIET)
        return True


Watch = Callable[..., Told]


@pytest.fixture(params=["watched", "polled"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Watches as the system tells, and by looking alone, as on a server's disk."""
    if request.param == "polled":
        monkeypatch.setattr(saves, "_observe", lambda folder, stirred: None)
        monkeypatch.setattr(saves, "POLL_SECONDS", 0.1)
    running: list[Saves] = []

    def start(picture: Path, known: bool = True) -> Told:
        told = Told()
        running.append(Saves(picture, told.take, told.foreign.put, told.errors.put, known=known))
        return told

    yield start
    for started in running:
        started.stop()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "shot_0012.png"
    path.write_bytes(png(0))
    return path


def test_a_save_in_place_is_told_once(watch: Watch, picture: Path) -> None:
    told = watch(picture)
    picture.write_bytes(saved := png(1))
    assert told.next() == (picture, saved)
    assert told.nothing_more()


def test_a_temporary_file_that_is_renamed_is_told_by_its_last_name(watch: Watch, picture: Path) -> None:
    told = watch(picture)
    temporary = picture.with_name(".shot_0012.png~tmp4711")
    temporary.write_bytes(saved := png(2))
    temporary.replace(picture)
    assert told.next() == (picture, saved)
    assert told.nothing_more()


def test_a_file_that_is_moved_away_and_written_anew_is_told_once(watch: Watch, picture: Path) -> None:
    told = watch(picture)
    picture.rename(picture.with_name("shot_0012.png~"))
    time.sleep(0.1)
    picture.write_bytes(saved := png(3))
    assert told.next() == (picture, saved)
    assert told.nothing_more()


@pytest.mark.parametrize("make", [png, psd])
def test_a_slow_writer_is_waited_for(watch: Watch, tmp_path: Path, make: Callable[[int], bytes]) -> None:
    picture = tmp_path / "shot_0012.psd"
    picture.write_bytes(make(0))
    told = watch(picture)
    whole = make(4)
    with picture.open("wb") as file:
        for start in range(0, len(whole), len(whole) // 5 + 1):
            file.write(whole[start : start + len(whole) // 5 + 1])
            file.flush()
            time.sleep(3 * saves.SETTLED_SECONDS)
    assert told.next() == (picture, whole)
    assert told.nothing_more()


def test_a_file_that_stays_torn_is_told_for_the_engine_to_say_so(
    watch: Watch, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saves, "TORN_SECONDS", 0.5)
    told = watch(picture)
    picture.write_bytes(torn := png(5)[:-20])
    assert told.next() == (picture, torn)
    assert told.nothing_more()


def test_saving_the_same_again_is_no_save(watch: Watch, picture: Path) -> None:
    told = watch(picture)
    picture.write_bytes(picture.read_bytes())
    assert told.nothing_more()


def test_a_second_save_is_told_too(watch: Watch, picture: Path) -> None:
    told = watch(picture)
    for shade in (6, 7):
        picture.write_bytes(saved := png(shade))
        assert told.next() == (picture, saved)


def test_another_kind_under_the_same_name_counts_and_other_names_do_not(watch: Watch, picture: Path) -> None:
    told = watch(picture)
    picture.with_name("elsewhere.png").write_bytes(png(8))
    picture.with_name("shot_0012 copy.png").write_bytes(png(8))
    picture.with_suffix(".psd").write_bytes(saved := psd(9))
    assert told.next() == (picture.with_suffix(".psd"), saved)
    assert told.nothing_more()


def test_an_editors_own_kind_is_told_once_as_such(watch: Watch, picture: Path) -> None:
    told = watch(picture)
    for contents in (b"gimp xcf 1", b"gimp xcf 22"):
        picture.with_suffix(".xcf").write_bytes(contents)
        time.sleep(0.3)
    assert told.foreign.get(timeout=SECONDS) == picture.with_suffix(".xcf")
    assert told.foreign.empty()
    assert told.nothing_more()


def test_what_was_painted_before_is_a_save_when_it_is_gone_on_with(watch: Watch, picture: Path) -> None:
    assert watch(picture, known=False).next() == (picture, picture.read_bytes())


def test_a_folder_that_vanishes_is_said(watch: Watch, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    picture = folder / "shot_0012.png"
    picture.write_bytes(png(0))
    told = watch(picture)
    picture.unlink()
    folder.rmdir()
    error = told.errors.get(timeout=SECONDS)
    assert str(folder) in error.message


@pytest.mark.parametrize("make", [png, psd])
def test_no_part_of_a_file_is_whole(make: Callable[[int], bytes], tmp_path: Path) -> None:
    whole, path = make(1), tmp_path / "part"
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        assert not is_whole(path) or (end > 0 and end < 8), end  # of less than a signature nothing is known
    path.write_bytes(whole)
    assert is_whole(path)


def test_watching_ends_with_its_threads(picture: Path) -> None:
    before = threading.active_count()
    Saves(picture, lambda path: None, lambda path: None, lambda error: None, known=True).stop()
    assert threading.active_count() <= before
