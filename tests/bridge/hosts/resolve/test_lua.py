"""The menu scripts in real Lua: what they put on the timeline, and what passes between them and the runner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from paintover_bridge.hosts import resolve as package

from tests.bridge.hosts.resolve.standin import LUAS, RUNNER, START, Resolve, Timeline, clip

pytestmark = pytest.mark.skipif(
    not LUAS, reason="SKIPPED: RESOLVE'S SCRIPTS ARE NOT TESTED, luajit AND lua5.1 ARE MISSING"
)


@pytest.fixture
def host(tmp_path: Path) -> Resolve:
    """Resolve with the real runner, and a `paintover` that says what the test writes down."""
    made = Resolve(tmp_path, LUAS[0])
    made.install()
    return made


def real(timeline: Timeline | None = None, **more: Any) -> Timeline:
    """In real time: a runner has to answer."""
    made = timeline or Timeline()
    made.more = {"real_time": True, "deaf": 0, **made.more, **more}
    return made


# What it brings back.


def result(host: Resolve, name: str = "out/sh010_v001.mov") -> str:
    path = host.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"frames")
    return str(path)


def painting(output: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"event": "exported", "path": "/p/sh010.0105.psd", "frame": 105},
        {"event": "saved", "path": "/p/sh010.0105.psd", "frame": 105},
        {"event": "job", "name": "jobs/1"},
        {"event": "progress", "frames": []},
        {"event": "done", "output": output, **more},
    ]


def test_save_becomes_a_take_beside_the_original(host: Resolve) -> None:
    output = result(host)
    host.says(*painting(output))
    state = host.run("Paint this frame", real(open_bin=True))
    [[item]] = state["tracks"]
    assert item["takes"] == ["/media/sh010.mov", output]
    assert item["take"] == 2 and item["duration"] == 48 and item["start"] == START
    assert {"name": "Paintover", "clips": [output]} in state["bins"]
    assert state["open_bin"] == "Rushes"  # the artist's own stays open
    [arguments] = host.recorded_arguments()
    output = "/media/paintover/sh010_paintover.mov"
    assert arguments == ["paint", "/media/sh010.mov", "--frame", "105", "--range=100-147", "-o", output,
                         "--versioned", "--method", "draft", "--json"]  # fmt: skip


def test_two_saves_are_two_takes(host: Resolve) -> None:
    first, second = result(host), result(host, "out/sh010_v002.mov")
    host.says(*painting(first), {"sleep": 1.0}, *painting(second)[1:])
    [[item]] = host.run("Paint this frame", real())["tracks"]
    assert item["takes"] == ["/media/sh010.mov", first, second] and item["take"] == 3


def test_bring_puts_the_newest_result_once(host: Resolve) -> None:
    first, second = result(host), result(host, "out/sh010_v002.mov")
    host.says(*painting(first), *painting(second)[1:])
    host.run("Paint this frame", real(locked=True))  # nothing could be brought
    state = host.run("Bring result to timeline", real())
    [[item]] = state["tracks"]
    assert item["takes"] == ["/media/sh010.mov", second]
    taken = Timeline([[clip(second, duration=48, offset=0, properties={"Frames": "48"}, id="0a1b-1")]])
    # Now the item shows a result: its frames are those of the source that it was painted from.
    state = host.run("Bring result to timeline", real(taken))
    assert state["calls"].count("AddTake") == 0


def test_painting_on_a_result_uses_the_source(host: Resolve) -> None:
    output = result(host)
    host.says(*painting(output))
    host.run("Paint this frame", real())
    shown = Timeline([[clip(output, offset=0, properties={"Frames": "48"}, id="other")]])
    host.run("Paint this frame", real(shown))
    assert host.recorded_arguments()[1][:5] == ["paint", "/media/sh010.mov", "--frame", "105", "--range=100-147"]


def test_trimmed_result_maps_to_the_sources_frame(host: Resolve) -> None:
    output = result(host)
    host.says(*painting(output))
    host.run("Paint this frame", real())
    trimmed = clip(output, offset=10, duration=20, properties={"Frames": "48"}, id="other")
    host.run("Paint this frame", real(Timeline([[trimmed]])))
    assert host.recorded_arguments()[1][:5] == ["paint", "/media/sh010.mov", "--frame", "115", "--range=110-129"]


def test_propagate_takes_the_last_saves_of_the_clip(host: Resolve) -> None:
    host.says(*painting(result(host))[:2], {"event": "saved", "path": "/p/sh010.0120.psd", "frame": 120})
    host.run("Paint this frame", real())
    host.says(*painting(result(host, "out/final_v001.mov"))[2:])
    state = host.run("Propagate", real())
    [[item]] = state["tracks"]
    assert item["takes"][1].endswith("final_v001.mov")
    arguments = host.recorded_arguments()[1]
    assert arguments[:2] == ["propagate", "/media/sh010.mov"]
    assert {"105=/p/sh010.0105.psd", "120=/p/sh010.0120.psd"} <= set(arguments)


def test_propagate_carries_what_an_effect_painted(host: Resolve) -> None:
    """Nothing was painted by the scripts: the command finds the keyframes that were propagated last."""
    host.says(*painting(result(host, "out/final_v001.mov"))[2:])
    state = host.run("Propagate", real())
    assert state["tracks"][0][0]["takes"][1].endswith("final_v001.mov")
    [arguments] = host.recorded_arguments()
    assert arguments[:3] == ["propagate", "/media/sh010.mov", "--range=100-147"] and "-k" not in arguments


def test_by_setting_it_goes_on_a_track_of_its_own(host: Resolve) -> None:
    (host.mailbox / "settings.lua").write_text('return { bring = "track" }\n')
    output = result(host)
    host.says(*painting(output))
    state = host.run("Paint this frame", real(Timeline([[clip()], []])))
    assert state["names"] == ["Video 1", "Video 2", "Paintover"]
    assert state["tracks"][0][0]["takes"] == []
    [placed] = state["tracks"][2]
    assert (placed["path"], placed["start"], placed["duration"]) == (output, START, 48)


def test_an_append_that_resolve_drops_is_noticed(host: Resolve) -> None:
    (host.mailbox / "settings.lua").write_text('return { bring = "track" }\n')
    output = result(host)
    host.says(*painting(output))
    state = host.run("Paint this frame", real(dropped=True))
    assert any("did not put" in line and output in line for line in state["printed"])


def test_a_sequence_is_imported_by_its_pattern(host: Resolve) -> None:
    source = "/plates/sh010.[1001-1400].exr"
    host.says(*painting("/out/v001/sh010.%04d.exr"))
    state = host.run("Paint this frame", real(Timeline([[clip(source)]])))
    [[item]] = state["tracks"]
    assert item["takes"] == [source, "/out/v001/sh010.[1101-1148].exr"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"locked": True}, "adds no take"),
        ({"imported": 47}, "reads 47 frames"),
        ({"take_length": 40}, "would have changed the length"),
    ],
)
def test_a_take_that_would_be_wrong_is_not_left(host: Resolve, more: dict[str, Any], message: str) -> None:
    host.says(*painting(result(host)))
    state = host.run("Paint this frame", real(**more))
    assert any(message in line for line in state["printed"])
    [[item]] = state["tracks"]
    assert item["path"] == "/media/sh010.mov" and item["duration"] == 48


def test_a_result_that_is_gone_is_named(host: Resolve) -> None:
    host.says(*painting("/nowhere/out_v001.mov"))
    assert any("does not import /nowhere/out_v001.mov" in line
               for line in host.run("Paint this frame", real())["printed"])  # fmt: skip


def test_what_the_command_says_went_wrong_is_told(host: Resolve) -> None:
    host.says({"stderr": "paintover: The source /media/sh010.mov does not exist; give a video file."}, {"exit": 2})
    state = host.run("Paint this frame", real())
    assert any("The source /media/sh010.mov does not exist" in line for line in state["printed"])


# Between the script and the runner.

HOSTILE = 'it\'s a "clip" $(touch x) `id` %PATH% \\ ;& ünï 日本 \n.mov'


def test_hostile_clip_name_is_passed_unchanged(host: Resolve, tmp_path: Path) -> None:
    path = "/media/" + HOSTILE
    host.says()
    host.run("Paint this frame", real(Timeline([[clip(path, name=HOSTILE)]])))
    assert host.recorded_arguments()[0][1] == path
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("lua", LUAS)
def test_a_data_folder_with_a_hostile_name_works_too(tmp_path: Path, lua: str) -> None:
    host = Resolve(tmp_path, lua, data_name='it\'s "my" $(touch x) `id` ünï 日本 & co')
    host.install()
    host.says(*painting(result(host)))
    [[item]] = host.run("Paint this frame", real())["tracks"]
    assert item["take"] == 2


def test_resolves_python_variables_do_not_reach_runner(host: Resolve) -> None:
    host.says(*painting(result(host)))
    broken = {"PYTHONHOME": "/opt/resolve", "PYTHONPATH": "/opt/resolve/lib", "LD_LIBRARY_PATH": "/opt/resolve/libs"}
    [[item]] = host.run("Paint this frame", real(), {**host.environment(), **broken})["tracks"]
    assert item["take"] == 2


def lua(code: str) -> str:
    module = package.LUA / package.RESOLVE_MODULE
    text = f'bmd = {{ fileexists = function() return false end }} local M = dofile("{module}") {code}'
    return subprocess.run([LUAS[0], "-e", text], capture_output=True, text=True, check=True, encoding="utf-8").stdout


def test_windows_command_line_is_quoted() -> None:
    line = lua(r"""io.write(M.background({"C:\\Program Files\\p & q\\python.exe", "run", "C:\\ünï\\"}, true))""")
    begin, program = line.split(" /b ")
    assert begin == 'set PYTHONHOME=& set PYTHONPATH=& start ""'
    assert program == '"C:\\Program Files\\p & q\\python.exe" "run" "C:\\ünï\\\\" >NUL 2>&1'


@pytest.mark.parametrize("name", ["%TEMP%", 'a"b', "a!b"])
def test_what_cmd_would_expand_is_refused(name: str) -> None:
    assert "cannot be passed" in lua(
        f"local ok, why = pcall(M.quote, {package.lua_text(name)}, true) io.write(tostring(not ok and why.sentence))"
    )


def test_all_users_scripts_use_each_users_data_folder(host: Resolve) -> None:
    fusion = host.folder / "everyone"
    for path, text in package.files(fusion, host.folder / "of the administrator", RUNNER, all_users=True).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert not (host.folder / "of the administrator").exists()
    host.says(*painting(result(host)))
    home = host.folder / "it's a home"
    environment = {**host.environment(), "HOME": str(home)}
    del environment["PAINTOVER_DATA"]
    host.fusion_folder = fusion
    [[item]] = host.run("Paint this frame", real(), environment)["tracks"]
    assert item["take"] == 2
    assert (home / ".local" / "share" / "paintover" / "resolve" / "clips").is_dir()


@pytest.fixture
def watched(host: Resolve) -> Iterator[Path]:
    """The preferences' file of a free edition, and the runner that watches it."""
    path = host.folder / "Profiles" / "Default" / "Fusion.prefs"
    path.parent.mkdir(parents=True)
    host.folder.chmod(0o700)
    watcher = subprocess.Popen([*RUNNER, "watch", "--preferences", str(path)], env=host.environment())
    yield path
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()


