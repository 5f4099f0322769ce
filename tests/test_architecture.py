"""The arrows of docs/architecture.md, checked on the code."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "engine" / "paintover_engine"
BRIDGE = ROOT / "bridge" / "paintover_bridge"
LOCAL = ROOT / "local" / "paintover_local"
EVALUATION = ROOT / "evaluation" / "paintover_evaluation"

MAY_IMPORT = {
    "service": {"jobs", "methods", "media"},
    "jobs": {"methods", "compose", "media"},
    "methods": {"diffusion", "compose", "media"},
    "compose": {"media"},
    "diffusion": set[str](),
    "media": set[str](),
}
"""Package of the engine → the other packages of it that it may import."""

HEAVY = {"torch", "cv2", "av", "numpy", "OpenImageIO", "PyOpenColorIO", "psd_tools", "PIL"}
"""What only a worker loads."""

BRIDGE_MAY_IMPORT = {
    *("click", "google", "grpc", "platformdirs", "rich", "watchdog"),
    *("paintover", "paintover_bridge", "paintover_local"),
}
"""What is in every program's Python that the bridge is installed into, beside the standard library."""


OF_HOSTS = {"nuke", "nukescripts", "PySide2", "PySide6"}
"""What hosts' own Pythons have: for hosts/ alone."""


def imported_by(path: Path) -> set[str]:
    """The full names of the modules that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            modules |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def sources(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.rglob("*.py"))


def packages(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/__init__.py"))


def loaded_by(program: str) -> set[str]:
    """The top-level modules that are loaded after a program ran in a fresh Python."""
    show = "import sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", f"{program}\n{show}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return set(output.splitlines()[-1].split())


@pytest.mark.parametrize("package", packages(ENGINE))
def test_the_arrows_inside_the_engine_run_one_way(package: str) -> None:
    assert package in MAY_IMPORT, f"say in docs/architecture.md and here what {package}/ may import"
    allowed = MAY_IMPORT[package] | {package}
    for path in sources(ENGINE / package):
        parts = {name.split(".")[1] for name in imported_by(path) if name.startswith("paintover_engine.")}
        assert not (parts & MAY_IMPORT.keys()) - allowed, path


@pytest.mark.parametrize("package", [package for package in packages(ENGINE) if package != "service"])
def test_only_the_service_speaks_the_wire(package: str) -> None:
    for path in sources(ENGINE / package):
        tops = {name.partition(".")[0] for name in imported_by(path)}
        assert not tops & {"grpc", "paintover"}, path


def test_bridge_imports_only_its_dependencies() -> None:
    for path in sources(BRIDGE):
        tops = {name.partition(".")[0] for name in imported_by(path)}
        extra = {"opentimelineio"} if path.name == "timeline.py" else set()  # of its optional extra
        extra |= OF_HOSTS if BRIDGE / "hosts" in path.parents else set()
        assert not tops - sys.stdlib_module_names - BRIDGE_MAY_IMPORT - extra, path


def test_engine_and_bridge_do_not_import_each_other() -> None:
    for folder, other in ((ENGINE, "paintover_bridge"), (BRIDGE, "paintover_engine")):
        for path in sources(folder):
            assert other not in {name.partition(".")[0] for name in imported_by(path)}, path


def test_what_ships_does_not_need_the_evaluation() -> None:
    for path in (*sources(ENGINE), *sources(BRIDGE), *sources(LOCAL)):
        assert "paintover_evaluation" not in {name.partition(".")[0] for name in imported_by(path)}, path


@pytest.mark.parametrize("folder", [BRIDGE, LOCAL, EVALUATION], ids=lambda folder: folder.name)
def test_no_files_import_each_other_in_a_circle(folder: Path) -> None:
    modules = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources(folder)
    }
    imports = {name: imported_by(path) & modules.keys() - {name} for name, path in modules.items()}
    packages_of_imports = {  # `from package import module` needs the module, not the package
        name: {one for one in found if not any(other.startswith(f"{one}.") for other in found)}
        for name, found in imports.items()
    }
    graphlib.TopologicalSorter(packages_of_imports).prepare()  # raises CycleError, which names the circle


def test_shared_package_imports_only_the_stdlib() -> None:
    for path in sources(LOCAL):
        tops = {name.partition(".")[0] for name in imported_by(path)}
        assert not tops - sys.stdlib_module_names - {"paintover_local"}, path


def test_daemon_loads_no_worker_library() -> None:
    loaded = loaded_by("import paintover_engine.service.__main__, paintover_engine.service.server")
    assert "paintover_engine" in loaded
    assert not loaded & HEAVY


def test_help_loads_neither_the_engine_nor_grpc() -> None:
    loaded = loaded_by(
        "import contextlib, sys\n"
        "from paintover_bridge.cli import main\n"
        "sys.argv = ['paintover', '--help']\n"
        "with contextlib.suppress(SystemExit): main()"
    )
    assert "click" in loaded
    assert not loaded & (HEAVY | {"grpc", "google", "paintover", "paintover_engine", "rich"})


def test_files_that_pin_versions_name_no_address() -> None:
    """A lock file or constraint that names a server works only where that server can be reached."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.txt", "*.toml", "*.lock", "*.cfg"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip("not a git checkout")
    assert "constraints.txt" in found.stdout.split()
    for name in filter(None, found.stdout.splitlines()):
        text = (ROOT / name).read_text(encoding="utf-8") if (ROOT / name).exists() else ""
        addresses = re.findall(r"://(?!github\.com/|www\.apache\.org/licenses/)\S*", text)
        assert not addresses, f"{name} names {addresses}"


def test_all_parts_have_one_version() -> None:
    files = (BRIDGE / "__init__.py", ENGINE / "__init__.py", ROOT / "plugin_ofx" / "Cargo.toml")
    found = [re.search(r'version(?:__)? = "([^"]+)"', path.read_text(encoding="utf-8")) for path in files]
    assert len({version[1] for version in found if version}) == 1
    assert all(found)
