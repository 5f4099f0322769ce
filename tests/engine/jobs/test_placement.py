"""Which device runs, and which plans, jobs of which method."""

from __future__ import annotations

from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.entities import WaitingJob
from paintover_engine.jobs.placement import Placement

DRAFT, FINAL = WaitingJob(1, "draft", False, 0), WaitingJob(2, "videoshop", False, 0)


def device(kind: str, machine: str = "") -> DeviceWorker:
    return DeviceWorker(Device(kind, kind, 0, 0), client=None, machine=machine)  # type: ignore[arg-type]


def test_models_run_on_gpus_and_drafts_beside_them() -> None:
    cpu, gpu = device("cpu"), device("cuda")
    placement = Placement([cpu, gpu])
    assert [placement.runs(each, DRAFT) for each in (cpu, gpu)] == [True, False]
    assert [placement.runs(each, FINAL) for each in (cpu, gpu)] == [False, True]
    assert [placement.plans(each, FINAL) for each in (cpu, gpu)] == [False, True]


def test_job_of_another_machines_gpu_is_planned_here() -> None:
    cpu, remote = device("cpu"), device("cuda", "ws2")
    placement = Placement([cpu, remote])
    assert [placement.plans(each, FINAL) for each in (cpu, remote)] == [True, False]
    assert [placement.runs(each, FINAL) for each in (cpu, remote)] == [False, True]


def test_models_wait_for_a_gpu_that_left() -> None:
    cpu, remote = device("cpu"), device("cuda", "ws2")
    workers = [cpu, remote]
    placement = Placement(workers)
    workers.remove(remote)
    placement.forget_worker(remote)
    assert placement.runs(cpu, DRAFT) and not placement.runs(cpu, FINAL)
    again = device("cuda", "ws2")
    workers.append(again)
    assert placement.runs(again, FINAL)


def test_job_that_no_gpu_can_compute_goes_on_here() -> None:
    cpu, remote = device("cpu"), device("cuda", "ws2")
    placement = Placement([cpu, remote])
    placement.exclude(remote, FINAL.id)
    assert placement.runs(cpu, FINAL) and not placement.runs(remote, FINAL)
    placement.forget_job(FINAL.id)
    assert placement.runs(remote, FINAL) and not placement.runs(cpu, FINAL)
