"""The queue: shots, keyframes, jobs and the frames that jobs made, in one SQLite file that survives anything.

Every change of a job takes the next sequence number, kept with what changed; a watcher asks for what changed since
the last number it saw, so a reconnect misses nothing and no event log grows.
"""

from __future__ import annotations

import enum
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.info import SourceInfo

SCHEMA_VERSION = 1
SCHEMA = """
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
"""


class JobState(enum.Enum):
    """Where a job stands."""

    QUEUED = "queued"
    PREPARING = "preparing"
    WAITING_FOR_KEYFRAME = "waiting for a keyframe"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Shot:
    """A shot as it was asked for, and what its source was found to be (`info`, None until its frames are here).

    uploaded: its frames come from a client into the data folder, `source` is that client's key for them.
    """

    id: str
    source: str
    first: int | None
    last: int | None
    colorspace: str
    uploaded: bool
    info: SourceInfo | None


@dataclass(frozen=True)
class StoredKeyframe:
    """A keyframe of a shot. `id` is "<shot>/<frame>-<start of digest>"; not `current`: replaced by a later save."""

    id: str
    shot: str
    frame: int
    digest: str
    has_matte: bool
    notes: list[str]
    current: bool


@dataclass(frozen=True)
class JobSpec:
    """All that a job's result depends on, and where it goes. keyframes: ids, in the order of their frames."""

    method: str
    parameters: Mapping[str, str]
    model: str
    keyframes: Sequence[str]
    output: str
    overwrite: bool
    mattes: str
    prepare_only: bool


@dataclass
class Progress:
    """How far a job is; `seconds_left` is negative while unknown."""

    stages_total: int = 0
    stages_done: int = 0
    stages_found: int = 0
    frames_total: int = 0
    fraction: float = 0.0
    seconds_left: float = -1.0
    stage: str = ""


@dataclass(frozen=True)
class JobFrame:
    """A result frame of a job: the key of the stage that made it."""

    number: int
    key: str
    confidence: float


@dataclass
class Job:
    """A job as the queue has it.

    error: the code of what it failed of, "" otherwise; frames_done: how many frames it has made."""

    id: int
    shot: str
    spec: JobSpec
    state: JobState
    priority: int
    message: str
    error: str
    progress: Progress
    created: float
    started: float | None
    ended: float | None
    sequence: int
    frames_done: int = field(default=0)


