"""Child processes run no Python file that happens to lie in the working folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paintover_local.processes import code_command, module_command

from tests.conftest import SmallShot

PLANTED = (
    *("cv2", "numpy", "av", "grpc", "click", "filelock", "platformdirs", "psd_tools", "safetensors", "aiohttp"),
    *("json", "pathlib", "runpy", "asyncio", "sqlite3", "paintover_bridge", "paintover_engine", "paintover_local"),
)


@pytest.fixture
def plates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with Python files that leave a trace when they are run."""
    folder = tmp_path / "plates"
    folder.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name}\\n')\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path / "data"))
    return folder


def planted_files_that_ran(plates: Path) -> list[str]:
    trace = plates.parent / "ran"
    return trace.read_text().splitlines() if trace.exists() else []


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_command_engine_and_workers_run_no_planted_file(plates: Path, small_shot: SmallShot) -> None:
    pytest.importorskip("paintover_engine")
    paintover = module_command("paintover_bridge")
    keyframe = f"{small_shot.key}={small_shot.keyframe}"
    out = plates.parent / "out.mkv"
    done = run(*paintover, "propagate", str(small_shot.source), "-k", keyframe, "-o", str(out))
    doctor = run(*paintover, "doctor")
    run(*paintover, "stop", "--now")
    assert (done.returncode, doctor.returncode) == (0, 0), done.stderr + doctor.stdout
    assert out.stat().st_size > 1000
    assert planted_files_that_ran(plates) == []


def test_resolves_runner_runs_no_planted_file(plates: Path) -> None:
    assert "usage: paintover-resolve" in run(*module_command("paintover_bridge.hosts.resolve"), "--help").stdout
    assert planted_files_that_ran(plates) == []


def test_code_runs_no_planted_file(plates: Path) -> None:
    assert run(*code_command(sys.executable, "import numpy; print(numpy.__name__)")).stdout == "numpy\n"
    assert planted_files_that_ran(plates) == []


def test_older_pythons_keep_arguments_and_search_path(plates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = plates.parent / "extra"
    extra.mkdir()
    (extra / "shown.py").write_text("import sys; print(__name__, sys.argv[1:], sys.argv[0].endswith('shown.py'))")
    monkeypatch.setenv("PYTHONPATH", os.fspath(extra))
    monkeypatch.setattr(sys, "version_info", (3, 9, 20))
    command = module_command("shown")
    monkeypatch.undo()
    environment = {**os.environ, "PYTHONPATH": os.fspath(extra)}
    shown = subprocess.run([*command, "a b", "-x"], capture_output=True, text=True, cwd=plates, env=environment)
    assert shown.stdout == "__main__ ['a b', '-x'] True\n", shown.stderr
    assert planted_files_that_ran(plates) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locales")
def test_non_ascii_folder_in_an_ascii_locale(
    small_shot: SmallShot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("paintover_engine")
    folder = tmp_path / "żółw"
    folder.mkdir()
    source, keyframe = folder / "ujęcie", folder / "klatka.png"
    shutil.copytree(small_shot.source, source)
    keyframe.write_bytes(Path(small_shot.keyframe).read_bytes())
    monkeypatch.chdir(folder)
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PAINTOVER_DATA": str(folder / "dane")}
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    paintover = (sys.executable, "-m", "paintover_bridge")
    done = run(*paintover, "propagate", source.name, "-k", f"{small_shot.key}={keyframe.name}", "-o", "gotowe.mkv")
    run(*paintover, "stop", "--now")
    assert done.returncode == 0, done.stderr
    assert (folder / "gotowe.mkv").stat().st_size > 1000
