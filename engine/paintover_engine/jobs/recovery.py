"""What a daemon does about the one before it: a damaged queue is restored, damaged results are computed again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from paintover_engine.durable import write_file
from paintover_engine.errors import Code
from paintover_engine.jobs import records
from paintover_engine.jobs.database import QueueDamaged, QueueUnwritable
from paintover_engine.jobs.entities import UNFINISHED, JobState
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.queue import Queue
from paintover_engine.jobs.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedQueue:
    """A queue, ready to use.

    notes: for the user. unclean_since: the sequence number from which on results are to be checked, because the last
    daemon did not stop in good order; None where it did."""

    queue: Queue
    notes: list[str]
    unclean_since: int | None


def open_queue(folder: DataFolder, store: Store) -> OpenedQueue:
    """Opens the data folder's queue. A damaged file is renamed and begun anew; what the file lacks, or has in an older
    state, is restored from the jobs' records."""
    notes: list[str] = []
    damaged = ""
    try:
        queue = Queue(folder.database)
    except QueueDamaged as damage:
        log.error("%s", damage.message)
        damaged = f"The queue's file was damaged and is kept as {records.set_aside(folder.database)}: "
        queue = Queue(folder.database)
    queue.changed = lambda job: records.write(queue, folder.records, job)
    try:
        notes += _set_damaged_jobs_aside(queue, folder)
        unclean_since = queue.begin_session()
        notes += _restore(queue, store, folder, damaged, compare=unclean_since is not None)
    except QueueUnwritable as error:
        if error.code is not Code.RESOURCE_EXHAUSTED:
            raise
        notes.append(error.message)  # a full disk must not keep the daemon from starting: it is needed to make room
        unclean_since = 0
    return OpenedQueue(queue, notes, unclean_since)


def _set_damaged_jobs_aside(queue: Queue, folder: DataFolder) -> list[str]:
    """Takes jobs whose row cannot be read out of the queue, so that the others can be used; returns notes."""
    notes = []
    recorded = records.numbers(folder.records)
    for number, row in queue.take_damaged_jobs().items():
        aside = folder.root / f"job-{number}-damaged.json"
        write_file(aside, json.dumps(row, default=str))
        log.error("the queue's entry was damaged", extra={"job": number})
        if number not in recorded:
            notes.append(f"The entry of job {number} in the queue was damaged; what is left of it is kept as {aside}.")
    return notes


def _restore(queue: Queue, store: Store, folder: DataFolder, damaged: str, compare: bool) -> list[str]:
    """Restores jobs from their records and returns notes.

    compare: restores also those that the queue has in an older state, as after a power cut; without, only those that
    it lacks. damaged: the beginning of the note where the file was damaged."""
    known, recorded = queue.ids(), records.numbers(folder.records)
    damaged_shots = queue.clear_damaged_shots()
    queue.reserve_numbers(records.highest(folder.records))
    restored, unreadable = 0, set()
    to_read = recorded if compare or damaged_shots else recorded - known
    for number in sorted(to_read, reverse=True):  # the newest first: its keyframes are the current ones
        record = records.read(folder.records, number)
        if record is None:
            unreadable.add(number)
        elif number not in known or record.job.sequence > queue.job(number).sequence:
            records.restore(queue, store, record)
            restored += number not in known
        if record and record.shot.id in damaged_shots:
            queue.put_shot(record.shot)
    for number in (known - recorded) | (known & unreadable):
        queue.changed(queue.job(number))
    unread = unreadable - known
    for number in unread:
        queue.protected |= records.keys_in(folder.records, number)
    notes = []
    if damaged or restored:
        lost = f"; {len(unread)} could not be read" if unread else ""
        begin = damaged or "The queue's file lacked jobs of which there are records: "
        notes.append(
            f"{begin}{restored} jobs were put back{lost}, with the frames they had; shots and keyframes that no job "
            "used are to be given again."
        )
        log.error("%s", notes[-1])
    elif unread:
        names = ", ".join(str(folder.records / f"{number}.json") for number in sorted(unread))
        notes.append(f"Jobs could not be restored because their records cannot be read: {names}.")
    return notes


async def check_results(queue: Queue, store: Store, since: int) -> None:
    """Checks the results that were published from a sequence number on, and all of unfinished jobs, by their checksums;
    drops damaged ones."""
    keys = queue.result_keys(since=since)
    for job in queue.jobs(*UNFINISHED):
        keys |= queue.result_keys(job.id)
    drop_results(queue, store, [key for key in keys if not await asyncio.to_thread(store.is_whole, key, True)])


def drop_results(queue: Queue, store: Store, damaged: Sequence[str]) -> None:
    """Removes damaged results by their keys; a job that was done with them has failed, and can be retried."""
    for key in damaged:
        store.remove(key, publishes=True)
    for number, frames in queue.drop_frames(damaged).items():
        job = queue.job(number)
        log.warning("frames %s were damaged on disk", frames, extra={"job": number})
        if job.state is JobState.DONE:
            job.state, job.error = JobState.FAILED, Code.DATA_LOSS.value
            job.message = f"{len(frames)} of its frames were damaged on disk; retry it, the others are kept."
            queue.update_job(job)
