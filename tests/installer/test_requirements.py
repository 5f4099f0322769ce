"""What the installer fetches: locked with hashes for every platform and Python, and nothing else is let in."""

from __future__ import annotations

import hashlib
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import lock

ROOT = Path(__file__).resolve().parents[2]
MACHINES = [
    {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": system, "platform_machine": cpu}
    for python in ("3.10", "3.11", "3.12", "3.13", "3.14")
    for system, cpu in (("linux", "x86_64"), ("darwin", "arm64"), ("win32", "AMD64"))
]


def locked(*files: Path) -> list[Requirement]:
    return [Requirement(entry.split("\\")[0]) for file in files for entry in lock.entries(file.read_text("utf-8"))]


def versions(requirements: list[Requirement], machine: dict[str, str]) -> dict[str, str]:
    """Of what is installed on a machine, by name; each once."""
    chosen = [(canonicalize_name(each.name), str(each.specifier)) for each in requirements if applies(each, machine)]
    assert len(dict(chosen)) == len(chosen)
    return dict(chosen)


def applies(requirement: Requirement, machine: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(dict(machine))


def test_every_requirement_is_pinned_with_hashes() -> None:
    for file in (lock.REQUIREMENTS, lock.MODEL_REQUIREMENTS):
        text = file.read_text("utf-8")
        assert "://" not in text
        for entry in lock.entries(text):
            assert re.match(r"[\w.-]+==\S+ ", entry) and "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("models", [False, True])
@pytest.mark.parametrize(
    "machine", MACHINES, ids=lambda machine: f"{machine['sys_platform']}-{machine['python_version']}"
)
def test_lock_has_what_parts_need_as_pinned(machine: dict[str, str], models: bool) -> None:
    found = versions(locked(lock.REQUIREMENTS, *([lock.MODEL_REQUIREMENTS] if models else [])), machine)
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = versions([Requirement(line) for line in lines if line and not line.startswith("#")], machine)
    for name in map(Requirement, lock.declared(models=models)):
        assert name.specifier.contains(found[canonicalize_name(name.name)].removeprefix("==")), name
    assert {name: pinned[name] for name in found if name in pinned} == {
        name: version for name, version in found.items() if name in pinned
    }


def make_wheel(folder: Path) -> Path:
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return wheel


def make_source(folder: Path) -> Path:
    """A source archive whose build leaves a trace."""
    (folder / "tiny-1.0").mkdir()
    (folder / "tiny-1.0" / "setup.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    (folder / "tiny-1.0" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    path = folder / "tiny-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder / "tiny-1.0", "tiny-1.0")
    return path


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Fetches what one requirement says, from a folder; returns the environment's packages."""
    shutil.copy2(ROOT / "installer" / "install.py", tmp_path)
    program = tmp_path / "program"
    subprocess.run([sys.executable, "-m", "venv", program], check=True)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    def fetched(requirement: str) -> Path:
        (tmp_path / "requirements.txt").write_text(requirement)
        runpy.run_path(str(tmp_path / "install.py"))["fetch"](program, models=False)
        return next((program / "lib").glob("python*/site-packages"))

    return fetched


@pytest.mark.skipif(sys.platform == "win32", reason="looks into a POSIX environment")
@pytest.mark.slow
def test_only_a_wheel_of_known_hash_is_installed(fetch: Callable[[str], Path], tmp_path: Path) -> None:
    digest = hashlib.sha256(make_wheel(tmp_path).read_bytes()).hexdigest()
    packages = fetch(f"tiny==1.0 --hash=sha256:{digest}\n")
    assert (packages / "tiny.py").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="looks into a POSIX environment")
@pytest.mark.slow
def test_changed_wheel_is_refused(
    fetch: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(make_wheel(tmp_path).read_bytes() + b"changed").hexdigest()
    with pytest.raises(SystemExit):
        fetch(f"tiny==1.0 --hash=sha256:{digest}\n")
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        fetch("tiny==1.0\n")
    assert "require" in capfd.readouterr().err
    assert not list((tmp_path / "program").rglob("tiny.py"))


@pytest.mark.skipif(sys.platform == "win32", reason="looks into a POSIX environment")
@pytest.mark.slow
def test_source_archive_is_never_built(fetch: Callable[[str], Path], tmp_path: Path) -> None:
    digest = hashlib.sha256(make_source(tmp_path).read_bytes()).hexdigest()
    with pytest.raises(SystemExit):
        fetch(f"tiny==1.0 --hash=sha256:{digest}\n")
    assert not (tmp_path / "ran").exists()
