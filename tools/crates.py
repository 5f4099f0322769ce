"""The crates that are linked into the OpenFX effect, and the notices that their licences ask for.

python tools/crates.py TARGET FILE     writes the notices for a Rust target
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGIN = Path(__file__).resolve().parents[1] / "plugin_ofx"

_TEXTS = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")

INTRODUCTION = """\
Third-party notices of Paintover's OpenFX effect
================================================

The effect is one library with the Rust crates below linked into it, unchanged, each under its own licence; their
source is at the addresses. The licences' texts follow, each once, with the crates that bring it. Rust's standard
library, which is in it too, is under MIT OR Apache-2.0.

"""


@dataclass(frozen=True)
class Crate:
    """licence: an SPDX expression. repository: the address of its source. texts: its licences' and notices' texts."""

    name: str
    version: str
    licence: str
    repository: str
    texts: tuple[str, ...]


def linked(target: str) -> list[Crate]:
    """The crates in the library for a Rust target, by name: what the effect depends on, without what only builds it.

    Raises ValueError where a crate brings no licence text and none of its repository's other crates does."""
    command = ["cargo", "metadata", "--quiet", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=PLUGIN, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"] if not _is_macro(package)}
    chosen = [packages[identity] for identity in sorted(_runtime(metadata["resolve"], packages.keys()))]
    by_repository = {package["repository"]: texts for package in chosen if (texts := _texts(package))}
    crates = []
    for package in chosen:
        texts = _texts(package) or by_repository.get(package["repository"] or "", ())
        if not texts:
            raise ValueError(f"The crate {package['name']} {package['version']} brings no licence text.")
        crates.append(
            Crate(
                package["name"],
                package["version"],
                package["license"].replace("/", " OR ").replace("  ", " "),
                package["repository"] or "",
                texts,
            )
        )
    return sorted(crates, key=lambda crate: (crate.name, crate.version))


def _runtime(graph: dict[str, Any], libraries: Collection[str]) -> set[str]:
    """Those of the libraries' ids that the root reaches by normal dependencies, without itself."""
    needs = {
        node["id"]: [need["pkg"] for need in node["deps"] if any(kind["kind"] is None for kind in need["dep_kinds"])]
        for node in graph["nodes"]
    }
    found: set[str] = set()
    waiting = list(needs[graph["root"]])
    while waiting:
        identity = waiting.pop()
        if identity in libraries and identity not in found:
            found.add(identity)
            waiting += needs[identity]
    return found


def _is_macro(package: dict[str, Any]) -> bool:
    """Whether a crate runs in the compiler and is in no library."""
    return any("proc-macro" in target["kind"] for target in package["targets"])


def _texts(package: dict[str, Any]) -> tuple[str, ...]:
    folder = Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name.upper().startswith(_TEXTS))
    return tuple(file.read_text("utf-8", errors="replace").strip() for file in files)


def notices(crates: list[Crate]) -> str:
    """All that the crates' licences ask to be passed on with the library."""
    lines = [f"{crate.name} {crate.version}: {crate.licence}; {crate.repository}\n" for crate in crates]
    bringing: dict[str, list[str]] = defaultdict(list)
    for crate in crates:
        for text in crate.texts:
            bringing[text].append(f"{crate.name} {crate.version}")
    parts = [f"\n{'-' * 80}\n{', '.join(names)}\n{'-' * 80}\n\n{text}\n" for text, names in bringing.items()]
    return INTRODUCTION + "".join(lines + parts)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Writes the notices of the OpenFX effect.")
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("file", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    arguments.file.write_text(notices(linked(arguments.target)), "utf-8")


if __name__ == "__main__":
    main()
