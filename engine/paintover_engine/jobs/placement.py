"""Which device may do what for which job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.entities import WaitingJob
from paintover_engine.methods.registry import METHODS


class Placement:
    """Models compute on GPUs where there are any; everything else leaves the GPUs to them. A device of another machine
    runs stages alone, and none of a job that it was found to be unable to compute. Where GPUs are another machine's,
    models wait for them to come back: on a processor a stage of theirs may take days.

    workers: of all devices; may be added to and removed from."""

    def __init__(self, workers: Sequence[DeviceWorker]) -> None:
        self._workers = workers
        self._unable: dict[int, set[DeviceWorker]] = {}
        self._awaited = False

    def runs(self, worker: DeviceWorker, job: WaitingJob) -> bool:
        """Whether a device runs stages of a job."""
        unable = self._unable.get(job.id, set())
        awaited = self._awaited and not unable
        return worker not in unable and _suits(
            worker, job.method, (w for w in self._workers if w not in unable), awaited
        )

    def plans(self, worker: DeviceWorker, job: WaitingJob) -> bool:
        """Whether a device plans a job and writes its output."""
        return not worker.is_remote and _suits(worker, job.method, (w for w in self._workers if not w.is_remote))

    def is_shared(self, method: str) -> bool:
        """Whether several devices run stages of jobs of a method."""
        suited = (worker for worker in self._workers if _suits(worker, method, self._workers))
        return next(suited, None) is not None and next(suited, None) is not None

    def exclude(self, worker: DeviceWorker, job_id: int) -> None:
        """Notes that a device is unable to compute a job."""
        self._unable.setdefault(job_id, set()).add(worker)

    def excluded(self) -> set[DeviceWorker]:
        """The devices that are unable to compute some job."""
        return set[DeviceWorker]().union(*self._unable.values())

    def forget_job(self, job_id: int) -> None:
        """The job ended, or is begun anew."""
        self._unable.pop(job_id, None)

    def forget_worker(self, worker: DeviceWorker) -> None:
        """The device is gone, perhaps to come back."""
        self._awaited |= worker.device.kind != "cpu"
        for unable in self._unable.values():
            unable.discard(worker)


def _suits(worker: DeviceWorker, method: str, workers: Iterable[DeviceWorker], accelerated: bool = False) -> bool:
    """Whether a device is of the kind on which a method computes, where there are these. accelerated: whether GPUs
    count as there, though none is."""
    accelerated = accelerated or any(other.device.kind != "cpu" for other in workers)
    return (worker.device.kind != "cpu") == (accelerated and takes_model(method))


def takes_model(method: str) -> bool:
    """Whether a method computes with a model."""
    return method in METHODS and METHODS[method].takes_model


def urgency(job: WaitingJob) -> tuple[int, int]:
    """Interactive jobs come first whatever the priorities, so that a draft never waits for a final; work ahead of a
    keyframe comes last. Among these, higher priorities come first."""
    return 2 if job.background else int(takes_model(job.method)), -job.priority
