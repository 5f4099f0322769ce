"""tools/setup.sh on machines that lack something. That it installs is what `make test` itself shows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ["tools/setup.sh", "constraints.txt", "pyproject.toml"]
INPUTS += [f"{package}/pyproject.toml" for package in ("protos", "local", "bridge", "engine", "evaluation")]
STANDARD = ["cat", "cksum", "dirname", "id", "sh"]


class BareMachine:
    """A copy of what setup reads, and a PATH that holds only what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in INPUTS:
            (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.checkout / name)
        for name in STANDARD:
            (self.bin / name).symlink_to(str(shutil.which(name)))

    def has(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
        path.chmod(0o755)

    def setup(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "LANG": "C.UTF-8", **variables}
        command = ["sh", str(self.checkout / "tools" / "setup.sh"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> BareMachine:
    return BareMachine(tmp_path)


def assert_fails_with_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_missing_python_is_explained(machine: BareMachine) -> None:
    assert_fails_with_one_sentence(machine.setup(), "no python3 here", "apt-get install python3")


def test_old_python_is_named(machine: BareMachine) -> None:
    machine.has("python3", '[ "$1" = --version ] && echo Python 3.9.18 && exit 0; exit 1')
    assert_fails_with_one_sentence(machine.setup(), "needs Python 3.10", "only Python 3.9.18 is here")


def test_a_wrong_choice_of_python_is_named(machine: BareMachine) -> None:
    assert_fails_with_one_sentence(machine.setup(PYTHON="python2"), "PYTHON=python2")


def test_missing_venv_module_names_the_apt_command(machine: BareMachine) -> None:
    machine.has("python3", f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    assert_fails_with_one_sentence(machine.setup(), f"'sudo apt-get install {package}'")


def test_venv_is_renewed_only_for_changed_inputs(machine: BareMachine) -> None:
    log = machine.checkout / "log"
    python = machine.checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!{shutil.which("sh")}\n[ "$2" = pip ] && echo "$*" >>{log}\nexit 0\n')
    python.chmod(0o755)

    def installs(*arguments: str) -> int:
        log.write_text("")
        done = machine.setup(*arguments)
        assert done.returncode == 0, done.stderr
        return len(log.read_text().splitlines())

    first = installs()
    assert first > 0
    assert installs() == 0
    assert installs("dev") > 0
    assert installs("dev") == 0
    with (machine.checkout / "constraints.txt").open("a") as constraints:
        constraints.write("# changed\n")
    assert installs() == first


def test_a_failed_install_is_tried_again(machine: BareMachine) -> None:
    python = machine.checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!{shutil.which("sh")}\n[ "$2" = pip ] && exit 1\nexit 0\n')
    python.chmod(0o755)
    assert_fails_with_one_sentence(machine.setup(), "pip could not install")
    assert_fails_with_one_sentence(machine.setup(), "pip could not install")
