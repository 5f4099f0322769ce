"""A JSON file for each job, beside the queue's database, from which a damaged queue is restored.

A record is replaced whole at each change of a job's state, order or message. It holds the job, its shot, its keyframes
and the keys of its results; the frames of a result are read from the result's files. Not recorded, and so not restored:
progress between two such changes, and shots and keyframes that no job uses.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from paintover_engine.jobs.entities import Job, JobFrame, JobProgress, JobSpec, JobState, Shot, StoredKeyframe
from paintover_engine.jobs.queue import Queue
from paintover_engine.jobs.store import Store
from paintover_engine.media.info import SourceInfo

log = logging.getLogger(__name__)

FORMAT = 1
_FILES = ("", "-wal", "-shm")


def write(queue: Queue, folder: Path, job: Job) -> None:
    """Writes a job's record. Where the disk fails, the job goes on without one."""
    shot = queue.shot(job.shot)
    described = dataclasses.asdict(job)
    described["state"] = job.state.value
    record = {
        "format": FORMAT,
        "job": described,
        "shot": {**vars(shot), "info": shot.info.to_json() if shot.info else None},
        "keyframes": [vars(queue.keyframe(name)) for name in job.spec.keyframes],
        "results": sorted(queue.result_keys(job.id)),
    }
    path = folder / f"{job.id}.json"
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(record))
        partial.replace(path)
    except OSError as error:
        log.warning("the job's record could not be written: %s", error, extra={"job": job.id})


def remove(folder: Path, job_id: int) -> None:
    """Removes a job's record."""
    with contextlib.suppress(OSError):
        (folder / f"{job_id}.json").unlink(missing_ok=True)


def numbers(folder: Path) -> set[int]:
    """The jobs that have a record."""
    return {_number(path) for path in folder.glob("*.json")}


def set_aside(database: Path) -> Path:
    """Renames a damaged queue's files, so that nothing of it is lost; returns the database's new name."""
    number = 1
    while (aside := database.with_name(f"{database.stem}-damaged-{number}{database.suffix}")).exists():
        number += 1
    for suffix in _FILES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{database}{suffix}").rename(f"{aside}{suffix}")
    return aside


def restore(queue: Queue, store: Store, folder: Path) -> tuple[int, int]:
    """Adds all recorded jobs to an empty queue, with the frames of their results.

    Returns how many jobs were restored, and how many records could not be read."""
    restored = unread = 0
    for path in sorted(folder.glob("*.json"), key=_number):
        if _restore(queue, store, path):
            restored += 1
        else:
            unread += 1
    return restored, unread


def _number(path: Path) -> int:
    return int(path.stem) if re.fullmatch(r"\d+", path.stem) else 0


def _restore(queue: Queue, store: Store, path: Path) -> bool:
    try:
        record = json.loads(path.read_text())
        shot, job = record["shot"], record["job"]
        shot["info"] = SourceInfo.from_json(shot["info"]) if shot["info"] else None
        job["spec"], job["progress"] = JobSpec(**job["spec"]), JobProgress(**job["progress"])
        job["state"] = JobState(job["state"])
        queue.put_shot(Shot(**shot))
        for keyframe in record["keyframes"]:
            queue.put_keyframe(StoredKeyframe(**keyframe))
        queue.restore_job(Job(**job), list(_frames(store, record["results"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the record %s cannot be read: %r", path, error)
        return False
    return True


def _frames(store: Store, keys: list[str]) -> Iterator[JobFrame]:
    """The frames of results by their keys. Results that are gone or damaged are left out; a retry computes them."""
    for key in keys:
        if store.is_whole(key, publishes=True):
            for frame in store.frames(key):
                yield JobFrame(frame.number, key, frame.confidence)
