"""The archive of this platform, built, unpacked, installed into a fake root, run from there, and taken out again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import SmallShot

ROOT = Path(__file__).resolve().parents[2]
LINUX = sys.platform.startswith("linux")
pytestmark = [
    pytest.mark.skipif(not LINUX, reason="the archive of another platform is not installed here"),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive's folder."""
    folder = tmp_path_factory.mktemp("archive")
    pytest.importorskip("hatchling", reason="wheels are built with hatchling")
    command = [sys.executable, str(ROOT / "tools" / "archive.py"), "--platform", "linux", "-o", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=True)
    with tarfile.open(built.stdout.strip()) as archive:
        archive.extractall(folder, filter="data")
    (inside,) = [path for path in folder.iterdir() if path.is_dir()]
    return inside


def third_parties(folder: Path) -> Path:
    """A folder with what this Python has installed, but for Paintover itself: the archive brings that."""
    folder.mkdir()
    for installed in Path(next(path for path in sys.path if path.endswith("site-packages"))).iterdir():
        if not installed.name.lower().startswith(("paintover", "__editable__", "_paintover")):
            (folder / installed.name).symlink_to(installed)
    return folder


def test_archive_contains_wheels_installer_licence(unpacked: Path) -> None:
    assert {path.name for path in unpacked.iterdir()} >= {"wheels", "install.py", "install.sh", "LICENSE", "README.txt"}
    parts = sorted(path.name.split("-")[0] for path in (unpacked / "wheels").iterdir())
    assert parts == ["paintover_bridge", "paintover_engine", "paintover_local", "paintover_protos"]
    assert all(path.stat().st_size < 200 * 2**20 for path in unpacked.rglob("*"))


def test_archive_installs_runs_and_uninstalls_in_a_root(unpacked: Path, tmp_path: Path, small_shot: SmallShot) -> None:
    home = tmp_path / "root" / "home" / "ann"
    (home / ".nuke").mkdir(parents=True)
    (home / ".nuke" / "init.py").write_text("import os")
    before = sorted(str(path) for path in home.parents[1].rglob("*"))
    program = home / ".local" / "share" / "paintover-program"
    # Nothing is fetched: the environment that the installer finds sees this Python's third parties.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", program], check=True)
    (packages,) = (program / "lib").glob("python*/site-packages")
    (packages / "third.pth").write_text(str(third_parties(tmp_path / "third")))
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "PYTHON": sys.executable,
        "PAINTOVER_ROOT": str(tmp_path / "root"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
    }

    def run(*command: object) -> str:
        ran = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, env=environment, check=False, timeout=300
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    said = run("sh", unpacked / "install.sh", "nuke", "resolve", "service", "ofx")
    assert "nuke is installed." in said
    assert ("ofx is installed." in said) == (unpacked / "Paintover.ofx.bundle").exists()
    paintover = home / ".local" / "bin" / "paintover"
    out = tmp_path / "out.mkv"
    run(paintover, "propagate", small_shot.source, "-k", f"{small_shot.key}={small_shot.keyframe}", "-o", out)
    assert out.stat().st_size > 1000
    started = json.loads((home / ".local/share/paintover/service.json").read_text())["command"]
    assert Path(started[0]).is_relative_to(program)
    run(paintover, "doctor")
    assert "demo" in run(program / "bin" / "python", unpacked / "demo" / "demo.py", "--help")
    unit = (home / ".config/systemd/user/paintover.service").read_text()
    assert str(program) in unit

    run("sh", unpacked / "install.sh", "--remove")
    shutil.rmtree(home / ".local" / "share" / "paintover", ignore_errors=True)  # jobs and results, which stay
    for folder in (home / ".local/share", home / ".local/bin", home / ".local", home / ".cache"):
        if folder.is_dir() and not os.listdir(folder):
            folder.rmdir()
    assert sorted(str(path) for path in home.parents[1].rglob("*")) == before
    assert (home / ".nuke" / "init.py").read_text() == "import os"
