"""Each save is reported once and complete, however an editor writes."""

from __future__ import annotations

import os
import queue
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paintover_bridge import save_watcher
from paintover_bridge.errors import ClientError
from paintover_bridge.save_watcher import SaveWatcher, is_whole

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


class Reported:
    """What a watcher reported, in order."""

    def __init__(self) -> None:
        self.saves: queue.SimpleQueue[tuple[Path, bytes]] = queue.SimpleQueue()
        self.unreadable: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self.errors: queue.SimpleQueue[ClientError] = queue.SimpleQueue()

    def take(self, path: Path) -> None:
        self.saves.put((path, path.read_bytes()))

    def next(self) -> tuple[Path, bytes]:
        return self.saves.get(timeout=SECONDS)

    def nothing_more(self) -> bool:
        with pytest.raises(queue.Empty):
            self.saves.get(timeout=QUIET)
        return True


Watch = Callable[..., Reported]


@pytest.fixture(params=["watched", "polled"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Watches as the system tells, and by looking alone, as on a server's disk."""
    if request.param == "polled":
        monkeypatch.setattr(save_watcher, "_observe", lambda folder, changed: None)
        monkeypatch.setattr(save_watcher, "POLL_SECONDS", 0.1)
    running: list[SaveWatcher] = []

    def start(picture: Path, existing_known: bool = True) -> Reported:
        reported = Reported()
        callbacks = reported.take, reported.unreadable.put, reported.errors.put
        running.append(SaveWatcher(picture, *callbacks, existing_known=existing_known))
        return reported

    yield start
    for started in running:
        started.stop()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "shot_0012.png"
    path.write_bytes(png(0))
    return path


def test_save_in_place_is_reported_once(watch: Watch, picture: Path) -> None:
    reported = watch(picture)
    picture.write_bytes(saved := png(1))
    assert reported.next() == (picture, saved)
    assert reported.nothing_more()


def test_renamed_temporary_file_is_reported_by_final_name(watch: Watch, picture: Path) -> None:
    reported = watch(picture)
    temporary = picture.with_name(".shot_0012.png~tmp4711")
    temporary.write_bytes(saved := png(2))
    temporary.replace(picture)
    assert reported.next() == (picture, saved)
    assert reported.nothing_more()


def test_file_moved_away_and_rewritten_is_reported_once(watch: Watch, picture: Path) -> None:
    reported = watch(picture)
    picture.rename(picture.with_name("shot_0012.png~"))
    time.sleep(0.1)
    picture.write_bytes(saved := png(3))
    assert reported.next() == (picture, saved)
    assert reported.nothing_more()


@pytest.mark.parametrize("make", [png, psd])
def test_a_slow_writer_is_waited_for(watch: Watch, tmp_path: Path, make: Callable[[int], bytes]) -> None:
    picture = tmp_path / "shot_0012.psd"
    picture.write_bytes(make(0))
    reported = watch(picture)
    whole = make(4)
    with picture.open("wb") as file:
        for start in range(0, len(whole), len(whole) // 5 + 1):
            file.write(whole[start : start + len(whole) // 5 + 1])
            file.flush()
            time.sleep(3 * save_watcher.SETTLED_SECONDS)
    assert reported.next() == (picture, whole)
    assert reported.nothing_more()


def test_incomplete_file_is_reported_after_a_while(
    watch: Watch, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(save_watcher, "INCOMPLETE_SECONDS", 0.5)
    reported = watch(picture)
    picture.write_bytes(torn := png(5)[:-20])
    assert reported.next() == (picture, torn)
    assert reported.nothing_more()


def test_saving_the_same_again_is_no_save(watch: Watch, picture: Path) -> None:
    reported = watch(picture)
    picture.write_bytes(picture.read_bytes())
    assert reported.nothing_more()


def test_second_save_is_reported(watch: Watch, picture: Path) -> None:
    reported = watch(picture)
    for shade in (6, 7):
        picture.write_bytes(saved := png(shade))
        assert reported.next() == (picture, saved)


def test_other_extension_counts_but_no_other_stem(watch: Watch, picture: Path) -> None:
    reported = watch(picture)
    picture.with_name("elsewhere.png").write_bytes(png(8))
    picture.with_name("shot_0012 copy.png").write_bytes(png(8))
    picture.with_suffix(".psd").write_bytes(saved := psd(9))
    assert reported.next() == (picture.with_suffix(".psd"), saved)
    assert reported.nothing_more()


def test_native_files_count_once_they_are_whole(watch: Watch, picture: Path, tmp_path: Path) -> None:
    reported = watch(picture)
    with zipfile.ZipFile(tmp_path / "packed", "w") as packed:
        packed.writestr("mergedimage.png", png(8))
    whole = (tmp_path / "packed").read_bytes()
    kra = picture.with_suffix(".kra")
    kra.write_bytes(whole[:-5])
    assert reported.nothing_more()
    kra.write_bytes(whole)
    assert reported.next() == (kra, whole)
    picture.with_suffix(".xcf").write_bytes(b"gimp xcf 1")
    assert reported.next() == (picture.with_suffix(".xcf"), b"gimp xcf 1")


def test_unreadable_format_is_reported_once(watch: Watch, picture: Path) -> None:
    reported = watch(picture)
    for contents in (b"affinity 1", b"affinity 22"):
        picture.with_suffix(".af").write_bytes(contents)
        time.sleep(0.3)
    assert reported.unreadable.get(timeout=SECONDS) == picture.with_suffix(".af")
    assert reported.unreadable.empty()
    assert reported.nothing_more()


def test_existing_paint_is_reported_when_resumed(watch: Watch, picture: Path) -> None:
    assert watch(picture, existing_known=False).next() == (picture, picture.read_bytes())


def test_only_the_newest_of_several_files_is_resumed(watch: Watch, picture: Path) -> None:
    older = picture.with_suffix(".tif")
    older.write_bytes(b"II*\0\x08\0\0\0older.")
    os.utime(older, (1, 1))
    reported = watch(picture, existing_known=False)
    assert reported.next() == (picture, picture.read_bytes())
    picture.write_bytes(png(1))
    assert reported.next()[0] == picture  # and not the older file before it


def test_a_folder_that_vanishes_is_said(watch: Watch, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    picture = folder / "shot_0012.png"
    picture.write_bytes(png(0))
    reported = watch(picture)
    picture.unlink()
    folder.rmdir()
    error = reported.errors.get(timeout=SECONDS)
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
    SaveWatcher(picture, lambda path: None, lambda path: None, lambda error: None, existing_known=True).stop()
    assert threading.active_count() <= before