@pytest.mark.parametrize("lua", LUAS)
def test_the_free_editions_sandbox_is_enough(host: Resolve, watched: Path, lua: str) -> None:
    host.lua = lua
    output = result(host)
    host.says(*painting(output))
    state = host.run("Paint this frame", real(sandbox=True, preferences=str(watched)))
    [[item]] = state["tracks"]
    assert item["takes"] == ["/media/sh010.mov", output]
    assert list((host.mailbox / "requests").glob("*.json")) == []


def test_restarted_watcher_repeats_no_request(host: Resolve, watched: Path) -> None:
    host.says(*painting(result(host)))
    host.run("Paint this frame", real(sandbox=True, preferences=str(watched)))
    again = subprocess.Popen([*RUNNER, "watch", "--preferences", str(watched)], env=host.environment())
    time.sleep(1.0)
    again.kill()
    again.wait()
    assert len([arguments for arguments in host.recorded_arguments() if arguments[0] == "paint"]) == 1


@pytest.mark.parametrize("how", ["terminated", "input"])
def test_a_watcher_that_ends_leaves_nothing_running(host: Resolve, how: str) -> None:
    preferences = host.folder / "Fusion.prefs"
    host.says({"event": "exported", "path": "/p/a.psd"}, {"sleep": 60})
    (host.mailbox / "settings.lua").write_text("return { follow_minutes = 0.02 }\n")
    watcher = subprocess.Popen(
        [*RUNNER, "watch", "--preferences", str(preferences), "--while-input"],
        env=host.environment(),
        stdin=subprocess.PIPE,
    )
    host.run("Paint this frame", real(sandbox=True, preferences=str(preferences)))
    [painting] = psutil.Process(watcher.pid).children()
    if how == "terminated":
        watcher.terminate()
    watcher.communicate(timeout=20)
    assert psutil.wait_procs([painting], timeout=20)[1] == []


