"""A JSON file for each job, beside the queue's database, from which a damaged queue is restored.

A record is replaced whole at each change of a job's state, order or message. It holds the job, its shot, its keyframes
and the keys of its results; the frames of a result are read from the result's files. Not recorded, and so not restored:
progress between two such changes, and shots and keyframes that no job uses. The highest number of a deleted job is
recorded too, so that no number is ever given to another job.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paintover_engine.durable import sync_folder, write_file
from paintover_engine.jobs.entities import Job, JobFrame, JobProgress, JobSpec, JobState, Shot, StoredKeyframe
from paintover_engine.jobs.kept import keys_by_frame
from paintover_engine.jobs.queue import Queue
from paintover_engine.jobs.store import Store
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe_kind import KeyframeKind

log = logging.getLogger(__name__)

FORMAT = 1
_FILES = ("", "-wal", "-shm")
_HIGHEST = "highest"


def write(queue: Queue, folder: Path, job: Job) -> None:
    """Writes a job's record. Where the disk fails, the job goes on without one."""
    shot = queue.shot(job.shot)
    described = dataclasses.asdict(job)
    described["state"] = job.state.value
    record = {
        "format": FORMAT,
        "job": described,
        "shot": {**vars(shot), "info": shot.info.to_json() if shot.info else None},
        "keyframes": [vars(queue.keyframe(name)) for name in job.spec.pictures],
        "results": sorted(queue.result_keys(job.id)),
    }
    path = folder / f"{job.id}.json"
    try:
        write_file(path, json.dumps(record))
    except OSError as error:
        log.warning("the job's record could not be written: %s", error, extra={"job": job.id})


def remove(folder: Path, job_id: int) -> None:
    """Removes the record of a job that is to be deleted, and records that its number was used."""
    with contextlib.suppress(OSError):
        if job_id > _highest_deleted(folder):
            write_file(folder / _HIGHEST, str(job_id))
        (folder / f"{job_id}.json").unlink(missing_ok=True)
        sync_folder(folder)


def numbers(folder: Path) -> set[int]:
    """The jobs that have a record."""
    return {int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal()}


def highest(folder: Path) -> int:
    """The highest job number that is known to have been used."""
    return max(_highest_deleted(folder), *numbers(folder), 0)


def _highest_deleted(folder: Path) -> int:
    try:
        return int((folder / _HIGHEST).read_text())
    except (OSError, ValueError):
        return 0


def set_aside(database: Path) -> Path:
    """Renames a damaged queue's files, so that nothing of it is lost; returns the database's new name."""
    number = 1
    while (aside := database.with_name(f"{database.stem}-damaged-{number}{database.suffix}")).exists():
        number += 1
    for suffix in _FILES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{database}{suffix}").rename(f"{aside}{suffix}")
    return aside


@dataclass(frozen=True)
class Record:
    """What a record holds. results: keys of the stages that published the job's frames."""

    job: Job
    shot: Shot
    keyframes: list[StoredKeyframe]
    results: list[str]


def read(folder: Path, number: int) -> Record | None:
    """A job's record; None where it cannot be read."""
    path = folder / f"{number}.json"
    try:
        record = json.loads(path.read_text())
        shot, job = record["shot"], record["job"]
        shot["info"] = SourceInfo.from_json(shot["info"]) if shot["info"] else None
        job["spec"], job["progress"] = JobSpec(**job["spec"]), JobProgress(**job["progress"])
        job["state"] = JobState(job["state"])
        keyframes = [_keyframe(**keyframe) for keyframe in record["keyframes"]]
        return Record(Job(**job), Shot(**shot), keyframes, [str(key) for key in record["results"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the record %s cannot be read: %r", path, error)
        return None


def _keyframe(kind: str = KeyframeKind.PAINT, **values: Any) -> StoredKeyframe:
    """kind: missing in records of versions that had keyframes alone."""
    return StoredKeyframe(**values, kind=KeyframeKind(kind))


def keys_in(folder: Path, number: int) -> set[str]:
    """All that look like keys and digests in a record that cannot be read: what must not be removed because of it."""
    with contextlib.suppress(OSError):
        return set(re.findall(r"[0-9a-f]{64}", (folder / f"{number}.json").read_text(errors="replace")))
    return set()


def restore(queue: Queue, store: Store, record: Record) -> None:
    """Gives the queue a recorded job, with its shot and keyframes where they are missing, and the frames of its
    results. A result that is gone or damaged is left out; a retry computes it again."""
    if record.shot.id not in {shot.id for shot in queue.shots()}:
        queue.put_shot(record.shot)
    for keyframe in record.keyframes:
        queue.restore_keyframe(keyframe)
    queue.restore_job(record.job, list(_frames(store, record.results, keys_by_frame(record.job.spec.kept))))


def _frames(store: Store, keys: list[str], kept: Mapping[int, str]) -> Iterator[JobFrame]:
    """The frames of a job. keys: of the stages that published them; kept: those of the frames of an earlier job."""
    earlier = set(kept.values())
    for key in keys:
        if store.is_whole(key, publishes=True):
            for frame in store.frames(key):
                if kept.get(frame.number, "" if key in earlier else key) == key:
                    yield JobFrame(frame.number, key, frame.confidence, frame.reason)
