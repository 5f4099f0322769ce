"""A `paintover` that replays events which a test wrote: for hosts' scripts whose command is not what is tested.

REPLAYED_EVENTS: a file of JSON lines to print; `{"sleep": seconds}`, `{"write": path}`, `{"stderr": text}`,
`{"exit": status}` and `{"until": path}` are done instead. RECORDED_ARGUMENTS: a file that the arguments are added to, a
JSON list a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

with open(os.environ["RECORDED_ARGUMENTS"], "a", encoding="utf-8") as record:
    record.write(json.dumps([os.fsencode(argument).decode("utf-8", "replace") for argument in sys.argv[1:]]) + "\n")
events = Path(os.environ["REPLAYED_EVENTS"])
for line in events.read_text("utf-8").splitlines() if events.exists() else ():
    event = json.loads(line)
    if "sleep" in event:
        time.sleep(event["sleep"])
    elif "write" in event:
        Path(event["write"]).parent.mkdir(parents=True, exist_ok=True)
        Path(event["write"]).write_bytes(b"frames")
    elif "stderr" in event:
        sys.stderr.write(event["stderr"] + "\n")
    elif "until" in event:
        while not Path(event["until"]).exists():
            time.sleep(0.02)
    elif "exit" in event:
        sys.exit(event["exit"])
    else:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
