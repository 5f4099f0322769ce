"""What the engine's resources share."""

from __future__ import annotations

from dataclasses import dataclass

from paintover_engine.jobs.cache import Cache
from paintover_engine.jobs.changes import ChangeSignal
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.media_workers import MediaWorkers
from paintover_engine.jobs.queue import Queue
from paintover_engine.jobs.roots import AllowedRoots
from paintover_engine.jobs.scheduler import Scheduler
from paintover_engine.jobs.store import Store


@dataclass(frozen=True)
class EngineState:
    """One data folder's queue, stores and workers. views: the store of plates and pictures to look at."""

    folder: DataFolder
    queue: Queue
    store: Store
    views: Store
    cache: Cache
    roots: AllowedRoots
    media: MediaWorkers
    scheduler: Scheduler
    changes: ChangeSignal
