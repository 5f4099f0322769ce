"""An engine that hangs, dies, is started anew, or is reached in another way."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from paintover_bridge import daemon

from tests.plugin_ofx.conftest import MakeHost, Painted, seconds, wait_for
from tests.plugin_ofx.ofx_host import OK


def test_a_hung_engine_holds_up_no_button_and_no_interactive_render(make_host: MakeHost, painted: Painted) -> None:
    plate = painted.plate("byte")
    values = {"sourcePath": str(painted.shot.source), "missing": "Show the plate"}
    effect = make_host().create(values, plate)
    assert np.array_equal(effect.render(0.0)[1], painted.result("byte", 0))
    wanted = painted.result("byte", 7)
    endpoint = daemon.read_endpoint(painted.client.endpoint.folder)
    assert endpoint
    os.kill(endpoint.pid, signal.SIGSTOP)
    try:
        for button in ("propagate", "cancel", "refresh", "monitor"):
            assert seconds(lambda button=button: effect.edit(button)) < 0.25, button
        for number in (5, 6, 7):
            assert seconds(lambda number=number: effect.render(float(number), interactive=True)) < 0.25
        assert np.array_equal(effect.render(8.0)[1], plate(8))
    finally:
        os.kill(endpoint.pid, signal.SIGCONT)
    wait_for(lambda: np.array_equal(effect.render(7.0)[1], wanted))


def test_an_engine_that_is_killed_and_started_again_is_found_again(make_host: MakeHost, painted: Painted) -> None:
    plate = painted.plate("byte")
    effect = make_host().create({"job": painted.job, "missing": "Show the plate"}, plate)
    wanted = [painted.result("byte", number) for number in range(3)]
    assert np.array_equal(effect.render(0.0)[1], wanted[0])
    endpoint = daemon.read_endpoint(painted.client.endpoint.folder)
    assert endpoint
    os.kill(endpoint.pid, signal.SIGKILL)
    wait_for(lambda: daemon.read_endpoint(endpoint.folder) is None)
    status, picture = effect.render(1.0)
    assert status == OK
    assert np.array_equal(picture, plate(1)) or np.array_equal(picture, wanted[1])
    daemon.start(endpoint.folder, ephemeral=False)
    wait_for(lambda: np.array_equal(effect.render(2.0)[1], wanted[2]))


def test_an_engine_on_a_socket_file_is_found(make_host: MakeHost, painted: Painted, tmp_path: Path) -> None:
    endpoint = painted.client.endpoint
    wanted = painted.result("byte", 4)
    painted.client.stop_engine(when_idle=False)
    assert daemon.wait_until_gone(endpoint, 10)
    daemon.start(endpoint.folder, ephemeral=False, listen=f"unix:{tmp_path}/engine.sock")
    status, picture = make_host().create({"job": painted.job}, painted.plate("byte")).render(4.0)
    assert status == OK and np.array_equal(picture, wanted)


def test_an_engine_that_is_not_on_this_machine_sends_its_frames(make_host: MakeHost, painted: Painted) -> None:
    endpoint, wanted = painted.client.endpoint, painted.result("byte", 4)
    painted.client.stop_engine(when_idle=False)
    assert daemon.wait_until_gone(endpoint, 10)
    daemon.start(endpoint.folder, ephemeral=False, listen="127.0.0.1:0")
    said = endpoint.folder / "engine.json"
    true = said.read_text()
    assert "127.0.0.1:" in true
    said.write_text(true.replace("127.0.0.1:", "LOCALHOST:"))  # by another name: not known to be here
    try:
        status, picture = make_host().create({"job": painted.job}, painted.plate("byte")).render(4.0)
        assert status == OK and np.array_equal(picture, wanted)
    finally:
        said.write_text(true)


def test_an_installed_engine_is_started(make_host: MakeHost, painted: Painted, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = painted.client.endpoint.folder
    endpoint = daemon.read_endpoint(folder)
    wanted = painted.result("byte", 4)
    painted.client.stop_engine(when_idle=False)
    assert endpoint and daemon.wait_until_gone(endpoint, 10)
    host = make_host()
    monkeypatch.setenv("PAINTOVER_ENGINE", f'"{sys.executable}" -m paintover_engine.service')
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    wait_for(lambda: np.array_equal(effect.render(4.0)[1], wanted))
