"""The queue's SQLite file: opened, checked and migrated; SQLite's errors as sentences."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paintover_engine.errors import Code, PaintoverError

MIGRATIONS = (
    # 1: the queue.
    """
    CREATE TABLE shots (
        id TEXT PRIMARY KEY, source TEXT NOT NULL, first INTEGER, last INTEGER, colorspace TEXT NOT NULL,
        uploaded INTEGER NOT NULL, info TEXT, created REAL NOT NULL
    ) STRICT;
    CREATE TABLE keyframes (
        id TEXT PRIMARY KEY, shot TEXT NOT NULL REFERENCES shots ON DELETE CASCADE, frame INTEGER NOT NULL,
        digest TEXT NOT NULL, has_matte INTEGER NOT NULL, notes TEXT NOT NULL,
        current INTEGER NOT NULL, created REAL NOT NULL
    ) STRICT;
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, shot TEXT NOT NULL REFERENCES shots, spec TEXT NOT NULL,
        state TEXT NOT NULL, priority INTEGER NOT NULL, message TEXT NOT NULL, error TEXT NOT NULL DEFAULT '',
        progress TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL, sequence INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX jobs_by_state ON jobs (state, priority DESC, id);
    CREATE INDEX jobs_by_sequence ON jobs (sequence);
    CREATE TABLE job_frames (
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE, number INTEGER NOT NULL, key TEXT NOT NULL,
        confidence REAL NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (job, number)
    ) STRICT, WITHOUT ROWID;
    """,
    # 2: an order within one priority, and whether the last daemon ended well.
    """
    ALTER TABLE jobs ADD COLUMN position REAL NOT NULL DEFAULT 0;
    UPDATE jobs SET position = id;
    DROP INDEX jobs_by_state;
    CREATE INDEX jobs_by_state ON jobs (state, priority DESC, position, id);
    CREATE INDEX job_frames_by_key ON job_frames (key);
    CREATE TABLE session (
        id INTEGER PRIMARY KEY CHECK (id = 1), clean INTEGER NOT NULL, sequence INTEGER NOT NULL
    ) STRICT;
    INSERT INTO session VALUES (1, 1, 0);
    """,
    # 3: the files that a keyframe was read from, which no output may replace.
    """
    ALTER TABLE keyframes ADD COLUMN files TEXT NOT NULL DEFAULT '[]';
    """,
    # 4: why a frame's confidence is low, by its number (`compose.reason`).
    """
    ALTER TABLE job_frames ADD COLUMN reason INTEGER NOT NULL DEFAULT 0;
    """,
    # 5: corrections beside keyframes (`media.keyframe_kind`).
    """
    ALTER TABLE keyframes ADD COLUMN kind TEXT NOT NULL DEFAULT 'paint';
    """,
    # 6: the points of drags.
    """
    ALTER TABLE keyframes ADD COLUMN drag TEXT NOT NULL DEFAULT '[]';
    """,
)
"""Each brings a file of version n to version n + 1. Never change one that was released: add the next."""

SCHEMA_VERSION = len(MIGRATIONS)


class QueueDamaged(PaintoverError):
    """The file is no SQLite file, or a broken one."""


class QueueUnwritable(PaintoverError):
    """The file cannot be written now: the disk is full, read-only or gone. Nothing of the change was stored."""


class Database:
    """One connection to the file, in WAL mode. SQLite's errors are raised as QueueDamaged and QueueUnwritable."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or creates it, and migrates it to this version.

        Raises QueueDamaged, QueueUnwritable, and PaintoverError for a file of a newer version."""
        self._path = path
        with self._errors_as_sentences():
            self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        version = self.rows("PRAGMA user_version")[0][0]
        if version > SCHEMA_VERSION:
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"The queue {self._path} was written by a newer Paintover; update this one, "
                "or choose another --data-dir.",
            )
        self.rows("PRAGMA journal_mode = WAL")
        self.rows("PRAGMA synchronous = FULL")  # what a client was told survives a power cut
        self.rows("PRAGMA journal_size_limit = 16777216")
        self.rows("PRAGMA foreign_keys = ON")
        if (found := self.rows("PRAGMA quick_check(1)")[0][0]) != "ok":
            raise self._damaged(found)
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            with self.transaction():
                for statement in script.split(";"):
                    self.rows(statement)
                self.rows(f"PRAGMA user_version = {number}")

    def close(self) -> None:
        self._db.close()

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Runs one statement; all its rows."""
        with self._errors_as_sentences():
            return self._db.execute(statement, values).fetchall()

    def many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        with self._errors_as_sentences():
            self._db.executemany(statement, values)

    @contextmanager
    def relaxed(self) -> Iterator[None]:
        """Statements of the block survive a killed process, but not a power cut before the next other change: for what
        nobody relies on, such as progress."""
        self.rows("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self.rows("PRAGMA synchronous = FULL")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements of the block, or none."""
        self.rows("BEGIN IMMEDIATE")
        try:
            yield
            self.rows("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite rolls back by itself when the disk is full
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors_as_sentences(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # programming errors
        except sqlite3.OperationalError as error:
            raise self._unwritable(str(error)) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def _unwritable(self, reason: str) -> QueueUnwritable:
        if "full" in reason:
            return QueueUnwritable(
                Code.RESOURCE_EXHAUSTED,
                f"The disk of the data folder {self._path.parent} is full; make room there, the queue then goes on.",
            )
        if "readonly" in reason or "unable to open" in reason:
            return QueueUnwritable(
                Code.PERMISSION_DENIED,
                f"The data folder {self._path.parent} cannot be written; free it or choose another with --data-dir.",
            )
        return QueueUnwritable(
            Code.UNAVAILABLE, f"The queue {self._path} cannot be used now ({reason}); see to its disk, then retry."
        )

    def _damaged(self, reason: str) -> QueueDamaged:
        return QueueDamaged(
            Code.DATA_LOSS, f"The queue {self._path} cannot be read ({reason}); start the engine again, which mends it."
        )