def test_preferences_writable_by_others_are_ignored(host: Resolve) -> None:
    from paintover_bridge.hosts.command import HostError
    from paintover_bridge.hosts.resolve.mailbox import requests_in

    folder = Path("/tmp") / f"paintover-open-{os.getpid()}"
    folder.mkdir()
    preferences = folder / "Fusion.prefs"
    try:
        preferences.write_text("paintover1:1-2-3:7b7d")
        preferences.chmod(0o666)
        folder.chmod(0o755)
        with pytest.raises(HostError, match="Others on this machine can write"):
            list(requests_in(preferences, time.time()))
    finally:
        preferences.unlink()
        folder.rmdir()


def test_unreadable_request_blocks_no_other(host: Resolve, tmp_path: Path) -> None:
    from paintover_bridge.hosts.resolve.mailbox import requests_in

    good = json.dumps({"id": "2", "do": "monitor", "at": time.time()}).encode().hex()
    preferences = tmp_path / "Fusion.prefs"
    preferences.write_text(f'Requests = "paintover1:1:7b7d paintover1:2:{good}"')
    assert [request.verb for request in requests_in(preferences, time.time())] == ["monitor"]
    assert list(requests_in(preferences, time.time() + 1000)) == []  # of another day


def test_a_painting_begun_anew_ends_the_one_before(host: Resolve) -> None:
    host.says({"event": "exported", "path": "/p/a.psd"}, {"sleep": 30})
    (host.mailbox / "settings.lua").write_text("return { follow_minutes = 0.02 }\n")
    host.run("Paint this frame", real())
    log = next((host.mailbox / "clips").iterdir())
    host.run("Paint this frame", real())
    deadline = time.monotonic() + 10
    while 'what="ended"' not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert log.read_text().count('what="ended"') == 1
    # Painting another frame ends nothing.
    other = 'event{what="started",run="8",verb="paint",frame=120,}\n'
    log.write_text(log.read_text() + other)
    time.sleep(1.0)
    assert log.read_text().count('what="ended"') == 1
    log.write_text(log.read_text() + 'event{what="started",run="9",verb="paint",frame=105,}\n')
    while log.read_text().count('what="ended"') < 2:
        assert time.monotonic() < deadline + 10
        time.sleep(0.1)


