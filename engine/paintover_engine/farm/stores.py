"""The store of a farm's tasks: a folder that all machines see, or an object store's URL."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from paintover_engine.farm.leases import FolderLeases, LeaseFiles, ObjectLeases
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.object_store import ObjectStore
from paintover_engine.jobs.objects import Objects, is_url
from paintover_engine.jobs.store import LEFTOVER_SECONDS, Store


def open_store(place: str, scratch: Path) -> tuple[Store, LeaseFiles]:
    """The store, and where its leases lie. scratch: a folder of this process's, for copies of an object store's files.

    Raises PaintoverError where the place cannot be used."""
    if is_url(place):
        data = DataFolder(scratch)
        data.create()
        objects = Objects(place)
        return ObjectStore(data, objects), ObjectLeases(objects)
    data = DataFolder(Path(place).absolute())
    data.create(private=False)
    for leftover in data.temporary.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(leftover)
    return Store(data), FolderLeases(data.root / "leases")
