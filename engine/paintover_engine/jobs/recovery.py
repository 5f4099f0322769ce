"""What a daemon does about the one before it: a damaged queue is restored, damaged results are computed again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

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
    """Opens the data folder's queue. A damaged file is renamed, and a new one restored from the jobs' records."""
    notes: list[str] = []
    try:
        queue = Queue(folder.database)
    except QueueDamaged as damage:
        log.error("%s", damage.message)
        damaged = records.set_aside(folder.database)
        queue = Queue(folder.database)
        restored, unread = records.restore(queue, store, folder.records)
        lost = f"; {unread} could not be read" if unread else ""
        notes.append(
            f"The queue's file was damaged and is kept as {damaged}: {restored} jobs were put back{lost}, "
            "with the frames they had; shots and keyframes that no job used are to be given again."
        )
        log.error("%s", notes[-1])
    queue.changed = lambda job: records.write(queue, folder.records, job)
    for number in queue.ids() - records.numbers(folder.records):  # jobs of a version that wrote no records
        queue.changed(queue.job(number))
    try:
        unclean_since = queue.begin_session()
    except QueueUnwritable as error:
        if error.code is not Code.RESOURCE_EXHAUSTED:
            raise
        notes.append(error.message)  # a full disk must not keep the daemon from starting: it is needed to make room
        unclean_since = 0
    return OpenedQueue(queue, notes, unclean_since)


async def check_results(queue: Queue, store: Store, since: int) -> None:
    """Checks the results that were published from a sequence number on, and all of unfinished jobs, by their checksums.

    Damaged ones are removed; a job that was done with them has failed."""
    keys = queue.result_keys(since=since)
    for job in queue.jobs(*UNFINISHED):
        keys |= queue.result_keys(job.id)
    damaged = [key for key in keys if not await asyncio.to_thread(store.is_whole, key, True)]
    for key in damaged:
        store.remove(key, publishes=True)
    for number, frames in queue.drop_frames(damaged).items():
        job = queue.job(number)
        log.warning("frames %s were damaged on disk", frames, extra={"job": number})
        if job.state is JobState.DONE:
            job.state, job.error = JobState.FAILED, Code.DATA_LOSS.value
            job.message = f"{len(frames)} of its frames were damaged on disk; retry it, the others are kept."
            queue.update_job(job)