def test_truncated_log_line_hides_no_later_event(host: Resolve) -> None:
    log = host.mailbox / "clips" / "0a1b-1.lua"
    log.parent.mkdir()
    log.write_text('event{what="saved",path="/p/a.psd",frame=101}\nevent{what="sav')
    host.says(*painting(result(host)))
    [[item]] = host.run("Paint this frame", real())["tracks"]
    assert item["take"] == 2
    assert 'path="/p/a.psd"' in log.read_text()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"id": 1}', b'{"id": 1, "do": "rm"}',
                                  b'{"id": 1, "do": "paint", "clip": "../../x"}'])  # fmt: skip
def test_a_request_that_no_script_wrote_is_refused(host: Resolve, text: bytes) -> None:
    path = host.folder / "request.json"
    path.write_bytes(text)
    done = subprocess.run([*RUNNER, "run", str(path)], env=host.environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("paintover-resolve: ") and done.stderr.count("\n") == 1
    assert host.recorded_arguments() == []


def test_the_installed_scripts_hold_no_placeholder(host: Resolve) -> None:
    scripts = sorted(path.name for path in (host.fusion / package.MENU).iterdir())
    assert scripts == ["Bring result to timeline.lua", "Open monitor.lua", "Paint this frame.lua", "Propagate.lua"]
    assert (host.mailbox / "requests").is_dir()
    for path in [*(host.fusion / package.MENU).iterdir(), host.mailbox / package.RESOLVE_MODULE]:
        assert "@" not in path.read_text("utf-8").replace("[%%#@]", "").replace("# or @", ""), path
    assert sys.executable in (host.mailbox / package.RESOLVE_MODULE).read_text("utf-8")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files to a group")
@pytest.mark.parametrize("opened", ["file", "folder"])
def test_a_request_that_others_can_write_starts_nothing(tmp_path: Path, opened: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        folder = Path(place)
        folder.chmod(0o777 if opened == "folder" else 0o755)
        program, ran = folder / "editor", tmp_path / "ran"
        program.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
        program.chmod(0o755)
        planted = {"source": str(folder), "first": 0, "last": 1, "frame": 0, "output": str(folder / "out")}
        request = folder / "1-2-3.json"
        request.write_text(json.dumps({"id": "1-2-3", "do": "paint", "editor": str(program), **planted}))
        request.chmod(0o664 if opened == "file" else 0o644)
        os.chown(request, -1, 54321)
        command = [*RUNNER, "--data-dir", str(tmp_path / "data"), "run", str(request)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "Others on this machine can write" in refused.stderr
    assert not ran.exists()
