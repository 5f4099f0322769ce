"""What a job still has to run: its stages as its worker declared them, less those whose output is in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.protocol import PlannedStage
from paintover_engine.jobs.store import Store


@dataclass
class JobPlan:
    """A job's stages in the order to run them, and what was measured of those that ran.

    worker, generation: the process that holds the plan; with another process the job is planned anew.
    missing: stages still to run. whole: cost of all stages; of a plan without keyframes, of what they would be with
        one.
    waited: seconds that the scheduler waited for stages; less than their sum where two ran at a time.
    requested: keys of stages that were sent as following ones: the worker may have started or finished them.
    seconds, costs: of the stages that ran, by function.
    """

    worker: DeviceWorker
    generation: int
    stages: Sequence[PlannedStage]
    missing: list[PlannedStage]
    whole: float
    waited: float = 0.0
    requested: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def is_held(self) -> bool:
        """Whether the process that holds the plan still runs."""
        return self.worker.client.alive and self.worker.client.generation == self.generation

    def publishes(self, key: str) -> bool:
        """Whether the stage of that key publishes frames."""
        return next(stage.publishes for stage in self.stages if stage.key == key)

    def finish(self, stage: PlannedStage, seconds: float, waited: float) -> None:
        """Notes that the next stage ran. seconds: what it took in the worker; waited: what it took from here."""
        assert self.missing[0] is stage
        self.missing.pop(0)
        self.waited += waited
        self.seconds[stage.function] = self.seconds.get(stage.function, 0.0) + seconds
        self.costs[stage.function] = self.costs.get(stage.function, 0.0) + stage.cost


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
