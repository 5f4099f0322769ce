"""What is on the disk when: content before names, names before anybody hears of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from paintover_engine.durable import write_file
from paintover_engine.jobs.database import Database
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.store import Store
from paintover_local.private_files import write_private

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the names of synced files in /proc")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Syncs and renames in their order, by file name: "sync a.partial", "rename a.partial -> a"."""
    seen: list[str] = []

    def recorded(name: str, module: object, describe: Callable[..., str]) -> None:
        original = getattr(module, name)

        def call(*arguments: object) -> object:
            seen.append(describe(*arguments))
            return original(*arguments)

        monkeypatch.setattr(module, name, call)

    def rename(source: Path, target: Path) -> str:
        return f"rename {Path(source).name} -> {Path(target).name}"

    recorded("fsync", os, lambda descriptor: f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
    recorded("replace", os, rename)
    recorded("rename", Path, rename)
    return seen


def test_small_file_is_synced_before_its_name(tmp_path: Path, events: list[str]) -> None:
    write_file(tmp_path / "a.json", "{}")
    assert events == ["sync a.json.partial", "rename a.json.partial -> a.json", f"sync {tmp_path.name}"]


def test_token_is_synced_before_its_name(tmp_path: Path, events: list[str]) -> None:
    write_private(tmp_path / "token", b"secret")
    partial = events[0].removeprefix("sync ")
    assert events == [f"sync {partial}", f"rename {partial} -> token", f"sync {tmp_path.name}"]
    assert partial != "token"


def test_output_is_synced_before_its_name(tmp_path: Path, events: list[str]) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    events.clear()
    key = "ab" * 32
    with Store(folder).writing(key, publishes=True) as partial:
        (partial / "frame").write_text("x")
    assert events == [
        "sync frame",
        f"sync {partial.name}",
        "sync results",
        f"rename {partial.name} -> {key}",
        "sync ab",
    ]


def test_only_progress_may_be_lost_in_a_power_cut(tmp_path: Path) -> None:
    database = Database(tmp_path / "queue.sqlite")
    full, normal = 2, 1
    assert database.rows("PRAGMA synchronous")[0][0] == full
    with database.relaxed():
        assert database.rows("PRAGMA synchronous")[0][0] == normal
    assert database.rows("PRAGMA synchronous")[0][0] == full
    database.close()
