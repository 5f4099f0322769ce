"""Of many idle devices of a kind one alone looks at the queue; those that may find more look for themselves."""

from __future__ import annotations

import pytest
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.idle_devices import IdleDevices


def device(kind: str, machine: str = "") -> DeviceWorker:
    return DeviceWorker(Device(kind, kind, 0, 0), client=None, machine=machine)  # type: ignore[arg-type]


def test_what_one_found_holds_for_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    first, second, gpu, remote = device("cpu"), device("cpu"), device("cuda"), device("cpu", "ws2")
    idle = IdleDevices(set)
    assert not idle.is_idle(second)
    idle.found_nothing(first, 3.0)
    assert idle.is_idle(second) and idle.pause(second) == 3.0
    assert not idle.is_idle(gpu) and not idle.is_idle(remote)
    now = 102.0
    assert idle.is_idle(second) and idle.pause(second) == 1.0
    now = 103.0
    assert not idle.is_idle(second)  # what waited is due
    idle.found_nothing(first, None)
    now = 1e9
    assert idle.is_idle(second) and idle.pause(second) is None
    idle.changed()
    assert not idle.is_idle(first)


def test_special_devices_look_for_themselves() -> None:
    usual, special = device("cpu"), device("cpu")
    idle = IdleDevices(lambda: {special})
    idle.found_nothing(special, None)
    assert not idle.is_idle(usual)  # it had its own reasons
    idle.found_nothing(usual, None)
    assert not idle.is_idle(special)
