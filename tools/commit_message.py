"""Checks a commit's message: python tools/commit_message.py FILE. CONTRIBUTING.md has the rule."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 72
"""Characters of a subject that every tool shows whole."""

MADE_BY_GIT = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")


def problem(message: str) -> str:
    """What is wrong with a message, in a sentence; "" when nothing is. Lines that start with # are git's own."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    while lines and not lines[0].strip():
        lines.pop(0)
    if not lines:
        return "The commit has no message."
    subject = lines[0]
    if len(subject) > LIMIT and not subject.startswith(MADE_BY_GIT):
        return f"The subject has {len(subject)} characters; at most {LIMIT} are allowed, the reasons go below it."
    if len(lines) > 1 and lines[1].strip():
        return "The line below the subject must be empty."
    return ""


def main() -> int:
    """Exit status 1, and the problem on stderr, for a message that breaks the rule."""
    found = problem(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if found:
        print(found, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
