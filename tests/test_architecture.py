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

PACKAGES = {"local": LOCAL, "bridge": BRIDGE, "engine": ENGINE, "evaluation": EVALUATION}
DISTRIBUTIONS = {"paintover": "protos", **{folder.name: name for name, folder in PACKAGES.items()}}
"""Package that is imported → the folder of the repository that it is in."""

HEAVY = {"torch", "cv2", "av", "numpy", "OpenImageIO", "PyOpenColorIO", "psd_tools", "PIL"}
"""What only a worker loads."""

BRIDGE_MAY_IMPORT = {
    *("click", "google", "grpc", "platformdirs", "rich", "watchdog"),
    *("paintover", "paintover_bridge", "paintover_local"),
}
"""What is in every program's Python that the bridge is installed into, beside the standard library."""


OPTIONAL = {"timeline.py": {"opentimelineio"}, "arrays.py": {"numpy"}, "api.py": {"numpy"}}
"""What a module of the bridge uses where it is installed."""

OF_HOSTS = {"gi", "krita", "nuke", "nukescripts", "PyQt5", "PyQt6", "PySide2", "PySide6"}
"""What hosts' own Pythons have: for hosts/ alone."""


LONGEST_FILE, LONGEST_FUNCTION = 500, 60
"""Lines. What is longer holds two things."""

OF_THE_WHOLE = {"journeys", "parity"}
"""Folders of tests that mirror no package: users' ways through all parts, the papers' published code."""


def imported_by(path: Path, for_types: bool = True) -> set[str]:
    """The full names of the modules that a file imports, anywhere in it.

    for_types: counts what is imported under `if TYPE_CHECKING` too."""
    modules = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = (node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    skipped = set() if for_types else {inner for guard in guards for line in guard.body for inner in ast.walk(line)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
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


def may_import() -> dict[str, set[str]]:
    """The table of docs/architecture.md: a Python package's folder → what it imports, by folders' names."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:local|bridge|engine|evaluation)/[\w/]+)/` \|.*\| ([\w, ]+) \|$", page, re.MULTILINE)
    return {folder: set(allowed.split(", ")) - {"nothing"} for folder, allowed in rows}


def parts_imported_by(folder: Path) -> set[str]:
    """The names of the other parts that a package imports: packages of the engine, and folders of the repository."""
    found = set()
    for name in set[str]().union(*map(imported_by, sources(folder))):
        top, _, rest = name.partition(".")
        inner = rest.partition(".")[0]
        if top == ENGINE.name and inner and (ENGINE / inner / "__init__.py").exists() and ENGINE in folder.parents:
            found.add(inner)
        elif top in DISTRIBUTIONS and PACKAGES.get(DISTRIBUTIONS[top]) not in (folder, *folder.parents):
            found.add(DISTRIBUTIONS[top])
    return found - {folder.name}


def loaded_by(program: str) -> set[str]:
    """The top-level modules that are loaded after a program ran in a fresh Python."""
    show = "import sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", f"{program}\n{show}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return set(output.splitlines()[-1].split())


def test_the_table_of_imports_has_every_package() -> None:
    folders = [LOCAL, BRIDGE, EVALUATION, *(ENGINE / package for package in packages(ENGINE))]
    assert {str(folder.relative_to(ROOT)) for folder in folders} <= may_import().keys()


@pytest.mark.parametrize("folder", may_import())
def test_packages_import_what_the_table_says(folder: str) -> None:
    assert parts_imported_by(ROOT / folder) == may_import()[folder]


@pytest.mark.parametrize("package", [package for package in packages(ENGINE) if package != "service"])
def test_only_the_service_speaks_the_wire(package: str) -> None:
    for path in sources(ENGINE / package):
        tops = {name.partition(".")[0] for name in imported_by(path)}
        assert not tops & {"grpc", "paintover"}, path


def test_bridge_imports_only_its_dependencies() -> None:
    for path in sources(BRIDGE):
        tops = {name.partition(".")[0] for name in imported_by(path)}
        extra = OPTIONAL.get(path.name, set())
        extra |= OF_HOSTS if BRIDGE / "hosts" in path.parents else set()
        assert not tops - sys.stdlib_module_names - BRIDGE_MAY_IMPORT - extra, path


@pytest.mark.parametrize("folder", PACKAGES.values(), ids=lambda folder: folder.name)
def test_no_files_import_each_other_in_a_circle(folder: Path) -> None:
    """Imports inside functions count; those for types alone (`if TYPE_CHECKING`) do not."""
    modules = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources(folder)
    }
    graph = {name: imported_by(path, for_types=False) & modules.keys() - {name} for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_file_and_no_function_is_too_long() -> None:
    folders = (
        "bridge",
        "engine",
        "evaluation",
        "local",
        "benchmarks",
        "installer",
        "tools",
        "training",
        "tests",
    )
    paths = [path for folder in folders for path in sources(ROOT / folder)]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    files = {name: text.count("\n") for name, text in texts.items()}
    functions = {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: lines for name, lines in files.items() if lines > LONGEST_FILE}
    assert not {name: lines for name, lines in functions.items() if lines > LONGEST_FUNCTION}


def test_tests_mirror_the_folders() -> None:
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")} - {Path()}
    mirrored = [folder for folder in folders if folder.parts[0] not in OF_THE_WHOLE]
    assert not [
        str(folder)
        for folder in mirrored
        if not PACKAGES.get(folder.parts[0], ROOT / folder.parts[0]).joinpath(*folder.parts[1:]).is_dir()
    ]


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
        "from paintover_bridge.cli.app import main\n"
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
