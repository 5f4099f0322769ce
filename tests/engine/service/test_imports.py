"""The files of jobs and service import one another in one direction."""

from __future__ import annotations

import ast
from pathlib import Path

ENGINE = Path(__file__).resolve().parents[3] / "engine"


def modules() -> dict[str, Path]:
    found = {}
    for package in ("jobs", "service"):
        for path in sorted((ENGINE / "paintover_engine" / package).rglob("*.py")):
            found[".".join(path.relative_to(ENGINE).with_suffix("").parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Full names of what a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_files_import_without_circles() -> None:
    left = {name: (imports(path) & modules().keys()) - {name} for name, path in modules().items()}
    while free := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"in a circle, or above one: {sorted(left)}"
