"""A `paintover` that says what a test wrote down: for hosts' scripts whose command is not what is tested.

SAID: a file of JSON lines to say; `{"sleep": seconds}`, `{"write": path}`, `{"stderr": text}`, `{"exit": status}` and
`{"until": path}` are done instead. ASKED: a file that the arguments are written to, a JSON list a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

with open(os.environ["ASKED"], "a", encoding="utf-8") as asked:
    asked.write(json.dumps([os.fsencode(argument).decode("utf-8", "replace") for argument in sys.argv[1:]]) + "\n")
said = Path(os.environ["SAID"])
for line in said.read_text("utf-8").splitlines() if said.exists() else ():
    one = json.loads(line)
    if "sleep" in one:
        time.sleep(one["sleep"])
    elif "write" in one:
        Path(one["write"]).parent.mkdir(parents=True, exist_ok=True)
        Path(one["write"]).write_bytes(b"frames")
    elif "stderr" in one:
        sys.stderr.write(one["stderr"] + "\n")
    elif "until" in one:
        while not Path(one["until"]).exists():
            time.sleep(0.02)
    elif "exit" in one:
        sys.exit(one["exit"])
    else:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
