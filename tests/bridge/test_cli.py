from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from paintover_bridge import __version__, daemon

Run = Callable[..., "subprocess.CompletedProcess[str]"]

HEAVY = ("grpc", "google.protobuf", "rich", "numpy", "cv2", "av", "OpenImageIO", "paintover_engine", "paintover.v1")


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "paintover_bridge.cli", "--help"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "click" in imported
    assert not [name for name in imported if name.startswith(HEAVY)]


def test_client_imports_neither_click_nor_rich() -> None:
    code = "import sys, paintover_bridge.client; print({'click', 'rich', 'numpy', 'platformdirs'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_the_version_is_said(paintover: Run) -> None:
    assert paintover("--version").stdout == f"paintover {__version__}\n"


def test_the_bare_command_explains_itself(paintover: Run) -> None:
    ran = paintover()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == paintover("--help").stdout


@pytest.mark.parametrize(
    "command", ["propagate", "serve", "stop", "status", "doctor", "methods", "jobs", "paint", "install"]
)
def test_every_command_explains_itself_with_an_example(paintover: Run, command: str) -> None:
    helped = paintover(command, "--help")
    assert helped.returncode == 0
    assert f"paintover {command}" in helped.stdout.partition("Example")[2]


def test_slips_are_answered_with_the_nearest_name(paintover: Run) -> None:
    for arguments, meant in (
        (("propagat",), "'propagate'"),
        (("jobs", "watc", "3"), "'watch'"),
        (("propagate", "--keyfram", "0=k.png"), "--keyframe"),
    ):
        ran = paintover(*arguments)
        assert ran.returncode == 2
        assert ran.stderr.startswith("paintover: ")
        assert meant in ran.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--keyframe", "0=nowhere.png"], "The image nowhere.png of --keyframe 0 does not exist"),
        (["--keyframe", "nowhere.png"], "--keyframe 'nowhere.png' is not FRAME=IMAGE"),
        (["--keyframe", "0=k.png", "--keyframe", "0=k.png"], "--keyframe gives frame 0 twice"),
        (["--keyframe", "0=k.png", "--matte", "1=k.png"], "--matte gives frame 1, which no --keyframe gives"),
        (["--keyframe", "0=k.png", "--range", "5"], "--range '5' is not FIRST-LAST"),
        (["--keyframe", "0=k.png", "-p", "mode"], "-p 'mode' is not NAME=VALUE"),
        (["--keyframe", "0=k.png"], "The source shot.mov does not exist"),
    ],
)
def test_bad_input_is_refused_without_an_engine(
    paintover: Run, folder: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "k.png").write_bytes(b"")
    ran = paintover("propagate", "shot.mov", *arguments, "-o", "out.mov", "--json")
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"paintover: {sentence}")
    assert len(ran.stderr.splitlines()) == 1
    said = json.loads(ran.stdout)
    assert (said["event"], said["code"], said["exit_code"]) == ("error", "INVALID_ARGUMENT", 2)
    assert f"paintover: {said['message']}\n" == ran.stderr
    assert not folder.exists()


def test_out_is_checked_before_an_engine_starts(paintover: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "k.png").write_bytes(b"")
    (tmp_path / "shot.mov").write_bytes(b"")
    (tmp_path / "out.mov").write_bytes(b"")
    for out, sentence in (("out.mov", "out.mov' exists; add --overwrite"), ("a/b/out.mov", "a' to make it in")):
        ran = paintover("propagate", "shot.mov", "-k", "0=k.png", "-o", out)
        assert (ran.returncode, sentence in ran.stderr) == (2, True), ran.stderr
        assert not folder.exists()
    assert not (tmp_path / "a").exists()
    ran = paintover("propagate", "shot.mov", "-k", "0=k.png", "-o", "new/out.####.png", PAINTOVER_ENGINE="/nowhere")
    assert ran.returncode == 3 and (tmp_path / "new").is_dir()


