"""Path mapping: where a path of the machine that made a bundle is on the one that renders it.

The rules are Open Job Description's (`{{Session.PathMappingRulesFile}}`, version "pathmapping-1.0"). They are applied
here, not by the farm's program alone, because a path of Windows means nothing to the one of another system.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Literal

from pydantic import BaseModel, ValidationError

from paintover_engine.errors import Code, PaintoverError

PathMap = Callable[[str], str]


class Rule(BaseModel):
    """Paths below source_path lie below destination_path on this machine."""

    source_path_format: Literal["POSIX", "WINDOWS"]
    source_path: str
    destination_path: str


class Rules(BaseModel):
    """A rules file. It may be an empty object: nothing is mapped."""

    version: Literal["pathmapping-1.0"] = "pathmapping-1.0"
    path_mapping_rules: list[Rule] = []


def read_rules(path: Path | None) -> PathMap:
    """The mapping of a rules file; None maps nothing. Raises PaintoverError for a file that is none."""
    if path is None:
        return lambda given: given
    try:
        rules = Rules.model_validate_json(path.read_bytes() or b"{}").path_mapping_rules
    except (OSError, ValidationError) as error:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The path mapping file '{path}' cannot be read; give one of Open Job Description's version "
            "pathmapping-1.0.",
        ) from error
    return lambda given: mapped(given, rules)


def is_of_windows(path: str) -> bool:
    """Whether a path is an absolute one as Windows writes it."""
    return re.match(r"[A-Za-z]:[\\/]|\\\\", path) is not None


def mapped(path: str, rules: list[Rule]) -> str:
    """The path by the rule with the longest source path that holds it; unchanged without one."""
    for rule in sorted(rules, key=lambda rule: len(rule.source_path), reverse=True):
        pure: type[PurePath] = PureWindowsPath if rule.source_path_format == "WINDOWS" else PurePosixPath
        if is_of_windows(path) == (pure is PureWindowsPath) and pure(path).is_relative_to(pure(rule.source_path)):
            rest = pure(path).relative_to(pure(rule.source_path)).parts
            slash = "/" if path.endswith(("/", "\\")) else ""
            return str(Path(rule.destination_path, *rest)) + slash
    return path
