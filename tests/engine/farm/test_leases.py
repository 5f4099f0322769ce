from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from paintover_engine.farm import leases
from paintover_engine.farm.leases import LEASE_SECONDS, FolderLeases, Leases


def test_one_of_two_gets_a_stage(tmp_path: Path) -> None:
    with Leases(FolderLeases(tmp_path / "leases")) as first, Leases(FolderLeases(tmp_path / "leases")) as second:
        assert first.take("a")
        assert not second.take("a")
        assert second.take("b")
        first.release("a")
        assert second.take("a")


def test_lease_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    with Leases(FolderLeases(folder)) as living:
        (folder / "a").touch()
        assert not living.take("a")
        past = time.time() - LEASE_SECONDS - 1
        os.utime(folder / "a", (past, past))
        assert living.take("a")


def test_held_lease_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.2)
    with Leases(FolderLeases(tmp_path / "leases")) as holder, Leases(FolderLeases(tmp_path / "leases")) as other:
        assert holder.take("a")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            before = (tmp_path / "leases" / "a").stat().st_mtime
            time.sleep(0.05)
            if (tmp_path / "leases" / "a").stat().st_mtime > before:
                break
        else:
            pytest.fail("it was not renewed")
        monkeypatch.setattr(leases, "LEASE_SECONDS", LEASE_SECONDS)
        assert not other.take("a")


def test_closed_leases_are_gone(tmp_path: Path) -> None:
    with Leases(FolderLeases(tmp_path / "leases")) as holder:
        assert holder.take("a")
    assert list((tmp_path / "leases").iterdir()) == []
