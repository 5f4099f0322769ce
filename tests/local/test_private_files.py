"""What is believed of the files in a folder that other users may have written."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover_local.private_files import (
    TRUSTED,
    NotPrivate,
    claim_folder,
    read_private,
    writable_by_others,
    write_private,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")
STRANGER = 54321
needs_root = pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can give files away")


def put(path: Path, mode: int = 0o600, owner: int | None = None) -> Path:
    path.write_text("content")
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


def test_a_private_file_is_written_whole_and_read(tmp_path: Path) -> None:
    path = put(tmp_path / "token", 0o644)
    write_private(path, b"secret")
    assert read_private(path) == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize(("mode", "verb"), [(0o640, "read"), (0o604, "read"), (0o620, "write"), (0o602, "write")])
def test_a_secret_open_to_others_is_refused(tmp_path: Path, mode: int, verb: str) -> None:
    with pytest.raises(NotPrivate, match=f"Other users can {verb} .*token"):
        read_private(put(tmp_path / "token", mode))


def test_what_others_may_read_they_may_not_write(tmp_path: Path) -> None:
    assert read_private(put(tmp_path / "engine.json", 0o644), TRUSTED) == b"content"
    with pytest.raises(NotPrivate, match="can write"):
        read_private(put(tmp_path / "engine.json", 0o664), TRUSTED)


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(put(tmp_path / "file"))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(NotPrivate, match="is a link"):
        read_private(tmp_path / "link")
    with pytest.raises(NotPrivate, match="is not a file"):
        read_private(tmp_path / "pipe")


@needs_root
def test_another_users_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(NotPrivate, match="belongs to another user"):
        read_private(put(tmp_path / "token", owner=STRANGER))


def test_a_claimed_folder_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    claim_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_links_to_files_are_not_claimed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "queue.sqlite").symlink_to(put(tmp_path / "file"))
    with pytest.raises(NotPrivate, match=r"queue\.sqlite is a link"):
        claim_folder(folder)


def test_a_folder_on_a_larger_disk_is_claimed(tmp_path: Path) -> None:
    folder, large = tmp_path / "data", tmp_path / "large"
    folder.mkdir()
    large.mkdir(mode=0o755)
    (folder / "cache").symlink_to(large)
    claim_folder(folder)
    large.chmod(0o777)
    with pytest.raises(NotPrivate, match="cache leads to a folder that other users can write"):
        claim_folder(folder)


@needs_root
def test_another_users_folder_is_not_claimed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o777)
    os.chown(folder, STRANGER, STRANGER)
    with pytest.raises(NotPrivate, match="belongs to another user"):
        claim_folder(folder)


@needs_root
@pytest.mark.parametrize("planted", ["settings.json", "records/000001.json"])
def test_what_a_stranger_left_in_an_open_folder_is_found(tmp_path: Path, planted: str) -> None:
    folder = tmp_path / "data"
    (folder / "records").mkdir(parents=True)
    folder.chmod(0o777)
    put(folder / planted, owner=STRANGER)
    with pytest.raises(NotPrivate, match=f"{planted} belongs to another user"):
        claim_folder(folder)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user of the machine can enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_file_that_others_only_read_is_private(reachable: Path) -> None:
    assert writable_by_others(put(reachable / "prefs", 0o644)) is None


@needs_root
@pytest.mark.parametrize("mode", [0o666, 0o662, 0o664])
def test_a_file_that_others_write_is_not_private(reachable: Path, mode: int) -> None:
    path = put(reachable / "prefs", mode)
    os.chown(path, -1, STRANGER)
    assert writable_by_others(path) == path
    reachable.chmod(0o700)  # as Resolve leaves it, in a home that is closed
    assert writable_by_others(path) is None


def test_a_folder_that_others_write_is_not_private(reachable: Path) -> None:
    profiles = reachable / "Profiles"
    (profiles / "Default").mkdir(parents=True)
    path = put(profiles / "Default" / "prefs", 0o644)
    profiles.chmod(0o777)
    assert writable_by_others(path) == profiles


def test_a_link_is_not_private(reachable: Path) -> None:
    (reachable / "prefs").symlink_to(put(reachable / "file"))
    assert writable_by_others(reachable / "prefs") == reachable / "prefs"


@needs_root
def test_another_users_prefs_are_not_private(reachable: Path) -> None:
    path = put(reachable / "prefs", 0o644, STRANGER)
    assert writable_by_others(path) == path
