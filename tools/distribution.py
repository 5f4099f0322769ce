"""The build's hook: the distribution `paintover` needs what its parts need, and offers their extras."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PARTS = ("protos", "local", "bridge", "engine", "evaluation")


class PartsHook(MetadataHookInterface):
    """Fills in `dependencies` and `optional-dependencies` from the parts' pyproject.toml."""

    def update(self, metadata: dict[str, Any]) -> None:
        projects = [_project(Path(self.root) / part) for part in PARTS]
        own = {project["name"] for project in projects}
        metadata["dependencies"] = _united((line for each in projects for line in each["dependencies"]), own)
        extras: dict[str, list[str]] = {}
        for project in projects:
            for extra, lines in project.get("optional-dependencies", {}).items():
                extras.setdefault(extra, []).extend(lines)
        metadata["optional-dependencies"] = {extra: _united(lines, own) for extra, lines in sorted(extras.items())}


def _project(folder: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    return project


def _united(lines: Iterable[str], own: set[str]) -> list[str]:
    """Requirements without the parts themselves, each package once, with all that is said of its version; sorted."""
    united: dict[str, Requirement] = {}
    for requirement in map(Requirement, lines):
        if requirement.name in own:
            continue
        known = united.setdefault(requirement.name, requirement)
        known.specifier &= requirement.specifier
    return sorted(map(str, united.values()))
