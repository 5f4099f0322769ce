from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from paintover_engine.errors import Code
from paintover_engine.jobs.database import MIGRATIONS, SCHEMA_VERSION, Database, QueueDamaged, QueueUnwritable


def version(path: Path) -> int:
    with sqlite3.connect(path) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("older", range(SCHEMA_VERSION))
def test_older_schema_is_migrated(tmp_path: Path, older: int) -> None:
    path, fresh = tmp_path / "queue.sqlite", tmp_path / "fresh.sqlite"
    with sqlite3.connect(path) as db:
        for script in MIGRATIONS[:older]:
            db.executescript(script)
        db.execute(f"PRAGMA user_version = {older}")
    db.close()
    shape = "SELECT type, name, tbl_name FROM sqlite_master ORDER BY name"
    tables = []
    for file in (path, fresh):
        database = Database(file)
        tables.append([tuple(row) for row in database.rows(shape)])
        database.close()
        assert version(file) == SCHEMA_VERSION
    assert tables[0] == tables[1]


def test_failed_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(MIGRATIONS[0])
        db.execute("CREATE TABLE session (in_the_way TEXT)")
        db.execute("PRAGMA user_version = 1")
    db.close()
    with pytest.raises(QueueUnwritable, match="already exists"):
        Database(path)
    assert version(path) == 1
    with sqlite3.connect(path) as db:
        assert "position" not in [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
    db.close()


def test_full_disk_rolls_back_the_transaction(tmp_path: Path) -> None:
    database = Database(tmp_path / "queue.sqlite")
    pages = database.rows("PRAGMA page_count")[0][0]
    database.rows(f"PRAGMA max_page_count = {pages}")
    add = "INSERT INTO shots VALUES (?, ?, 0, 0, '', 0, NULL, 0)"
    with pytest.raises(QueueUnwritable, match="is full; make room") as caught, database.transaction():
        database.rows(add, ("small", "x"))
        database.rows(add, ("large", "x" * 100_000))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert database.rows("SELECT * FROM shots") == []
    database.rows("PRAGMA max_page_count = 100000")
    database.rows(add, ("large", "x" * 100_000))
    assert len(database.rows("SELECT * FROM shots")) == 1
    database.close()


def test_truncated_file_is_reported_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    Database(path).close()
    path.write_bytes(path.read_bytes()[:5000] + b"\xff" * 9000)
    with pytest.raises(QueueDamaged, match="cannot be read"):
        Database(path)
