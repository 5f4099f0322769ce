"""Plates in a store: for machines that see a plate under no path."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from paintover_engine.errors import PaintoverError
from paintover_engine.farm import job_file
from paintover_engine.farm.job_file import FarmJob
from paintover_engine.jobs.path_mapping import PathMap
from paintover_engine.jobs.store import Store
from paintover_engine.media.copies import files_to_copy, find_copy, path_in_copy
from paintover_engine.media.info import SourceInfo


def store_plate(store: Store, job: FarmJob, bundle: Path, mapped: PathMap) -> None:
    """Copies a job's plate into the store, by its content, unless it is there. Raises PaintoverError as
    `job_file.find_source`."""
    source = job_file.find_source(job, bundle, mapped)
    if store.has(job.content, publishes=False):
        return
    with store.writing(job.content, publishes=False) as folder:
        for path in files_to_copy(source):
            shutil.copyfile(path, folder / path.name)


def find_plate(store: Store, job: FarmJob, bundle: Path, mapped: PathMap) -> SourceInfo:
    """A job's source on this machine: where its path leads, else from the store. Raises PaintoverError where it is in
    neither."""
    try:
        return job_file.find_source(job, bundle, mapped)
    except PaintoverError:
        if not store.has(job.content, publishes=False):
            raise
        return find_copy(job.info, path_in_copy(job.info, store.fetched(job.content, publishes=False)), job.content)


def put_keyframe(store: Store, path: Path) -> None:
    """Copies a keyframe's file, which is named by its digest, into the store's folder."""
    stored = store.folder.keyframes / path.name
    if not stored.exists():
        partial = store.folder.temporary / f"keyframe-{uuid.uuid4().hex[:8]}"
        shutil.copyfile(path, partial)
        partial.replace(stored)
