from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.entities import JobFrame, JobSpec, JobState, Shot, StoredKeyframe
from paintover_engine.jobs.queue import Queue
from paintover_engine.media.keyframe_kind import KeyframeKind

SPEC = JobSpec("draft", {"mode": "auto"}, "", ["s/0-aa"], "/out.mov", False, "", False)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path / "queue.sqlite")
    queue.put_shot(Shot("s", "/plate.mov", None, None, "", False, None))
    yield queue
    queue.close()


def keyframe(name: str, frame: int) -> StoredKeyframe:
    return StoredKeyframe(f"s/{frame}-{name}", "s", frame, name, False, ["converted"], True)


def test_new_keyframe_replaces_that_of_its_frame(queue: Queue) -> None:
    queue.put_keyframe(keyframe("aa", 3))
    queue.put_keyframe(keyframe("bb", 3))
    queue.put_keyframe(keyframe("cc", 1))
    assert [k.digest for k in queue.keyframes("s")] == ["cc", "bb"]
    assert queue.keyframe("s/3-aa").notes == ["converted"]
    queue.put_keyframe(keyframe("aa", 3))
    assert [k.digest for k in queue.keyframes("s")] == ["cc", "aa"]


def test_unfinished_twin_is_returned_instead_of_a_copy(queue: Queue) -> None:
    first = queue.add_job("s", SPEC, 0)
    assert queue.add_job("s", SPEC, 0).id == first.id
    first.state = JobState.CANCELLED
    queue.update_job(first)
    assert queue.add_job("s", SPEC, 0).id != first.id


def test_jobs_are_ordered_by_priority_then_age(queue: Queue) -> None:
    made = [
        queue.add_job("s", JobSpec(**{**vars(SPEC), "output": f"/{n}.mov"}), priority).id
        for n, priority in enumerate([0, 5, 5, -1])
    ]
    assert [job.id for job in queue.jobs()] == [made[1], made[2], made[0], made[3]]


def test_changes_since_a_sequence_number(queue: Queue) -> None:
    job = queue.add_job("s", SPEC, 0)
    queue.add_frames(job, [JobFrame(0, "k0", 1.0)])
    seen = job.sequence
    assert queue.changed_jobs(seen + 1) == []
    queue.add_frames(job, [JobFrame(1, "k1", 0.5), JobFrame(2, "k1", 0.25)])
    (changed,) = queue.changed_jobs(seen + 1)
    assert changed.frames_done == 3
    assert [frame.number for frame in queue.frames(job.id, seen + 1)] == [1, 2]


def test_progress_does_not_overwrite_the_state(queue: Queue) -> None:
    running = queue.add_job("s", SPEC, 0)
    stale = queue.job(running.id)
    running.state = JobState.CANCELLED
    queue.update_job(running)
    stale.progress.fraction = 0.5
    queue.update_progress(stale)
    after = queue.job(running.id)
    assert (after.state, after.progress.fraction) == (JobState.CANCELLED, 0.5)


def test_reopened_queue_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    queue = Queue(path)
    queue.put_shot(Shot("s", "/plate.mov", 1, 9, "ACEScg", False, None))
    job = queue.add_job("s", SPEC, 3)
    queue.add_frames(job, [JobFrame(0, "k0", 1.0)])
    last = queue.sequence
    queue.close()
    again = Queue(path)
    assert again.shot("s") == Shot("s", "/plate.mov", 1, 9, "ACEScg", False, None)
    assert again.job(job.id).spec == SPEC
    assert again.sequence == last
    again.close()


def test_shared_results_outlive_a_deleted_job(queue: Queue) -> None:
    one = queue.add_job("s", SPEC, 0)
    two = queue.add_job("s", JobSpec(**{**vars(SPEC), "output": "/b.mov"}), 0)
    queue.add_frames(one, [JobFrame(0, "shared", 1.0), JobFrame(1, "own", 1.0)])
    queue.add_frames(two, [JobFrame(0, "shared", 1.0)])
    assert queue.delete_job(one.id) == ["own"]
    assert queue.delete_job(two.id) == ["shared"]


def test_shot_with_jobs_is_not_deleted(queue: Queue) -> None:
    job = queue.add_job("s", SPEC, 0)
    with pytest.raises(PaintoverError, match=rf"still has jobs \({job.id}\)"):
        queue.delete_shot("s")
    queue.delete_job(job.id)
    queue.delete_shot("s")
    assert queue.shots() == []


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(PaintoverError, match="newer Paintover") as caught:
        Queue(path)
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(PaintoverError, match="cannot be read"):
        Queue(path)
    assert path.read_bytes().startswith(b"not a database")


def spec(name: str) -> JobSpec:
    return JobSpec(**{**vars(SPEC), "output": name})


def order(queue: Queue) -> list[int]:
    return [job.id for job in queue.jobs()]


def test_job_is_moved_before_another(queue: Queue) -> None:
    a, b, c = (queue.add_job("s", spec(name), 0) for name in "abc")
    queue.place_before(c, a)
    assert order(queue) == [c.id, a.id, b.id]
    urgent = queue.add_job("s", spec("d"), 5)
    queue.place_before(b, urgent)
    assert order(queue) == [b.id, urgent.id, c.id, a.id]
    queue.place_last(queue.job(c.id))
    assert order(queue) == [b.id, urgent.id, a.id, c.id]


def test_jobs_can_be_moved_often(queue: Queue) -> None:
    first, *others = (queue.add_job("s", spec(str(n)), 0) for n in range(4))
    for n in range(200):
        queue.place_before(queue.job(others[n % 3].id), queue.job(first.id))
    assert order(queue)[-1] == first.id
    assert order(queue)[-2] == others[199 % 3].id


def test_unclean_stop_is_known_to_the_next_session(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    first = Queue(path)
    assert first.begin_session() is None
    first.close()
    second = Queue(path)
    assert second.begin_session() == 1
    second.end_session()
    second.close()
    third = Queue(path)
    assert third.begin_session() is None
    third.close()


def test_replaced_keyframe_without_a_job_is_unused(queue: Queue) -> None:
    for name in ("aa", "bb", "cc"):
        queue.put_keyframe(keyframe(name, 0))
    assert queue.unused_keyframes() == ["aa", "bb"]
    queue.add_job("s", SPEC, 0)  # made with s/0-aa
    assert queue.unused_keyframes() == ["bb"]
    queue.forget_keyframes(["bb"])
    assert queue.unused_keyframes() == []


def test_correction_and_keyframe_of_a_frame_stand_side_by_side(queue: Queue) -> None:
    held = dataclasses.replace(keyframe("hh", 0), kind=KeyframeKind.HOLDOUT)
    queue.put_keyframe(keyframe("aa", 0))
    queue.put_keyframe(held)
    assert [each.digest for each in queue.keyframes("s")] == ["aa"]
    assert queue.corrections("s") == [held]
    queue.put_keyframe(dataclasses.replace(keyframe("rr", 0), kind=KeyframeKind.ROTO))
    assert queue.unused_keyframes() == ["hh"]
    queue.add_job("s", dataclasses.replace(SPEC, corrections=[held.id]), 0)
    assert queue.unused_keyframes() == []
