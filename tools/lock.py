"""Locks what the installer fetches: every version of constraints.txt that Paintover needs, with its files' hashes.

python tools/lock.py     writes installer/requirements.txt and installer/requirements-models.txt

Both hold for every platform and Python that Paintover supports, by markers; `uv` resolves them. The second has only
what the [models] extra needs more than the first. Neither names an index: pip fetches from the one that is set.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("protos", "local", "bridge", "engine")
REQUIREMENTS = ROOT / "installer" / "requirements.txt"
MODEL_REQUIREMENTS = ROOT / "installer" / "requirements-models.txt"

HEADER = """\
# {what}: every version with the SHA-256 of its files.
# Written by tools/lock.py from constraints.txt and the parts' pyproject.toml.
"""


def declared(*, models: bool) -> list[str]:
    """What the parts say that they need, but for each other; with the [timelines] extra, and with [models] if asked."""
    needed: set[str] = set()
    for part in PARTS:
        project: dict[str, Any] = tomllib.loads((ROOT / part / "pyproject.toml").read_text("utf-8"))["project"]
        extras = project.get("optional-dependencies", {})
        needed.update(project["dependencies"], extras.get("timelines", ()), extras.get("models", ()) if models else ())
    return sorted(name for name in needed if not name.startswith("paintover-"))


def resolve(requirements: list[str]) -> str:
    """A requirements file with hashes, as uv resolves it for all platforms."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10"]
    command += ["--generate-hashes", "--only-binary", ":all:", "--no-header", "--no-annotate"]
    command += ["--constraint", str(ROOT / "constraints.txt"), "-"]
    return subprocess.run(
        command, input="\n".join(requirements), capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout


def entries(text: str) -> Iterator[str]:
    """The requirements of a file, each with its hashes, as they stand there."""
    for entry in re.split(r"\n(?=\S)", text):
        if entry.strip() and not entry.startswith("#"):
            yield entry.rstrip() + "\n"


def main() -> None:
    """Writes both files."""
    runtime = list(entries(resolve(declared(models=False))))
    models = [entry for entry in entries(resolve(declared(models=True))) if entry not in runtime]
    for path, what, chosen in (
        (REQUIREMENTS, "What Paintover runs with", runtime),
        (MODEL_REQUIREMENTS, "What the diffusion methods need beside requirements.txt", models),
    ):
        path.write_text(HEADER.format(what=what) + "".join(chosen), "utf-8")
        print(f"{path.relative_to(ROOT)}: {len(chosen)} requirements")


if __name__ == "__main__":
    main()
