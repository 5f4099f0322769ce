from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from paintover_bridge import daemon
from paintover_bridge.client import Client, connect
from paintover_bridge.errors import ClientError


def claim(folder: Path, address: str, pid: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.json").write_text(json.dumps({"address": address, "pid": pid, "version": "0", "protocol": 1}))


def test_data_folder_prefers_the_argument(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path / "environment"))
    assert daemon.data_folder(tmp_path / "given") == tmp_path / "given"
    assert daemon.data_folder() == tmp_path / "environment"
    monkeypatch.delenv("PAINTOVER_DATA")
    assert daemon.data_folder().name == "paintover"


def test_what_a_crashed_engine_left_is_not_believed(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    claim(folder, "127.0.0.1:9", ended.pid)
    assert daemon.read_endpoint(folder) is None
    claim(folder, "127.0.0.1:9", os.getpid())  # the process lives, but nothing answers there
    assert daemon.find(folder) is None
    (folder / "engine.json").write_text('{"address": ')
    assert daemon.find(folder) is None
    (folder / "engine.json").unlink()  # the pid is this test's: nobody shall end it


def test_an_engine_is_started_found_and_ended(folder: Path, engine: daemon.Endpoint) -> None:
    assert daemon.find(folder) == engine
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    daemon.terminate(engine)
    assert daemon.wait_until_gone(engine, 10.0)
    assert daemon.find(folder) is None


@pytest.mark.skipif(os.name != "posix", reason="sessions are POSIX's")
def test_started_engine_ignores_the_terminals_ctrl_c(engine: daemon.Endpoint) -> None:
    assert os.getsid(engine.pid) != os.getsid(0)


def test_start_waits_for_a_stopping_engine(folder: Path, engine: daemon.Endpoint) -> None:
    with connect(folder, start=False) as watcher, connect(folder, start=False) as stopper:
        watch = threading.Thread(target=lambda: watch_until_gone(watcher))
        watch.start()  # an engine in whose hands a call is does not end at once
        stopper.stop_engine(when_idle=False)
        started = daemon.find_or_start(folder, ephemeral=False)
        watch.join()
    assert started.pid != engine.pid


def watch_until_gone(client: Client) -> None:
    with contextlib.suppress(ClientError):
        for _ in client.watch():
            pass


def test_starts_at_the_same_moment_end_with_one_engine(folder: Path) -> None:
    pytest.importorskip("paintover_engine")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: daemon.find_or_start(folder, ephemeral=True), range(4)))
    assert len({endpoint.pid for endpoint in found}) == 1


def test_failed_start_reports_the_logs_last_line(folder: Path, engine_that: Callable[[str], None]) -> None:
    log = daemon.log_path(folder)
    log.parent.mkdir(parents=True)
    log.write_text("an older engine's line\n")
    engine_that("import nothing_of_this_name")
    with pytest.raises(ClientError, match="ended while starting: ModuleNotFoundError.*nothing_of_this_name"):
        daemon.start(folder, ephemeral=True)
    engine_that("raise SystemExit(3)")
    with pytest.raises(ClientError, match="ended while starting: exit status 3"):
        daemon.start(folder, ephemeral=True)
    engine_that("import sys; print('paintover-engine: The disk sleeps; wake it.', file=sys.stderr); sys.exit(2)")
    with pytest.raises(ClientError) as caught:
        daemon.start(folder, ephemeral=True)
    assert caught.value.message == "The disk sleeps; wake it."
    assert log.read_text().startswith("an older engine's line\n")


def test_an_engine_that_never_answers_is_given_up(folder: Path, engine_that: Callable[[str], None]) -> None:
    engine_that("import time; time.sleep(3)")
    with pytest.raises(ClientError, match=r"did not answer within 0 s of starting; see .*engine\.log"):
        daemon.start(folder, ephemeral=True, seconds=0.2)


def test_start_waits_while_the_data_folder_is_taken(
    folder: Path, tmp_path: Path, engine_that: Callable[[str], None]
) -> None:
    engine_that(
        f"""
import pathlib, runpy, sys
tried = pathlib.Path({str(tmp_path / "tried")!r})
if not tried.exists():
    tried.touch()
    sys.exit({daemon.FOLDER_TAKEN})
runpy.run_module("paintover_engine.service", run_name="__main__", alter_sys=True)
"""
    )
    pytest.importorskip("paintover_engine")
    assert daemon.find(folder) is None
    assert daemon.start(folder, ephemeral=True) == daemon.find(folder)


def test_a_command_that_does_not_exist_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTOVER_ENGINE", "/nowhere/engine --fast")
    with pytest.raises(ClientError, match="cannot be started .*'/nowhere/engine'"):
        daemon.start(folder, ephemeral=True)
