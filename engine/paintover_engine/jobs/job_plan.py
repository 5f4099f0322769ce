"""What a job still has to run: its stages as its worker declared them, less those whose output is in the store."""

from __future__ import annotations

import asyncio
import bisect
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.entities import JobProgress
from paintover_engine.jobs.protocol import PlannedStage
from paintover_engine.jobs.store import Store

log = logging.getLogger(__name__)


@dataclass
class JobPlan:
    """A job's stages in the order to run them, which of them devices run now, and what was measured of those that ran.

    worker, generation: the process that planned the job and writes its output; with another the job is planned anew.
    missing: stages still to run, by key. whole: cost of all stages; of a plan without keyframes, of what they would be
        with one. progress: the job's figures, one object for all devices that work on it.
    holders: the generation of each device's process that has the plan.
    running: keys of the stages that devices run now.
    waited: seconds in which any of its stages ran; less than their sum where several ran at a time.
    seconds, costs: of the stages that ran, by function.
    """

    worker: DeviceWorker
    generation: int
    stages: Sequence[PlannedStage]
    missing: dict[str, PlannedStage]
    whole: float
    progress: JobProgress
    holders: dict[DeviceWorker, int] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    waited: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._publishing = {stage.key for stage in self.stages if stage.publishes}
        self._places = {stage.key: place for place, stage in enumerate(self.stages)}
        self._find_ready()
        self._measured = 0.0  # on the monotonic clock: until when `waited` is counted
        self.holders[self.worker] = self.generation

    def _find_ready(self) -> None:
        """Sets what says, without going through the plan, how much is left and which stage is next: `left`, the cost of
        the missing stages; `_ready`, the places of the missing
        stages whose inputs are there, ascending; `_blocked`, of the others, how many inputs each waits for; `_readers`,
        the missing stages that read a missing one."""
        self.left = sum(stage.cost for stage in self.missing.values())
        self._readers: dict[str, list[str]] = {}
        self._blocked: dict[str, int] = {}
        self._ready: list[int] = []
        for key, stage in self.missing.items():
            inputs = {needed for needed in stage.inputs if needed in self.missing}
            for needed in inputs:
                self._readers.setdefault(needed, []).append(key)
            if inputs:
                self._blocked[key] = len(inputs)
            else:
                self._ready.append(self._places[key])

    @property
    def is_held(self) -> bool:
        """Whether the process that planned the job still runs."""
        return self.is_held_by(self.worker) and self.holders[self.worker] == self.generation

    def is_held_by(self, worker: DeviceWorker) -> bool:
        """Whether a device's process has the plan and still runs."""
        return worker.client.alive and worker.client.generation == self.holders.get(worker)

    def publishes(self, key: str) -> bool:
        """Whether the stage of that key publishes frames."""
        return key in self._publishing

    def next_stage(self, is_free: Callable[[str], bool]) -> PlannedStage | None:
        """The first stage in the plan's order that can be run now; None while all that are left wait for others.

        is_free: whether no device runs the stage of a key, for any job."""
        return next((self.stages[place] for place in self._ready if is_free(self.stages[place].key)), None)

    def start(self, stage: PlannedStage) -> None:
        """Notes that a device runs a stage."""
        self._measure()
        self.running.add(stage.key)
        self.progress.stage = stage.label

    def stop(self, stage: PlannedStage) -> None:
        """Notes that it does so no longer."""
        self._measure()
        self.running.discard(stage.key)

    def _measure(self) -> None:
        now = time.monotonic()
        self.waited += now - self._measured if self.running else 0.0
        self._measured = now

    def finish(self, stage: PlannedStage, seconds: float) -> None:
        """Notes that a stage ran. seconds: what it took in the worker."""
        self._measure()
        self.found(stage)
        self.seconds[stage.function] = self.seconds.get(stage.function, 0.0) + seconds
        self.costs[stage.function] = self.costs.get(stage.function, 0.0) + stage.cost

    def found(self, stage: PlannedStage) -> None:
        """Notes that a stage's output is stored."""
        if self.missing.pop(stage.key, None) is None:
            return
        self.left -= stage.cost
        if self._blocked.pop(stage.key, None) is None:  # else an input was removed while it ran
            self._ready.remove(self._places[stage.key])
        for reader in self._readers.pop(stage.key, ()):
            if reader in self._blocked:
                self._blocked[reader] -= 1
                if not self._blocked[reader]:
                    del self._blocked[reader]
                    bisect.insort(self._ready, self._places[reader])

    def look_again(self, store: Store) -> None:
        """Asks the store for all outputs anew: one is gone."""
        self.missing = by_key(missing_stages(self.stages, store))
        self._find_ready()


async def remove_damaged(stages: Iterable[PlannedStage], store: Store) -> None:
    """Removes results that are in the store but damaged, so that they are computed again."""
    for stage in stages:
        stored = stage.publishes and store.has(stage.key, publishes=True)
        if stored and not await asyncio.to_thread(store.is_whole, stage.key, True):
            log.warning("the result of %s was damaged on disk; it is computed again", stage.label)
            store.remove(stage.key, publishes=True)


def by_key(stages: Iterable[PlannedStage]) -> dict[str, PlannedStage]:
    """Stages by their keys, in their order."""
    return {stage.key: stage for stage in stages}


def missing_stages(stages: Sequence[PlannedStage], store: Store) -> list[PlannedStage]:
    """The stages still to run, in the plan's order: those whose output is needed and not in the store.

    Needed are the outputs that no stage reads (what the job is for), and the inputs of every needed stage that is
    missing itself. So an evicted input whose readers are all finished is not computed again."""
    read = {key for stage in stages for key in stage.inputs}
    needed = {stage.key for stage in stages if stage.key not in read}
    missing = set()
    for stage in reversed(stages):  # a plan lists inputs before their readers
        if stage.key in needed and not store.has(stage.key, stage.publishes):
            missing.add(stage.key)
            needed.update(stage.inputs)
    return [stage for stage in stages if stage.key in missing]