def test_a_timeline_without_a_clip_lists_its_clips(paintover: Run, folder: Path, tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    timeline = otio.schema.Timeline("cut")
    timeline.tracks.append(otio.schema.Track("V1"))
    timeline.tracks[0].extend(otio.schema.Clip(name) for name in ("sh010", "sh020"))
    otio.adapters.write_to_file(timeline, str(tmp_path / "cut.otio"))
    (tmp_path / "k.png").write_bytes(b"")
    ran = paintover("propagate", "cut.otio", "-k", "0=k.png", "-o", "out.mov")
    assert ran.returncode == 2 and "after the #: 'sh010', 'sh020'" in ran.stderr
    assert not folder.exists()


@pytest.mark.parametrize(
    ("shell", "holds"), [("bash", "complete "), ("zsh", "#compdef paintover"), ("fish", "complete ")]
)
def test_completion_is_printed_and_installed(
    paintover: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, holds: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    printed = paintover("completion", SHELL=f"/bin/{shell}")
    assert printed.returncode == 0 and holds in printed.stdout and "_PAINTOVER_COMPLETE" in printed.stdout
    installed = json.loads(paintover("completion", shell, "--install", "--json").stdout)
    assert Path(installed["path"]).is_relative_to(tmp_path)
    assert Path(installed["path"]).read_text() == printed.stdout


def test_commands_complete(paintover: Run) -> None:
    words = {"COMP_WORDS": "paintover pro", "COMP_CWORD": "1", "_PAINTOVER_COMPLETE": "bash_complete"}
    assert paintover(**words).stdout == "plain,propagate\n"


def test_no_engine_is_status_3_and_nothing_to_stop(paintover: Run, folder: Path) -> None:
    assert paintover("status").returncode == 3
    ran = paintover("status", "--json")
    assert json.loads(ran.stdout) == {"running": False, "data_folder": str(folder)}
    stopped = paintover("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "No engine is running.\n")
    assert not folder.exists()


def test_an_engine_that_is_not_installed_is_a_sentence(paintover: Run) -> None:
    ran = paintover("methods", PAINTOVER_ENGINE="/nowhere/engine")
    assert ran.returncode == 3
    assert ran.stderr.startswith("paintover: The engine cannot be started")


def test_status_and_stop_speak_of_the_engine_that_runs(paintover: Run, engine: daemon.Endpoint) -> None:
    status = json.loads(paintover("status", "--json").stdout)
    assert (status["running"], status["pid"], status["protocol"]) == (True, engine.pid, 1)
    assert status["jobs_running"] == 0
    assert str(engine.pid) in paintover("status").stdout
    stopped = paintover("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Stopped.\n")
    assert daemon.read_endpoint(engine.folder) is None


def test_the_data_folder_may_be_given_at_any_place(paintover: Run, engine: daemon.Endpoint) -> None:
    elsewhere = {"PAINTOVER_DATA": "/nowhere"}
    given = ("--data-dir", str(engine.folder))
    for arguments in (("status", *given), (*given, "status"), ("jobs", *given, "list"), ("jobs", "list", *given)):
        assert paintover(*arguments, **elsewhere).returncode == 0


def test_methods_json_describes_parameters(paintover: Run, engine: daemon.Endpoint) -> None:
    ran = paintover("methods", "draft", "--json")
    draft = json.loads(ran.stdout)
    assert draft["name"] == "draft"
    assert {"name", "kind", "default_value", "minimum", "maximum", "choices", "unit", "help"} <= set(
        draft["parameters"][0]
    )
    text = paintover("methods").stdout
    for parameter in draft["parameters"]:
        assert f"-p {parameter['name']}={parameter['default_value']}" in text
    ran = paintover("methods", "drft")
    assert (ran.returncode, ran.stderr) == (2, "paintover: There is no method 'drft'. Did you mean 'draft'?\n")


def test_jobs_lists_and_names_an_unknown_job(paintover: Run, engine: daemon.Endpoint) -> None:
    assert paintover("jobs").stdout == paintover("jobs", "list").stdout == "No jobs.\n"
    for action in ("show", "watch", "cancel", "pause", "resume", "retry", "remove"):
        ran = paintover("jobs", action, "77")
        assert ran.returncode == 2, action
        assert "job 77" in ran.stderr, action
    ran = paintover("jobs", "show", "seven")
    assert (ran.returncode, ran.stderr.startswith("paintover: 'seven' is no job")) == (2, True)


def test_the_doctor_finds_a_sound_machine_sound(paintover: Run, engine: daemon.Endpoint) -> None:
    ran = paintover("doctor", "--json")
    checks = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [check["name"] for check in checks if check["needed"] and not check["ok"]] == []
    assert ran.returncode == 0
    assert {"Python", "engine", "OpenCV", "PyAV", "OpenImageIO", "data folder", "token", "method draft"} <= {
        check["name"] for check in checks
    }


def test_the_doctor_ticks_methods_that_could_run(paintover: Run, engine: daemon.Endpoint, tmp_path: Path) -> None:
    ran = paintover("doctor", HF_HOME=str(tmp_path), PAINTOVER_MODELS=str(tmp_path))
    assert ran.returncode == 0
    assert "✓ method draft: can run" in ran.stdout
    assert "- method videoshop: cannot run here" in ran.stdout and "stable-video-diffusion" in ran.stdout


def test_the_doctor_says_what_is_broken_and_what_to_do(paintover: Run, folder: Path) -> None:
    folder.mkdir()
    (folder / "token").write_text("known to all")
    (folder / "token").chmod(0o644)
    ran = paintover("doctor", PAINTOVER_ENGINE="/nowhere/engine")
    assert ran.returncode == 1
    assert "✗ engine: /nowhere/engine\n  → correct PAINTOVER_ENGINE\n" in ran.stdout
    assert f"✗ token: Other users can read {folder / 'token'} (mode 0644)" in ran.stdout
    assert f"→ remove {folder / 'token'}; the engine makes a new one" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_serve_runs_the_engine_here_until_interrupted(folder: Path) -> None:
    pytest.importorskip("paintover_engine")
    command = [sys.executable, "-m", "paintover_bridge", "serve", "--data-dir", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while daemon.find(folder) is None:
            assert process.poll() is None
            time.sleep(0.05)
        found = daemon.find(folder)
        assert found
        assert found.pid == process.pid  # no process in between that a service manager would signal in vain
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert daemon.read_endpoint(folder) is None


def test_a_fault_of_the_command_itself_is_no_traceback(paintover: Run, tmp_path: Path) -> None:
    (tmp_path / "platformdirs.py").write_text("raise ZeroDivisionError('broken install')")
    path = {"PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))), "PAINTOVER_DATA": ""}
    ran = paintover("status", **path)
    assert ran.returncode == 1
    assert ran.stderr.startswith("paintover: internal error (ZeroDivisionError: broken install)")
    assert len(ran.stderr.splitlines()) == 1
    assert "Traceback" in paintover("status", PAINTOVER_DEBUG="1", **path).stderr
