"""The archive of this platform, built, unpacked, installed into a fake root, run from there, and taken out again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import SmallShot
from tools import crates, lock

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
    assert parts == ["paintover"]
    assert all(path.stat().st_size < 200 * 2**20 for path in unpacked.rglob("*"))


def test_archive_names_every_component(unpacked: Path) -> None:
    listed = json.loads((unpacked / "paintover.cdx.json").read_text())["components"]
    wheels = {part["bom-ref"]: part["hashes"][0]["content"] for part in listed if "hashes" in part}
    assert wheels == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (unpacked / "wheels").iterdir()
    }
    purls = {part["purl"] for part in listed if "purl" in part}
    fetched = [
        Requirement(entry.split("\\")[0])
        for file in ("requirements.txt", "requirements-models.txt")
        for entry in lock.entries((unpacked / file).read_text())
    ]
    named = {f"pkg:pypi/{each.name}@{str(each.specifier).removeprefix('==')}" for each in fetched}
    assert {purl for purl in purls if purl.startswith("pkg:pypi/")} == named
    notices = (unpacked / "THIRD-PARTY-NOTICES.txt").read_text()
    assert "pillow 13.0.0: MIT-CMU" in notices
    crates = {purl for purl in purls if purl.startswith("pkg:cargo/")}
    libraries = [path.parent.name for path in unpacked.glob("Paintover.ofx.bundle/Contents/*/Paintover.ofx")]
    assert bool(crates) == bool(libraries)
    for library in libraries:
        beside = unpacked / f"Paintover.ofx.bundle/Contents/Resources/THIRD-PARTY-NOTICES.{library}.txt"
        assert "Permission is hereby granted" in beside.read_text()
    for crate in crates:
        assert crate.removeprefix("pkg:cargo/").replace("@", " ") in notices


@pytest.mark.skipif(shutil.which("cargo") is None, reason="asks cargo what the effect is linked of")
def test_notices_hold_linked_crates_licences() -> None:
    linked = {crate.name: crate for crate in crates.linked("x86_64-unknown-linux-gnu")}
    assert {"tonic", "prost", "option-ext"} <= linked.keys()
    assert not {"protox", "syn", "prost-derive", "paintover-ofx"} & linked.keys()  # in no library of others
    assert linked["tonic-prost"].texts == linked["tonic"].texts  # of its repository, for it brings none
    text = crates.notices(list(linked.values()))
    assert "Mozilla Public License" in text and "Permission is hereby granted, free of charge" in text
    for crate in linked.values():
        assert f"{crate.name} {crate.version}: {crate.licence}; " in text
        assert all(part in text for part in crate.texts)


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
    assert "small shot" in run(paintover, "demo", "--help")
    unit = (home / ".config/systemd/user/paintover.service").read_text()
    assert str(program) in unit

    run("sh", unpacked / "install.sh", "--remove")
    shutil.rmtree(home / ".local" / "share" / "paintover", ignore_errors=True)  # jobs and results, which stay
    for folder in (home / ".local/share", home / ".local/bin", home / ".local", home / ".cache"):
        if folder.is_dir() and not os.listdir(folder):
            folder.rmdir()
    assert sorted(str(path) for path in home.parents[1].rglob("*")) == before
    assert (home / ".nuke" / "init.py").read_text() == "import os"
