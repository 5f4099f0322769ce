from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.commit_message import problem

ROOT = Path(__file__).resolve().parents[2]
CHECK = "tools/commit_message.py"


@pytest.mark.parametrize(
    "message", ["x" * 72, "Carry mattes across cuts\n\nWhy.\n", "\n# git's\nMend it\n", "Merge " + "x" * 90]
)
def test_good_message_passes(message: str) -> None:
    assert problem(message) == ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [("x" * 73, "73 characters"), ("Mend it\nat once", "must be empty"), ("# only git's\n", "no message")],
)
def test_bad_message_is_explained(message: str, expected: str) -> None:
    assert expected in problem(message)


def test_hook_refuses_a_long_subject(tmp_path: Path) -> None:
    path = tmp_path / "COMMIT_EDITMSG"
    path.write_text("y" * 80, encoding="utf-8")
    done = subprocess.run([sys.executable, ROOT / CHECK, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "80 characters" in done.stderr


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return done.stdout


def test_commits_since_the_rule_obey_it() -> None:
    added = git("log", "--diff-filter=A", "--format=%H", "--", CHECK).split()
    if not added:
        pytest.skip("a clone without the commit that added the check")
    messages = git("log", "--format=%B%x00", f"{added[-1]}..HEAD").split("\0")
    problems = {message.strip().partition("\n")[0]: problem(message) for message in messages if message.strip()}
    assert not {subject: found for subject, found in problems.items() if found}
