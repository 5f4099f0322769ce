"""The queue: shots, keyframes, jobs and the frames that jobs made, in one SQLite file.

Every change of a job takes the next sequence number, which is stored with what changed. A watcher asks for all changes
since the last number that it saw, so a client that reconnects misses nothing and no log of events grows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from paintover_engine.compose.reason import Reason
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.database import Database
from paintover_engine.jobs.entities import (
    Job,
    JobFrame,
    JobProgress,
    JobSpec,
    JobState,
    Shot,
    StoredKeyframe,
    WaitingJob,
)
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe_kind import KeyframeKind


class Queue:
    """The queue's file, which one process writes. Calls are short and block, so none is interrupted by another task."""

    def __init__(self, path: Path, changed: Callable[[Job], None] = lambda job: None) -> None:
        """Opens the file, or creates it.

        changed: called after a job's state, priority, order or message changed.
        protected: keys and digests that an unreadable record names, which are not to be removed.
        Raises PaintoverError for a file of a newer version, QueueDamaged for one that is no queue."""
        self._db = Database(path)
        self.changed = changed
        self._shots: dict[str, Shot] = {}  # read often, written only here
        self.protected: set[str] = set()
        self.sequence: int = self._db.rows("SELECT coalesce(max(sequence), 0) FROM jobs")[0][0]

    def close(self) -> None:
        self._db.close()

    # Sessions.

    def begin_session(self) -> int | None:
        """Marks the queue as used by a daemon. Returns None where the one before stopped in good order, else the
        sequence number at which that one began: the results since then are to be checked."""
        row = self._row("SELECT clean, sequence FROM session")
        assert row
        self._db.rows("UPDATE session SET clean = 0, sequence = ?", (self.sequence + 1,))
        return None if row["clean"] else row["sequence"]

    def end_session(self) -> None:
        """Marks that the daemon stopped in good order."""
        self._db.rows("UPDATE session SET clean = 1")

    def _row(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
        rows = self._db.rows(statement, values)
        return rows[0] if rows else None

    # Shots.

    def put_shot(self, shot: Shot) -> None:
        """Adds a shot, or replaces what is known of its source."""
        self._shots.pop(shot.id, None)
        self._db.rows(
            "INSERT INTO shots (id, source, first, last, colorspace, uploaded, info, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET info = excluded.info",
            (
                shot.id, shot.source, shot.first, shot.last, shot.colorspace, shot.uploaded,
                shot.info.to_json() if shot.info else None, time.time(),
            ),
        )  # fmt: skip

    def shot(self, shot_id: str) -> Shot:
        if shot_id in self._shots:
            return self._shots[shot_id]
        row = self._row("SELECT * FROM shots WHERE id = ?", (shot_id,))
        if row is None:
            raise PaintoverError(Code.NOT_FOUND, f"There is no shot '{shot_id}'; create it first.")
        self._shots[shot_id] = _shot(row)
        return self._shots[shot_id]

    def clear_damaged_shots(self) -> set[str]:
        """Forgets what the sources of some shots are, where that cannot be read; returns the shots' ids."""
        damaged = set()
        for row in self._db.rows("SELECT * FROM shots"):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                _shot(row)
                continue
            damaged.add(row["id"])
        self._db.many("UPDATE shots SET info = NULL WHERE id = ?", [(shot_id,) for shot_id in damaged])
        return damaged

    def shots(self) -> list[Shot]:
        return [_shot(row) for row in self._db.rows("SELECT * FROM shots ORDER BY created")]

    def delete_shot(self, shot_id: str) -> None:
        """Deletes a shot and its keyframes; refused while it has jobs."""
        self.shot(shot_id)
        if jobs := self._db.rows("SELECT id FROM jobs WHERE shot = ?", (shot_id,)):
            numbers = ", ".join(str(row["id"]) for row in jobs)
            raise PaintoverError(Code.FAILED_PRECONDITION, f"The shot still has jobs ({numbers}); remove them first.")
        self._db.rows("DELETE FROM shots WHERE id = ?", (shot_id,))
        self._shots.pop(shot_id, None)

    # Keyframes.

    def put_keyframe(self, keyframe: StoredKeyframe) -> None:
        """Adds a keyframe, or a correction, and makes it the current one of its frame."""
        with self._db.transaction():
            self._db.rows(
                "UPDATE keyframes SET current = 0 WHERE shot = ? AND frame = ? AND (kind = ?) = ?",
                (keyframe.shot, keyframe.frame, KeyframeKind.PAINT.value, keyframe.kind is KeyframeKind.PAINT),
            )
            before = self._row("SELECT * FROM keyframes WHERE id = ?", (keyframe.id,))  # the same picture elsewhere
            files = dict.fromkeys([*(_keyframe(before).files if before else []), *keyframe.files])
            self._db.rows(
                "INSERT INTO keyframes "
                "(id, shot, frame, digest, has_matte, notes, current, created, files, kind, drag) "
                "VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET current = 1, files = excluded.files",
                (
                    keyframe.id, keyframe.shot, keyframe.frame, keyframe.digest, keyframe.has_matte,
                    json.dumps(keyframe.notes), time.time(), json.dumps(list(files)), keyframe.kind.value,
                    json.dumps(keyframe.drag),
                ),
            )  # fmt: skip

    def keyframe(self, keyframe_id: str) -> StoredKeyframe:
        row = self._row("SELECT * FROM keyframes WHERE id = ?", (keyframe_id,))
        if row is None:
            raise PaintoverError(Code.NOT_FOUND, f"There is no keyframe '{keyframe_id}'; put it first.")
        return _keyframe(row)

    def keyframes(self, shot_id: str) -> list[StoredKeyframe]:
        """The current keyframes of a shot, by frame."""
        return [keyframe for keyframe in self._current(shot_id) if keyframe.kind is KeyframeKind.PAINT]

    def corrections(self, shot_id: str) -> list[StoredKeyframe]:
        """The current corrections of a shot, by frame."""
        return [keyframe for keyframe in self._current(shot_id) if keyframe.kind is not KeyframeKind.PAINT]

    def _current(self, shot_id: str) -> list[StoredKeyframe]:
        rows = self._db.rows("SELECT * FROM keyframes WHERE shot = ? AND current ORDER BY frame", (shot_id,))
        return [_keyframe(row) for row in rows]

    def delete_keyframe(self, keyframe_id: str) -> None:
        """Removes a keyframe from the shot; jobs that use it still have it."""
        self.keyframe(keyframe_id)
        self._db.rows("UPDATE keyframes SET current = 0 WHERE id = ?", (keyframe_id,))

    def unused_keyframes(self) -> list[str]:
        """Digests of keyframes and corrections that were replaced and that no job uses."""
        rows = self._db.rows(
            "SELECT DISTINCT digest FROM keyframes AS k WHERE NOT EXISTS (SELECT 1 FROM keyframes AS o "
            "WHERE o.digest = k.digest AND (o.current OR EXISTS (SELECT 1 FROM jobs, json_each(jobs.spec, "
            "'$.keyframes') AS used WHERE used.value = o.id) OR EXISTS (SELECT 1 FROM jobs, json_each(jobs.spec, "
            "'$.corrections') AS used WHERE used.value = o.id)))"
        )
        return [row[0] for row in rows]

    def keyframe_digests(self) -> set[str]:
        """The digests of all keyframes of all shots."""
        return {row[0] for row in self._db.rows("SELECT digest FROM keyframes")}

    def forget_keyframes(self, digests: Sequence[str]) -> None:
        """Deletes keyframes by their digests."""
        self._db.many("DELETE FROM keyframes WHERE digest = ?", [(digest,) for digest in digests])

    def restore_keyframe(self, keyframe: StoredKeyframe) -> None:
        """Adds a keyframe that is missing. It is current only where it was and its frame has no current one."""
        self._db.rows(
            "INSERT OR IGNORE INTO keyframes "
            "(id, shot, frame, digest, has_matte, notes, current, created, files, kind, drag) "
            "VALUES (?, ?, ?, ?, ?, ?, ? AND NOT EXISTS "
            "(SELECT 1 FROM keyframes WHERE shot = ? AND frame = ? AND (kind = ?) = ? AND current), ?, ?, ?, ?)",
            (
                keyframe.id, keyframe.shot, keyframe.frame, keyframe.digest, keyframe.has_matte,
                json.dumps(keyframe.notes), keyframe.current, keyframe.shot, keyframe.frame,
                KeyframeKind.PAINT.value, keyframe.kind is KeyframeKind.PAINT, time.time(),
                json.dumps(keyframe.files), keyframe.kind.value, json.dumps(keyframe.drag),
            ),
        )  # fmt: skip

    # Jobs.

    def twin(self, shot: str, spec: JobSpec) -> Job | None:
        """An unfinished job of the same description; of a versioned one, whichever version it writes."""
        finished = [state.value for state in JobState if state.finished]
        rows = self._db.rows(f"{_JOBS} WHERE shot = ? AND state NOT IN (?, ?, ?) AND spec = ?", (
            shot, *finished, _spec_json(spec)))  # fmt: skip
        if not rows and spec.versioned:
            rows = self._db.rows(
                f"{_JOBS} WHERE shot = ? AND state NOT IN (?, ?, ?) "
                "AND json_remove(spec, '$.output', '$.mattes') = json_remove(?, '$.output', '$.mattes')",
                (shot, *finished, _spec_json(spec)),
            )
        return _job(rows[0]) if rows else None

    def add_job(self, shot: str, spec: JobSpec, priority: int) -> Job:
        """Queues a job, the last of its priority; an unfinished one of the same description is returned instead."""
        if twin := self.twin(shot, spec):
            return twin
        self.sequence += 1
        with self._db.transaction():
            (row,) = self._db.rows(
                "INSERT INTO jobs (shot, spec, state, priority, message, progress, created, sequence) "
                "VALUES (?, ?, ?, ?, '', ?, ?, ?) RETURNING id",
                (
                    shot, _spec_json(spec), JobState.QUEUED.value, priority, json.dumps(vars(JobProgress())),
                    time.time(), self.sequence,
                ),
            )  # fmt: skip
            last = self._db.rows("SELECT max(position) FROM jobs")[0][0]
            self._db.rows("UPDATE jobs SET position = ? WHERE id = ?", (max(last + 1, row["id"]), row["id"]))
        job = self.job(row["id"])
        self.changed(job)
        return job

    def restore_job(self, job: Job, frames: Sequence[JobFrame]) -> None:
        """Adds a job as its record has it, or replaces what the queue has of it; frames that it has stay."""
        self.sequence += 1
        job.sequence = self.sequence
        with self._db.transaction():
            self._db.rows(
                "INSERT INTO jobs (id, shot, spec, state, priority, message, error, progress, created, started, ended, "
                "sequence, position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "spec = excluded.spec, state = excluded.state, priority = excluded.priority, "
                "message = excluded.message, error = excluded.error, progress = excluded.progress, "
                "started = excluded.started, ended = excluded.ended, sequence = excluded.sequence, "
                "position = excluded.position",
                (
                    job.id, job.shot, _spec_json(job.spec), job.state.value, job.priority, job.message, job.error,
                    json.dumps(vars(job.progress)), job.created, job.started, job.ended, job.sequence, job.position,
                ),
            )  # fmt: skip
            self._insert_frames(job, frames)

    def take_damaged_jobs(self) -> dict[int, dict[str, object]]:
        """Deletes jobs whose rows cannot be read; returns what is left of them by their numbers."""
        self._db.rows("UPDATE keyframes SET notes = '[]' WHERE NOT json_valid(notes)")
        self._db.rows("UPDATE keyframes SET files = '[]' WHERE NOT json_valid(files)")
        self._db.rows("UPDATE jobs SET progress = '{}' WHERE NOT json_valid(progress)")
        damaged = {}
        for row in self._db.rows(_JOBS):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                _job(row)
                continue
            damaged[row["id"]] = dict(row)
        for number in damaged:
            self._db.rows("DELETE FROM jobs WHERE id = ?", (number,))
        return damaged

    def reserve_numbers(self, highest: int) -> None:
        """Gives no new job a number up to that one."""
        row = self._row("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
        if row is None:
            self._db.rows("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', ?)", (highest,))
        elif row["seq"] < highest:
            self._db.rows("UPDATE sqlite_sequence SET seq = ? WHERE name = 'jobs'", (highest,))

    def job(self, job_id: int) -> Job:
        row = self._row(f"{_JOBS} WHERE id = ?", (job_id,))
        if row is None:
            raise PaintoverError(Code.NOT_FOUND, f"There is no job {job_id}; `paintover jobs` lists them.")
        return _job(row)

    def jobs(self, *states: JobState) -> list[Job]:
        """Jobs in those states (all when none is given), most urgent first, then in their order."""
        where, values = _in_states(states)
        return [_job(row) for row in self._db.rows(f"{_JOBS}{where} ORDER BY priority DESC, position, id", values)]

    def count(self, *states: JobState) -> int:
        """How many jobs are in those states."""
        where, values = _in_states(states)
        return int(self._db.rows(f"SELECT count(*) FROM jobs{where}", values)[0][0])

    def ids(self) -> set[int]:
        """The numbers of all jobs."""
        return {row[0] for row in self._db.rows("SELECT id FROM jobs")}

    def waiting(self, *states: JobState) -> list[WaitingJob]:
        """Jobs in those states, most urgent first, as the scheduler needs them."""
        where, values = _in_states(states)
        rows = self._db.rows(
            "SELECT id, json_extract(spec, '$.method'), json_extract(spec, '$.prepare_only') "
            "OR json_array_length(spec, '$.keyframes') = 0, priority "
            f"FROM jobs{where} ORDER BY priority DESC, position, id",
            values,
        )
        return [WaitingJob(row[0], row[1], bool(row[2]), row[3]) for row in rows]

    def changed_jobs(self, since: int, job_id: int | None = None) -> list[Job]:
        """Jobs that changed at or after a sequence number, in the order of their last change."""
        only = "" if job_id is None else " AND id = ?"
        values = (since,) if job_id is None else (since, job_id)
        return [_job(row) for row in self._db.rows(f"{_JOBS} WHERE sequence >= ?{only} ORDER BY sequence", values)]

    def update_job(self, job: Job) -> None:
        """Stores a job's state, priority, place, message and times, as its next change."""
        self.sequence += 1
        job.sequence = self.sequence
        self._db.rows(
            "UPDATE jobs SET state = ?, priority = ?, position = ?, message = ?, error = ?, started = ?, ended = ?, "
            "sequence = ? WHERE id = ?",
            (
                job.state.value, job.priority, job.position, job.message, job.error, job.started, job.ended,
                job.sequence, job.id,
            ),
        )  # fmt: skip
        self.changed(job)

    def set_keyframes(self, job: Job, keyframes: Sequence[str], corrections: Sequence[str]) -> None:
        """Gives a job that waited for them its keyframes, and the shot's corrections."""
        job.spec = dataclasses.replace(job.spec, keyframes=list(keyframes), corrections=list(corrections))
        self._db.rows("UPDATE jobs SET spec = ? WHERE id = ?", (_spec_json(job.spec), job.id))

    def place_before(self, job: Job, other: Job) -> None:
        """Moves a job to just before another one, at that one's priority."""
        before = self._db.rows(
            "SELECT max(position) FROM jobs WHERE priority = ? AND position < ? AND id != ?",
            (other.priority, other.position, job.id),
        )[0][0]
        if before is None:
            before = other.position - 2
        if other.position - before < 1e-6:  # no room between the two: renumber all jobs
            with self._db.transaction():
                for place, row in enumerate(self._db.rows("SELECT id FROM jobs ORDER BY position, id"), start=1):
                    self._db.rows("UPDATE jobs SET position = ? WHERE id = ?", (float(place), row["id"]))
            return self.place_before(self.job(job.id), self.job(other.id))
        job.priority, job.position = other.priority, (before + other.position) / 2
        self.update_job(job)
        return None

    def place_last(self, job: Job) -> None:
        """Moves a job behind all others of its priority."""
        job.position = self._db.rows("SELECT max(position) FROM jobs")[0][0] + 1
        self.update_job(job)

    def update_progress(self, job: Job) -> None:
        """Stores a job's progress alone, as its next change: a state or priority that a client set meanwhile stays."""
        self.sequence += 1
        job.sequence = self.sequence
        with self._db.relaxed():
            self._set_progress(job)

    def _set_progress(self, job: Job) -> None:
        self._db.rows(
            "UPDATE jobs SET progress = ?, sequence = ? WHERE id = ?",
            (json.dumps(vars(job.progress)), job.sequence, job.id),
        )

    # Frames.

    def add_frames(self, job: Job, frames: Sequence[JobFrame]) -> None:
        """Stores frames of a job, with its progress, as its next change."""
        self.sequence += 1
        job.sequence = self.sequence
        with self._db.relaxed(), self._db.transaction():  # the store has the frames
            self._set_progress(job)
            self._insert_frames(job, frames)
        job.frames_done = self._db.rows("SELECT count(*) FROM job_frames WHERE job = ?", (job.id,))[0][0]

    def _insert_frames(self, job: Job, frames: Sequence[JobFrame]) -> None:
        self._db.many(
            "INSERT OR REPLACE INTO job_frames (job, number, key, confidence, sequence, reason) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [(job.id, each.number, each.key, each.confidence, job.sequence, int(each.reason)) for each in frames],
        )

    def frames(self, job_id: int, since: int = 0, below: float = 2.0) -> list[JobFrame]:
        """A job's frames, ascending. since: those that a change at or after that number added; below: those of less
        confidence."""
        rows = self._db.rows(
            "SELECT number, key, confidence, reason FROM job_frames WHERE job = ? AND sequence >= ? AND confidence < ? "
            "ORDER BY number",
            (job_id, since, below),
        )
        return [_frame(row) for row in rows]

    def frame(self, job_id: int, number: int) -> JobFrame | None:
        row = self._row(
            "SELECT number, key, confidence, reason FROM job_frames WHERE job = ? AND number = ?", (job_id, number)
        )
        return _frame(row) if row else None

    def result_keys(self, job_id: int | None = None, since: int = 0) -> set[str]:
        """Keys of the stages that published a job's frames (all jobs' when None), at or after a sequence number."""
        only, values = ("", (since,)) if job_id is None else (" AND job = ?", (since, job_id))
        return {row[0] for row in self._db.rows(f"SELECT key FROM job_frames WHERE sequence >= ?{only}", values)}

    def shown_keys(self) -> set[str]:
        """Keys of results that are not to be removed: a job shows them, or an unreadable record names them."""
        return self.result_keys() | self.protected

    def drop_frames(self, keys: Iterable[str]) -> dict[int, list[int]]:
        """Deletes the frames of some outputs; returns their numbers by the job that showed them."""
        lost: dict[int, list[int]] = {}
        with self._db.transaction():
            for key in keys:
                for row in self._db.rows("DELETE FROM job_frames WHERE key = ? RETURNING job, number", (key,)):
                    lost.setdefault(row["job"], []).append(row["number"])
        return {job: sorted(numbers) for job, numbers in lost.items()}

    def delete_job(self, job_id: int) -> list[str]:
        """Deletes a job; returns the keys of results that no other job shows."""
        with self._db.transaction():
            keys = self.result_keys(job_id)
            self._db.rows("DELETE FROM jobs WHERE id = ?", (job_id,))
            used = "SELECT 1 FROM job_frames WHERE key = ? LIMIT 1"
            return [key for key in keys if not self._db.rows(used, (key,))]


def _spec_json(spec: JobSpec) -> str:
    return json.dumps(vars(spec), sort_keys=True)


def _in_states(states: Sequence[JobState]) -> tuple[str, list[str]]:
    where = f" WHERE state IN ({', '.join('?' * len(states))})" if states else ""
    return where, [state.value for state in states]


_JOBS = "SELECT jobs.*, (SELECT count(*) FROM job_frames WHERE job = jobs.id) AS frames_done FROM jobs"


def _shot(row: sqlite3.Row) -> Shot:
    info = SourceInfo.from_json(row["info"]) if row["info"] else None
    return Shot(row["id"], row["source"], row["first"], row["last"], row["colorspace"], bool(row["uploaded"]), info)


def _keyframe(row: sqlite3.Row) -> StoredKeyframe:
    return StoredKeyframe(
        row["id"], row["shot"], row["frame"], row["digest"], bool(row["has_matte"]), json.loads(row["notes"]),
        bool(row["current"]), json.loads(row["files"]), KeyframeKind(row["kind"]),
        [tuple(point) for point in json.loads(row["drag"])],
    )  # fmt: skip


def _frame(row: sqlite3.Row) -> JobFrame:
    return JobFrame(row["number"], row["key"], row["confidence"], Reason(row["reason"]))


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        shot=row["shot"],
        spec=JobSpec(**json.loads(row["spec"])),
        state=JobState(row["state"]),
        priority=row["priority"],
        message=row["message"],
        error=row["error"],
        progress=JobProgress(**json.loads(row["progress"])),
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
        sequence=row["sequence"],
        position=row["position"],
        frames_done=row["frames_done"],
    )