class Queue:
    """The queue's file. One process writes it; calls are short and safe between awaits."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it.

        Raises PaintoverError for a file of a newer version, or one that is no queue."""
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # WAL keeps its word against a killed process
            self._db.execute("PRAGMA foreign_keys = ON")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                with self._transaction():
                    for statement in SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise PaintoverError(
                Code.DATA_LOSS, f"The queue {path} cannot be read ({error}); move it aside and start again."
            ) from error
        if version > SCHEMA_VERSION:
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"The queue {path} was written by a newer Paintover; update this one, or choose another --data-dir.",
            )
        self.sequence: int = self._db.execute("SELECT coalesce(max(sequence), 0) FROM jobs").fetchone()[0]

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Shots.

    def put_shot(self, shot: Shot) -> None:
        """Adds a shot, or renews what is known of it."""
        self._db.execute(
            "INSERT INTO shots (id, source, first, last, colorspace, uploaded, info, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET info = excluded.info",
            (
                shot.id, shot.source, shot.first, shot.last, shot.colorspace, shot.uploaded,
                shot.info.to_json() if shot.info else None, time.time(),
            ),
        )  # fmt: skip

    def shot(self, shot_id: str) -> Shot:
        row = self._db.execute("SELECT * FROM shots WHERE id = ?", (shot_id,)).fetchone()
        if row is None:
            raise PaintoverError(Code.NOT_FOUND, f"There is no shot '{shot_id}'; create it first.")
        return _shot(row)

    def shots(self) -> list[Shot]:
        return [_shot(row) for row in self._db.execute("SELECT * FROM shots ORDER BY created")]

    def delete_shot(self, shot_id: str) -> None:
        """Forgets a shot and its keyframes; refused while it has jobs."""
        self.shot(shot_id)
        if jobs := self._db.execute("SELECT id FROM jobs WHERE shot = ?", (shot_id,)).fetchall():
            numbers = ", ".join(str(row["id"]) for row in jobs)
            raise PaintoverError(Code.FAILED_PRECONDITION, f"The shot still has jobs ({numbers}); remove them first.")
        self._db.execute("DELETE FROM shots WHERE id = ?", (shot_id,))

    # Keyframes.

    def put_keyframe(self, keyframe: StoredKeyframe) -> None:
        """Adds a keyframe and makes it the current one of its frame."""
        with self._transaction():
            self._db.execute(
                "UPDATE keyframes SET current = 0 WHERE shot = ? AND frame = ?", (keyframe.shot, keyframe.frame)
            )
            self._db.execute(
                "INSERT INTO keyframes VALUES (?, ?, ?, ?, ?, ?, 1, ?) ON CONFLICT (id) DO UPDATE SET current = 1",
                (
                    keyframe.id, keyframe.shot, keyframe.frame, keyframe.digest, keyframe.has_matte,
                    json.dumps(keyframe.notes), time.time(),
                ),
            )  # fmt: skip

    def keyframe(self, keyframe_id: str) -> StoredKeyframe:
        row = self._db.execute("SELECT * FROM keyframes WHERE id = ?", (keyframe_id,)).fetchone()
        if row is None:
            raise PaintoverError(Code.NOT_FOUND, f"There is no keyframe '{keyframe_id}'; put it first.")
        return _keyframe(row)

    def keyframes(self, shot_id: str) -> list[StoredKeyframe]:
        """The current keyframes of a shot, by frame."""
        rows = self._db.execute("SELECT * FROM keyframes WHERE shot = ? AND current ORDER BY frame", (shot_id,))
        return [_keyframe(row) for row in rows]

    def delete_keyframe(self, keyframe_id: str) -> None:
        """Takes a keyframe out of the shot; jobs that were made with it keep it."""
        self.keyframe(keyframe_id)
        self._db.execute("UPDATE keyframes SET current = 0 WHERE id = ?", (keyframe_id,))

    # Jobs.

    def add_job(self, shot: str, spec: JobSpec, priority: int) -> Job:
        """Queues a job; an unfinished one of the same description is returned instead."""
        described = json.dumps(vars(spec), sort_keys=True)
        finished = [state.value for state in JobState if state.finished]
        twin = self._db.execute(
            "SELECT id FROM jobs WHERE shot = ? AND spec = ? AND state NOT IN (?, ?, ?)", (shot, described, *finished)
        ).fetchone()
        if twin:
            return self.job(twin["id"])
        self.sequence += 1
        row = self._db.execute(
            "INSERT INTO jobs (shot, spec, state, priority, message, progress, created, sequence) "
            "VALUES (?, ?, ?, ?, '', ?, ?, ?) RETURNING id",
            (
                shot, described, JobState.QUEUED.value, priority, json.dumps(vars(Progress())), time.time(),
                self.sequence,
            ),
        ).fetchone()  # fmt: skip
        return self.job(row["id"])

    def job(self, job_id: int) -> Job:
        row = self._db.execute(f"{_JOBS} WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise PaintoverError(Code.NOT_FOUND, f"There is no job {job_id}; `paintover jobs` lists them.")
        return _job(row)

    def jobs(self, *states: JobState) -> list[Job]:
        """Jobs in those states (all when none is given), most urgent first, then oldest."""
        where = f" WHERE state IN ({', '.join('?' * len(states))})" if states else ""
        values = [state.value for state in states]
        return [_job(row) for row in self._db.execute(f"{_JOBS}{where} ORDER BY priority DESC, id", values)]

    def changed_jobs(self, since: int, job_id: int | None = None) -> list[Job]:
        """Jobs that changed at or after a sequence number, in the order of their last change."""
        only = "" if job_id is None else " AND id = ?"
        values = (since,) if job_id is None else (since, job_id)
        return [_job(row) for row in self._db.execute(f"{_JOBS} WHERE sequence >= ?{only} ORDER BY sequence", values)]

    def update_job(self, job: Job) -> None:
        """Keeps a job's state, priority, message and times, as its next change."""
        self.sequence += 1
        job.sequence = self.sequence
        self._db.execute(
            "UPDATE jobs SET state = ?, priority = ?, message = ?, error = ?, started = ?, ended = ?, sequence = ? "
            "WHERE id = ?",
            (job.state.value, job.priority, job.message, job.error, job.started, job.ended, job.sequence, job.id),
        )

    def update_progress(self, job: Job) -> None:
        """Keeps a job's progress alone, as its next change: what a client did to the job meanwhile stands."""
        self.sequence += 1
        job.sequence = self.sequence
        self._db.execute(
            "UPDATE jobs SET progress = ?, sequence = ? WHERE id = ?",
            (json.dumps(vars(job.progress)), job.sequence, job.id),
        )

    def add_frames(self, job: Job, frames: Sequence[JobFrame]) -> None:
        """Keeps frames that a job made, with its progress, as its next change."""
        with self._transaction():
            self.update_progress(job)
            self._db.executemany(
                "INSERT OR REPLACE INTO job_frames VALUES (?, ?, ?, ?, ?)",
                [(job.id, frame.number, frame.key, frame.confidence, job.sequence) for frame in frames],
            )
        job.frames_done = self._db.execute("SELECT count(*) FROM job_frames WHERE job = ?", (job.id,)).fetchone()[0]

    def frames(self, job_id: int, since: int = 0) -> list[JobFrame]:
        """The frames a job has made, ascending; with `since`, those that a change at or after that number added."""
        rows = self._db.execute(
            "SELECT number, key, confidence FROM job_frames WHERE job = ? AND sequence >= ? ORDER BY number",
            (job_id, since),
        )
        return [JobFrame(*row) for row in rows]

    def frame(self, job_id: int, number: int) -> JobFrame | None:
        row = self._db.execute(
            "SELECT number, key, confidence FROM job_frames WHERE job = ? AND number = ?", (job_id, number)
        ).fetchone()
        return JobFrame(*row) if row else None

    def delete_job(self, job_id: int) -> list[str]:
        """Forgets a job; returns the keys of result stages that no other job shows."""
        with self._transaction():
            keys = {row[0] for row in self._db.execute("SELECT key FROM job_frames WHERE job = ?", (job_id,))}
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            used = "SELECT 1 FROM job_frames WHERE key = ? LIMIT 1"
            return [key for key in keys if not self._db.execute(used, (key,)).fetchone()]


_JOBS = "SELECT jobs.*, (SELECT count(*) FROM job_frames WHERE job = jobs.id) AS frames_done FROM jobs"


def _shot(row: sqlite3.Row) -> Shot:
    info = SourceInfo.from_json(row["info"]) if row["info"] else None
    return Shot(row["id"], row["source"], row["first"], row["last"], row["colorspace"], bool(row["uploaded"]), info)


def _keyframe(row: sqlite3.Row) -> StoredKeyframe:
    return StoredKeyframe(
        row["id"], row["shot"], row["frame"], row["digest"], bool(row["has_matte"]), json.loads(row["notes"]),
        bool(row["current"]),
    )  # fmt: skip


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        shot=row["shot"],
        spec=JobSpec(**json.loads(row["spec"])),
        state=JobState(row["state"]),
        priority=row["priority"],
        message=row["message"],
        error=row["error"],
        progress=Progress(**json.loads(row["progress"])),
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
        sequence=row["sequence"],
        frames_done=row["frames_done"],
    )
