"""Opening a queue that lost something: what records have comes back, what cannot be read stands alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from paintover_engine.jobs import outputs, records
from paintover_engine.jobs.cache import Cache
from paintover_engine.jobs.entities import Job, JobFrame, JobSpec, JobState, Shot, StoredKeyframe
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.queue import Queue
from paintover_engine.jobs.recovery import OpenedQueue, open_queue
from paintover_engine.jobs.store import Store
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe_kind import KeyframeKind
from paintover_engine.methods.stage import ResultFrame

SHOT = "0123456789ab"
INFO = SourceInfo(
    path="/plate.mov", kind="video", first=0, last=0, width=8, height=8, sample="uint8", channels=3,
    rate=None, variable_rate=False, format="", colorspace="", scene_linear=False, pixel_aspect=Fraction(1),
    timecode="", has_audio=False, notes=(), fingerprint="ff",
)  # fmt: skip
RESULTS = ["11" * 32, "22" * 32, "33" * 32]


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder with three finished jobs of one frame each, which a daemon left in good order."""
    folder = DataFolder(tmp_path)
    folder.create()
    opened = reopen(folder)
    queue = opened.queue
    queue.put_shot(Shot(SHOT, "/plate.mov", None, None, "", False, INFO))
    for number, key in enumerate(RESULTS):
        keyframe = f"{SHOT}/0-{number:012d}"
        queue.put_keyframe(StoredKeyframe(keyframe, SHOT, 0, f"{number:064d}", False, [], True))
        spec = JobSpec("draft", {}, "", [keyframe], f"/{number}.mov", False, "", False)
        finish(queue, queue.add_job(SHOT, spec, 0), key)
        frame = ResultFrame(0, (0, 0, 1, 1), np.ones((1, 1, 4), np.float16), 0.5)
        outputs.save_frames(Store(folder), key, [frame], (8, 8))
    close(queue)
    return folder


def finish(queue: Queue, job: Job, key: str) -> None:
    queue.add_frames(job, [JobFrame(0, key, 0.5)])
    job.state = JobState.DONE
    queue.update_job(job)


def close(queue: Queue) -> None:
    queue.end_session()
    queue.close()


def reopen(folder: DataFolder) -> OpenedQueue:
    return open_queue(folder, Store(folder))


def lose_database(folder: DataFolder) -> None:
    for path in folder.root.glob("queue.sqlite*"):
        path.unlink()


@pytest.mark.parametrize("empty", [True, False])
def test_missing_or_empty_database_is_restored(folder: DataFolder, empty: bool) -> None:
    lose_database(folder)
    if empty:
        folder.database.touch()
    opened = reopen(folder)
    assert [job.state for job in opened.queue.jobs()] == [JobState.DONE] * 3
    assert opened.queue.shown_keys() == set(RESULTS)
    assert [keyframe.digest for keyframe in opened.queue.keyframes(SHOT)] == [f"{2:064d}"]
    assert "3 jobs were put back" in " ".join(opened.notes)
    close(opened.queue)
    assert reopen(folder).notes == []


def test_number_of_a_deleted_job_is_not_used_again(folder: DataFolder) -> None:
    opened = reopen(folder)
    records.remove(folder.records, 3)
    opened.queue.delete_job(3)
    close(opened.queue)
    lose_database(folder)
    queue = reopen(folder).queue
    assert queue.ids() == {1, 2}
    spec = dataclasses.replace(queue.job(1).spec, output="/other.mov")
    assert queue.add_job(SHOT, spec, 0).id == 4
    queue.close()


def test_jobs_newer_than_the_database_are_restored(folder: DataFolder, tmp_path: Path) -> None:
    opened = reopen(folder)
    opened.queue.close()  # without the end of its session
    older = tmp_path / "older.sqlite"
    shutil.copy(folder.database, older)
    queue = reopen(folder).queue
    job = queue.job(2)
    job.state, job.priority = JobState.CANCELLED, 7
    queue.update_job(job)
    added = queue.add_job(SHOT, dataclasses.replace(job.spec, output="/new.mov"), 0)
    queue.close()
    lose_database(folder)
    shutil.move(older, folder.database)
    queue = reopen(folder).queue
    assert (queue.job(2).state, queue.job(2).priority) == (JobState.CANCELLED, 7)
    assert queue.job(added.id).state is JobState.QUEUED
    assert queue.job(1).frames_done == 1
    queue.close()


@pytest.mark.parametrize("column", ["spec", "state", "progress"])
def test_damaged_row_does_not_hide_the_others(folder: DataFolder, column: str) -> None:
    with sqlite3.connect(folder.database) as db:
        db.execute(f"UPDATE jobs SET {column} = '{{\"broken' WHERE id = 2")
    db.close()
    queue = reopen(folder).queue
    assert [job.state for job in queue.jobs()] == [JobState.DONE] * 3  # its record had it
    queue.close()


def test_damaged_shot_is_restored_from_a_record(folder: DataFolder) -> None:
    with sqlite3.connect(folder.database) as db:
        db.execute("UPDATE shots SET info = '{\"path'")
    db.close()
    queue = reopen(folder).queue
    assert queue.shot(SHOT).info == INFO
    queue.close()


def test_damaged_row_without_a_record_is_set_aside(folder: DataFolder) -> None:
    with sqlite3.connect(folder.database) as db:
        db.execute("UPDATE jobs SET spec = 'broken' WHERE id = 2")
    db.close()
    (folder.records / "2.json").unlink()
    opened = reopen(folder)
    assert opened.queue.ids() == {1, 3}
    aside = folder.root / "job-2-damaged.json"
    assert json.loads(aside.read_text())["spec"] == "broken"
    assert f"job 2 in the queue was damaged; what is left of it is kept as {aside}" in opened.notes[0]
    opened.queue.close()


def test_results_of_an_unreadable_record_are_not_pruned(folder: DataFolder) -> None:
    record = folder.records / "2.json"
    record.write_text(record.read_text().replace('"format"', '"format', 1))
    lose_database(folder)
    opened = reopen(folder)
    assert opened.queue.ids() == {1, 3}
    assert "1 could not be read" in opened.notes[0]
    cache = Cache(folder)
    cache.take(cache.scan())
    cache.evict(0, set(), opened.queue.shown_keys)
    assert all(Store(folder).has(key, publishes=True) for key in RESULTS)
    opened.queue.close()


def test_corrections_of_a_job_come_back_from_its_record(folder: DataFolder) -> None:
    queue = reopen(folder).queue
    held = StoredKeyframe(
        f"{SHOT}/9-{'a' * 12}", SHOT, 9, "a" * 64, False, [], True, ["/hold.png"], KeyframeKind.HOLDOUT
    )
    queue.put_keyframe(held)
    job = queue.add_job(SHOT, dataclasses.replace(queue.job(1).spec, corrections=[held.id]), 0)
    finish(queue, job, RESULTS[0])
    close(queue)
    lose_database(folder)
    queue = reopen(folder).queue
    assert queue.job(job.id).spec.corrections == [held.id]
    assert queue.corrections(SHOT) == [held]
    close(queue)
