"""The distribution `paintover`: one wheel, installed into a bare environment, and the demo run from there."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def needed(wheel: Path, extras: tuple[str, ...] = ("",)) -> dict[str, Requirement]:
    """What the wheel says that it needs, by name."""
    (found,) = metadata.distributions(name="paintover", path=[str(wheel)])
    requirements = map(Requirement, found.requires or ())
    return {
        each.name: each
        for each in requirements
        if any(not each.marker or each.marker.evaluate({"extra": extra}) for extra in extras)
    }


def closure(names: set[str]) -> set[str]:
    """The distributions of this Python that these need, themselves among them."""
    found: set[str] = set()
    while names:
        name = names.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                names.add(requirement.name)
    return found


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and of this Python's other packages those alone that it needs; its `bin`.

    Nothing is fetched: pip finds them installed and checks their versions."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for name in closure(set(needed(wheel))):
        for file in metadata.files(name) or ():
            top = file.parts[0]
            if top != ".." and not (packages / top).exists():
                (packages / top).symlink_to(
                    Path(str(file.locate())).parents[len(file.parts) - 2] if len(file.parts) > 1 else str(file.locate())
                )
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-compile", str(wheel)], check=True, timeout=120)
    return folder / "bin"


def run(program: Path, *words: str, folder: Path) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PAINTOVER_DATA": ""}
    ran = subprocess.run(
        [str(program), *words], capture_output=True, text=True, env=environment, cwd=folder, timeout=200, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_extras_bring_methods_and_timelines(wheel: Path) -> None:
    names = set(needed(wheel))
    assert {"av", "click", "grpcio"} <= names and not {"torch", "OpenTimelineIO"} & names
    assert not [name for name in names if name.startswith("paintover")]
    assert {"torch", "diffusers"} <= needed(wheel, ("models",)).keys()
    assert {"opentimelineio"} <= needed(wheel, ("timelines",)).keys()


def test_pyav_without_its_metadata_errors_is_not_installed(wheel: Path) -> None:
    assert "18.1.0" in needed(wheel)["av"].specifier and "19.0.2" not in needed(wheel)["av"].specifier


@pytest.mark.slow
def test_demo_runs_from_the_wheel_alone(bare: Path, tmp_path: Path) -> None:
    said = run(bare / "paintover", "demo", "--small", "-o", "result", folder=tmp_path)
    assert "result/edited.mp4 (72 frames" in said and f"{bare / 'paintover'} paint SHOT.mov" in said
    assert {path.name for path in (tmp_path / "result").iterdir()} >= {"edited.mp4", "contact_sheet.png"}
    assert not (tmp_path / ".local").exists()  # its data folder was its own, and is gone
    assert "✓ engine answers" in run(bare / "paintover", "doctor", folder=tmp_path)
