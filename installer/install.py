"""Installs Paintover from the archive that this file lies in: into a Python environment of its own, then into hosts.

    python3 install.py [--to FOLDER] [--models] [TARGET ...]     TARGET: as `paintover install` has them; all without
    python3 install.py --remove [--to FOLDER]

Python 3.10 or later, without any library. What Paintover needs is fetched by pip, whose own settings and environment
variables (PIP_NO_INDEX, PIP_FIND_LINKS, …) hold as ever: built wheels alone, and only those whose SHA-256 stands in
requirements.txt (with --models also in requirements-models.txt), wherever they come from.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUNDLE = HERE / "Paintover.ofx.bundle"


def default_folder() -> Path:
    """Where the environment goes; the engine's data lies elsewhere."""
    home = Path.home()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "Programs" / "Paintover"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "paintover-program"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "paintover-program"


def program(folder: Path, name: str) -> Path:
    """A program of the environment."""
    return folder / ("Scripts" if os.name == "nt" else "bin") / (f"{name}.exe" if os.name == "nt" else name)


def link() -> Path | None:
    """The command among the user's own; None where a system has no such place."""
    return None if os.name == "nt" else Path.home() / ".local" / "bin" / "paintover"


def run(*words: object) -> None:
    """Runs a command; ends this program with its status when it fails."""
    status = subprocess.call([str(word) for word in words])
    if status:
        sys.exit(status)


def install(folder: Path, models: bool, targets: list[str]) -> None:
    """Makes the environment, or renews it, and installs into hosts."""
    print(f"Installing Paintover into {folder}.")
    venv.create(folder, symlinks=os.name != "nt", with_pip=not has_pip(folder))
    fetch(folder, models)
    pip_install(folder, "--no-index", "--no-deps", "--force-reinstall", *sorted(HERE.glob("wheels/*.whl")))
    command = link()
    if command is not None and not os.path.lexists(command):
        command.parent.mkdir(parents=True, exist_ok=True)
        command.symlink_to(program(folder, "paintover"))
    bundle = ["--bundle", BUNDLE] if BUNDLE.is_dir() else []
    run(program(folder, "paintover"), "install", *(targets or ["all"]), *bundle, *root())
    print(f"Done. The command is {program(folder, 'paintover')}.")


def has_pip(folder: Path) -> bool:
    """Whether the environment exists and its Python has pip, so that renewing it need not bring one."""
    python = program(folder, "python")
    command = [str(python), "-I", "-c", "import pip"]
    return python.exists() and subprocess.call(command, stderr=subprocess.DEVNULL) == 0


def fetch(folder: Path, models: bool) -> None:
    """Installs the libraries that Paintover needs, which the archive does not hold."""
    files = [HERE / "requirements.txt", *([HERE / "requirements-models.txt"] if models else [])]
    listed = [word for file in files for word in ("--requirement", file)]
    pip_install(folder, "--require-hashes", "--only-binary", ":all:", *listed)


def pip_install(folder: Path, *words: object) -> None:
    """Runs `pip install` of the environment; ends this program when it fails."""
    run(program(folder, "python"), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)


def remove(folder: Path) -> None:
    """Takes all of it out again; jobs and results in the data folder stay."""
    if not program(folder, "paintover").exists():
        sys.exit(f"Paintover is not installed in {folder}.")
    subprocess.call([str(program(folder, "paintover")), "stop", "--now"])
    run(program(folder, "paintover"), "uninstall", "all", *root())
    command = link()
    if command is not None and command.is_symlink() and Path(os.readlink(command)) == program(folder, "paintover"):
        command.unlink()
    shutil.rmtree(folder)
    print("Removed.")


def root() -> list[str]:
    """PAINTOVER_ROOT stands for the whole disk, in tests."""
    given = os.environ.get("PAINTOVER_ROOT")
    return ["--root", given] if given else []


def main() -> None:
    """Reads the command line."""
    if sys.version_info < (3, 10):
        sys.exit(
            f"Paintover needs Python 3.10 or later, and this is {sys.version.split()[0]}; start it with a newer one."
        )
    parser = argparse.ArgumentParser(description="Installs Paintover, or removes it.")
    parser.add_argument("--to", type=Path, default=default_folder(), metavar="FOLDER")
    parser.add_argument("--models", action="store_true", help="also what the diffusion methods run on (a few GB)")
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    arguments = parser.parse_args()
    folder = arguments.to.expanduser().absolute()
    remove(folder) if arguments.remove else install(folder, arguments.models, arguments.targets)


if __name__ == "__main__":
    main()
